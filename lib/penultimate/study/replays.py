"""Committed runs trained again from their records: does the present code, on this machine, give the same numbers?

From equal arithmetic come equal numbers. Where already the first epoch differs, the run was computed otherwise: by an earlier version of
the code, or on a processor with other instructions.
"""

from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from .. import InputError, data, records
from ..jobs import NARROW, one_thread
from ..methods import METHODS
from ..progress import each
from ..runs import Config, told
from ..support.machine import environment
from ..support.wording import counted, pipes
from ..train import Trainer
from . import checks, measured
from .switches import SELECTED

PLACES = {"digits": "whole runs", "cifar10": "first epochs"}  # what of each data set's runs the committed replays train


def again(record: dict, epochs: int = 0, device: str = "cpu", root: str | Path | None = None) -> dict:
    """A run's first epochs (0: all of them) trained again: name and config of its record; data, environment, history as they are now.

    Raises InputError where the data set has other images now.

    >>> import contextlib, io
    >>> with contextlib.redirect_stdout(io.StringIO()):  # its lines of progress
    ...     replay = again(records.read(None, "digits", "digits")[0], epochs=1)
    >>> list(replay), [row["epoch"] for row in replay["history"]]
    (['name', 'config', 'data', 'environment', 'history'], [1])
    """
    config = Config(**record["config"])
    splits = data.load(config.dataset, root, config.image_size)
    if splits.fingerprint != record["data"]["fingerprint"]:
        raise InputError(f"{record['name']} was trained on other images than {config.dataset} has now: put the former ones back")
    with one_thread() if config.width <= NARROW else nullcontext():
        trainer = Trainer(config, splits, device)
        for epoch in each(list(range(min(epochs, config.epochs) or config.epochs)), record["name"], "epoch"):
            trainer.epoch(epoch)
        where = environment(device)
    kept = {"name": record["name"], "config": record["config"], "data": {"fingerprint": splits.fingerprint}}
    return kept | {"environment": where, "history": told(trainer.history)}


def agreeing(then: list[dict], now: list[dict]) -> int:
    """How many epochs, from the first on, have the same numbers to every digit kept: each term of the loss, each accuracy.

    >>> row = {"epoch": 1, "total": 2.25, "validation": 0.5, "seconds": 9.0}
    >>> agreeing([row, row], [row | {"seconds": 4.0}, row | {"total": 2.24}])
    1
    """
    alike = [
        all(after.get(name) == value for name, value in row.items() if name != "seconds") for row, after in zip(then, now, strict=False)
    ]
    return [*alike, False].index(False)


def outcome(then: list[dict], now: list[dict]) -> str:
    """For people: whether epochs trained again have the numbers of the record, and where they part.

    >>> row = {"epoch": 1, "total": 2.25}
    >>> outcome([row, row], [row]), outcome([row], [row | {"total": 2.24}])
    ('1 of 2 epochs, the same', '1 of 1 epochs, part in epoch 1 (loss 2.25, now 2.24)')
    """
    same = agreeing(then, now)
    parted = f"part in epoch {same + 1} (loss {then[same]['total']}, now {now[same]['total']})" if same < len(now) else "the same"
    return f"{len(now)} of {len(then)} epochs, {parted}"


def read(dataset: str, preset: str, folder: str | Path | None = None) -> list[dict]:
    """The replays of a data set's runs (default: the committed ones); none where there are none.

    >>> read("digits", "digits", "nowhere")
    []
    """
    paths = sorted(measured.home("replays", folder, dataset, preset).glob("*.json"))
    return [checks.read(path, checks.replay, "replay") for path in paths]


def table(dataset: str = "digits", preset: str = "digits", folder: str | Path | None = None) -> pd.DataFrame:
    """One row per replay: method, changed, seed, code (the version that its record names), epochs (trained again), same (`agreeing`).

    >>> table().columns.tolist()
    ['method', 'changed', 'seed', 'code', 'epochs', 'same']
    """
    originals, rows = {record["name"]: record for record in records.read(None, dataset)}, []
    for replay in read(dataset, preset, folder):
        config, then = replay["config"], originals[replay["name"]]
        key = [config["method"], records.changed(config), config["seed"], then["environment"]["code"]]
        rows.append((*key, len(replay["history"]), agreeing(then["history"], replay["history"])))
    return pd.DataFrame(rows, columns=["method", "changed", "seed", "code", "epochs", "same"])


def markdown() -> str:
    """RESULTS' table: of the committed runs, by method, how many come out the same."""
    shown, where = {}, []
    for dataset, preset in measured.PLACES.items():
        found = table(dataset, preset)
        kind = found.changed.map({"": "", SELECTED: ", trained again"}).fillna(", other settings")
        for (name, method), own in found.groupby([kind, "method"]):
            row = shown.setdefault(f"{preset}{name}: {PLACES[dataset]}", dict.fromkeys(METHODS, ""))
            row[method] = f"{(own.same == own.epochs).sum()} of {len(own)}"
        where += [replay["environment"] for replay in read(dataset, preset)]
    machines = {f"{e['device']}, {e['instructions']}, {counted(e['threads'], 'thread')}, torch {e['torch']}" for e in where}
    return f"{pipes(pd.DataFrame(shown).T.rename_axis('the same of'))}\n\n*{'; '.join(sorted(machines))}.*"
