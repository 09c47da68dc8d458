"""Resistance beside curvature: both records of a run joined image by image, and what a flatter network buys (rule `buys`)."""

import numpy as np
import pandas as pd
from scipy import stats

from .. import InputError
from ..comparison import verdict
from ..evaluate import seed_interval, unpack
from .adversary import chosen
from .curvature_decades import decades
from .curvature_rules import distance, links, quantity

MEASURES = ("eq. 21", "‖H‖²", "eq. 21, matched confidence", "‖H‖², matched confidence")
FEWEST = 4  # methods over which a rank correlation between methods is taken


def certificates(row, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Of a row of `adversary_rules.read`: whether the smoothed classifier is right on each image, and its certified radius there, (N,).

    >>> from penultimate.evaluate import pack
    >>> found = {"right": pack(np.array([True, False])), "radius": [0.5, 0.25]}
    >>> right, radius = certificates(pd.Series({"record": {"certified": {"0.3": found}}}), 0.3)
    >>> right.tolist(), radius.tolist()
    ([True, False], [0.5, 0.25])
    """
    found = row.record["certified"][f"{sigma:g}"]
    return unpack(found["right"]), np.array(found["radius"], dtype=float)


def joined(rows: pd.DataFrame, curvature: pd.DataFrame, sigma: float | None = None) -> pd.DataFrame:
    """The runs that have both records: method, seed, network and images (the curvature's numbers of the attacked images, in their order),
    accuracy (in the middle L2 budget) and survived (N,): how many L2 budgets an image survives, or with sigma its certified radius, 0 where
    the smoothed classifier is wrong.

    curvature: rows of `curvature_rules.read`. Raises InputError where the curvature is of another run, of another training of the same run
    (another machine's, say: it is right on other images), or of too few images.

    >>> from penultimate.study import adversary_rules, curvature_rules
    >>> rows, curvature = adversary_rules.read().head(1), curvature_rules.read().query("noise == 'gaussian'")
    >>> joined(rows, curvature).survived[0].shape, joined(rows, curvature, 0.3).survived[0].shape  # attacked, certified
    ((450,), (60,))
    """
    found = []
    for row in rows.merge(curvature, on=["method", "seed"], suffixes=("", "_curvature")).itertuples():
        if (one := row.record["name"]) != (other := row.record_curvature["name"]):
            raise InputError(f"{one} was attacked, the curvature is of {other}: measure both of one run")
        settings, data = row.record["settings"], row.record["data"]
        mine = chosen(data["test_total"], data["test_images"] if sigma is None else settings["certified_images"])
        theirs = np.sort(chosen(data["test_total"], row.record_curvature["data"]["test_images"]))
        if not np.isin(mine, theirs).all():
            raise InputError(f"curvature of {row.record['name']} was measured on too few images: at least {data['test_images']} are needed")
        at = np.searchsorted(theirs, mine)
        if parted := int(((row.images["margin"][at] > 0) != row.clean[: len(mine)]).sum()):
            raise InputError(
                f"{one}: the network whose curvature was measured and the attacked one are not right on the same clean images ({parted} of"
                f" {len(mine)} differ): measure both of one training"
            )
        survived = row.apgd["l2"].sum(0) if sigma is None else np.prod(certificates(row, sigma), axis=0)
        middle = settings["budgets"]["l2"].index(settings["middle"]["l2"])
        found.append(dict(
            method=row.method, seed=row.seed, network=row.network, images={name: values[at] for name, values in row.images.items()},
            accuracy=float(row.apgd["l2"][middle].mean()), survived=survived.astype(float),
        ))  # fmt: skip
    return pd.DataFrame(found)


def linked(both: pd.DataFrame, name: str = "eq. 21") -> dict[str, dict]:
    """Method -> `curvature_rules.links` with what its images survive; both: rows of `joined`.

    >>> images = {"kappa": np.arange(40.0), "margin": np.arange(40.0) % 7, "slope": np.ones(40)}
    >>> round(linked(pd.DataFrame([dict(method="m", network={}, images=images, survived=-images["kappa"])]))["m"]["rho"]["mean"], 6)
    -1.0
    """
    return {method: links(own, name, lambda row: row.survived) for method, own in both.groupby("method", sort=False)}


def bought(both: pd.DataFrame) -> pd.DataFrame:
    """For every run but `normal`'s, paired by seed: decades by which it is flatter (median over images), and by which its boundary is
    farther, and gain in accuracy within the middle L2 budget; long: panel (the measure), method, seed, decades, gain.

    >>> flat = dict.fromkeys(("kappa", "frobenius", "kappa_matched", "frobenius_matched", "margin", "slope"), np.ones(3))
    >>> runs = {"method": ["normal", "both"], "seed": 0, "network": [{}, {}], "images": [flat | {"kappa": np.full(3, 10.0)}, flat]}
    >>> bought(pd.DataFrame(runs | {"accuracy": [0.5, 0.75]})).to_numpy().tolist()[0]  # ten times flatter, 25 points better
    ['eq. 21', 'both', 0, 1.0, 0.25]
    """
    base, found = both[both.method == "normal"].set_index("seed"), []
    for row in both[(both.method != "normal") & both.seed.isin(base.index)].itertuples():
        rival = next(base.loc[[row.seed]].itertuples())
        flatter = {name: np.median(decades(quantity(rival, name), quantity(row, name))) for name in MEASURES}
        farther = {"distance m / ‖∇m‖": np.log10(np.median(distance(row)) / np.median(distance(rival)))}
        found += [
            dict(panel=name, method=row.method, seed=row.seed, decades=float(value), gain=row.accuracy - rival.accuracy)
            for name, value in (flatter | farther).items()
        ]
    return pd.DataFrame(found, columns=["panel", "method", "seed", "decades", "gain"])


def between(gains: pd.DataFrame) -> pd.DataFrame:
    """Over the methods of a seed (`normal` at 0), how gain goes with decades: rho, slope (share of accuracy a decade) and r^2.

    gains: `bought`. -> panel, what, mean, low, high, n (seeds), verdict of rho: positive where flatter, or farther, methods resist better.

    >>> rows = [("eq. 21", method, 0, x, 0.25 * x) for method, x in {"noisy": 1.0, "both": 2.0, "proposed": 3.0}.items()]
    >>> between(pd.DataFrame(rows, columns=["panel", "method", "seed", "decades", "gain"]))[["what", "mean"]].round(6).to_numpy().tolist()
    [['rho', 1.0], ['slope', 0.25], ['r²', 1.0]]
    """
    found = []
    for panel, own in gains.groupby("panel", sort=False):
        whole = own[own.groupby("seed").method.transform("nunique") + 1 >= FEWEST]
        if not len(whole):
            continue
        numbers = {"rho": [], "slope": [], "r²": []}
        for _, one in whole.groupby("seed"):
            x, y = np.append(one.decades, 0.0), np.append(one.gain, 0.0)
            line = stats.linregress(x, y)
            for name, value in zip(numbers, (stats.spearmanr(x, y).statistic, line.slope, line.rvalue**2), strict=True):
                numbers[name].append(float(value))
        for what, values in numbers.items():
            mean, low, high = seed_interval(values)
            found.append(dict(panel=panel, what=what, mean=mean, low=low, high=high, n=len(values), verdict=verdict(low, high)))
    return pd.DataFrame(found, columns=["panel", "what", "mean", "low", "high", "n", "verdict"])
