"""The command `replay`: committed runs trained again, to see whether the present code on this machine gives the same numbers."""

from typing import Annotated

import typer

from .. import InputError
from .options import DataRoot, Dataset, Device, Methods, Preset, Records, Seeds, app, located, methods_of, seeds_of


@app.command()
def replay(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0-4", device: Device = "cpu",
    data_root: DataRoot = None, epochs: Annotated[int, typer.Option(help="how many, from the first on; 0: all of a run's")] = 1,
    records: Records = None,
):  # fmt: skip
    """Train committed runs again, as their records say, and compare every number of each epoch. What this code on this machine has
    trained again before is not trained once more.

    Example: python -m penultimate replay --dataset digits --epochs 0
    """
    from .. import data
    from .. import records as committed
    from ..runs import grid
    from ..study import checks, replays
    from ..support import files

    if epochs < 0:
        raise InputError(f"epochs = {epochs}: give how many, or 0 for all")
    dataset, folder = located(dataset), records or data.CACHE / "replays"
    asked = {(c.preset, c.method, c.seed) for c in grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset)}
    found = [r for r in committed.read(None, dataset) if tuple(r["config"][name] for name in ("preset", "method", "seed")) in asked]
    if not found:
        raise InputError(f"no committed runs of {dataset} with {methods} as methods and {seeds} as seeds: leave options out to see some")
    same = 0
    for done, record in enumerate(found, 1):
        path = folder / checks.place(record)
        if not replays.done(path, epochs, device):
            files.write_json(path, replays.again(record, epochs, device, data_root))
        now = files.read_json(path)["history"]
        same += replays.agreeing(record["history"], now) == len(now)
        typer.echo(f"[{done}/{len(found)}] {path.stem}: {replays.outcome(record['history'], now)}")
    typer.echo(f"{same} of {len(found)} runs came out the same, to every digit of their records; replays are in {folder}")
