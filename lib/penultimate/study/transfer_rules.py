"""What the transfer records say: accuracy by perturbation and severity, by training noise, and calibration. The rules stand here before
the results that they judge.

carries over   `proposed` (or another method) is more robust than its rival to a perturbation where the 95 % interval of the difference of
               accuracies, averaged over the perturbation's severities and paired by seed, lies above 0.
specific       Robustness is specific to the noise trained with where, under that noise, networks trained with it are more accurate
               than networks trained with the others of TRAINED (their mean), averaged over severities, paired by seed: the 95 % interval
               above 0. Training noise protects against another where the mean of those others lies above training without noise.
calibrated     A method is better calibrated than its rival where the 95 % interval of rival's ECE - own ECE, paired by seed, lies
               above 0; clean images and the noise trained with (preset's level, Gaussian) apart.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import InputError
from ..calibration import calibration_error, overconfidence
from ..comparison import differences, verdict
from ..evaluate import seed_interval, unpack
from ..methods import METHODS
from . import checks, measured
from .measured import SEVERITIES
from .transfer import MATRIX, PERTURBATIONS, levels_of

TRAINED = ("gaussian", *MATRIX)
WITHOUT_NOISE = {"both": "normal", "proposed": "discriminative"}  # what is left of a method when it sees clean images alone
OTHERS = tuple(name for name in PERTURBATIONS if name != "gaussian")


class Transfer(NamedTuple):
    """Records of a data set, the severities they were measured at, and one row for each run, perturbation and severity.

    table: method, noise (trained with), seed, perturbation, level (the target: the share of its clean accuracy that `normal` is to
    keep; 1 = clean), severity (in the perturbation's units), accuracy (mean over draws), correct (draws, N).
    """

    records: list[dict]
    severities: dict
    table: pd.DataFrame


def read(folder: str | Path | None = None, dataset: str = "digits", preset: str = "digits") -> Transfer:
    """The transfer records of a data set, see `measured.read`.

    Raises InputError where one was measured at other severities, or where a perturbation has none (an older version's choice).

    >>> read().table.columns.tolist()
    ['method', 'noise', 'seed', 'perturbation', 'level', 'severity', 'accuracy', 'correct']
    """
    found = measured.read("transfer", folder, dataset, preset)
    path = measured.home("transfer", folder, dataset, preset) / SEVERITIES
    chosen = checks.read(path, checks.severities, "choice of severities")
    if missing := [name for name in PERTURBATIONS if not chosen["perturbations"].get(name)]:
        raise InputError(f"{path} has no severities of {', '.join(missing)}: delete the folder, and make its records again")
    return Transfer(found, chosen, pd.DataFrame([row for record in found for row in _rows(record, chosen)]))


def _rows(record: dict, chosen: dict) -> list[dict]:
    run = {key: record["config"][key] for key in ("method", "noise", "seed")}
    clean = unpack(record["clean"])[None]
    rows = [run | {"perturbation": "clean", "level": 1.0, "severity": 0.0, "accuracy": float(clean.mean()), "correct": clean}]
    for name, levels in levels_of(chosen).items():
        one = record["perturbations"].get(name, {"levels": None})
        if one["levels"] != [list(level) if isinstance(level, tuple) else level for level in levels]:
            raise InputError(
                f"{record['name']} was measured at other severities of {name} than {SEVERITIES} names: delete it, and make it again"
            )
        targets = targets_of(chosen["perturbations"][name])
        rows += [
            run | {"perturbation": name, "level": targets[level], "severity": level, "accuracy": float(correct.mean()), "correct": correct}
            for level, correct in zip(levels, unpack(one["correct"]), strict=True)
        ]
    return rows


def targets_of(rows: list[dict]) -> dict:
    """Level -> its target; where several share a level, the one that it came nearest to.

    >>> targets_of([dict(target=0.9, level=1.03, share=0.64), dict(target=0.75, level=1.03, share=0.64)])
    {1.03: 0.75}
    """
    as_level = lambda level: tuple(level) if isinstance(level, list) else level  # noqa: E731
    farthest_first = sorted(rows, key=lambda row: -abs(row["share"] - row["target"]))
    return {as_level(row["level"]): row["target"] for row in farthest_first}


def sets(folder: str | Path | None = None) -> dict[str, Transfer]:
    """Data set -> its records, as far as the folder has them."""
    return {dataset: read(folder, dataset, preset) for dataset, preset in measured.present("transfer", folder)}


def own(table: pd.DataFrame) -> pd.DataFrame:
    """The preset's own runs: trained with Gaussian noise, or with none.

    >>> own(pd.DataFrame({"method": ["normal", "both"], "noise": ["gaussian", "laplace"]})).method.tolist()
    ['normal']
    """
    return table[table.noise == "gaussian"]


def gains(table: pd.DataFrame, baseline: str = "normal") -> pd.DataFrame:
    """Each method's accuracy minus the baseline's, paired: perturbation, method, level (the target, mildest first), mean, low, high, n.

    >>> table = pd.DataFrame({"method": ["normal", "both"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.75, 0.25, 0.75]})
    >>> table = table.assign(noise="gaussian", perturbation="blur", level=0.9, correct=None)
    >>> gains(table)[["perturbation", "method", "level", "mean", "n"]].to_numpy().tolist()
    [['blur', 'both', 0.9, 0.375, 2]]
    """
    parts = [differences(rows, baseline).assign(perturbation=name) for name, rows in own(table).groupby("perturbation", sort=False)]
    return pd.concat([part.sort_values("level", ascending=False, kind="stable") for part in parts], ignore_index=True)


def pooled(table: pd.DataFrame, perturbations: tuple[str, ...]) -> pd.DataFrame:
    """One row per run, all severities of some perturbations together: method, noise, seed, level (0), accuracy (their mean, each
    perturbation alike), correct (perturbations, N) mean over draws and severities.

    >>> run = dict(method="both", noise="gaussian", seed=0, perturbation="blur")  # at two severities, one draw of two images
    >>> table = pd.DataFrame([run | dict(accuracy=1.0, correct=np.ones((1, 2))), run | dict(accuracy=0.5, correct=np.eye(1, 2))])
    >>> pooled(table, ("blur",))[["accuracy", "correct"]].to_numpy()[0].tolist()
    [0.75, array([[1. , 0.5]])]
    """
    rows = []
    for (method, noise, seed), run in table[table.perturbation.isin(perturbations)].groupby(["method", "noise", "seed"], sort=False):
        accuracy = run.groupby("perturbation").accuracy.mean().mean()
        alike = [own.correct for _, own in run.groupby("perturbation", sort=False)]
        correct = np.stack([np.mean([views.mean(0) for views in severities], axis=0) for severities in alike])
        rows.append(dict(method=method, noise=noise, seed=seed, level=0.0, accuracy=accuracy, correct=correct))
    return pd.DataFrame(rows)


def averages(table: pd.DataFrame, baseline: str = "normal") -> pd.DataFrame:
    """`gains`, averaged over severities, for each perturbation and for all but Gaussian noise: perturbation, method, mean, low, high, n.

    >>> averages(read().table.query("method in ('normal', 'both')")).perturbation.tolist()[-3:]
    ['contrast', 'jpeg', 'all but gaussian']
    """
    groups = {name: (name,) for name in PERTURBATIONS} | {"all but gaussian": OTHERS}
    parts = [differences(pooled(own(table), names), baseline).assign(perturbation=title) for title, names in groups.items()]
    return pd.concat(parts, ignore_index=True)


def by_noise(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Accuracy of a method by the noise it was trained with (index: seed, trained; columns: test noises of TRAINED), over severities.

    Without noise the method is what WITHOUT_NOISE says. Empty where a training noise was not measured.

    >>> by_noise(read().table, "both").xs("none", level="trained").columns.tolist()
    ['gaussian', 'uniform', 'laplace', 'salt_pepper']
    """
    own_runs = table[(table.method == method) | ((table.method == WITHOUT_NOISE[method]) & (table.noise == "gaussian"))]
    columns = {}
    for name in TRAINED:
        runs = pooled(own_runs, (name,))
        trained = runs.noise.where(runs.method == method, "none")
        columns[name] = runs.set_index([runs.seed, trained.rename("trained")]).accuracy
    found = pd.DataFrame(columns)
    return found if set(TRAINED) | {"none"} <= set(found.index.get_level_values("trained")) else found.iloc[:0]


def matrix(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """`by_noise` over seeds: trained, perturbation, mean, low, high, n.

    >>> matrix(read().table, "both").trained.unique().tolist()
    ['none', 'gaussian', 'uniform', 'laplace', 'salt_pepper']
    """
    runs = by_noise(table, method)
    return pd.DataFrame([
        dict(zip(("trained", "perturbation", "mean", "low", "high", "n"), (trained, name, *seed_interval(part), len(part)), strict=True))
        for trained in ("none", *TRAINED) * (len(runs) > 0) for name in TRAINED for part in [runs.xs(trained, level="trained")[name]]
    ], columns=["trained", "perturbation", "mean", "low", "high", "n"])  # fmt: skip


def specific(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """By test noise, paired by seed: trained with it minus the mean of those trained with the others of TRAINED (`specific`), and that mean
    minus training without noise (`protects`): rule, measure (in words), perturbation, mean, low, high, n.

    >>> specific(read().table, "both").measure.tolist()[:2]
    ['gaussian, trained with it − with the others', 'gaussian, trained with the others − without noise']
    """
    runs, rows = by_noise(table, method), []
    for name in TRAINED if len(runs) else ():
        by_seed = runs[name].unstack("trained").dropna()
        others = by_seed[[trained for trained in TRAINED if trained != name]].mean(axis=1)
        for rule, told, apart in (
            ("specific", "trained with it − with the others", by_seed[name] - others),
            ("protects", "trained with the others − without noise", others - by_seed["none"]),
        ):
            rows.append((rule, f"{name}, {told}", name, *seed_interval(apart), len(apart)))
    return pd.DataFrame(rows, columns=["rule", "measure", "perturbation", "mean", "low", "high", "n"])


def calibrations(found: Transfer) -> pd.DataFrame:
    """One row per run of the preset's own and condition (clean, noisy): method, seed, condition, ece, over (overconfidence), bins.

    >>> bins = {"count": [1, 2], "confidence": [0.5, 2.0], "correct": [0, 1]}
    >>> record = {"config": dict(method="both", noise="gaussian", seed=0), "calibration": {"clean": bins}}
    >>> calibrations(Transfer([record], {}, None)).drop(columns="bins").to_numpy().tolist()  # (|0 - 0.5| + |1 - 2|) / 3
    [['both', 0, 'clean', 0.5, 0.5]]
    """
    rows = []
    for record in found.records:
        for condition, bins in record["calibration"].items() if record["config"]["noise"] == "gaussian" else ():
            run = dict(method=record["config"]["method"], seed=record["config"]["seed"], condition=condition)
            rows.append(run | dict(ece=calibration_error(bins), over=overconfidence(bins), bins=bins))
    return pd.DataFrame(rows)


def better_calibrated(found: Transfer, condition: str) -> pd.DataFrame:
    """Rival's ECE minus that of `proposed`, paired by seed: rival, mean, low, high, n.

    >>> of = lambda right: {"clean": {"count": [100], "confidence": [75.0], "correct": [right]}}  # all at 75 %
    >>> run = lambda name, right: {"config": dict(method=name, noise="gaussian", seed=0), "calibration": of(right)}
    >>> better_calibrated(Transfer([run("normal", 50), run("proposed", 75)], {}, None), "clean")[["rival", "mean"]].to_numpy().tolist()
    [['normal', 0.25]]
    """
    errors = calibrations(found).query("condition == @condition").pivot(index="seed", columns="method", values="ece")
    rivals = [name for name in METHODS if name in errors and name != "proposed"] if "proposed" in errors else []
    apart = {rival: (errors[rival] - errors["proposed"]).dropna() for rival in rivals}
    rows = [(rival, *seed_interval(values), len(values)) for rival, values in apart.items()]
    return pd.DataFrame(rows, columns=["rival", "mean", "low", "high", "n"])


def claims(folder: str | Path | None = None) -> pd.DataFrame:
    """The findings, one a row, as `curvature_rules.claims`: claim, dataset, against, measure, mean, low, high, n, verdict. Shares of 1."""
    rows = []
    for dataset, found in sets(folder).items():
        methods = set(own(found.table).method)
        for rival in [name for name in ("normal", "both") if {name, "proposed"} <= methods]:
            gained = averages(found.table, rival).query("method == 'proposed'")
            rows += [
                ("carries over", dataset, f"proposed − {rival}", r.perturbation, r.mean, r.low, r.high, r.n) for r in gained.itertuples()
            ]
            for condition in ("clean", "noisy"):
                less = better_calibrated(found, condition).query("rival == @rival")
                rows += [
                    ("calibrated", dataset, f"ECE of {rival} − proposed", condition, r.mean, r.low, r.high, r.n) for r in less.itertuples()
                ]
        for method in WITHOUT_NOISE:
            rows += [(r.rule, dataset, method, r.measure, r.mean, r.low, r.high, r.n) for r in specific(found.table, method).itertuples()]
    table = pd.DataFrame(rows, columns=["claim", "dataset", "against", "measure", "mean", "low", "high", "n"])
    return table.assign(verdict=[verdict(low, high) for low, high in zip(table.low, table.high, strict=True)])
