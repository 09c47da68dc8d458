"""The command `curvature`: per-image curvature and robustness of stored runs, as records."""

import time
from pathlib import Path
from typing import Annotated

import typer

from . import InputError
from .options import DataRoot, Dataset, Device, Methods, Preset, Seeds, app, methods_of, seeds_of, with_config_fields
from .runs import grid

LEVEL = "noise at which robustness is counted, in pixel units of [0,1]  [default: 0.4 for digits, 7/255 for others]"


@app.command()
@with_config_fields
def curvature(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None,
    test_images: Annotated[int, typer.Option(help="at most this many, of a fixed shuffle of the test images")] = 1000,
    level: Annotated[float | None, typer.Option(help=LEVEL)] = None,
    records: Annotated[Path | None, typer.Option(help="folder to write to  [default: data/cache/curvature]")] = None, **fields,
):  # fmt: skip
    """Measure the curvature of runs (eq. 21, Hessian, logit margin) image by image; runs that are not in the store are trained first.

    Example: python -m penultimate curvature --methods normal,proposed --seeds 0-4
    """
    from . import data, files, flatness
    from .jobs import train_all
    from .measured import path_of

    if test_images < 1 or (level is not None and not level > 0):
        raise InputError(f"test_images = {test_images}, level = {level}: both must be positive")
    runs = train_all(grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields), device, data_root)
    for done, run in enumerate(runs, 1):
        started = time.perf_counter()
        record = flatness.measure(run, device, test_images, level, data_root)
        path = path_of(run.config, records or data.CACHE / "curvature")
        files.write_json(path, record)
        typer.echo(f"[{done}/{len(runs)}] {path.stem}: measured in {time.perf_counter() - started:.0f} s")
