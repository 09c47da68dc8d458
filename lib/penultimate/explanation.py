"""What the curvature records say of the paper's explanation, by rules that stand here before the results they judge.

flatter     A network is flatter than its rival where the 95 % interval of `decades` lies above 0: the median over images of
            log10(rival's curvature / its own), mean over seeds (with one seed: bootstrapped over images).
agrees      A measure agrees with another where the 95 % interval of the median ratio over images lies within 0.8 to 1.25.
predicts    Curvature predicts robustness where the 95 % interval of Spearman's rho between it and the number of noisy views that are
            classified correctly lies below 0; beyond the margin where this holds for the partial rho given m / ||grad m||.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from . import InputError, files
from .evaluate import seed_interval
from .flatness import RECORDS
from .methods import METHODS
from .own import short
from .records import pipes, verdict

# What is compared, by the name that tables show: from the numbers of a record's images and its network.
QUANTITIES = {
    "eq. 21": lambda images, network: images["kappa"],
    "||H||², autodiff": lambda images, network: images["frobenius"],
    "eq. 21, matched confidence": lambda images, network: images["kappa_matched"],
    "eq. 21, logit margin": lambda images, network: images["kappa_margin"],
    "eq. 21, logit margin / slope²": lambda images, network: images["kappa_margin"] / images["slope"] ** 2,
    "w_max² η": lambda images, network: network["w_max"] ** 2 * images["eta"],
}
AGREEMENT = (0.8, 1.25)  # ratios that count as the same
SECOND_ORDER = (0.5, 2.0)  # E[S^2] over its second-order value, median over images: outside, the picture has ended
RESAMPLES = 1000
SMALLEST = 1e-30  # below any curvature that float32 can tell from none: keeps logarithms finite


def read(folder: str | Path | None = None, dataset: str = "digits", preset: str = "digits") -> pd.DataFrame:
    """One row per run: method, noise (trained with), seed, images (name -> array (N,)), network, record.

    folder: of `<dataset>-<preset>/<name>.json`, left out: the committed curvature records. Raises InputError where there are none.
    """
    root = (Path(folder) if folder else RECORDS) / f"{short(dataset)}-{preset}"
    found = [files.read_json(path) for path in sorted(root.glob("*.json"))]
    if not found:
        raise InputError(f"no curvature records of {dataset} with preset {preset}: make them with python -m penultimate curvature")
    rows = [
        dict(
            method=r["config"]["method"], noise=r["config"]["noise"], seed=r["config"]["seed"], network=r["network"], record=r,
            images={name: np.array(values, dtype=float) for name, values in r["images"].items()},
        )
        for r in found
    ]  # fmt: skip
    order = lambda column: column.map(list(METHODS).index) if column.name == "method" else column  # noqa: E731
    return pd.DataFrame(rows).sort_values(["noise", "method", "seed"], key=order).reset_index(drop=True)


def quantity(row, name: str) -> np.ndarray:
    """A quantity of QUANTITIES of one row of `read`, per image (N,)."""
    return QUANTITIES[name](row.images, row.network)


def decades(rival: np.ndarray, own: np.ndarray) -> np.ndarray:
    """log10(rival / own) of each image: 1 where the own curvature is ten times lower.

    >>> decades(np.array([10.0, 1.0]), np.array([1.0, 10.0]))
    array([ 1., -1.])
    """
    return np.log10(np.maximum(rival, SMALLEST)) - np.log10(np.maximum(own, SMALLEST))


def flatter(rivals: pd.DataFrame, own: pd.DataFrame, name: str) -> dict:
    """Decades by which `own` is flatter than its rivals, paired by seed and image, with the verdict of this module's rule.

    rivals, own: rows of `read`, one a seed. -> mean, low, high, n (seeds), verdict.
    """
    pairs = rivals.merge(own, on="seed", suffixes=("_rival", ""))
    if not len(pairs):
        raise InputError("no seed was measured for both networks: measure the same seeds")
    medians, last = [], None
    for pair in pairs.itertuples():
        last = decades(QUANTITIES[name](pair.images_rival, pair.network_rival), QUANTITIES[name](pair.images, pair.network))
        medians.append(float(np.median(last)))
    mean, low, high = seed_interval(medians) if len(medians) > 1 else (medians[0], *bootstrap(np.median, last))
    return dict(mean=mean, low=low, high=high, n=len(medians), verdict=verdict(low, high))


def agrees(ratio: np.ndarray) -> dict:
    """Whether a ratio per image counts as 1: median, low, high (bootstrapped over images) and the verdict of this module's rule.

    >>> agrees(np.linspace(0.9, 1.1, 50))["verdict"], agrees(np.linspace(3, 5, 50))["verdict"]
    ('holds', 'does not hold')
    """
    low, high = bootstrap(np.median, ratio)
    inside, outside = AGREEMENT[0] < low and high < AGREEMENT[1], high < AGREEMENT[0] or low > AGREEMENT[1]
    found = "holds" if inside else "does not hold" if outside else "undecided"
    return dict(median=float(np.median(ratio)), low=low, high=high, n=len(ratio), verdict=found)


def bootstrap(statistic, *samples: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval over images, which are resampled together in all samples."""
    found = stats.bootstrap(
        samples, statistic, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def rho(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation."""
    return float(stats.spearmanr(a, b).statistic)


def partial_rho(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """Spearman's rho of a and b at a fixed rank of `given`: (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2) (1 - r_bc^2)).

    >>> c = np.arange(100.0)
    >>> wave = np.resize([1.0, -1.0], 100)
    >>> round(partial_rho(c + 5 * wave, c - 5 * wave, c), 2)
    -0.98
    """
    r = stats.spearmanr(np.stack([a, b, given], 1)).statistic
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)))


def distance(row) -> np.ndarray:
    """m / ||grad m|| of each image: signed distance to the decision boundary in normalised space, to first order."""
    return row.images["margin"] / row.images["slope"]


def links(rows: pd.DataFrame, name: str) -> dict[str, dict]:
    """How curvature goes with robustness over a method's runs: rho, that of the distance to the boundary, and the partial one.

    Each: mean over seeds, low, high (t over seeds; one seed: bootstrap), n, and for the two of the rule its verdict.
    """
    statistics = {
        "rho": lambda row: (rho, quantity(row, name), row.images["correct"]),
        "rho of distance": lambda row: (rho, distance(row), row.images["correct"]),
        "partial rho": lambda row: (partial_rho, quantity(row, name), row.images["correct"], distance(row)),
    }
    found = {}
    for key, choose in statistics.items():
        chosen = [choose(row) for row in rows.itertuples()]
        values = [statistic(*samples) for statistic, *samples in chosen]
        mean, low, high = seed_interval(values) if len(values) > 1 else (values[0], *bootstrap(*chosen[0]))
        found[key] = dict(mean=mean, low=low, high=high, n=len(values), verdict=verdict(-high, -low))
    found["rho of distance"].pop("verdict")
    return found


def ten_bins(curvature: np.ndarray, correct: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The authors' measure: Pearson's r between 1..10 and the mean curvature of the images with that many correct views.

    -> r, the bins that hold images, their mean curvature. Images that are never correct are left out, as theirs are.

    >>> r, bins, means = ten_bins(np.array([9.0, 3.0, 2.0, 1.0]), np.array([0, 1, 5, 10]))
    >>> round(r, 2), bins.tolist(), means.tolist()
    (-1.0, [1, 5, 10], [3.0, 2.0, 1.0])
    """
    bins = np.unique(correct[correct > 0]).astype(int)
    means = np.array([curvature[correct == n].mean() for n in bins])
    return (float(stats.pearsonr(bins, means).statistic) if len(bins) > 2 else float("nan")), bins, means


def shown(found: dict) -> str:
    """An estimate for a table, with its interval and, where a rule judges it, its verdict.

    >>> shown(dict(mean=0.5123, low=0.41, high=0.62, n=5, verdict="holds"))
    '+0.51 [+0.41, +0.62] holds'
    """
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] {found.get('verdict', '')}".strip()


def markdown(folder: str | Path | None = None, dataset: str = "digits", preset: str = "digits") -> str:
    """README's account: decades by which `proposed` is flatter than each rival, the seeds that every method has, and the caption."""
    rows = read(folder, dataset, preset).query("noise == 'gaussian'")
    complete = rows.groupby("seed").method.nunique() == rows.method.nunique()
    rows = rows[rows.seed.map(complete)]
    named = ("eq. 21", "eq. 21, matched confidence", "eq. 21, logit margin")
    own, by_method = rows[rows.method == "proposed"], rows.groupby("method", sort=False)
    cells = {m: [shown(flatter(rival, own, name)) for name in named] for m, rival in by_method if m != "proposed"}
    table = pipes(pd.DataFrame.from_dict(cells, orient="index", columns=list(named)))
    return f"Decades by which `proposed` is flatter than\n\n{table}\n\n*{caption(rows)}*"


def caption(rows: pd.DataFrame) -> str:
    """What stands beside every number: data, n, space, noise, hardware."""
    first = rows.record.iloc[0]
    settings, seeds = first["settings"], rows.groupby("method").seed.nunique()
    machines = ", ".join(sorted({f"{r['environment']['device']}, torch {r['environment']['torch']}" for r in rows.record}))
    over = {True: "t intervals over seeds", False: "bootstrap intervals over images"}
    interval = " or, where n = 1, ".join(over[several] for several in sorted(set(seeds > 1), reverse=True))
    n = (
        str(seeds.max())
        if seeds.nunique() == 1
        else ", ".join(f"{count} ({method})" for method, count in seeds[list(dict.fromkeys(rows.method))].items())
    )
    return (
        f"{first['config']['dataset']}, {first['data']['test_images']:,} test images; n = {n} seed(s), 95 % {interval}; curvature in "
        f"{settings['space']} space, h = {settings['step']:g}, {settings['probes']} probes, autodiff ||H||² {settings['frobenius']}; "
        f"robustness: {settings['draws']} views at noise {settings['sigma']:.3g}; {machines}."
    )
