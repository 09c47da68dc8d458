"""The commands train, sweep, study and report; the others stand in cli_*.py, what all share in options.py."""

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Annotated

import typer

from .. import InputError, at_least_one, data
from ..runs import Config, grid
from .options import (
    Address,
    Backend,
    Budget,
    DataRoot,
    Dataset,
    Device,
    Jobs,
    Methods,
    Perturbation,
    Preset,
    Seeds,
    SkipBad,
    app,
    located,
    methods_of,
    numbers_of,
    seconds_of,
    seeds_of,
    with_config_fields,
)  # fmt: skip


@app.command()
@with_config_fields
def train(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None, budget: Budget = None, jobs: Jobs = 1, backend: Backend = "processes", address: Address = None,
    records: Annotated[Path | None, typer.Option(help="also put the finished runs' records in this folder")] = None,
    skip_bad: SkipBad = None, **fields,
):  # fmt: skip
    """Train and measure runs; those in the store are reused, interrupted ones resumed.

    Example: python -m penultimate train --methods normal,proposed --seeds 0-4 --jobs 2 --epochs 10
    """
    from ..jobs import RunsFailed, train_all
    from ..records import collect
    from ..study import films
    from ..support import own
    from ..support.wording import level_name

    if skip_bad is not None:
        _for_own_pictures(dataset)
        data.load(dataset, image_size=fields.get("image_size"), skip_bad=skip_bad)  # what is no data set has no settings
        own.settle(dataset, data.CACHE, skip_bad=skip_bad)
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    if data.is_own(dataset) and configs[0].noise == "gaussian" and "sigma" not in fields | data.settings(dataset).get("fields", {}):
        data.load(dataset, data_root, configs[0].image_size)  # what is no data set has no noise level
        typer.echo(f"noise trained with: {level_name(configs[0].sigma)}, the default; `study` finds the level that this data calls for")

    def keep(runs: list) -> None:
        if records:
            collect([run.record for run in runs], records)
            films.collect(runs, records, data_root)

    try:
        runs = train_all(configs, device, data_root, budget=seconds_of(budget), jobs=jobs, backend=backend, address=address)
    except RunsFailed as error:
        keep(error.finished)
        raise
    keep(runs)
    for run in runs:
        gaussian = run.record["metrics"]["last"]["gaussian"]
        accuracy = "  ".join(f"{100 * sum(a) / len(a):.1f}" for a in gaussian["accuracy"])
        typer.echo(f"{run.config.name:52} accuracy (%) at noise {', '.join(f'{level:.3g}' for level in gaussian['levels'])}:  {accuracy}")


@app.command()
@with_config_fields
def sweep(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None,
    perturbation: Perturbation = "gaussian",
    levels: Annotated[str, typer.Option(help="in its units, joined by commas: 0,8/255,0.1; for several 0.3+0.1")] = "0,0.1,0.2,0.3",
    draws: Annotated[int, typer.Option(help="draws of the noise")] = 5,
    out: Annotated[Path | None, typer.Option(help="also write the table (one row a draw) to this .csv")] = None, **fields,
):  # fmt: skip
    """Accuracy of runs under any perturbation; runs that are not in the store are trained first.

    Example: python -m penultimate sweep --methods normal,proposed --perturbation occlusion --levels 0,0.125,0.25
    """
    import numpy as np
    import pandas as pd

    from .. import evaluate, noise
    from ..jobs import train_all
    from ..support import files
    from ..support.devices import usable
    from ..support.wording import cell

    at_least_one("draws", draws)
    if draws > evaluate.MOST_DRAWS:
        raise InputError(f"draws = {draws:,}: at most {evaluate.MOST_DRAWS:,} can be drawn")
    amounts, tables = numbers_of("levels", levels), []
    named = ["+".join(f"{part:.4g}" for part in np.atleast_1d(amount)) for amount in amounts]
    if len(set(named)) < len(named):
        raise InputError(f"levels = {levels}: two of them are the same in the four digits that tables have: leave one out")
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    test = data.load(dataset, data_root, fields.get("image_size")).test.to(usable(device))
    for amount in amounts:  # what cannot apply is said before anything is trained
        shown = data.to_unit(test.images[:500])
        noise.must_touch(perturbation, shown, amount) if amount else noise.check(perturbation, shown)
    for run in train_all(configs, device, data_root):
        table = evaluate.sweep(run.model.to(device), test.images, test.labels, perturbation, amounts, draws)
        tables.append(table.assign(method=run.config.method, seed=run.config.seed))
    rows = pd.concat(tables).assign(
        level=lambda table: table.level.map(lambda level: "+".join(f"{part:.4g}" for part in np.atleast_1d(level)))
    )
    means = rows.groupby(["method", "level", "seed"], sort=False).accuracy.mean().groupby(["method", "level"], sort=False)
    cells = means.apply(lambda own: cell(*evaluate.seed_interval(own)) if len(own) > 1 else f"{100 * own.iloc[0]:.1f}")
    over = ", mean [95 % interval] over seeds" * (len({config.seed for config in configs}) > 1)
    typer.echo(f"accuracy in per cent{over}, by level of {perturbation}:")
    typer.echo(cells.unstack(sort=False).to_string())
    if out:
        files.write(out, rows.to_csv(index=False).encode())
        typer.echo(f"wrote {out}")


@app.command()
@with_config_fields
def study(
    dataset: Dataset = "digits", preset: Preset = None,
    methods: Methods = "all", seeds: Seeds = "0-4", device: Device = "cpu", budget: Budget = None,
    jobs: Annotated[int, typer.Option(help="processes (default: one for each core, one on cuda)")] = 0,
    backend: Backend = "processes", address: Address = None,
    out: Annotated[Path | None, typer.Option(help="folder to write to (default: data/cache/study)")] = None,
    skip_bad: SkipBad = None, **fields,
):  # fmt: skip
    """Train every method on several seeds, run the notebooks, write figures and one report.html.

    Of one's own data the noise level is suggested by the data, and fields of Config are settled for it; other data takes its preset.

    Example: python -m penultimate study --dataset cifar10 --preset small --device cuda
    Example: python -m penultimate study --dataset path/to/folder --image-size 48 --no-flip
    """
    from ..jobs import train_all
    from ..records import same_images
    from ..study import suggest
    from ..support import own
    from ..train import OutOfTime
    from . import report

    asked, spent, started = seeds_of(seeds), seconds_of(budget), time.monotonic()
    if not {"normal", "both", "proposed"} <= set(methods_of(methods)):
        raise InputError(f"methods {methods!r}: a study compares at least normal, both and proposed; train takes any of them")
    if skip_bad is not None:
        _for_own_pictures(dataset)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or (cores if device == "cpu" and backend == "processes" else 1)
    train_all([], device, jobs=jobs, backend=backend, address=address)  # what cannot be is said before anything is settled
    if data.is_own(dataset):
        where = dict(budget=spent, backend=backend, address=address)
        try:
            settled = suggest.settle(dataset, preset, device, skip_bad=skip_bad, training=where, **fields)
        except OutOfTime:
            raise typer.Exit(0) from None  # train_all has said that the pilot run is left
        typer.echo(f"{own.describe(data.load(dataset))}\n{suggest.said(settled)}")
        if not settled["suggested"]:
            typer.echo(f"to have it suggested by the data instead, delete {own.home(dataset, data.CACHE) / 'settings.json'}")
    elif fields:
        raise InputError(f"a study of {dataset} takes its preset as it is: leave out {', '.join(fields)}, or use train, which takes them")
    configs, left = grid(methods_of(methods), asked, dataset=dataset, preset=preset), None
    same_images((out or data.CACHE / "study") / "records", configs[0], configs[0].preset)
    if spent is not None:
        left = max(0.0, spent - (time.monotonic() - started))
    runs = train_all(configs, device, budget=left, jobs=jobs, backend=backend, address=address)
    if len(runs) < len(configs):
        raise typer.Exit(0)  # the budget is used up, and train_all has said what is left
    written = report.study(runs, out or data.CACHE / "study", device)
    typer.echo(f"wrote {written}")


@app.command("report")
def report_command(
    records: Annotated[Path | None, typer.Option(help="folder of records (default: the committed data/records)")] = None,
    dataset: Dataset = "digits", preset: Preset = None,
    out: Annotated[Path | None, typer.Option(help="the page to write (default: data/cache/report.html)")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="renew README, RESULTS and figures/ from the committed records")] = False,
    notebooks: Annotated[bool, typer.Option("--notebooks", help="execute the committed notebooks in place")] = False,
):  # fmt: skip
    """One self-contained page from records, nothing trained.

    Example: python -m penultimate report --dataset digits
    """
    from . import execution, report

    dataset = located(dataset)
    if records and (records / "records").is_dir():  # the folder that a study writes
        records = records / "records"
    if (publish or notebooks) and (records or out or preset or dataset != "digits" or publish and notebooks):
        raise InputError("--publish and --notebooks renew what is committed: give each alone, without another option")
    if publish:
        report.publish()
    elif notebooks:
        execution.renew()
    else:
        out = out or data.CACHE / "report.html"
        report.page(out, records, dataset, Config(dataset=dataset, preset=preset).preset)
        typer.echo(f"wrote {out}")


def _for_own_pictures(dataset: str) -> None:
    if not data.is_own(dataset):
        raise InputError(f"skip_bad is for one's own pictures: leave it out with {dataset}")


def _terminated(number, frame) -> None:
    """A cluster takes its machine back: stop as at Ctrl-C. (os.write: a print may be what was interrupted.)"""
    os.write(2, b"terminated: finished runs and epochs are kept; call again to go on\n")
    signal.signal(number, lambda *given: sys.exit(128 + number))  # the line is said once
    raise SystemExit(128 + number)


def _send_again(number: int, thread: int) -> None:
    """Send the signal once `thread` has left `_lost`: what it raises in there is lost as well."""
    inside = True
    while inside:
        time.sleep(0.05)
        inside = any(frame.f_code is _lost.__code__ for frame, _ in traceback.walk_stack(sys._current_frames()[thread]))
    os.kill(os.getpid(), number)


def _lost(unraisable) -> None:
    """What a signal raises while an object is being finalised is lost to the program: send the signal again in a moment."""
    sent = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(unraisable.exc_type)
    if sent:
        threading.Thread(target=_send_again, args=(sent, threading.get_ident())).start()
    else:
        sys.__unraisablehook__(unraisable)


def main() -> None:
    """Run the command line; what the caller can mend is one line and exit code 1, Ctrl-C is 130, SIGTERM is one line and 143."""
    if threading.current_thread() is threading.main_thread():  # only the main thread may set a signal
        signal.signal(signal.SIGTERM, _terminated)
        sys.unraisablehook = _lost
    try:
        app()
    except (InputError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


from . import cli_adversary, cli_bench, cli_curvature, cli_experiments, cli_replay, cli_replicate, cli_transfer  # noqa: E402, F401  they add their commands to `app`
