"""The command `replicate`: the published comparison at full size, step by step, as far as the time allows."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .options import Budget, DataRoot, Dataset, Device, app, seconds_of, with_config_fields

ATTACKED = "test images of each finished run that are attacked and certified, where pyautoattack is installed; 0 = none"


@app.command()
@with_config_fields
def replicate(
    dataset: Dataset = "cifar10", device: Device = "cpu", data_root: DataRoot = None, budget: Budget = None,
    processes: Annotated[int, typer.Option("--jobs", help="processes that share the device")] = 1,
    records: Annotated[Path | None, typer.Option(help="folder to write to (default: data/cache/replication)")] = None,
    attacked: Annotated[int, typer.Option(help=ATTACKED)] = 450, **fields,
):  # fmt: skip
    """Train and measure the paper's comparison at full size: each step is complete before the next, and the next call goes on.

    What has a record in the folder is done. Fields of Config hold for all runs and make a trial of it, below the folder `trial`.

    Example: python -m penultimate replicate --device cuda --jobs 3 --budget 9m --records data/records
    """
    from . import data, films, jobs, measured, replication
    from .records import collect, read

    folder, seconds = (records or data.CACHE / "replication") / ("trial" if fields else ""), seconds_of(budget)
    deadline, broken = float("inf") if seconds is None else time.time() + seconds, {}
    able = find_spec("pyautoattack") is not None
    if attacked and not able:
        typer.echo("pyautoattack is not installed here: no run is attacked; everything else is measured")
    names = [step.name for step in replication.steps({}, dataset, **fields)]
    for index, name in enumerate(names):
        looked = folder / "search"
        rates = replication.chosen(replication.searched(read(looked, dataset))) if looked.is_dir() else {}
        step = replication.steps(rates, dataset, **fields)[index]
        waiting = [c for c in step.configs if not measured.path_of(c, folder / step.folder).exists()]
        typer.echo(f"[{index + 1}/{len(names)}] {name}: {len(step.configs) - len(waiting)} of {len(step.configs)} runs have a record")
        options = dict(device=device, root=data_root, jobs=processes)
        try:
            left = None if seconds is None else max(0.0, deadline - time.time())
            trained = jobs.train_all(waiting, budget=left, **options)
        except jobs.RunsFailed as error:  # a learning rate may be too high: the others are compared
            broken |= error.reasons
            typer.echo(f"{error}", err=True)
            trained = jobs.train_all([c for c in waiting if c not in error.reasons], budget=0, **options)
        collect([run.record for run in trained], folder / step.folder)
        if not step.folder:
            films.collect([run for run in trained if replication.arm(run.config) == run.config.method], folder, data_root)
            _attack(step.configs if attacked and able else [], folder / "adversary", attacked, device, data_root, deadline)
        unfinished = len(waiting) - len(trained) - sum(c in broken for c in waiting)
        if unfinished or time.time() > deadline:
            typer.echo(f"the time is up: {unfinished} of {len(step.configs)} runs of this step are left; call again to go on")
            return
    typer.echo(f"every step is done{f'; {len(broken)} runs broke' * bool(broken)}")


def _attack(configs: list, folder: Path, images: int, device: str, root: Path | None, deadline: float) -> None:
    """The records that `adversary` makes, of finished runs, as far as they are missing and the time allows.

    At 450 images a run takes 115,000 gradients, as many as two or three epochs of training, and 132,000 passes for certificates.
    """
    from . import adversary, files, jobs, measured, runs

    sizes = {"images": images, "checked": min(images, 100), "certified": min(images, 60)}
    for config in configs:
        path = measured.path_of(config, folder)
        if time.time() < deadline and not path.exists() and (run := runs.stored(config, jobs.STORE)):
            files.write_json(path, adversary.measure(run, {}, device, root=root, **sizes))
