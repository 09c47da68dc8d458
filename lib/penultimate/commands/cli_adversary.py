"""The command `adversary`: adversarial accuracy, checks of the attack and certified radii of stored runs, as records."""

from pathlib import Path
from typing import Annotated

import typer

from .. import InputError, at_least_one
from ..runs import Config, grid
from .options import DataRoot, Dataset, Device, Methods, Preset, Records, Seeds, TestImages, app, methods_of, seeds_of, with_config_fields


@app.command()
@with_config_fields
def adversary(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None, test_images: TestImages = 450,
    autoattack_images: Annotated[int, typer.Option(help="of these, so many under AutoAttack too; 0 = none")] = 25,
    checked_images: Annotated[int, typer.Option(help="of these, so many for the checks for masked gradients")] = 100,
    certified_images: Annotated[int, typer.Option(help="of these, so many for certified radii")] = 60,
    draws: Annotated[int, typer.Option(help="draws of the smoothing noise for a certificate")] = 1000,
    records: Records = None, **fields,
):  # fmt: skip
    """Attack runs (APGD, AutoAttack) and certify them (randomized smoothing); runs not in the store are trained first.

    Records that exist are left as they are, but that AutoAttack is added: to measure a run again, delete its record.

    Example: python -m penultimate adversary --methods normal,proposed --seeds 0-4
    """
    from .. import attacks, data
    from ..jobs import train_all
    from ..study import adversary, checks, measured
    from ..support import files

    sizes = dict(images=test_images, checked=checked_images, certified=certified_images, n=draws)
    for what, size in sizes.items():
        at_least_one(what, size)
    if autoattack_images < 0:
        raise InputError(f"autoattack_images = {autoattack_images} must not be negative: 0 attacks none")
    classes = len(data.load(dataset, data_root, fields.get("image_size")).classes)
    if classes < attacks.FEWEST and autoattack_images:
        typer.echo(f"{classes} classes: AutoAttack needs {attacks.FEWEST} and is left out")
        autoattack_images = 0

    def whole(path: Path) -> bool:
        if not path.exists():
            return False
        record = checks.read(path, checks.adversary_record, "adversary record")
        return record["settings"]["autoattack_images"] >= min(autoattack_images, record["data"]["test_images"])

    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    for run, path in measured.missing(configs, records or data.CACHE / "adversary", whole, device=device, root=data_root):
        if not path.exists():
            wanted = _sources(run.config, configs)
            sources = dict(zip(wanted, train_all(list(wanted.values()), device, data_root), strict=True))
            files.write_json(path, adversary.measure(run, sources, device, root=data_root, **sizes))
        if autoattack_images:
            files.write_json(path, adversary.with_autoattack(files.read_json(path), run, autoattack_images, device, data_root))


def _sources(config: Config, configs: list[Config]) -> dict[str, Config]:
    """Those of these runs whose adversarial images are tried on one of them: `normal` of its seed, and its own method's next seed."""
    found = {(one.method, one.seed): one for one in configs}
    seeds = sorted({one.seed for one in configs})
    following = seeds[(seeds.index(config.seed) + 1) % len(seeds)]
    wanted = {"normal": ("normal", config.seed), "another seed": (config.method, following)}
    return {name: found[key] for name, key in wanted.items() if key in found and found[key] != config}
