"""Runs of one preset compared arm by arm, seed by seed: one switch at a time, and each method at a learning rate chosen for it."""

from pathlib import Path

import pandas as pd

from .. import records
from ..evaluate import seed_interval
from ..methods import METHODS
from ..runs import Config
from . import published, rates, replication

LEVELS = (0.0, 8 / 255, 0.06, 32 / 255)  # noise levels: clean, the printed table's, the one trained with, the strongest
SELECTED = "best_on_test=True"  # changes no weights: the same run, of which one more epoch is looked at


def measured(preset: str, level: float, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """All runs of a preset measured at a noise level: arm (`replication.arm`), seed, code (its version), accuracy (0 to 1) after the last
    epoch.

    >>> runs = measured("small", 8 / 255)
    >>> runs.columns.tolist(), {"both", "both, bn=clean"} <= set(runs.arm)
    (['arm', 'seed', 'code', 'accuracy'], True)
    """
    rows = [
        (replication.arm(record["config"]), record["config"]["seed"], record["environment"]["code"], accuracy)
        for record in published.every(preset, dataset, folder)
        for accuracy in published.under(record["metrics"]["last"]["gaussian"], level)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "code", "accuracy"])


def apart(runs: pd.DataFrame, one: str, other: str) -> list[float]:
    """One arm minus another, of the runs of `measured`, for every seed that both have.

    Where an arm was trained again (SELECTED), the two trainings by the same version of the code are compared, else the first ones, without
    SELECTED: versions may round differently, and then trainings part.

    >>> runs = pd.DataFrame([("a", 0, "v1", 3.0), ("a, best_on_test=True", 0, "v2", 4.0), ("b", 0, "v2", 9.0)])
    >>> runs.columns = ["arm", "seed", "code", "accuracy"]
    >>> apart(runs, "b", "a"), apart(runs, "a, best_on_test=True", "a"), apart(runs, "a", "c")
    ([5.0], [1.0], [])
    """
    left, right = (runs[runs.arm.isin({arm, f"{arm}, {SELECTED}"} - {rival})] for arm, rival in ((one, other), (other, one)))
    pairs = left.merge(right, on="seed")
    ranked = pairs.assign(same=pairs.code_x == pairs.code_y, first=(pairs.arm_x == one) & (pairs.arm_y == other))
    chosen = ranked.sort_values(["same", "first"]).drop_duplicates("seed", keep="last").sort_values("seed")
    return list(chosen.accuracy_x - chosen.accuracy_y)


def switched(preset: str = "tuned", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """What one switch of a preset changes, in points, paired by seed: what, mean, low, high (95 % interval), n.

    A method that was trained again (SELECTED) has a row that says what a repetition changes. Both ways of BatchNorm that pass the views
    apart train the same weights, and are compared with each other too; methods that trained for other epochs than the preset's, or with
    another way of BatchNorm, with those that did the same; `proposed` with `normal` at matched compute, and, where it takes cross-entropy
    on noisy logits, with `both`, which it then is but for the paper's loss.

    >>> {"both, bn=clean − both", "both, bn=clean − both, bn=separate", "both trained again − both"} <= set(switched("small").what)
    True
    """
    runs, pairs = measured(preset, level, dataset, folder), []
    for arm in sorted({arm for arm in runs.arm if "," in arm}, key=lambda arm: (list(METHODS).index(_method(arm)), arm)):
        method, *turned = arm.split(", ")
        if len(turned) == 1:
            pairs.append((f"{method} trained again − {method}" if turned == [SELECTED] else f"{arm} − {method}", arm, method))
        if "ce_noisy=0.5" in turned:
            rival = ", ".join(["both", *(one for one in turned if one != "ce_noisy=0.5")])
            pairs.append((f"{arm} − {rival}", arm, rival))
        if [one.partition("=")[0] for one in turned] in (["epochs"], ["bn"]):
            alike = (f"{rival}, {turned[0]}" for rival in list(METHODS)[: list(METHODS).index(method)])
            pairs += [(f"{arm} − {rival}", arm, rival) for rival in alike]
        if arm == f"{method}, bn=clean":
            pairs.append((f"{arm} − {method}, bn=separate", arm, f"{method}, bn=separate"))
    pairs += [(f"proposed − {arm}", "proposed", arm) for arm in runs.arm.unique() if arm.startswith("normal, epochs=")]
    compared = [(what, [100 * value for value in apart(runs, one, other)]) for what, one, other in pairs]
    return _rows([(what, *seed_interval(values), len(values)) for what, values in compared if values])


def _method(arm: str) -> str:
    return arm.partition(",")[0]


def _rows(rows: list[tuple]) -> pd.DataFrame:
    """With types also where there is no row."""
    table = pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n"])
    return table.astype(dict.fromkeys(("mean", "low", "high"), float) | {"n": int})


def selected(preset: str = "small", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """What choosing the epoch on the test set adds: accuracy at the epoch that is best on clean test images minus that at the last one, of
    the same run, in points: what, mean, low, high (95 % interval over seeds), n; runs with nothing else changed.

    >>> rows = selected("small", 0.0)
    >>> rows.what[0], bool((rows["mean"] >= 0).all())  # on clean images no epoch is better than the best
    ('normal, best epoch on test − last', True)
    """
    found = {}
    for record in records.read(folder, dataset):
        measured, changed = record["metrics"], records.changed(record["config"])
        if record["config"]["preset"] == preset and "best_on_test" in measured and changed in ("", SELECTED):
            both = (published.under(measured[name]["gaussian"], level) for name in ("best_on_test", "last"))
            found.setdefault(record["config"]["method"], []).extend(100 * (best - last) for best, last in zip(*both, strict=True))
    rows = [(f"{m}, best epoch on test − last", *seed_interval(found[m]), len(found[m])) for m in METHODS if found.get(m)]
    return _rows(rows)


def at_own_rates(preset: str = "small", level: float = 8 / 255, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`proposed` minus each rival of `replication.COMPARED`, each at the learning rate of `rates.own`, in points, for the seeds that both
    have there: what, mean, low, high (95 % interval), n.

    >>> at_own_rates().what.str.partition(" − ")[2].str.partition(",")[0].tolist()  # the rivals; each has its learning rate beside it
    ['normal', 'noisy', 'both', 'stability']
    """
    runs, best = measured(preset, level, dataset, folder), rates.own(rates.tried(preset, dataset, folder))
    arms = {m: replication.arm(Config(dataset=dataset, preset=preset, method=m, lr=lr)) for m, lr in best.items()}
    rows = []
    for rival in replication.COMPARED:
        if rival != "proposed" and {"proposed", rival} <= best.keys():
            values = [100 * value for value in apart(runs, arms["proposed"], arms[rival])]
            rows.append((f"proposed, {best['proposed']:g} − {rival}, {best[rival]:g}", *seed_interval(values), len(values)))
    return _rows(rows)


def markdown() -> str:
    """RESULTS' table: `switched` at the small scale, a column a noise level, for people; without what rests on one seed."""
    told = {}
    for level in LEVELS:
        for row in switched("small", level).query("n > 1").itertuples():
            cell = records.cell(row.mean / 100, row.low / 100, row.high / 100, signed=True)
            told.setdefault(row.what, {})[records.level_name(level)] = cell
            told[row.what]["seeds"] = str(row.n)
    columns = [*map(records.level_name, LEVELS), "seeds"]
    table = pd.DataFrame.from_dict(told, "index", columns=columns).rename_axis("points")
    return f"{records.pipes(table)}\n\n*{records.caption(published.every('small'), 'seeds as in the last column')}*"
