"""The command `replicate`: the published comparison at full size, step by step, as far as the time allows."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .options import Budget, DataRoot, Dataset, Device, app, seconds_of, with_config_fields

FURTHER = "test images whose curvature and adversarial accuracy are measured, for runs of seed 0; 0 = none"


@app.command()
@with_config_fields
def replicate(
    dataset: Dataset = "cifar10", device: Device = "cpu", data_root: DataRoot = None, budget: Budget = None,
    processes: Annotated[int, typer.Option("--jobs", help="processes that share the device")] = 1,
    records: Annotated[Path | None, typer.Option(help="folder to write to  [default: data/cache/replication]")] = None,
    images_further: Annotated[int, typer.Option(help=FURTHER)] = 1000, **fields,
):  # fmt: skip
    """Train and measure the paper's comparison at full size: each step is complete before the next, and the next call goes on.

    What has a record in the folder is done. Fields of Config hold for all runs and make a trial of it, below the folder `trial`.

    Example: python -m penultimate replicate --device cuda --jobs 3 --budget 9m --records data/records
    """
    from . import checks, data, films, jobs, replication, runs
    from .records import collect, read

    folder, seconds = (records or data.CACHE / "replication") / ("trial" if fields else ""), seconds_of(budget)
    deadline, broken = float("inf") if seconds is None else time.time() + seconds, {}
    names = [step.name for step in replication.steps({}, dataset, **fields)]
    for index, name in enumerate(names):
        looked = folder / "search"
        rates = replication.chosen(replication.searched(read(looked, dataset))) if looked.is_dir() else {}
        step = replication.steps(rates, dataset, **fields)[index]
        waiting = [c for c in step.configs if not (folder / step.folder / checks.place(dict(name=c.name, config=c.__dict__))).exists()]
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
            for run in filter(None, (runs.stored(c, jobs.STORE) for c in step.configs if c.seed == 0 and images_further)):
                if time.time() < deadline:
                    _measure_further(run, folder, images_further, device, data_root)
        unfinished = len(waiting) - len(trained) - sum(c in broken for c in waiting)
        if unfinished or time.time() > deadline:
            typer.echo(f"the time is up: {unfinished} of {len(step.configs)} runs of this step are left; call again to go on")
            return
    typer.echo(f"every step is done{f'; {len(broken)} runs broke' * bool(broken)}")


def _measure_further(run, folder: Path, images: int, device: str, root: Path | None) -> None:
    """The records that `curvature` and `adversary` make, where they are missing; the second where its attacks are installed."""
    from . import adversary, checks, files, flatness

    curvature, attacked = (folder / kind / checks.place(run.record) for kind in ("curvature", "adversary"))
    if not curvature.exists():
        files.write_json(curvature, flatness.measure(run, device, images, None, root))
    if find_spec("pyautoattack") and not attacked.exists():
        sizes = {"images": min(images, 450), "checked": min(images, 100), "certified": min(images, 60)}
        files.write_json(attacked, adversary.measure(run, {}, device, root=root, **sizes))
