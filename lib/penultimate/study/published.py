"""The paper's printed accuracies beside ours, from records: each preset and each choice of the epoch in a column of its own."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from .. import InputError, records
from ..comparison import CLEAN_TOLERANCE, verdict
from ..methods import METHODS
from ..metrics import FULL_SIZE
from ..runs import Config
from ..support.wording import cell, level_name
from . import replication

# Test accuracies as printed, by data set and standard deviation of the Gaussian noise; of the others none is known here.
PUBLISHED = {("cifar10", 8 / 255): {"normal": 0.9006, "proposed": 0.9115}}
COLUMNS = [("paper", "last"), ("paper", "best_on_test"), ("tuned", "last"), ("brief", "last"), ("small", "last")]
PRESETS = tuple(dict.fromkeys(preset for preset, _ in COLUMNS))
TITLES = {"last": "last epoch", "best_on_test": "best on test"}
NOT_RUN, ONE_SEED = "not run", "one seed"


def found(preset: str, dataset: str = "cifar10", folder: str | Path | None = None) -> list[dict]:
    """The records of a preset's six methods as they are, `tuned` and `brief` at each one's own learning rate.

    >>> sorted({replication.arm(r["config"]) for r in found("small")})
    ['both', 'discriminative', 'noisy', 'normal', 'proposed', 'stability']
    """
    return [r for r in every(preset, dataset, folder) if replication.arm(r["config"]) == r["config"]["method"]]


def every(preset: str, dataset: str = "cifar10", folder: str | Path | None = None) -> list[dict]:
    """The records of a preset with all its arms. Where a search has chosen a method's learning rate, those at that rate alone: when a rate
    that is tried later wins, the runs at the old one are no results any more.

    >>> {"both", "both, bn=clean", "both, lr=0.2"} <= {replication.arm(r["config"]) for r in every("small")}
    True
    """
    chosen = replication.rates(Path(folder) if folder else records.COMMITTED, dataset).get(preset, {})
    kept = [r for r in records.read(folder, dataset) if r["config"]["preset"] == preset]
    return once([r for r in kept if chosen.get(r["config"]["method"]) in (None, r["config"]["lr"])])


def once(found: list[dict]) -> list[dict]:
    """The records, or InputError where an arm has two learning rates: its mean would mix them, and a seed might count twice.

    >>> runs = [{"name": f"run {lr}", "config": Config("cifar10", "brief", "both", lr=lr).__dict__} for lr in (0.03, 0.1)]
    >>> once(runs[:1]) == runs[:1]
    True
    >>> once(runs)
    Traceback (most recent call last):
    penultimate.InputError: run 0.03 and run 0.1 are the same arm (both) at the learning rates 0.03 and 0.1: take one rate's out
    """
    seen = {}
    for record in found:
        named = replication.arm(record["config"])
        first = seen.setdefault(named, record)
        rates = [one["config"]["lr"] for one in (first, record)]
        if rates[0] != rates[1]:
            names = f"{first['name']} and {record['name']}"
            raise InputError(f"{names} are the same arm ({named}) at the learning rates {rates[0]:g} and {rates[1]:g}: take one rate's out")
    return found


def at(own: list[dict], level: float, checkpoint: str = "last", exact: bool = False) -> pd.DataFrame:
    """The rows of `records.table` at a noise level. exact: accuracy (0 to 1) on the byte-exact test images alone.

    >>> from penultimate.evaluate import pack
    >>> hits = np.array([[[True, True]], [[True, False]]])  # levels, draws, images
    >>> gaussian = dict(levels=[0.0, 0.3], accuracy=hits.mean(2).tolist(), accuracy_exact=[[1.0], [0.0]], correct=pack(hits))
    >>> run = {"config": Config(method="both").__dict__, "metrics": {"last": {"gaussian": gaussian}}}
    >>> at([run], 0.3)[["method", "level", "accuracy"]].values.tolist(), at([run], 0.3, exact=True).accuracy.tolist()
    ([['both', 0.3, 0.5]], [0.0])
    """
    rows = records.table(own)
    rows = rows[(rows.checkpoint == checkpoint) & np.isclose(rows.level, level, atol=1e-5)]
    if not exact or not len(rows):
        return rows
    named = {(r["config"]["method"], r["config"]["seed"]): r["metrics"][checkpoint]["gaussian"] for r in own}
    return rows.assign(accuracy=[_exact(named[row.method, row.seed], level) for row in rows.itertuples()])


def _exact(measured: dict, level: float) -> float:
    """The mean over draws; where all test images are byte-exact, of all."""
    (index,) = np.flatnonzero(np.isclose(measured["levels"], level, atol=1e-5))
    return float(np.mean(measured.get("accuracy_exact", measured["accuracy"])[index]))


def under(measured: dict | None, level) -> list[float]:
    """The mean accuracy (0 to 1) over draws at a level, as a list of one; of none where that was not measured.

    >>> measured = {"levels": [0.0, 0.3], "accuracy": [[1.0, 1.0], [0.5, 0.75]]}
    >>> under(measured, 0.3), under(measured, 0.2), under(None, 0.3)
    ([0.625], [], [])
    """
    levels = measured["levels"] if measured else []
    return [float(np.mean(measured["accuracy"][i])) for i, at in enumerate(levels) if np.allclose(at, level, atol=1e-5)]


def printed(level: float, dataset: str = "cifar10") -> dict[str, float]:
    """Method -> accuracy (0 to 1) as printed, at a noise level; empty where none is known.

    >>> printed(8 / 255), printed(16 / 255)
    ({'normal': 0.9006, 'proposed': 0.9115}, {})
    """
    return next((row for (name, known), row in PUBLISHED.items() if name == dataset and np.isclose(known, level, atol=1e-5)), {})


def beside(level: float, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """A row for each method: what is printed, and in per cent with 95 % interval and n what each preset and choice of the epoch gave.

    >>> shown = beside(8 / 255)
    >>> shown.published[["normal", "both", "proposed"]].tolist(), shown.columns.tolist()[1:4]
    (['90.06', '', '91.15'], ['paper, last epoch', 'paper, best on test', 'tuned, last epoch'])
    """
    shown = {"published": {method: f"{100 * value:.2f}" for method, value in printed(level, dataset).items()}}
    for preset, checkpoint in COLUMNS:
        runs = found(preset, dataset, folder)
        cells = {r["config"]["method"]: "not measured" for r in runs if checkpoint in r["metrics"]}
        summary = records.summary(at(runs, level, checkpoint))
        cells |= {row.method: f"{cell(row.mean, row.low, row.high)}, n={row.n}" for row in summary.itertuples()}
        shown[f"{preset}, {TITLES[checkpoint]}"] = {method: cells.get(method, NOT_RUN) for method in METHODS}
    return pd.DataFrame(shown, index=list(METHODS), dtype=object).fillna("").rename_axis("method")


def gains(level: float, rival: str = "normal", dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`proposed` minus a rival, in points, paired, one row for each preset and choice of the epoch that has a seed of both: what, mean,
    low, high, n, exact (the mean on the byte-exact test images), verdict (whether it exceeds zero, on clean images minus half a point;
    none of one seed alone), printed (the paper's gain; nan where it is not known or the preset is of another scale), lies
    (`where_it_lies`).

    >>> gains(8 / 255).set_index("what").lies["small, last epoch"]  # nothing: of another scale than the paper's
    ''
    """
    paper, rows = printed(level, dataset), []
    for preset, checkpoint in COLUMNS:
        own = [r for r in found(preset, dataset, folder) if r["config"]["method"] in ("proposed", rival) and checkpoint in r["metrics"]]
        here, exact = (at(own, level, checkpoint, only) for only in (False, True))
        paired = exact.pivot(index="seed", columns="method", values="accuracy").reindex(columns=["proposed", rival]).dropna()
        if len(paired):
            apart = records.differences(here, rival).iloc[0]
            numbers = [100 * float(value) for value in (apart["mean"], apart.low, apart.high)]
            moved = 100 * float((paired.proposed - paired[rival]).mean())
            known = preset in FULL_SIZE and {"proposed", rival} <= paper.keys()
            gain = round(100 * (paper["proposed"] - paper[rival]), 2) if known else np.nan
            said = _judged(level, apart.low, apart.high, apart.n), gain, where_it_lies(gain, *numbers[1:], apart.n)
            rows.append((f"{preset}, {TITLES[checkpoint]}", *numbers, int(apart.n), moved, *said))
    table = pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n", "exact", "verdict", "printed", "lies"])
    return table.astype(dict.fromkeys(("mean", "low", "high", "exact", "printed"), float) | {"n": int})  # a table of no rows too


def _judged(level: float, low: float, high: float, n: int) -> str:
    """Whether a difference exceeds zero, on clean images whether no more than the half point is lost that 'no cost' allows."""
    return verdict(low, high, 0.0 if level else -CLEAN_TOLERANCE) if n > 1 else ONE_SEED


def where_it_lies(gain: float, low: float, high: float, n: int) -> str:
    """A printed gain against our 95 % interval: the rule, fixed before any run of full size. It is of one run, without an interval of its
    own: *inside* says that ours does not contradict it, not that it was confirmed. Our single seed judges nothing.

    >>> [where_it_lies(1.09, low, high, 5) for low, high in ((0.2, 1.5), (-0.3, 1.0), (1.2, 2.0))]
    ['inside', 'above', 'below']
    >>> where_it_lies(1.09, 0.2, 1.5, 1), where_it_lies(float("nan"), 0.2, 1.5, 5)
    ('one seed', '')
    """
    if np.isnan(gain) or n < 2:
        return "" if np.isnan(gain) else ONE_SEED
    return "above" if gain > high else "below" if gain < low else "inside"


def by_level(rival: str | None = None, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """At every noise level, a row for what is printed and for each preset, choice of the epoch and method that has runs: accuracy in per
    cent with 95 % interval and n. rival: the difference to that method instead, in points, paired by seed, with the verdict of `gains`.

    >>> shown = by_level()
    >>> shown.columns.tolist()[:2], shown.loc[("printed, best on test", "proposed")].tolist()[:2]
    (['clean', '8/255'], ['', '91.15'])
    """
    shown = {}
    for (_, level), known in PUBLISHED.items() if not rival and dataset == "cifar10" else ():
        shown |= {("printed, best on test", method): {round(level, 6): f"{100 * value:.2f}"} for method, value in known.items()}
    for preset, checkpoint in COLUMNS:
        rows = records.table(found(preset, dataset, folder))
        rows = rows[rows.checkpoint == checkpoint]
        for row in (records.differences(_paired(rows, rival), rival) if rival else records.summary(rows)).itertuples():
            told = f"{cell(row.mean, row.low, row.high, signed=bool(rival))}, n={row.n}"
            told += f": {_judged(row.level, row.low, row.high, row.n)}" * bool(rival)
            shown.setdefault((f"{preset}, {TITLES[checkpoint]}", row.method), {})[row.level] = told
    table = pd.DataFrame(shown).T.fillna("").sort_index(axis=1).rename_axis(["what", "method"] if shown else None)
    return table.rename(columns=level_name)


def _paired(rows: pd.DataFrame, rival: str) -> pd.DataFrame:
    """The rows of levels and seeds that the rival has too."""
    level_and_seed = pd.MultiIndex.from_frame(rows[["level", "seed"]])
    return rows[level_and_seed.isin(level_and_seed[rows.method == rival])]


def differing() -> pd.DataFrame:
    """The fields of Config in which the full-size presets differ on CIFAR-10, for `proposed`: field, what it means, each preset's value.

    >>> differing().loc["epochs"].tolist()
    ['passes over the training images', '200', '30', '10']
    """
    presets = ("paper", "tuned", "brief")
    configs = [Config(dataset="cifar10", preset=preset, method="proposed") for preset in presets]
    rows = []
    for field in dataclasses.fields(Config):
        values = [getattr(config, field.name) for config in configs]
        if field.name != "preset" and len(set(values)) > 1:
            rows.append((field.name, field.metadata["help"], *map(str, values)))
    return pd.DataFrame(rows, columns=["field", "meaning", *presets]).set_index("field")


def markdown() -> str:
    """README's table of the published level: what is printed, what was run."""
    run = {preset: own for preset in PRESETS if (own := found(preset))}
    said = " ".join(f"{preset}: {records.caption(own)}" for preset, own in run.items())
    return f"{records.pipes(beside(8 / 255))}\n\n*Printed: one run each, at the epoch that was best on the test set. {said}*"
