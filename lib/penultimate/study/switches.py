"""Runs of one preset compared arm by arm, seed by seed: one switch at a time, and each method at a learning rate chosen for it."""

from pathlib import Path

import pandas as pd

from .. import records
from ..evaluate import seed_interval
from ..runs import Config
from . import published, replication


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
    """The records behind the choice of a preset's learning rates: validation accuracies count in them, nothing else does."""
    return [r for r in published.kept_below(folder, "search", dataset) if r["config"]["preset"] == preset]


def own_rates(preset: str = "small", dataset: str = "cifar10", folder: str | Path | None = None) -> dict[str, str]:
    """Method -> its arm at the learning rate that `replication.chosen` chooses among the records of the search."""
    chosen = replication.chosen(searched(preset, dataset, folder))
    return {method: replication.arm(Config(dataset=dataset, preset=preset, method=method, lr=lr)) for method, lr in chosen.items()}
