"""The command `bench`: the measurements of penultimate.bench, side by side."""

import importlib
import os
from typing import Annotated

import typer

from .. import one_of
from ..bench import NAMES, ON_A_GPU
from .options import Records, app


@app.command()
def bench(
    names: Annotated[str, typer.Option(help=f"'all', or of {', '.join(NAMES)}, joined by commas")] = "all",
    threads: Annotated[int, typer.Option(help="PyTorch's, where the measurement does not set them")] = 1,
    records: Records = None,
):
    """Measure this library beside plain PyTorch, in alternating runs, and print the table.

    Example: python -m penultimate bench --names loss,hessian
    """
    import torch

    from .. import at_least_one, data
    from ..bench.compare import markdown
    from ..support import files
    from ..support.machine import environment
    from ..support.memory import keep_freed

    at_least_one("threads", threads)
    chosen, found = list(NAMES) if names == "all" else names.split(","), {}
    for name in chosen:
        one_of("measurement", name, NAMES)
    for name in () if torch.cuda.is_available() else ON_A_GPU:
        if name in chosen:
            typer.echo(f"{name}: its rows need a CUDA GPU, and are left out", err=True)
            chosen.remove(name)
    torch.set_num_threads(threads)
    keep_freed()  # as in training; both sides have it
    for name in chosen:
        load = round(os.getloadavg()[0], 2)
        typer.echo(f"{name}: measuring", err=True)
        module = importlib.import_module(f"penultimate.bench.{name}")
        rows = module.measure()
        around = environment("cuda" if name in ON_A_GPU else "cpu") | {"cores": os.cpu_count(), "load": load}
        found[name] = {"environment": around, "rows": [row._asdict() for row in rows]}
        found[name] |= {further: getattr(module, further)() for further in ("shares", "reasons") if hasattr(module, further)}
        files.write_json((records or data.CACHE / "bench") / f"{name}.json", found[name])
    if found:
        typer.echo(markdown(found))
