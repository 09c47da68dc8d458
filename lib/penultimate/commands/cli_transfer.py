"""The command `transfer`: accuracy of stored runs under perturbations they were not trained with, and their calibration, as records."""

from typing import Annotated

import typer

from .. import InputError
from ..runs import Config, grid
from .options import DataRoot, Dataset, Device, Jobs, Methods, Preset, Records, Seeds, TestImages, app, located, methods_of, seeds_of

MATRIX = "also both and proposed trained with uniform, Laplace and salt-and-pepper noise"


@app.command()
def transfer(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None, jobs: Jobs = 1, matrix: Annotated[bool, typer.Option("--matrix", help=MATRIX)] = False,
    test_images: TestImages = 1000, draws: Annotated[int, typer.Option(help="draws of what is random")] = 5, records: Records = None,
):  # fmt: skip
    """Measure runs under ten perturbations at severities set by `normal`, and their calibration; runs not in the store are trained first.

    The severities are measured once, on `normal` of these seeds, and kept beside the records; records that exist are left as they are.

    Example: python -m penultimate transfer --methods all --seeds 0-4 --matrix
    """
    from .. import data
    from ..jobs import train_all
    from ..study import checks
    from ..study import transfer as measuring
    from ..study.measured import SEVERITIES, missing, path_of
    from ..support import files

    if test_images < 1 or draws < 1:
        raise InputError(f"test_images = {test_images}, draws = {draws}: both must be positive")
    folder, chosen_seeds = records or data.CACHE / "transfer", seeds_of(seeds)
    dataset = located(dataset)
    kept = path_of(Config(dataset=dataset, preset=preset), folder).with_name(SEVERITIES)
    if not kept.exists():
        plain = train_all(grid(["normal"], chosen_seeds, dataset=dataset, preset=preset), device, data_root, jobs=jobs)
        files.write_json(kept, measuring.severities(plain, device, draws, data_root))
        typer.echo(f"severities: {kept}")
    chosen = checks.read(kept, checks.severities, "choice of severities")
    if chosen["dataset"] != dataset:
        raise InputError(f"{kept} is of {chosen['dataset']}, not of {dataset}: give another folder as --records, or delete it")
    now = {"fingerprint": data.load(dataset, data_root).fingerprint, "sigma": Config(dataset=dataset, preset=preset).sigma}
    then = {"fingerprint": chosen.get("fingerprint", now["fingerprint"]), "sigma": chosen["matched"]["sigma"]}  # older ones name no images
    if then != now:
        raise InputError(f"{kept} was chosen for other images or another noise than {dataset} has now: delete its folder to measure again")
    configs = grid(methods_of(methods), chosen_seeds, dataset=dataset, preset=preset)
    configs += measuring.matrix_configs(chosen, chosen_seeds) if matrix else []
    for run, path in missing(configs, folder, device=device, root=data_root, jobs=jobs):
        files.write_json(path, measuring.measure(run, chosen, device, test_images, draws, data_root))
