"""The command `experiments`: ablation, sensitivity, centroids and switches, trained where needed and collected as records."""

from typing import Annotated

import typer

from .options import Address, Backend, Budget, DataRoot, Dataset, Device, Jobs, Preset, Records, Seeds, app, located, seconds_of, seeds_of

NAMES = "'all', or of ablation, centroids, switches, deltas, fronts, rates, added, decisive, joined by commas"


@app.command()
def experiments(
    dataset: Dataset = "digits", preset: Preset = None, seeds: Seeds = "0-4", device: Device = "cpu", data_root: DataRoot = None,
    budget: Budget = None, jobs: Jobs = 1, backend: Backend = "processes", address: Address = None,
    names: Annotated[str, typer.Option(help=NAMES)] = "all",
    records: Records = None,
):  # fmt: skip
    """Train every arm of the experiments on several seeds (those in the store are reused) and collect one record an experiment.

    Example: python -m penultimate experiments --names ablation,centroids --seeds 0-4 --jobs 2
    """
    from .. import data
    from ..jobs import RunsFailed, train_all
    from ..study import experiments, grids

    chosen = grids.DEFAULT if names == "all" else names.split(",")
    wanted = {name: grids.arms(name, seeds_of(seeds), located(dataset), preset) for name in chosen}
    configs = list(dict.fromkeys(config for arms in wanted.values() for config in arms.values()))
    failed = {}
    try:
        runs = train_all(configs, device, data_root, budget=seconds_of(budget), jobs=jobs, backend=backend, address=address)
    except RunsFailed as error:  # a result too: some arms are meant to go too far
        failed, runs = error.reasons, error.finished
        typer.echo(f"{error}", err=True)
    found = {run.config: run for run in runs}
    for name, arms in wanted.items():
        finished = {key: found[config] for key, config in arms.items() if config in found}
        lost = {key: failed[config] for key, config in arms.items() if config in failed}
        if finished and len(finished) + len(lost) == len(arms):
            written = experiments.collect(name, finished, records or data.CACHE / "experiments", data_root, lost)
            typer.echo(f"wrote {written} ({len(finished)} runs{f', {len(lost)} failed' * bool(lost)})")
        elif len(lost) == len(arms):
            typer.echo(f"{name}: every run failed, as said above: nothing is written", err=True)
        else:
            typer.echo(f"{name}: {len(finished)} of {len(arms)} runs finished; call again to go on")
