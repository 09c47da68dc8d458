"""Methods compared: means and paired differences with their intervals, and the rule by which a difference is judged.

rows: a table as `records.table` makes it, or any with the columns method, seed, level, accuracy and correct (draws, N) of each run.
"""

import numpy as np
import pandas as pd

from . import InputError
from .evaluate import image_interval, seed_interval
from .methods import METHODS
from .metrics import SAME
from .support.wording import cell, level_name

ALIKE = 1e-9  # accuracies of seeds no further apart do not differ
CLEAN_TOLERANCE = 0.005  # 'clean accuracy maintained': the interval of the difference lies above minus half a point


def summary(rows: pd.DataFrame, column: str = "accuracy") -> pd.DataFrame:
    """Per method and level: mean accuracy, 95 % interval, n seeds; the interval is `_interval`'s.

    column="balanced": the balanced accuracy, which has no interval (nan) where its seeds do not differ.

    >>> rows = pd.DataFrame({"method": ["normal", "proposed"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.7, 0.4, 0.8]})
    >>> rows = rows.assign(level=0.3, correct=None)
    >>> summary(rows).round(2)
         method  level  mean   low  high  n
    0    normal    0.3  0.45 -0.19  1.09  2
    1  proposed    0.3  0.75  0.11  1.39  2
    """

    def over_runs(own: pd.DataFrame):
        if column != "accuracy":
            mean, *ends = seed_interval(own[column])
            return mean, *(ends if np.ptp(own[column]) > ALIKE else (np.nan, np.nan)), len(own)
        return *_interval(own.accuracy, own.correct), len(own)

    return _reduce(rows, over_runs)


def differences(rows: pd.DataFrame, baseline: str = "normal") -> pd.DataFrame:
    """Per method and level: mean accuracy minus the baseline's, paired by seed and by image, and `_interval`'s 95 % interval.

    Raises InputError where a method has a level and seed twice, and where no seed is shared with the baseline.

    >>> rows = pd.DataFrame({"method": ["normal", "proposed"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.7, 0.4, 0.8]})
    >>> rows = rows.assign(level=0.3, correct=None)
    >>> differences(rows).round(2)
         method  level  mean   low  high  n
    0  proposed    0.3   0.3 -0.97  1.57  2
    """
    if rows.duplicated(["method", "level", "seed"]).any():
        raise InputError("a method has a level and seed twice: choose one checkpoint and one way of training first")
    base = rows[rows.method == baseline].set_index(["level", "seed"])

    def paired(own: pd.DataFrame):
        both = own.set_index(["level", "seed"]).join(base.add_suffix("_base"), how="inner")
        if not len(both):
            raise InputError(f"no seed of {own.method.iloc[0]} has a run of {baseline} to be paired with")
        return *_interval(both.accuracy - both.accuracy_base, both.correct, both.correct_base), len(both)

    return _reduce(rows[rows.method != baseline], paired)


def _interval(values: pd.Series, correct: pd.Series, baseline: pd.Series | None = None) -> tuple[float, float, float]:
    """Over seeds; over images where there is one seed, and where the seeds do not differ at all (few images, on which all agree)."""
    if np.ptp(values) > ALIKE:
        return seed_interval(values)
    return image_interval(np.concatenate([*correct]), None if baseline is None else np.concatenate([*baseline]))


def _reduce(rows: pd.DataFrame, interval) -> pd.DataFrame:
    """One row per method (in the order of METHODS) and level: mean, low, high, n."""
    reduced = [
        (method, level, *interval(own))
        for (method, level), own in sorted(rows.groupby(["method", "level"]), key=lambda kv: (list(METHODS).index(kv[0][0]), kv[0][1]))
    ]
    return pd.DataFrame(reduced, columns=["method", "level", "mean", "low", "high", "n"])


def verdict(low: float, high: float, bound: float = 0.0) -> str:
    """Whether a difference exceeds a bound, by its 95 % interval: the rule for every claim, fixed before the results.

    >>> verdict(0.01, 0.03), verdict(-0.01, 0.03), verdict(-0.03, -0.01), verdict(-0.004, 0.01, bound=-CLEAN_TOLERANCE)
    ('holds', 'undecided', 'does not hold', 'holds')
    """
    return "holds" if low > bound else "does not hold" if high < bound else "undecided"


def at_level(levels: pd.Series, level: float) -> pd.Series:
    """Which of the recorded levels are this one: records hold six digits of it.

    >>> at_level(pd.Series([0.031373, 0.06]), 8 / 255).tolist()
    [True, False]
    """
    return (levels - level).abs() < SAME


def against(rows: pd.DataFrame, level: float, method: str = "proposed") -> pd.DataFrame:
    """One method minus each other one at a level, paired, with 95 % intervals: rival, mean, low, high, n.

    Raises InputError where one of the two was not measured there.

    >>> rows = pd.DataFrame({"method": ["normal", "proposed"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.7, 0.4, 0.8]})
    >>> rows = rows.assign(level=0.3, correct=None)
    >>> against(rows, 0.3).round(2).loc["normal"].tolist()
    [0.3, -0.97, 1.57, 2.0]
    """
    kept = rows[at_level(rows.level, level)]
    rivals = [name for name in METHODS if name in set(kept.method) - {method}]
    if not rivals or method not in set(kept.method):
        raise InputError(f"at level {level:g} there is no {method} to compare with another method: train both, and measure them there")
    found = [differences(kept[kept.method.isin([method, rival])], baseline=rival).assign(rival=rival) for rival in rivals]
    return pd.concat(found)[["rival", "mean", "low", "high", "n"]].set_index("rival")


def wide(reduced: pd.DataFrame, signed: bool = False) -> pd.DataFrame:
    """`summary` or `differences` as a table for people: a row per method, a column per level, cells 'mean [low, high]' in per cent.

    >>> wide(pd.DataFrame({"method": ["both"], "level": [0.0], "mean": [0.5], "low": [0.25], "high": [0.75]})).loc["both", "clean"]
    '50.0 [25.0, 75.0]'
    """
    cells = reduced.assign(cell=[cell(*row, signed=signed) for row in reduced[["mean", "low", "high"]].to_numpy()])
    shown = cells.pivot(index="method", columns="level", values="cell").loc[list(dict.fromkeys(cells.method))]
    shown.columns = [level_name(level) for level in shown.columns]
    return shown
