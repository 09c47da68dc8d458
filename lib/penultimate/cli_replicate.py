"""The command `replicate`: the published comparison at full size, step by step, as far as the time allows."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .options import Budget, DataRoot, Dataset, Device, Jobs, app, seconds_of, with_config_fields


@app.command()
@with_config_fields
def replicate(
    dataset: Dataset = "cifar10", device: Device = "cpu", data_root: DataRoot = None, budget: Budget = None, jobs: Jobs = 1,
    records: Annotated[Path | None, typer.Option(help="folder to write to  [default: data/cache/replication]")] = None,
    curvature_images: Annotated[int, typer.Option(help="test images whose curvature is measured; 0 = none")] = 1000, **fields,
):  # fmt: skip
    """Train and measure the paper's comparison at full size: each step is complete before the next, and the next call goes on.

    Fields of Config hold for all runs and make a trial of it, which no table shows.

    Example: python -m penultimate replicate --device cuda --jobs 3 --budget 9m --records data/records
    """
    from . import checks, data, films, flatness, replication
    from .jobs import train_all
    from .records import collect

    folder, rates, seconds = records or data.CACHE / "replication", {}, seconds_of(budget)
    deadline = float("inf") if seconds is None else time.time() + seconds
    names = [step.name for step in replication.steps(rates, dataset, **fields)]
    for index, name in enumerate(names):
        step = replication.steps(rates, dataset, **fields)[index]
        typer.echo(f"[{index + 1}/{len(names)}] {name}: {len(step.configs)} runs")
        left = None if seconds is None else max(0.0, deadline - time.time())
        runs = train_all(step.configs, device, data_root, budget=left, jobs=jobs)
        collect([run.record for run in runs], folder / step.folder)
        if step.folder == "search":
            rates = replication.chosen([run.record for run in runs])
            typer.echo(f"learning rates: {rates}")
        results = runs if not step.folder else []
        films.collect([run for run in results if replication.arm(run.config) == run.config.method], folder, data_root)
        for run in results if curvature_images else ():
            if time.time() < deadline and not (folder / "curvature" / checks.place(run.record)).exists():
                flatness.write(flatness.measure(run, device, curvature_images, None, data_root), folder / "curvature")
        if len(runs) < len(step.configs) or time.time() > deadline:
            typer.echo(f"{len(runs)} of {len(step.configs)} runs of this step are finished; call again to go on")
            return
    typer.echo("every step is done")
