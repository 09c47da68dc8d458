"""The command `curvature`: per-image curvature and robustness of stored runs, as records."""

from typing import Annotated

import typer

from .. import at_least_one, positive
from ..runs import grid
from .options import (
    DataRoot,
    Dataset,
    Device,
    Methods,
    Preset,
    Records,
    Seeds,
    TestImages,
    app,
    methods_of,
    number_from,
    seeds_of,
    with_config_fields,
)

LEVEL = "noise at which robustness is counted, in pixel units of [0,1] (default: 0.4 for digits, 7/255 for others)"


@app.command()
@with_config_fields
def curvature(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None, test_images: TestImages = 1000,
    level: Annotated[float | None, typer.Option(help=LEVEL, parser=number_from("level"), metavar="FLOAT")] = None,
    records: Records = None, **fields,
):  # fmt: skip
    """Measure the curvature of runs (eq. 21, Hessian, logit margin) image by image; runs not in the store are trained first.

    Records that exist are left as they are, whatever they were measured with: to measure a run again, delete its record.

    Example: python -m penultimate curvature --methods normal,proposed --seeds 0-4
    """
    from .. import data
    from ..study import curvature_records, measured
    from ..support import files

    at_least_one("test_images", test_images)
    if level is not None:
        positive("level", level)
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    for run, path in measured.missing(configs, records or data.CACHE / "curvature", device=device, root=data_root):
        files.write_json(path, curvature_records.measure(run, device, test_images, level, data_root))
