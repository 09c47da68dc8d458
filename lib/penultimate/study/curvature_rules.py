"""What the curvature records say of the paper's explanation, by rules that stand here before the results they judge.

flatter     A network is flatter than its rival where the 95 % interval of `decades` lies above 0: the median over images of
            log10(rival's curvature / its own), mean over seeds (with one seed: bootstrapped over images). "At matched confidence"
            is said only where eq. 21, which counts kinks, and ‖H‖², which has none, agree.
by means    The same with log10(mean of the rival's curvatures / mean of its own): not the image in the middle, but most of all the most
            curved ones. Judged alike; added when it was seen to contradict the medians.
agrees      A measure agrees with another where the 95 % interval of the median ratio over images lies within 0.8 to 1.25.
predicts    Curvature predicts robustness where the 95 % interval of Spearman's rho between it and the number of noisy views that are
            classified correctly lies below 0; beyond the margin where this holds for both partial rhos, given the distance to the
            boundary m / ‖∇m‖ and given the logit margin m.
theorem     A link of theorem 6.1 holds where the 95 % interval of its room lies above 0: the median over images of
            log10(right side / left side), mean over seeds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from .. import InputError
from ..comparison import verdict
from ..evaluate import seed_interval
from ..support.ranks import correlations, partial, resampled_correlations
from . import measured
from .curvature_decades import apart, by_means, by_medians, theorem

# What is compared, by the name that tables show: from the numbers of a record's images and its network.
QUANTITIES = {
    "eq. 21": lambda images, network: images["kappa"],
    "‖H‖²": lambda images, network: images["frobenius"],
    "eq. 21, matched confidence": lambda images, network: images["kappa_matched"],
    "‖H‖², matched confidence": lambda images, network: images["frobenius_matched"],
    "‖H‖² of log-odds, twin": lambda images, network: images["odds"],
    "‖H‖² of log-odds / slope², twin": lambda images, network: images["odds"] / images["odds_slope"] ** 2,
    "w_max² η": lambda images, network: network["w_max"] ** 2 * images["eta"],
}
SECOND_ORDER = (0.5, 2.0)  # E[S^2] over its second-order value, median over images: outside, the picture has ended
LINKS = ("rho", "rho of distance", "rho of margin", "given distance", "given margin")  # the keys of `links`


def read(folder: str | Path | None = None, dataset: str = "digits", preset: str = "digits") -> pd.DataFrame:
    """One row per run: method, noise (trained with), seed, images (name -> array (N,)), network, record; see `measured.read`.

    >>> row = read().query("noise == 'gaussian'").iloc[0]
    >>> row.method, row.images["kappa"].shape
    ('normal', (450,))
    """
    return pd.DataFrame([
        dict(
            method=r["config"]["method"], noise=r["config"]["noise"], seed=r["config"]["seed"], network=r["network"], record=r,
            images={name: np.array(values, dtype=float) for name, values in r["images"].items()},
        )
        for r in measured.read("curvature", folder, dataset, preset)
    ])  # fmt: skip


def sets(folder: str | Path | None = None, noise: str = "gaussian") -> dict[tuple[str, str], pd.DataFrame]:
    """(data set, preset) -> its rows of `read` with this noise, for the two studied sets and as far as the folder has them.

    >>> list(sets())
    [('digits', 'digits'), ('cifar10', 'small')]
    """
    found = {pair: read(folder, *pair) for pair in measured.present("curvature", folder)}
    return {pair: rows[rows.noise == noise] for pair, rows in found.items() if (rows.noise == noise).any()}


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that every method has.

    >>> complete(pd.DataFrame({"method": ["normal", "both", "normal"], "seed": [0, 0, 1]})).seed.tolist()
    [0, 0]
    """
    return rows[rows.seed.map(rows.groupby("seed").method.nunique() == rows.method.nunique())]


def quantity(row, name: str) -> np.ndarray:
    """A quantity of QUANTITIES of one row of `read`, per image (N,).

    >>> quantity(pd.Series({"images": {"eta": np.array([0.5, 1.0])}, "network": {"w_max": 2.0}}), "w_max² η")
    array([2., 4.])
    """
    return QUANTITIES[name](row.images, row.network)


def quantities(rows: pd.DataFrame) -> list[str]:
    """Those of QUANTITIES that every row's record has; the twin's are not measured on large images.

    >>> quantities(pd.DataFrame([{"images": {"kappa": np.ones(2), "frobenius": np.ones(2)}, "network": {}}]))
    ['eq. 21', '‖H‖²']
    """

    def has(row, name: str) -> bool:
        try:
            return quantity(row, name) is not None
        except KeyError:
            return False

    return [name for name in QUANTITIES if all(has(row, name) for row in rows.itertuples())]


def robustness(row) -> np.ndarray:
    """The share of an image's noisy views that are classified correctly, (N,).

    >>> robustness(pd.Series({"images": {"correct": np.array([10, 5])}, "record": {"settings": {"draws": 10}}}))
    array([1. , 0.5])
    """
    return row.images["correct"] / row.record["settings"]["draws"]


def distance(row) -> np.ndarray:
    """m / ‖∇m‖ of each image: signed distance to the decision boundary in normalised space, to first order.

    >>> distance(pd.Series({"images": {"margin": np.array([2.0, -1.0]), "slope": np.array([4.0, 2.0])}}))  # below 0: wrong
    array([ 0.5, -0.5])
    """
    return row.images["margin"] / row.images["slope"]


def flatter(rivals: pd.DataFrame, own: pd.DataFrame, name: str, by=by_medians) -> dict:
    """Decades by which `own` is flatter than its rivals, paired by seed and image, with the verdict of this module's rule.

    rivals, own: rows of `read`, one a seed. -> mean, low, high, n (seeds), verdict. Raises InputError where they share no seed.

    >>> of = lambda kappa: pd.DataFrame([dict(seed=seed, network={}, images={"kappa": np.full(5, kappa)}) for seed in (0, 1)])
    >>> flatter(of(10.0), of(1.0), "eq. 21")
    {'mean': 1.0, 'low': 1.0, 'high': 1.0, 'n': 2, 'verdict': 'holds'}
    """
    pairs = rivals.merge(own, on="seed", suffixes=("_rival", ""))
    if not len(pairs):
        raise InputError("no seed was measured for both networks: measure the same seeds")
    value = QUANTITIES[name]
    found = apart([(value(pair.images_rival, pair.network_rival), value(pair.images, pair.network)) for pair in pairs.itertuples()], by)
    return found | dict(verdict=verdict(found["low"], found["high"]))


def flatter_than_each(rows: pd.DataFrame, method: str = "proposed", by=by_medians) -> pd.DataFrame:
    """`flatter` for a method and each other one, in every quantity that there is: panel (the quantity), row (the rival), ...

    >>> images = {"images": [{"kappa": np.full(5, kappa)} for kappa in (100.0, 1.0)], "network": [{}, {}]}
    >>> flatter_than_each(pd.DataFrame(images | {"method": ["both", "proposed"], "seed": 0}))[["panel", "row", "mean"]].to_numpy().tolist()
    [['eq. 21', 'both', 2.0]]
    """
    own, rivals = rows[rows.method == method], rows[rows.method != method].groupby("method", sort=False)
    return pd.DataFrame([dict(panel=name, row=m, **flatter(rival, own, name, by)) for name in quantities(rows) for m, rival in rivals])


def links(rows: pd.DataFrame, name: str, robust=robustness) -> dict[str, dict]:
    """How curvature goes with robustness over a method's runs, by LINKS: rho of the curvature, of the distance to the boundary, of the
    logit margin; and the curvature's partial rho given either. robust: row -> what counts as an image's robustness, (N,).

    Each: mean over seeds, low, high (t over seeds; one seed: over images), n, by_seed (value, low, high: over resampled images), and
    for the three of the rule its verdict.

    >>> images = {"kappa": np.arange(40.0), "margin": np.arange(40.0) % 7, "slope": np.ones(40)}
    >>> found = links(pd.DataFrame([dict(images=images, network={})]), "eq. 21", lambda row: -row.images["kappa"])
    >>> round(found["rho"]["mean"], 6), found["given margin"]["verdict"]
    (-1.0, 'holds')
    """
    by_seed = {key: [] for key in LINKS}
    for row in rows.itertuples():
        columns = np.stack([quantity(row, name), robust(row), distance(row), row.images["margin"]])
        whole, drawn = correlations(columns), resampled_correlations(columns)
        for key, pick in zip(LINKS, (_pair(0), _pair(2), _pair(3), _given(2), _given(3)), strict=True):
            by_seed[key].append((float(pick(whole)), *map(float, np.quantile(pick(drawn), (0.025, 0.975)))))
    found = {}
    for key, seeds in by_seed.items():
        mean, low, high = seed_interval([value for value, *_ in seeds]) if len(seeds) > 1 else seeds[0]
        judged = {} if " of " in key else dict(verdict=verdict(-high, -low))
        found[key] = dict(mean=mean, low=low, high=high, n=len(seeds), by_seed=seeds) | judged
    return found


def _pair(column: int):
    return lambda r: r[..., column, 1]


def _given(column: int):
    return lambda r: partial(r, 0, 1, given=column)


def claims(folder: str | Path | None = None) -> pd.DataFrame:
    """The findings on the paper's explanation, one a row: claim, dataset, against (the rival, or the method itself), measure, mean, low,
    high, n (seeds), verdict. From the committed records, or those of a folder.

    flatter: decades by which `proposed` is flatter than its rival, by medians and by means. theorem 6.1: room in decades, on digits.
    predicts robustness: rho of eq. 21 and of ‖H‖² with it, plain and partial. Raises InputError where there are no records.
    """
    found = []
    for (dataset, _), rows in sets(folder).items():
        rows = complete(rows)
        for by, said in ((by_medians, ""), (by_means, ", means")):
            flat = flatter_than_each(rows, by=by).rename(columns={"row": "against"})
            found.append(flat.assign(dataset=dataset, claim="proposed is flatter", measure=flat.pop("panel") + said))
        if all("chain_left" in row.images for row in rows.itertuples()):
            kept = theorem(rows).rename(columns={"part": "measure", "method": "against"}).drop(columns="share")
            found.append(kept.assign(dataset=dataset, claim="theorem 6.1"))
        predicted = [
            dict(against=method, measure=f"{key}, {name}", **{k: v for k, v in link.items() if k != "by_seed"})
            for name in ("eq. 21", "‖H‖²") for method, own in rows.groupby("method", sort=False)
            for key, link in links(own, name).items() if "verdict" in link
        ]  # fmt: skip
        found.append(pd.DataFrame(predicted).assign(dataset=dataset, claim="curvature predicts robustness"))
    if not found:
        raise InputError("no curvature records: make them with python -m penultimate curvature")
    return pd.concat(found, ignore_index=True)[["claim", "dataset", "against", "measure", "mean", "low", "high", "n", "verdict"]]
