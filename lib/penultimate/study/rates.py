"""Learning rates chosen for each method on the validation split, and the tables that the choice was made from."""

from pathlib import Path

import pandas as pd

from .. import records
from ..configs import DEFAULTS, PRESETS
from ..evaluate import seed_interval
from ..methods import METHODS

SHOWN = (0, 1, 2, -1)  # of the noise levels: clean, the printed table's, the one trained with, the strongest
# Of `by_width`: what is held against what. An arm: method and learning rate; epochs and BatchNorm where they are not the preset's.
GROUPS = {
    "each at its rate by the noisy criterion": (
        ("proposed 0.1", "normal 0.03"), ("both 0.3", "normal 0.03"), ("both 0.3", "proposed 0.1"),
    ),
    "beside the normal best on clean images": (("proposed 0.1", "normal 0.3"), ("both 0.3", "normal 0.3")),
    "at equal compute": (  # two views are twice the work
        ("proposed 0.1", "normal 0.03, 20 epochs"), ("both 0.3", "normal 0.03, 20 epochs"), ("proposed 0.03", "normal 0.03, 20 epochs"),
        ("proposed 0.1", "normal 0.3, 20 epochs"), ("both 0.3", "normal 0.3, 20 epochs"),
    ),
    "at one rate": (
        ("proposed 0.03", "normal 0.03"), ("both 0.03", "proposed 0.03"), ("proposed 0.1", "normal 0.1"), ("both 0.1", "proposed 0.1"),
    ),
    "with proposed at 0.03, as at full width": (("proposed 0.03", "normal 0.1"), ("proposed 0.03", "normal 0.3")),
    "what a rate does": (
        ("proposed 0.1", "proposed 0.03"), ("both 0.1", "both 0.03"), ("both 0.3", "both 0.1"),
        ("normal 0.01", "normal 0.03"), ("normal 0.1", "normal 0.03"), ("normal 0.3", "normal 0.03"),
    ),
    "what twice the epochs do": (
        ("normal 0.03, 20 epochs", "normal 0.03"), ("normal 0.3, 20 epochs", "normal 0.03, 20 epochs"),
    ),
    "a BatchNorm pass for each view": (
        ("both 0.1, bn separate", "proposed 0.1, bn separate"), ("both 0.1, bn separate", "both 0.1"),
        ("proposed 0.1, bn separate", "proposed 0.1"),
    ),
}  # fmt: skip
PAIRS = tuple(pair for group in GROUPS.values() for pair in group)
COMPARED = 16  # the width at which they are
SEARCHED = 0  # the seed whose validation accuracies choose a learning rate; results rest on it too, on its test accuracies


def search() -> pd.DataFrame:
    """`by_rate` of the runs behind the choice of the learning rates of `digits`.

    >>> {method: lr for method, lr in best(search()).items() if lr != PRESETS["digits"]["lr"]}  # these have one of their own in `digits`
    {'discriminative': 0.02, 'proposed': 0.02}
    """
    return by_rate(records.read(records.COMMITTED / "search", "digits"))


def by_rate(found: list[dict]) -> pd.DataFrame:
    """Accuracy (0 to 1) on the validation split after the last epoch, mean over seeds, with the training noise (`noisy`) and without
    (`clean`): a row a method, a column a learning rate, nan where that was not run.

    >>> told = [("both", 0.1, 0.5), ("both", 0.1, 0.7), ("normal", 0.2, 0.4)]  # the first two are two seeds
    >>> found = [{"config": {"method": m, "lr": lr}, "history": [{"validation_noisy": v, "validation": 1.0}]} for m, lr, v in told]
    >>> by_rate(found)  # doctest: +NORMALIZE_WHITESPACE
           noisy      clean
    lr       0.1  0.2   0.1  0.2
    method
    normal   NaN  0.4   NaN  1.0
    both     0.6  NaN   1.0  NaN
    """
    last = [r["history"][-1] | {key: r["config"][key] for key in ("method", "lr")} for r in found]
    rows = pd.DataFrame(last, columns=["method", "lr", "validation_noisy", "validation"])
    means = rows.rename(columns={"validation_noisy": "noisy", "validation": "clean"}).groupby(["method", "lr"], sort=False).mean()
    return means.unstack("lr").reindex([m for m in METHODS if m in set(rows.method)]).sort_index(axis=1, ascending=[False, True])


def best(table: pd.DataFrame) -> dict[str, float]:
    """Method -> the learning rate of `by_rate` with the best validation accuracy: by noisy, then clean.

    >>> columns = pd.MultiIndex.from_product([["noisy", "clean"], [0.1, 0.2]])
    >>> best(pd.DataFrame([[0.5, 0.5, 0.6, 0.7]], index=["both"], columns=columns))
    {'both': 0.2}
    """
    return {
        method: max(row["noisy"].dropna().index, key=lambda lr, row=row: (row["noisy", lr], row["clean", lr]))
        for method, row in table.iterrows()
    }


def starred(table: pd.DataFrame) -> pd.DataFrame:
    """`by_rate` for people: in per cent, with a star at the best of each method.

    >>> columns = pd.MultiIndex.from_product([["noisy", "clean"], [0.1, 0.2]])
    >>> starred(pd.DataFrame([[0.5, 0.6, 0.8, 0.7]], index=["both"], columns=columns)).loc["both"].tolist()
    ['50.0', '60.0 *', '80.0', '70.0']
    """
    shown = table.mul(100).map("{:.1f}".format).replace("nan", "")
    for method, lr in best(table).items():
        shown.loc[method, ("noisy", lr)] += " *"
    return shown


def tried(preset: str = "small", dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`by_rate` of the runs by which the learning rates of a preset are judged: of seed SEARCHED, with nothing else changed.

    >>> shown = tried()
    >>> shown.index.tolist() == list(METHODS), bool(shown["noisy"][PRESETS["small"]["lr"]].notna().all())  # all at the preset's rate
    (True, True)
    """
    runs = [r for r in records.read(folder, dataset) if r["config"]["preset"] == preset and r["config"]["seed"] == SEARCHED]
    return by_rate([r for r in runs if records.changed(r["config"]) in ("", f"lr={r['config']['lr']}")])


def by_width() -> pd.DataFrame:
    """Of CIFAR-10 runs that tried learning rates and BatchNorm's ways in narrow networks afterwards: arm, method, width, epochs, lr, bn,
    seed; accuracy (0 to 1) on the validation split, with the training noise and without, and on test images at the levels SHOWN.

    No choice rests on them.

    >>> runs = by_width()
    >>> runs.columns.tolist()[:7], {"normal 0.03", "normal 0.03, 20 epochs", "both 0.1, bn separate"} <= set(runs.arm)
    (['arm', 'method', 'width', 'epochs', 'lr', 'bn', 'seed'], True)
    """
    rows = []
    for record in records.read(records.COMMITTED / "rates", "cifar10"):
        config, last, measured = record["config"], record["history"][-1], record["metrics"]["last"]["gaussian"]
        longer = f", {config['epochs']} epochs" * (config["epochs"] != PRESETS[config["preset"]]["epochs"])
        passes = f", bn {config['bn']}" * (config["bn"] != DEFAULTS["bn"])
        row = {"arm": f"{config['method']} {config['lr']:g}{longer}{passes}"}
        row |= {key: config[key] for key in ("method", "width", "epochs", "lr", "bn", "seed")}
        row |= {"validation, noisy": last["validation_noisy"], "validation, clean": last["validation"]}
        levels = [(measured["levels"][i], measured["accuracy"][i]) for i in SHOWN]
        rows.append(row | {f"test, {records.level_name(level)}": sum(draws) / len(draws) for level, draws in levels})
    return pd.DataFrame(rows).sort_values(["method", "width", "epochs", "lr", "bn", "seed"], ignore_index=True)


def told_by_width() -> pd.DataFrame:
    """`by_width` for people: mean and 95 % interval over seeds, in per cent.

    >>> told_by_width().columns.tolist()[:6]
    ['width', 'epochs', 'learning rate', 'bn', 'validation, noisy', 'validation, clean']
    """
    groups = by_width().drop(columns="arm").groupby(["method", "width", "epochs", "lr", "bn"], sort=False)
    shown = groups.agg(lambda values: records.cell(*seed_interval(values))).drop(columns="seed").assign(seeds=groups.size())
    return shown.reset_index(["width", "epochs", "lr", "bn"]).astype(str).rename(columns={"lr": "learning rate"})


def apart_by_width(pairs=PAIRS) -> pd.DataFrame:
    """For people, the difference of each pair on test images: mean and 95 % interval, in points, paired by seed.

    >>> shown = apart_by_width()
    >>> shown.index[0], shown.columns.tolist()
    ('proposed 0.1 − normal 0.03', ['clean', '8/255', '0.06 (15.3/255)', '32/255', 'seeds'])
    """
    runs = by_width()
    runs = runs[runs.width == COMPARED].set_index("seed")
    tests, rows = [column for column in runs if column.startswith("test, ")], {}
    for one, other in pairs:
        found = (runs[runs.arm == one][tests] - runs[runs.arm == other][tests]).dropna()
        cells = {column.removeprefix("test, "): records.cell(*seed_interval(found[column]), signed=True) for column in tests}
        rows[f"{one} − {other}"] = cells | {"seeds": str(len(found))}
    return pd.DataFrame.from_dict(rows, "index").rename_axis("method and learning rate")


def markdown() -> str:
    """RESULTS' tables of `apart_by_width` and `told_by_width`, and what they rest on."""
    told = records.caption(records.read(records.COMMITTED / "rates"))
    return f"{records.pipes(apart_by_width())}\n\n{records.pipes(told_by_width())}\n\n*{told}*"


def own(table: pd.DataFrame) -> dict[str, float]:
    """`best` of a table of `by_rate`, without the methods of which a single rate was tried: for these nothing was chosen.

    >>> columns = pd.MultiIndex.from_product([["noisy", "clean"], [0.1, 0.2]])
    >>> own(pd.DataFrame([[0.5, 0.6, 0.8, 0.7], [0.5, float("nan")] * 2], index=["both", "noisy"], columns=columns))
    {'both': 0.2}
    """
    return {method: lr for method, lr in best(table).items() if table.loc[method, "noisy"].count() > 1}
