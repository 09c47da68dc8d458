"""Runs of one preset compared arm by arm, seed by seed: one switch at a time, and each method at a learning rate chosen for it."""

from pathlib import Path

import pandas as pd

from .. import records
from ..evaluate import seed_interval
from ..methods import METHODS
from ..runs import Config
from . import published, replication

SELECTED = "best_on_test=True"  # changes no weights: the same run, of which one more epoch is looked at
SEARCHED = 0  # the seed whose validation accuracies choose a learning rate; results rest on it too, on its test accuracies


def accuracies(preset: str, level: float, dataset: str = "cifar10", folder: str | Path | None = None) -> dict[str, dict[int, float]]:
    """Arm (`replication.arm`) -> seed -> accuracy at a noise level after the last epoch, of all runs of a preset measured there."""
    found = {}
    for record in published.once([r for r in records.read(folder, dataset) if r["config"]["preset"] == preset]):
        for accuracy in published.under(record["metrics"]["last"]["gaussian"], level):
            found.setdefault(replication.arm(record["config"]), {})[record["config"]["seed"]] = accuracy
    return found


def apart(found: dict[str, dict[int, float]], one: str, other: str) -> list[float]:
    """One arm minus another, for every seed that both have.

    >>> apart({"a": {0: 3.0, 1: 5.0}, "b": {1: 4.0, 2: 9.0}}, "a", "b"), apart({}, "a", "b")
    ([1.0], [])
    """
    left, right = found.get(one, {}), found.get(other, {})
    return [left[seed] - right[seed] for seed in left if seed in right]


def switched(preset: str = "tuned", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """What one switch of a preset changes, and `proposed` against `normal` at matched compute, in points, paired by seed: what, mean, low,
    high (95 % interval), n."""
    found = accuracies(preset, level, dataset, folder)
    method = lambda arm: arm.partition(",")[0]  # noqa: E731
    turned = [arm for arm in found if "," in arm and SELECTED not in arm]
    pairs = [(arm, method(arm)) for arm in sorted(turned, key=lambda arm: (list(METHODS).index(method(arm)), arm))]
    pairs += [("proposed", arm) for arm in found if arm.startswith("normal, epochs=")]
    compared = [(f"{one} − {other}", [100 * value for value in apart(found, one, other)]) for one, other in pairs]
    rows = [(what, *seed_interval(values), len(values)) for what, values in compared if values]
    return _rows(rows)


def _rows(rows: list[tuple]) -> pd.DataFrame:
    """With types also where there is no row."""
    table = pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n"])
    return table.astype(dict.fromkeys(("mean", "low", "high"), float) | {"n": int})


def selected(preset: str = "small", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """What choosing the epoch on the test set adds: accuracy at the epoch that is best on clean test images minus that at the last one, of
    the same run, in points: what, mean, low, high (95 % interval over seeds), n; runs with nothing else changed."""
    found = {}
    for record in records.read(folder, dataset):
        measured, changed = record["metrics"], records.changed(record["config"])
        if record["config"]["preset"] == preset and "best_on_test" in measured and changed in ("", SELECTED):
            both = (published.under(measured[name]["gaussian"], level) for name in ("best_on_test", "last"))
            found.setdefault(record["config"]["method"], []).extend(100 * (best - last) for best, last in zip(*both, strict=True))
    rows = [(f"{m}, best epoch on test − last", *seed_interval(found[m]), len(found[m])) for m in METHODS if found.get(m)]
    return _rows(rows)


def rates(preset: str = "small", dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`records.by_rate` of the runs by which the learning rates of a preset are judged: of seed SEARCHED, with nothing else changed."""
    own = [r for r in records.read(folder, dataset) if r["config"]["preset"] == preset and r["config"]["seed"] == SEARCHED]
    return records.by_rate([r for r in own if records.changed(r["config"]) in ("", f"lr={r['config']['lr']}")])


def own_rates(table: pd.DataFrame) -> dict[str, float]:
    """`records.best_rates` of such a table, without the methods of which a single rate was tried: for these nothing was chosen."""
    return {method: lr for method, lr in records.best_rates(table).items() if table.loc[method, "noisy"].count() > 1}


def at_own_rates(preset: str = "small", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`proposed` minus each rival of `replication.COMPARED`, each at the learning rate of `own_rates`, in points, for the seeds that both
    have there: what, mean, low, high (95 % interval), n."""
    found, best = accuracies(preset, level, dataset, folder), own_rates(rates(preset, dataset, folder))
    arms = {m: replication.arm(Config(dataset=dataset, preset=preset, method=m, lr=lr)) for m, lr in best.items()}
    rows = []
    for rival in replication.COMPARED:
        if rival != "proposed" and {"proposed", rival} <= best.keys():
            values = [100 * value for value in apart(found, arms["proposed"], arms[rival])]
            rows.append((f"proposed, {best['proposed']:g} − {rival}, {best[rival]:g}", *seed_interval(values), len(values)))
    return _rows(rows)
