"""The command `replicate`: the published comparison at full size, step by step, as far as the time allows."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .options import Budget, DataRoot, Device, app, seconds_of, seeds_of, with_config_fields

PUBLISHED = ("cifar10", "svhn")
ATTACKED = "test images of each finished run that are attacked and certified, where pyautoattack is installed; 0 = none"


@app.command()
@with_config_fields
def replicate(
    dataset: Annotated[str, typer.Option(help="cifar10 or svhn; any other for a trial alone")] = "cifar10",
    device: Device = "cpu", data_root: DataRoot = None, budget: Budget = None,
    processes: Annotated[int, typer.Option("--jobs", help="processes that share the device")] = 1,
    records: Annotated[Path | None, typer.Option(help="folder to write to (default: data/cache/replication)")] = None,
    attacked: Annotated[int, typer.Option(help=ATTACKED)] = 450,
    only: Annotated[str | None, typer.Option("--steps", help="numbers of the steps to take, as 1-3 (default: all)")] = None, **fields,
):  # fmt: skip
    """Train and measure the paper's comparison at full size: what is first of use comes first, and the next call goes on.

    What has a record in the folder is done. Fields of Config hold for all runs and make a trial of it, below the folder `trial`. After the
    budget a run may still be measured, at full size for a minute or two.

    Example: python -m penultimate replicate --device cuda --jobs 4 --budget 7m --records data/records
    """
    from .. import InputError, data, jobs
    from ..records import collect, same_images
    from ..runs import Config
    from ..study import films, measured, replication

    if attacked < 0:
        raise InputError(f"attacked = {attacked} must not be negative: 0 attacks none")
    if not fields and dataset not in PUBLISHED:
        raise InputError(
            f"dataset {dataset!r} is not the paper's: choose {' or '.join(PUBLISHED)}, or try it with a field of Config (--width 8)"
        )
    folder, seconds = (records or data.CACHE / "replication") / ("trial" if fields else ""), seconds_of(budget)
    deadline = float("inf") if seconds is None else time.time() + seconds
    able = find_spec("pyautoattack") is not None
    if attacked and not able:
        typer.echo("pyautoattack is not installed here: no run is attacked; everything else is measured")

    def all_steps() -> list[replication.Step]:
        """As far as they are known: those of later turns depend on the learning rates."""
        return replication.steps(replication.rates(folder, dataset, **fields), dataset, **fields)

    def left(configs) -> list:
        broken = {record["name"] for record in replication.broken_off(folder, dataset)}
        return [c for c in configs if c.name not in broken and not measured.path_of(c, folder / places[c]).exists()]

    def keep(run) -> None:
        if not places[run.config] and replication.arm(run.config) == run.config.method:
            films.collect([run], folder, data_root)
        collect([run.record], folder / places[run.config])  # last: what has a record is done
        attack(run)

    def attack(run) -> None:
        if attacked and able and not places[run.config] and time.time() < deadline:
            _attack(run, folder / "adversary", attacked, device, data_root)

    def lose(config, reason: Exception) -> None:
        if isinstance(reason, FloatingPointError):  # it would be so again
            replication.break_off(config, str(reason).removeprefix(f"{config.name}: "), folder)

    same_images(folder, Config(dataset=dataset, image_size=fields.get("image_size")), root=data_root)
    names = [step.name for step in all_steps()]
    wanted = set(range(1, len(names) + 1)) if only is None else set(seeds_of(only, "steps"))
    if not wanted <= set(range(1, len(names) + 1)):
        raise InputError(f"steps {only!r}: give numbers from 1 to {len(names)}")
    for turn in range(5):
        steps = all_steps()
        places = {config: step.folder for step in steps for config in step.configs}
        chosen = [(number, step) for number, step in enumerate(steps, 1) if step.turn == turn and number in wanted]
        configs = [config for _, step in chosen for config in step.configs]
        for needed in dict.fromkeys(step.rates_of for _, step in chosen if step.rates_of):
            number = names.index(f"{needed}: learning rates") + 1
            if left(steps[number - 1].configs):
                raise InputError(f"steps {only!r} take learning rates that step {number} chooses: take it first (--steps {number})")
        for number, step in chosen:
            done = len(step.configs) - len(left(step.configs))
            typer.echo(f"[{number}/{len(names)}] {step.name}: {done} of {len(step.configs)} runs are done")
        waiting = left(configs)
        for config in (c for c in configs if attacked and able and not places[c]):  # what an earlier call had no time for
            missing = config not in waiting and not measured.path_of(config, folder / "adversary").exists()
            if missing and (run := jobs.stored(config, jobs.STORE)):
                attack(run)
        try:
            budget_left = None if seconds is None else max(0.0, deadline - time.time())
            jobs.train_all(waiting, device, data_root, budget=budget_left, jobs=processes, on_run=keep, on_failure=lose)
            failed = False
        except jobs.RunsFailed as error:  # a learning rate may be too high: the others are compared
            typer.echo(f"{error}", err=True)
            failed = True
        if unfinished := left(configs):
            typer.echo(f"{len(unfinished)} of {len(configs)} runs of these steps are left; call again to go on")
            raise typer.Exit(failed)
    broken = replication.broken_off(folder, dataset)
    told = "every step is done" if only is None else "the steps asked for are done"
    typer.echo(f"{told}{f'; {len(broken)} runs broke off' * bool(broken)}")


def _attack(run, folder: Path, images: int, device: str, root: Path | None) -> None:
    """The record that `adversary` makes of a finished run, if it is missing.

    At 450 images that takes 115,000 gradients, as many as two or three epochs of training, and 132,000 passes for certificates.
    """
    from .. import InputError
    from ..study import adversary, measured
    from ..support import files

    path = measured.path_of(run.config, folder)
    if not path.exists():
        sizes = {"images": images, "checked": min(images, 100), "certified": min(images, 60)}
        try:
            files.write_json(path, adversary.measure(run, {}, device, root=root, **sizes))
        except (InputError, RuntimeError) as error:  # out of memory beside other runs, say: training goes on
            typer.echo(f"{run.config.name} was not attacked: {' '.join(str(error).split())[:200]}", err=True)
