"""Curvatures compared in decades, over images and then over seeds; whether two measures agree, and the room in theorem 6.1."""

import numpy as np
import pandas as pd

from ..comparison import verdict
from ..evaluate import seed_interval
from ..support.ranks import bootstrap

AGREEMENT = (0.8, 1.25)  # ratios that count as the same
SMALLEST = 1e-30  # below any curvature that float32 can tell from none: keeps logarithms finite


def decades(rival: np.ndarray, own: np.ndarray) -> np.ndarray:
    """log10(rival / own) of each image: 1 where the own curvature is ten times lower.

    >>> decades(np.array([10.0, 1.0]), np.array([1.0, 10.0]))
    array([ 1., -1.])
    """
    return np.log10(np.maximum(rival, SMALLEST)) - np.log10(np.maximum(own, SMALLEST))


def by_medians(rival: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The median over images (..., N) of `decades`.

    >>> float(by_medians(np.array([10.0, 10.0, 10.0]), np.array([1.0, 1.0, 1000.0])))
    1.0
    """
    return np.median(decades(rival, own), axis=-1)


def by_means(rival: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The `decades` of the means over images (..., N), in which the most curved ones weigh most.

    >>> rival, own = np.array([10.0, 10.0, 10.0]), np.array([1.0, 1.0, 2998.0])  # flatter on two images of three
    >>> float(by_medians(rival, own)), round(float(by_means(rival, own)), 6)
    (1.0, -2.0)
    """
    return decades(rival.mean(-1), own.mean(-1))


def apart(pairs: list[tuple[np.ndarray, np.ndarray]], by=by_medians) -> dict:
    """Decades between the curvatures (N,) of a rival and one's own, a pair a seed: mean over seeds, low, high (t over seeds; one seed:
    bootstrap over images), n (seeds). by: `by_medians` or `by_means`.

    >>> apart([(np.full(5, 10.0), np.ones(5)), (np.full(5, 1000.0), np.ones(5))])["mean"]  # 1 decade, and 3
    2.0
    """
    values = [float(by(*pair)) for pair in pairs]
    over_images = lambda: bootstrap(lambda drawn, axis: by(*drawn), np.stack(pairs[0]))  # noqa: E731
    mean, low, high = seed_interval(values) if len(values) > 1 else (values[0], *over_images())
    return dict(mean=mean, low=low, high=high, n=len(values))


def agrees(ratios: list[np.ndarray]) -> dict:
    """Whether a ratio per image, one sample a seed, counts as 1: ratio, low, high (from the medians of its log10), n, verdict.

    >>> agrees([np.linspace(0.9, 1.1, 50)])["verdict"], agrees([np.linspace(3, 5, 50)] * 2)["verdict"]
    ('holds', 'does not hold')
    """
    found = apart([(ratio, np.ones(len(ratio))) for ratio in ratios])
    ratio, low, high = (10 ** found[key] for key in ("mean", "low", "high"))
    inside, outside = AGREEMENT[0] < low and high < AGREEMENT[1], high < AGREEMENT[0] or low > AGREEMENT[1]
    said = "holds" if inside else "does not hold" if outside else "undecided"
    return dict(ratio=ratio, low=low, high=high, n=found["n"], verdict=said)


def kinks(rows: pd.DataFrame) -> pd.DataFrame:
    """By method, eq. 21 over ‖H‖² on the same ReLU networks, at their own and at matched confidence: `agrees` of the ratio.

    >>> images = dict.fromkeys(("frobenius", "kappa_matched", "frobenius_matched"), np.ones(9)) | {"kappa": np.full(9, 10.0)}
    >>> kinks(pd.DataFrame([dict(method="normal", images=images)]))[["confidence", "ratio", "verdict"]].to_numpy().tolist()
    [['own confidence', 10.0, 'does not hold'], ['matched confidence', 1.0, 'holds']]
    """
    pairs = {"own confidence": ("kappa", "frobenius"), "matched confidence": ("kappa_matched", "frobenius_matched")}
    return pd.DataFrame([
        dict(confidence=at, method=method, **agrees([row.images[a] / np.maximum(row.images[b], SMALLEST) for row in own.itertuples()]))
        for at, (a, b) in pairs.items() for method, own in rows.groupby("method", sort=False)
    ])  # fmt: skip


def theorem(rows: pd.DataFrame) -> pd.DataFrame:
    """The room in theorem 6.1's links on the softplus twins, by method: part, method, mean (decades), low, high, n, share, verdict.

    share: of images on which the link is kept; link 1's middle is an average over draws, so that it may miss by chance.

    >>> images = dict.fromkeys(("chain_eta", "chain_eta_trained"), np.full(5, 12.5))
    >>> images |= {"chain_left": np.ones(5), "chain_middle": np.full(5, 10.0)}
    >>> record = {"settings": {"chain_sigma": 1.0, "eta_sigma": 1.0}}  # the right side: 8 w_max² η / σ⁴ = 100
    >>> theorem(pd.DataFrame([dict(method="both", network={"w_max": 1.0}, images=images, record=record)]))["mean"].round(6).tolist()
    [1.0, 1.0, 2.0]
    """
    parts = []
    for method, own in rows.groupby("method", sort=False):
        for part, sides in _chain(own).items():
            found = apart([(right, left) for left, right in sides])
            share = float(np.mean([np.mean(left <= right) for left, right in sides]))
            parts.append(dict(part=part, method=method, **found, share=share, verdict=verdict(found["low"], found["high"])))
    return pd.DataFrame(parts)


def _chain(rows: pd.DataFrame) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """(left, right) of each link, a pair for each seed."""
    settings = rows.record.iloc[0]["settings"]
    small, trained = settings["chain_sigma"], settings["eta_sigma"]
    bound = lambda row, sigma, eta: 8 / sigma**4 * row.network["w_max"] ** 2 * row.images[eta]  # noqa: E731
    sides = {f"link 1 at σ = {small:g}": [], f"link 2 at σ = {small:g}": [], f"both at the noise trained with, σ = {trained:g}": []}
    for row in rows.itertuples():
        left, middle = row.images["chain_left"], row.images["chain_middle"]
        right = bound(row, small, "chain_eta"), bound(row, trained, "chain_eta_trained")
        for pairs, pair in zip(sides.values(), ((left, middle), (middle, right[0]), (left, right[1])), strict=True):
            pairs.append(pair)
    return sides
