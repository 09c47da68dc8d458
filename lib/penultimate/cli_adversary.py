"""The command `adversary`: adversarial accuracy, checks of the attack and certified radii of stored runs, as records."""

import time
from pathlib import Path
from typing import Annotated

import typer

from . import at_least_one
from .options import DataRoot, Dataset, Device, Methods, Preset, Seeds, app, methods_of, seeds_of, with_config_fields
from .runs import grid


@app.command()
@with_config_fields
def adversary(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None,
    test_images: Annotated[int, typer.Option(help="at most this many, of a fixed shuffle of the test images")] = 450,
    autoattack_images: Annotated[int, typer.Option(help="of these, so many under AutoAttack too; 0 = none")] = 25,
    checked_images: Annotated[int, typer.Option(help="of these, so many for the checks for masked gradients")] = 100,
    certified_images: Annotated[int, typer.Option(help="of these, so many for certified radii")] = 60,
    draws: Annotated[int, typer.Option(help="draws of the smoothing noise for a certificate")] = 1000,
    records: Annotated[Path | None, typer.Option(help="folder to write to  [default: data/cache/adversary]")] = None, **fields,
):  # fmt: skip
    """Attack runs (APGD, AutoAttack) and certify them (randomized smoothing); what is measured already is left, missing runs are trained.

    Example: python -m penultimate adversary --methods normal,proposed --seeds 0-4
    """
    from . import adversary, checks, data, files
    from .jobs import train_all

    sizes = dict(images=test_images, checked=checked_images, certified=certified_images, n=draws)
    for what, size in sizes.items():
        at_least_one(what, size)
    runs = train_all(grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields), device, data_root)
    for done, run in enumerate(runs, 1):
        path = (records or data.CACHE / "adversary") / checks.place(run.record)
        started, measured = time.perf_counter(), path.exists()
        record = files.read_json(path) if measured else adversary.measure(run, _sources(run, runs), device, root=data_root, **sizes)
        wanted = autoattack_images > record["settings"]["autoattack_images"]
        if not measured:
            files.write_json(path, record)
        if wanted:
            files.write_json(path, adversary.with_autoattack(record, run, autoattack_images, device, data_root))
        took = f"measured in {time.perf_counter() - started:.0f} s" if wanted or not measured else "measured before"
        typer.echo(f"[{done}/{len(runs)}] {path.stem}: {took}")


def _sources(run, runs: list) -> dict:
    """Among these runs, those whose adversarial images are tried on this one: `normal` of its seed, and its own method's next seed."""
    found = {(one.config.method, one.config.seed): one for one in runs}
    seeds = sorted({one.config.seed for one in runs})
    following = seeds[(seeds.index(run.config.seed) + 1) % len(seeds)]
    wanted = {"normal": ("normal", run.config.seed), "another seed": (run.config.method, following)}
    return {name: found[key] for name, key in wanted.items() if key in found and found[key] is not run}
