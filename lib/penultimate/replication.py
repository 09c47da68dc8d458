"""The published comparison at full size, as steps, each of use without those after it: a smoke run, `paper`, learning rates, `tuned`, more.

A step is a list of configurations. The learning rates of `tuned` are chosen for each method among RATES, by its noisy, then its clean
accuracy on the validation split after SEARCH_EPOCHS epochs, on a seed that no result uses.
"""

from typing import NamedTuple

from .metrics import TRIAL_SEED
from .records import changed
from .runs import Config, grid

COMPARED = ("normal", "noisy", "both", "stability", "proposed")
ALL = (*COMPARED, "discriminative")
RATES, SEARCH_EPOCHS, SEARCH_SEED = (0.01, 0.03, 0.1, 0.2), 10, TRIAL_SEED


class Step(NamedTuple):
    """Configurations to be trained before those of the next step. folder: of their records, below that of results."""

    name: str
    configs: list[Config]
    folder: str = ""


def search(dataset: str = "cifar10", **fields) -> list[Config]:
    """The runs that the learning rates of `tuned` are chosen by; fields of Config hold for all."""
    common = {"preset": "tuned", "epochs": SEARCH_EPOCHS, "dataset": dataset} | fields
    return [config for lr in RATES for config in grid(ALL, [SEARCH_SEED], **(common | {"lr": lr}))]


def searched(found: list[dict]) -> list[dict]:
    """Among records, those of `search`."""
    return [r for r in found if r["config"]["preset"] == "tuned" and r["config"]["seed"] == SEARCH_SEED]


def chosen(found: list[dict]) -> dict[str, float]:
    """Method -> the best learning rate among the records of `search`; a rate whose run broke has no record, and is not chosen."""
    best = {}
    for last, config in ((record["history"][-1], record["config"]) for record in found):
        reached = last["validation_noisy"], last["validation"]
        if config["method"] not in best or reached > best[config["method"]][0]:
            best[config["method"]] = reached, config["lr"]
    return {method: lr for method, (_, lr) in best.items()}


def steps(rates: dict[str, float], dataset: str = "cifar10", **fields) -> list[Step]:
    """All steps, first things first.

    rates: `chosen`; until the step 'learning rates' is done a method has the preset's. fields of Config hold for every run, as
    width=2, epochs=1 for a trial.

    >>> [step.name for step in steps({})][:4]
    ['smoke run', 'paper: normal, proposed', 'learning rates', 'tuned: five methods, three seeds']
    """

    def own(preset: str, methods, seeds, **more) -> list[Config]:
        return grid(methods, seeds, **({"dataset": dataset, "preset": preset} | more | fields))

    def tuned(methods, seeds, **more) -> list[Config]:
        return [config for seed in seeds for m in methods for config in own("tuned", [m], [seed], lr=rates.get(m), **more)]

    twice = 2 * Config(dataset=dataset, preset="tuned").epochs
    return [
        Step("smoke run", own("paper", ALL, [TRIAL_SEED], images=2560, epochs=1), "rehearsal"),
        Step("paper: normal, proposed", own("paper", ["normal", "proposed"], [0])),
        Step("learning rates", search(dataset, **fields), "search"),
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
