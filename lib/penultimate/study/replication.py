"""The published comparison at full size, as steps, each of use without those after it: a smoke run, `paper`, learning rates, `tuned`, more.

A step is a list of configurations. The learning rates of `tuned` are chosen for each method among RATES, by its noisy, then its clean
accuracy on the validation split after SEARCH_EPOCHS epochs, on a seed that no result uses. A run whose loss is not finite would break off
again: it leaves a record of that, broken/<dataset>-<preset>/<name>.json, with its name, configuration and reason, and counts as done.
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
RATES, SEARCH_EPOCHS, SEARCH_SEED = (0.01, 0.03, 0.1, 0.2), 10, TRIAL_SEED


class Step(NamedTuple):
    """Configurations that are trained before those of the next step where there are not processes enough for both.

    turn: steps of one turn need nothing of each other. folder: of their records, below that of results.
    """

    name: str
    configs: list[Config]
    turn: int = 2
    folder: str = ""


def search(dataset: str = "cifar10", **fields) -> list[Config]:
    """The runs that the learning rates of `tuned` are chosen by; fields of Config hold for all."""
    common = {"preset": "tuned", "epochs": SEARCH_EPOCHS, "dataset": dataset} | fields
    return [config for lr in RATES for config in grid(ALL, [SEARCH_SEED], **(common | {"lr": lr}))]


def searched(found: list[dict]) -> list[dict]:
    """Among records, those of `search`."""
    return [r for r in found if r["config"]["preset"] == "tuned" and r["config"]["seed"] == SEARCH_SEED]


def break_off(config: Config, reason: str, folder: Path) -> None:
    """Leave a record of a run whose loss was not finite."""
    record = {"name": config.name, "config": dataclasses.asdict(config), "reason": reason}
    files.write_json(folder / "broken" / checks.place(record), record)


def broken_off(folder: Path, dataset: str) -> list[dict]:
    """The records of runs of a data set that broke off, under a folder of records."""
    paths = sorted((folder / "broken").glob("*/*.json"))
    found = [checks.read(path, checks.broken_record, "record of a run that broke off") for path in paths]
    return [record for record in found if record["config"]["dataset"] == dataset]


def chosen(found: list[dict], broken: list[dict] = ()) -> dict[str, float | None]:
    """Method -> the best learning rate among the records of `search`; None for a method of which every rate broke off."""
    best = {}
    for last, config in ((record["history"][-1], record["config"]) for record in found):
        reached = last["validation_noisy"], last["validation"]
        if config["method"] not in best or reached > best[config["method"]][0]:
            best[config["method"]] = reached, config["lr"]
    lost = Counter(record["config"]["method"] for record in searched(broken))
    none = {method: None for method, rates in lost.items() if rates == len(RATES) and method not in best}
    return none | {method: lr for method, (_, lr) in best.items()}


def rates(folder: Path, dataset: str = "cifar10", **fields) -> dict[str, float | None]:
    """`chosen` from the records below a folder, of the runs of `search` alone: trials of other fields may lie there as well."""
    names, looked = {config.name for config in search(dataset, **fields)}, folder / "search"
    kept = read(looked, dataset) if looked.is_dir() else [], broken_off(folder, dataset)
    return chosen(*([record for record in found if record["name"] in names] for found in kept))


def steps(rates: dict[str, float], dataset: str = "cifar10", **fields) -> list[Step]:
    """All steps, first things first.

    rates: `chosen`; until the step 'learning rates' is done a method has the preset's, and one that has none is left out of `tuned`. fields
    of Config hold for every run, as width=2, epochs=1 for a trial.

    >>> [step.name for step in steps({})][:4]
    ['smoke run', 'paper: normal, proposed', 'learning rates', 'tuned: five methods, three seeds']
    """

    def own(preset: str, methods, seeds, **more) -> list[Config]:
        return grid(methods, seeds, **({"dataset": dataset, "preset": preset} | more | fields))

    def tuned(methods, seeds, **more) -> list[Config]:
        able = [m for m in methods if rates.get(m, "the preset's") is not None]
        return [config for seed in seeds for m in able for config in own("tuned", [m], [seed], lr=rates.get(m), **more)]

    twice = 2 * Config(dataset=dataset, preset="tuned").epochs
    return [
        Step("smoke run", own("paper", ALL, [TRIAL_SEED], images=6400, epochs=10), 0, "rehearsal"),
        Step("paper: normal, proposed", own("paper", ["normal", "proposed"], [0]), 1),
        Step("learning rates", search(dataset, **fields), 1, "search"),
        Step("tuned: five methods, three seeds", tuned(COMPARED, range(3))),
        Step("paper: the other methods", own("paper", ["noisy", "both", "stability", "discriminative"], [0])),
        Step("tuned: normal, twice the epochs", tuned(["normal"], range(3), epochs=twice)),
        Step("tuned: discriminative", tuned(["discriminative"], range(3))),
        *(Step(f"tuned: proposed, bn {bn}", tuned(["proposed"], range(3), bn=bn)) for bn in ("separate", "clean")),
        Step("paper: five seeds", own("paper", COMPARED, range(1, 5))),
        Step("tuned: five seeds", tuned(COMPARED, range(3, 5))),
    ]


def arm(config: Config | dict) -> str:
    """A run's method with what it changes in its preset; in `tuned`, where each method has a learning rate of its own, that is no change.

    >>> arm(Config(dataset="cifar10", preset="tuned", method="proposed", bn="clean", lr=0.03))
    'proposed, bn=clean'
    """
    config = config if isinstance(config, dict) else config.__dict__
    own_rate = "lr=" if config["preset"] == "tuned" else None
    switches = [part for part in changed(config).split(", ") if part and not (own_rate and part.startswith(own_rate))]
    return ", ".join([config["method"], *switches])
