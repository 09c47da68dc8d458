"""The published comparison at full size, as steps, each of use without those after it: a smoke run, `brief`, `paper`, `tuned`, more.

A step is a list of configurations. In `brief` and `tuned` each method has a learning rate of its own, chosen by SEARCHES: the one with the
best noisy, then clean accuracy on the validation split after a few epochs, on a seed that no result uses. A run whose loss is not finite
would break off again: it leaves a record of that, broken/<dataset>-<preset>/<name>.json, with its name, configuration and reason, and
counts as done.
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..metrics import TRIAL_SEED
from ..records import changed, read
from ..runs import Config, grid
from ..support import files
from . import checks

COMPARED = ("normal", "noisy", "both", "stability", "proposed")
ALL = (*COMPARED, "discriminative")
SEARCHES = {"brief": ((0.01, 0.03, 0.1, 0.3), 3), "tuned": ((0.01, 0.03, 0.1, 0.2), 10)}  # preset: learning rates tried, epochs of each
SEARCH_SEED = TRIAL_SEED


class Step(NamedTuple):
    """Configurations that are trained before those of the next step where there are not processes enough for both.

    turn: steps of one turn need nothing of each other. folder: of their records, below that of results. rates_of: the preset whose
    learning rates must have been chosen before.
    """

    name: str
    configs: list[Config]
    turn: int = 4
    folder: str = ""
    rates_of: str = ""


def search(preset: str = "tuned", dataset: str = "cifar10", **fields) -> list[Config]:
    """The runs that the learning rates of a preset (a key of SEARCHES) are chosen by; fields of Config hold for all.

    >>> runs = search("brief")
    >>> len(runs), [(config.method, config.lr, config.epochs) for config in runs[:2]]
    (24, [('normal', 0.01, 3), ('noisy', 0.01, 3)])
    """
    rates, epochs = SEARCHES[preset]
    common = {"preset": preset, "epochs": epochs, "dataset": dataset} | fields
    return [config for lr in rates for config in grid(ALL, [SEARCH_SEED], **(common | {"lr": lr}))]


def break_off(config: Config, reason: str, folder: Path) -> None:
    """Leave a record of a run whose loss was not finite.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     break_off(Config(), "the loss is not finite", Path(folder))
    ...     [path.relative_to(folder).parent.as_posix() for path in Path(folder).rglob("*.json")]
    ['broken/digits-digits']
    """
    record = {"name": config.name, "config": dataclasses.asdict(config), "reason": reason}
    files.write_json(folder / "broken" / checks.place(record), record)


def broken_off(folder: Path, dataset: str) -> list[dict]:
    """The records of runs of a data set that broke off, under a folder of records.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for dataset in ("digits", "cifar10"):
    ...         break_off(Config(dataset=dataset), "the loss is not finite", Path(folder))
    ...     [(record["config"]["dataset"], record["reason"]) for record in broken_off(Path(folder), "cifar10")]
    [('cifar10', 'the loss is not finite')]
    """
    paths = sorted((folder / "broken").glob("*/*.json"))
    found = [checks.read(path, checks.broken_record, "record of a run that broke off") for path in paths]
    return [record for record in found if record["config"]["dataset"] == dataset]


def chosen(found: list[dict], broken: list[dict] = ()) -> dict[str, float | None]:
    """Method -> the best learning rate among the records of one preset's `search`; None for a method of which every rate broke off.

    >>> reached = {0.1: (0.6, 0.7), 0.3: (0.6, 0.8)}  # learning rate: accuracy on the validation split, noisy and clean
    >>> last = {lr: [{"validation_noisy": noisy, "validation": clean}] for lr, (noisy, clean) in reached.items()}
    >>> found = [{"config": {"method": "both", "lr": lr}, "history": history} for lr, history in last.items()]
    >>> chosen(found, broken=[{"config": {"preset": "brief", "method": "proposed"}}] * 4)  # at each of the four rates
    {'proposed': None, 'both': 0.3}
    """
    best = {}
    for last, config in ((record["history"][-1], record["config"]) for record in found):
        reached = last["validation_noisy"], last["validation"]
        if config["method"] not in best or reached > best[config["method"]][0]:
            best[config["method"]] = reached, config["lr"]
    lost = Counter((record["config"]["preset"], record["config"]["method"]) for record in broken)
    none = {method: None for (preset, method), rates in lost.items() if rates == len(SEARCHES[preset][0]) and method not in best}
    return none | {method: lr for method, (_, lr) in best.items()}


def rates(folder: Path, dataset: str = "cifar10", **fields) -> dict[str, dict[str, float | None]]:
    """Preset -> `chosen` from the records below a folder, of the runs of `search` alone: trials of other fields may lie there as well.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for config in search("brief"):
    ...         if config.method == "proposed":
    ...             break_off(config, "the loss is not finite", Path(folder))
    ...     rates(Path(folder))
    {'brief': {'proposed': None}, 'tuned': {}}
    """
    looked, broken = folder / "search", broken_off(folder, dataset)
    found = read(looked, dataset) if looked.is_dir() else []
    own = {preset: {config.name for config in search(preset, dataset, **fields)} for preset in SEARCHES}
    return {preset: chosen(*([r for r in kept if r["name"] in names] for kept in (found, broken))) for preset, names in own.items()}


def steps(rates: dict[str, dict[str, float | None]], dataset: str = "cifar10", **fields) -> list[Step]:
    """All steps, first things first.

    rates: as of `rates`; until its learning rates are chosen a method has the preset's, and one that has none is left out of that preset.
    fields of Config hold for every run, as width=2, epochs=1 for a trial.

    >>> [step.name for step in steps({})][:3]
    ['smoke run', 'brief: learning rates', 'brief: five methods, three seeds']
    """

    def own(preset: str, methods, seeds, **more) -> list[Config]:
        return grid(methods, seeds, **({"dataset": dataset, "preset": preset} | more | fields))

    def searching(preset: str, turn: int) -> Step:
        return Step(f"{preset}: learning rates", search(preset, dataset, **fields), turn, "search")

    def at_own(preset: str, what: str, methods, seeds, **more) -> Step:
        known, turn = rates.get(preset, {}), {"brief": 2, "tuned": 4}[preset]
        able = [m for m in methods if known.get(m, "the preset's") is not None]
        configs = [config for seed in seeds for m in able for config in own(preset, [m], [seed], lr=known.get(m), **more)]
        return Step(f"{preset}: {what}", configs, turn, rates_of=preset)

    def twice(preset: str) -> Step:
        return at_own(preset, "normal, twice the epochs", ["normal"], range(3), epochs=2 * Config(dataset=dataset, preset=preset).epochs)

    def ways(preset: str) -> list[Step]:
        return [at_own(preset, f"proposed, bn {bn}", ["proposed"], range(3), bn=bn) for bn in ("separate", "clean")]

    return [
        Step("smoke run", own("paper", ALL, [TRIAL_SEED], images=6400, epochs=10), 0, "rehearsal"),
        searching("brief", 1),
        at_own("brief", "five methods, three seeds", COMPARED, range(3)),
        twice("brief"),
        at_own("brief", "discriminative", ["discriminative"], range(3)),
        at_own("brief", "five seeds", ALL, range(3, 5)),
        *ways("brief"),
        Step("paper: normal, proposed", own("paper", ["normal", "proposed"], [0]), 3),
        searching("tuned", 3),
        at_own("tuned", "five methods, three seeds", COMPARED, range(3)),
        Step("paper: the other methods", own("paper", ["noisy", "both", "stability", "discriminative"], [0])),
        twice("tuned"),
        at_own("tuned", "discriminative", ["discriminative"], range(3)),
        *ways("tuned"),
        Step("paper: five seeds", own("paper", COMPARED, range(1, 5))),
        at_own("tuned", "five seeds", COMPARED, range(3, 5)),
    ]


def arm(config: Config | dict) -> str:
    """A run's method with what it changes in its preset; where each method has a learning rate of its own (SEARCHES), that is no change.

    >>> arm(Config(dataset="cifar10", preset="tuned", method="proposed", bn="clean", lr=0.03))
    'proposed, bn=clean'
    """
    config = config if isinstance(config, dict) else config.__dict__
    own_rate = "lr=" if config["preset"] in SEARCHES else None
    switches = [part for part in changed(config).split(", ") if part and not (own_rate and part.startswith(own_rate))]
    return ", ".join([config["method"], *switches])
