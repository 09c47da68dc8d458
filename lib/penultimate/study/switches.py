"""Runs of one preset compared arm by arm, seed by seed: one switch at a time, and each method at a learning rate chosen for it."""

from collections import Counter
from pathlib import Path

import pandas as pd

from .. import records
from ..evaluate import seed_interval
from ..methods import METHODS
from ..runs import Config
from . import published, replication

SEARCHED = 0  # the seed whose validation accuracies choose a learning rate; results rest on it too, on its test accuracies


def accuracies(preset: str, level: float, dataset: str = "cifar10", folder: str | Path | None = None) -> dict[str, dict[int, float]]:
    """Arm (`replication.arm`) -> seed -> accuracy at a noise level after the last epoch, of all runs of a preset measured there."""
    found = {}
    for record in published.once([r for r in records.read(folder, dataset) if r["config"]["preset"] == preset]):
        for accuracy in published.at([record], level).accuracy:  # of none where that level was not measured
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
    pairs = [(arm, arm.partition(",")[0]) for arm in found if "," in arm]
    pairs += [("proposed", arm) for arm in found if arm.startswith("normal, epochs=")]
    compared = [(f"{one} − {other}", [100 * value for value in apart(found, one, other)]) for one, other in pairs]
    rows = [(what, *seed_interval(values), len(values)) for what, values in compared if values]
    return pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n"])


def searched(preset: str = "small", dataset: str = "cifar10", folder: str | Path | None = None) -> list[dict]:
    """The records by which the learning rates of a preset are judged: of seed SEARCHED, with nothing else changed."""
    own = [r for r in records.read(folder, dataset) if r["config"]["preset"] == preset and r["config"]["seed"] == SEARCHED]
    return [r for r in own if records.changed(r["config"]) in ("", f"lr={r['config']['lr']}")]


def rates(preset: str = "small", dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Accuracy on the validation split after the last epoch, with the training noise (`noisy`) and without (`clean`): a row a method, a
    column a learning rate, nan where that was not run."""
    last = [r["history"][-1] | {key: r["config"][key] for key in ("method", "lr")} for r in searched(preset, dataset, folder)]
    table = pd.DataFrame(last, columns=["method", "lr", "validation_noisy", "validation"]).set_index(["method", "lr"]).unstack("lr")
    return table.rename(columns={"validation_noisy": "noisy", "validation": "clean"}, level=0).reindex(
        [m for m in METHODS if m in table.index]
    )


def own_rates(preset: str = "small", dataset: str = "cifar10", folder: str | Path | None = None) -> dict[str, float]:
    """Method -> the learning rate that `replication.chosen` chooses among those of `searched`: validation alone decides. Methods of which
    a single rate was tried are left out."""
    found = searched(preset, dataset, folder)
    tried = Counter(record["config"]["method"] for record in found)
    return {method: lr for method, lr in replication.chosen(found).items() if tried[method] > 1}


def at_own_rates(preset: str = "small", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`proposed` minus each rival of `replication.COMPARED`, each at the learning rate of `own_rates`, in points, for the seeds that both
    have there: what, mean, low, high (95 % interval), n."""
    found, best = accuracies(preset, level, dataset, folder), own_rates(preset, dataset, folder)
    arms = {m: replication.arm(Config(dataset=dataset, preset=preset, method=m, lr=lr)) for m, lr in best.items()}
    rows = []
    for rival in replication.COMPARED:
        if rival != "proposed" and {"proposed", rival} <= best.keys():
            values = [100 * value for value in apart(found, arms["proposed"], arms[rival])]
            rows.append((f"proposed, {best['proposed']:g} − {rival}, {best[rival]:g}", *seed_interval(values), len(values)))
    return pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n"])
