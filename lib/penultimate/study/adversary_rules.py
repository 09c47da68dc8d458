"""What the adversary records say, by rules that stand here before the results they judge.

unmasked   The attack is trusted on a network where four things hold: at the LARGE budget at most 5 % are left; more steps never help the
           defender (at no number of steps is the accuracy more than 2 points above that at fewer); a transferred attack leaves no fewer
           than a direct one, less 2 points; and where AutoAttack was run it leaves at most 5 points fewer than APGD on the same images.
           Where no attack was transferred, nothing is said of the network.
resists    A method resists better than a rival where the 95 % interval over seeds of its accuracy within the middle budget (APGD), minus
           the rival's, lies above 0; beyond it, where that within the next larger budget does (added after the results were in); is
           certified better, where that of the smoothed classifiers' certified accuracy at radius sigma does, at the smallest smoothing
           noise that is no less than the noise trained with.
buys       Lower curvature goes with resistance image by image where the interval of Spearman's rho between an image's curvature and the
           number of L2 budgets that it survives lies below 0; it says something that the boundary's distance, or the logit margin, does
           not, where the partial rho given m / ‖∇m‖, or given m, lies below 0; it goes with certified radii where rho with them does
           (where 50 images or more were certified: on fewer, most radii are 0 or the largest). Between methods it buys accuracy where,
           within a seed, rho over the methods between decades of flatness and gain in the middle L2 budget lies above 0. Intervals are
           over seeds, all on the same images: they do not say what other images would give.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from .. import InputError
from ..comparison import differences
from ..evaluate import image_interval, unpack
from . import curvature_rules, measured
from .adversary_links import MEASURES, between, bought, certificates, joined, linked
from .measured import PLACES

LEFT, WORSE, GAP = 0.05, 0.02, 0.05  # the rule `unmasked`, as shares of the images
SLACK = 1e-9  # 0.31 - 0.29 is a little more than 0.02 in floating point
CERTIFIED = 50  # images on which a rank correlation with certified radii is taken, at least


def read(folder: str | Path | None = None, dataset: str = "digits", preset: str = "digits") -> pd.DataFrame:
    """One row per run: method, seed, clean (N,), apgd (norm -> (budgets, N)), record; see `measured.read`.

    >>> (first := read().iloc[0]).method, first.clean.shape, first.apgd["l2"].shape  # 450 images, 5 budgets
    ('normal', (450,), (5, 450))
    """
    return pd.DataFrame([
        dict(method=r["config"]["method"], seed=r["config"]["seed"], clean=unpack(r["clean"]), record=r,
             apgd={norm: unpack(packed) for norm, packed in r["apgd"].items()})
        for r in measured.read("adversary", folder, dataset, preset, apart=("method", "seed"))
    ])  # fmt: skip


def sets(folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """Data set -> its rows of `read`, for those that the folder has."""
    return {dataset: read(folder, dataset, preset) for dataset, preset in measured.present("adversary", folder)}


def accuracies(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Accuracy within each budget, 0 (clean) first, for `records.summary`: method, seed, level (budget), accuracy, correct (1,N).

    >>> left, record = {"l2": np.array([[True, False]])}, {"settings": {"budgets": {"l2": [0.5]}}}
    >>> rows = pd.DataFrame([dict(method="both", seed=0, clean=np.array([True, True]), apgd=left, record=record)])
    >>> accuracies(rows, "l2")[["level", "accuracy"]].to_numpy().tolist()
    [[0.0, 1.0], [0.5, 0.5]]
    """
    return pd.DataFrame([
        dict(method=row.method, seed=row.seed, level=level, accuracy=float(correct.mean()), correct=correct[None])
        for row in rows.itertuples()
        for level, correct in zip((0.0, *row.record["settings"]["budgets"][norm]), (row.clean, *row.apgd[norm]), strict=True)
    ])  # fmt: skip


def certified(rows: pd.DataFrame, sigma: float, radii) -> pd.DataFrame:
    """Certified accuracy of the smoothed classifiers at each radius, in the form of `accuracies` (level: the radius).

    >>> certified(sets()["digits"], 0.3, [0.0, 10.0]).groupby("level").accuracy.max().gt(0).to_dict()  # 10: beyond what n draws can tell
    {0.0: True, 10.0: False}
    """
    found = []
    for row in rows.itertuples():
        right, radius = certificates(row, sigma)
        for level in radii:
            correct = right & (radius >= level)
            found.append(dict(method=row.method, seed=row.seed, level=level, accuracy=float(correct.mean()), correct=correct[None]))
    return pd.DataFrame(found)


def over_images(held: pd.DataFrame, level: float) -> pd.DataFrame:
    """How many more images `proposed` keeps at a level than each rival, paired by image, with the interval over images, whose seeds stay
    together (`image_interval`): rival, mean, low, high (shares). held: `accuracies` or `certified`; of the seeds that both have.

    >>> held = pd.DataFrame({"method": ["both", "proposed"], "seed": 0, "level": 0.5, "correct": [np.eye(1, 4), np.ones((1, 4))]})
    >>> over_images(held, 0.5)[["rival", "mean"]].to_numpy().tolist()  # one image of four against all
    [['both', 0.75]]
    """
    by_seed = held[np.isclose(held.level, level)].pivot(index="seed", columns="method", values="correct")
    rows = []
    for rival in by_seed.columns.drop("proposed"):
        ours, theirs = (np.concatenate(list(column)) for _, column in by_seed[["proposed", rival]].dropna().items())
        rows.append((rival, *image_interval(ours, theirs)))
    return pd.DataFrame(rows, columns=["rival", "mean", "low", "high"])


def abstentions(rows: pd.DataFrame, sigma: float) -> dict[str, float]:
    """The share of images on which a method's smoothed classifiers abstain, mean over seeds.

    >>> from penultimate.evaluate import pack
    >>> record = {"certified": {"0.3": {"abstains": pack(np.array([True, False, False, False]))}}}
    >>> abstentions(pd.DataFrame([{"method": "both", "record": record}]), 0.3)
    {'both': 0.25}
    """
    share = rows.record.map(lambda r: unpack(r["certified"][f"{sigma:g}"]["abstains"]).mean())
    return share.groupby(rows.method, sort=False).mean().to_dict()


def smoothed_at(rows: pd.DataFrame) -> float:
    """The smallest smoothing noise that is no less than the noise trained with, of the first row's record.

    >>> smoothed_at(pd.DataFrame({"record": [{"config": {"sigma": 0.2}, "certified": {"0.15": {}, "0.3": {}, "0.6": {}}}]}))
    0.3
    """
    record = rows.record.iloc[0]
    sigmas = sorted(float(sigma) for sigma in record["certified"])
    return next((sigma for sigma in sigmas if sigma >= record["config"]["sigma"]), sigmas[-1])


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per network: what the rule `unmasked` looks at, as shares of the images, whether all of it is kept, and whether all of it
    was tried (`tried`; only then can it be unmasked).

    >>> checked(read()).columns.tolist()
    ['method', 'seed', 'large', 'gained', 'transferred', 'gap', 'unmasked', 'tried']
    """
    found = []
    for row in rows.itertuples():
        check, settings = row.record["checks"], row.record["settings"]
        by_steps = [check["by_steps"][steps] for steps in sorted(check["by_steps"], key=int)]
        gained = max(later - min(by_steps[: k + 1]) for k, later in enumerate(by_steps[1:]))
        transferred = min(check["transferred"].values(), default=np.nan) - check["direct"]
        gaps = [
            float(row.apgd[norm][settings["budgets"][norm].index(settings["middle"][norm])][: settings["autoattack_images"]].mean()
                  - unpack(packed).mean())
            for norm, packed in row.record["autoattack"].items()
        ]  # fmt: skip
        gap = max(gaps, default=np.nan)
        kept = check["large"] <= LEFT + SLACK and gained <= WORSE + SLACK and transferred >= -WORSE - SLACK and not gap > GAP + SLACK
        told = dict(large=check["large"], gained=gained, transferred=transferred, gap=gap, unmasked=kept, tried=bool(check["transferred"]))
        found.append(dict(method=row.method, seed=row.seed) | told)
    return pd.DataFrame(found)


def against(table: pd.DataFrame, method: str, rival: str, level: float) -> tuple[float, float, float, int]:
    """One method's accuracy minus a rival's at a level of `accuracies` or `certified`, paired by seed: mean, low, high, n.

    >>> table = pd.DataFrame({"method": ["both", "proposed"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.7, 0.4, 0.8]})
    >>> [round(float(v), 2) for v in against(table.assign(level=0.5, correct=None), "proposed", "both", 0.5)[:3]]
    [0.3, -0.97, 1.57]
    """
    kept = table[np.isclose(table.level, level) & table.method.isin([method, rival])]
    return tuple(differences(kept, baseline=rival)[["mean", "low", "high", "n"]].iloc[0])


def budget_name(norm: str, budget: float) -> str:
    """A budget for people.

    >>> budget_name("linf", 0.5 / 255), budget_name("l2", 0.375)
    ('L∞ 0.5/255', 'L2 0.375')
    """
    plain = f"{budget:g}"
    return f"{'L∞' if norm == 'linf' else 'L2'} {plain if len(plain) <= 5 else f'{255 * budget:.3g}/255'}"


def shown_budgets(rows: pd.DataFrame) -> dict[str, list[float]]:
    """Norm -> the middle budget and the next larger one, of the first row's record.

    >>> shown_budgets(read())
    {'linf': [0.1, 0.15], 'l2': [0.5, 0.75]}
    """
    settings = rows.record.iloc[0]["settings"]
    at = {norm: budgets.index(settings["middle"][norm]) for norm, budgets in settings["budgets"].items()}
    return {norm: budgets[at[norm] : at[norm] + 2] for norm, budgets in settings["budgets"].items()}


def claims(folder: str | Path | None = None) -> pd.DataFrame:
    """The findings, one a row, in the form of `curvature_rules.claims`: claim, dataset, against, measure, mean, low, high, n.

    resists, beyond, certified: `proposed` minus a rival, shares. buys: rho, plain and partial, with the L2 budgets survived and with the
    certified radius, by method; and over methods, gain with decades of flatness. Raises InputError where there are no records.
    """
    found = []
    for dataset, rows in sets(folder).items():
        own = set(rows.seed[rows.method == "proposed"])
        rivals = [m for m, rival in rows.groupby("method", sort=False) if m != "proposed" and own & set(rival.seed)]
        sigma, add = smoothed_at(rows), lambda claim, measure, to, numbers, d=dataset: found.append((claim, d, to, measure, *numbers))
        shares = {norm: accuracies(rows, norm) for norm in shown_budgets(rows)}
        for rival in rivals:
            for norm, levels in shown_budgets(rows).items():
                for claim, level in zip(("resists", "beyond"), levels, strict=False):
                    numbers = against(shares[norm], "proposed", rival, level)
                    add(claim, f"within {budget_name(norm, level)}", f"proposed − {rival}", numbers)
            smooth = against(certified(rows, sigma, [sigma]), "proposed", rival, sigma)
            add("certified", f"smoothed at σ = {sigma:g}, radius {sigma:g}", f"proposed − {rival}", smooth)
        if (dataset, PLACES[dataset]) not in measured.present("curvature"):
            continue
        curvature = curvature_rules.read(None, dataset, PLACES[dataset])
        attacked = {record["name"] for record in rows.record}
        curvature = curvature[(curvature.noise == "gaussian") & curvature.record.map(lambda record: record["name"]).isin(attacked)]
        if not len(curvature):
            continue
        enough = rows.record.iloc[0]["settings"]["certified_images"] >= CERTIFIED
        for what, noise in (("L2 budgets survived", None), *[("certified radius", sigma)] * enough):
            for method, keys in linked(joined(rows, curvature, noise)).items():
                for key in ("rho", "given distance", "given margin"):
                    add("buys", f"{key}, eq. 21 with {what}", method, [keys[key][name] for name in ("mean", "low", "high", "n")])
        for one in between(bought(joined(rows, curvature))).itertuples():
            if one.what == "rho" and one.panel in MEASURES:
                add("buys between methods", f"rho of flatness and gain, {one.panel}", "methods", (one.mean, one.low, one.high, one.n))
    if not found:
        raise InputError("no adversary records: make them with python -m penultimate adversary")
    return pd.DataFrame(found, columns=["claim", "dataset", "against", "measure", "mean", "low", "high", "n"])
