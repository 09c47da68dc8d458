"""Committed runs trained again from their records: does the present code, on this machine, give the same numbers?

From equal arithmetic come equal numbers. Where already the first epoch differs, the run was computed otherwise: by an earlier version of
the code, or on a processor with other instructions.
"""

import itertools
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from .. import InputError, data, records
from ..evaluate import seed_interval
from ..jobs import NARROW, one_thread
from ..methods import METHODS
from ..progress import each
from ..runs import Config, told
from ..support.machine import environment
from ..support.wording import cell, counted, pipes
from ..train import Trainer
from . import checks, measured
from .switches import SELECTED

VIEWS = {"validation": "clean", "validation_noisy": "noise trained with"}  # of the validation images, in a history
PLACES = {"digits": "whole runs", "cifar10": "first epochs"}  # what of each data set's runs the committed replays train at least
EARLIER = records.COMMITTED / "replays" / "earlier"  # replays by the code as it was before the loss summed in float64
COMMIT = "4b43baa"  # with that code


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


def done(path: Path, epochs: int = 0, device: str = "cpu") -> bool:
    """Whether a file holds a replay of as many epochs (0: all of them) by this code on such a machine.

    >>> done(Path("nowhere.json"))
    False
    """
    if not path.exists():
        return False
    replay, here = checks.read(path, checks.replay, "replay"), environment(device)
    wanted = min(epochs, replay["config"]["epochs"]) or replay["config"]["epochs"]
    return len(replay["history"]) >= wanted and all(replay["environment"].get(name) == here[name] for name in here if name != "threads")


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


def apart(dataset: str = "digits", preset: str = "digits", folder: str | Path | None = None) -> pd.DataFrame:
    """What replays change in the comparison: `proposed` minus each rival on the validation images, clean and with the noise trained with,
    after the last epoch, in points, paired by seed: rival, view, which, mean, low, high (95 % interval).

    which: recorded, of the records alone; again, with whole replays in their records' place.

    >>> found = apart()
    >>> found.columns.tolist(), len(found)  # five rivals, two views, with and without replays
    (['rival', 'view', 'which', 'mean', 'low', 'high'], 20)
    """
    recorded = _last(records.read(None, dataset, preset))
    plain = [replay for replay in read(dataset, preset, folder) if not records.changed(replay["config"])]
    again = recorded | _last([replay for replay in plain if len(replay["history"]) == replay["config"]["epochs"]])
    rows = []
    for rival, view in itertools.product((method for method in METHODS if method != "proposed"), VIEWS):
        seeds = sorted(seed for method, seed in recorded if method == rival and ("proposed", seed) in recorded)
        for which, last in (("recorded", recorded), ("again", again)):
            differences = [100 * (last["proposed", seed][view] - last[rival, seed][view]) for seed in seeds]
            rows.append((rival, view, which, *seed_interval(differences)))
    return pd.DataFrame(rows, columns=["rival", "view", "which", "mean", "low", "high"])


def _last(found: list[dict]) -> dict:
    return {(record["config"]["method"], record["config"]["seed"]): record["history"][-1] for record in found}


def markdown() -> str:
    """RESULTS' tables: of the committed runs, by what they change in their preset and by method, how many come out the same; and `apart`.

    >>> markdown().splitlines()[0]
    '| the same | normal | noisy | both | stability | discriminative | proposed |'
    """
    counts, compared, machines = {}, {}, set()
    for (dataset, preset), folder in itertools.product(measured.PLACES.items(), (None, EARLIER)):
        found = table(dataset, preset, folder)
        for (which, method), own in found.groupby([found.changed.map(_kind), "method"]):
            name = ", ".join(part for part in (preset, which, PLACES[dataset], f"by commit {COMMIT}" * bool(folder)) if part)
            counts.setdefault(name, dict.fromkeys(METHODS, ""))[method] = f"{(own.same == own.epochs).sum()} of {len(own)}"
    for dataset, preset in measured.PLACES.items():
        for row in apart(dataset, preset).itertuples():
            told = cell(row.mean / 100, row.low / 100, row.high / 100, signed=True)
            compared.setdefault(f"{preset}: proposed − {row.rival}", {})[f"{VIEWS[row.view]}, {row.which}"] = told
        where = [replay["environment"] for replay in read(dataset, preset)]
        machines |= {f"{e['device']}, {e['instructions']}, {counted(e['threads'], 'thread')}, torch {e['torch']}" for e in where}
    tables = [pipes(pd.DataFrame.from_dict(told, "index").rename_axis(name)) for told, name in ((counts, "the same"), (compared, "points"))]
    heading = "Validation images, `proposed` minus each rival, as recorded and with whole runs trained again in their records' place:"
    return "\n\n".join([tables[0], heading, tables[1], f"*{'; '.join(sorted(machines))}.*"])


def _kind(changed: str) -> str:
    return "trained again" if changed == SELECTED else "24 epochs" if "epochs=24" in changed else "other switches" if changed else ""
