"""The command line: train, sweep, study, report. Every field of Config is an option of train and sweep."""

import dataclasses
import inspect
import os
import re
import signal
import sys
import threading
import typing
from pathlib import Path
from typing import Annotated

import typer

from . import InputError, data
from .methods import METHODS
from .noise import NOISES
from .runs import PRESETS, Config, grid

MOST_SEEDS = 10_000

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Dataset = Annotated[str, typer.Option(help="digits, cifar10, svhn, an .npz file in Keras layout, or a folder of class folders of pictures")]
Preset = Annotated[str | None, typer.Option(help=f"one of {', '.join(PRESETS)}  [default: digits for digits, small for others]")]
Methods = Annotated[str, typer.Option(help=f"'all', or names joined by commas: {', '.join(METHODS)}")]
Seeds = Annotated[str, typer.Option(help="a seed, a range 0-4, or a list 0,2,5")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
DataRoot = Annotated[Path | None, typer.Option(help="folder of data sets  [default: data/cache]")]
Budget = Annotated[str | None, typer.Option(help="time to spend, as 90s, 9m or 2h; the next call goes on from there")]
Perturbation = Annotated[str, typer.Option(help=f"one of {', '.join(NOISES)}, or several joined by +")]
Jobs = Annotated[int, typer.Option(help="processes that share the cores")]
Backend = Annotated[str, typer.Option(help="where runs are computed: processes (here), or on a ray or dask cluster, see CLUSTER.md")]
Address = Annotated[str | None, typer.Option(help="of the cluster: HOST:6379 for ray, tcp://HOST:8786 or a scheduler file for dask")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="leave out pictures that cannot be used, from now on; otherwise an error")]


def seeds_of(text: str) -> list[int]:
    """Seeds from text.

    >>> seeds_of("0-2,7")
    [0, 1, 2, 7]
    """
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", part)
        if not match:
            raise InputError(f"seeds {text!r}: give a seed, a range 0-4, or a list 0,2,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MOST_SEEDS:
            raise InputError(f"seeds {text!r}: {part.strip()} are more than {MOST_SEEDS:,} seeds; give a shorter range")
        seeds += range(first, last + 1)
    if not seeds:
        raise InputError(f"seeds {text!r} are empty: a range goes from the smaller to the larger")
    return seeds


def seconds_of(text: str | None) -> float | None:
    """A duration in seconds.

    >>> seconds_of("9m"), seconds_of("1.5h"), seconds_of("45")
    (540.0, 5400.0, 45.0)
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)([smh]?)", text)
    if not match:
        raise InputError(f"budget {text!r}: give a time as 90s, 9m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def methods_of(text: str) -> list[str]:
    """Names of methods from text; Config rejects unknown ones."""
    return list(METHODS) if text == "all" else [name.strip() for name in text.split(",")]


def numbers_of(what: str, text: str) -> tuple[float, ...]:
    """Numbers from text; a quotient such as 8/255 is a number too, and a sum is a tuple (levels of a composition).

    >>> numbers_of("levels", "0.5,51/255,0.3+0.1")
    (0.5, 0.2, (0.3, 0.1))
    """

    def number(part: str):
        if "+" in part:
            return tuple(map(number, part.split("+")))
        over, _, under = part.partition("/")
        return float(over) / float(under or 1)

    try:
        return tuple(map(number, text.split(",")))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{what} {text!r}: give numbers joined by commas, such as 0,8/255,0.1") from None


def located(dataset: str) -> str:
    """A data set's name, or its absolute path: a run is found by its configuration, from whatever folder.

    >>> located("digits"), located("set.npz") == str(Path("set.npz").resolve())
    ('digits', True)
    """
    return str(Path(dataset).resolve()) if dataset.endswith(".npz") or (os.path.isdir(dataset) and data.is_own(dataset)) else dataset


def with_config_fields(command):
    """Give a command an option for every field of Config that it does not name itself; they arrive as **fields."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = typing.get_type_hints(Config)
    further = [f.name for f in dataclasses.fields(Config) if f.name not in ("dataset", "preset", "method", "seed")]
    panel = "Fields of Config (left out: the preset's value)"
    added = []
    for field in (f for f in dataclasses.fields(Config) if f.name in further):
        kind = hints[field.name] if hints[field.name] in (int, float, bool) else str
        option = typer.Option(help=field.metadata["help"], rich_help_panel=panel, show_default=False)
        added.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]))

    def run(**given):
        fields = {name: given.pop(name) for name in further if given.get(name) is not None or given.pop(name, None)}
        if "milestones" in fields:
            fields["milestones"] = tuple(int(m) if m % 1 == 0 else m for m in numbers_of("milestones", fields["milestones"]))
        given["dataset"] = located(given["dataset"])
        return command(**given, **fields)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in own] + added)
    run.__annotations__ = {p.name: p.annotation for p in own + added}
    return run


@app.command()
@with_config_fields
def train(
    dataset: Dataset = "digits", preset: Preset = None, methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None, budget: Budget = None, jobs: Jobs = 1, backend: Backend = "processes", address: Address = None,
    records: Annotated[Path | None, typer.Option(help="also put the finished runs' records in this folder")] = None,
    skip_bad: SkipBad = False, **fields,
):  # fmt: skip
    """Train and measure runs; those in the store are reused, interrupted ones resumed.

    Example: python -m penultimate train --methods normal,proposed --seeds 0-4 --jobs 2 --epochs 10
    """
    from . import films, own
    from .jobs import train_all
    from .records import collect

    if skip_bad and data.is_own(dataset):
        own.settle(dataset, data.CACHE, skip_bad=True)
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    runs = train_all(configs, device, data_root, budget=seconds_of(budget), jobs=jobs, backend=backend, address=address)
    if records:
        collect([run.record for run in runs], records)
        films.collect(runs, records)
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

    from . import evaluate, files, noise
    from .jobs import train_all
    from .records import cell
    from .train import usable

    amounts, tables = numbers_of("levels", levels), []
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
    typer.echo(f"accuracy in per cent{', mean [95 % interval] over seeds' * (len(seeds_of(seeds)) > 1)}, by level of {perturbation}:")
    typer.echo(cells.unstack(sort=False).to_string())
    if out:
        files.write(out, rows.to_csv(index=False).encode())
        typer.echo(f"wrote {out}")


@app.command()
@with_config_fields
def study(
    dataset: Dataset = "digits", preset: Preset = None,
    methods: Methods = "all", seeds: Seeds = "0-4", device: Device = "cpu", budget: Budget = None,
    jobs: Annotated[int, typer.Option(help="processes  [default: one for each core, one on cuda]")] = 0,
    backend: Backend = "processes", address: Address = None,
    out: Annotated[Path | None, typer.Option(help="folder to write to  [default: data/cache/study]")] = None,
    skip_bad: SkipBad = False, **fields,
):  # fmt: skip
    """Train every method on several seeds, run the notebooks, write figures and one report.html.

    Of one's own data the noise level is suggested by the data, and fields of Config are settled for it; other data takes its preset.

    Example: python -m penultimate study --dataset cifar10 --preset small --device cuda
    Example: python -m penultimate study --dataset path/to/folder --image-size 48 --no-flip
    """
    from . import own, report, suggest
    from .jobs import train_all

    if not {"normal", "both", "proposed"} <= set(methods_of(methods)):
        raise InputError(f"methods {methods!r}: a study compares at least normal, both and proposed; train takes any of them")
    if data.is_own(dataset):
        settled = suggest.settle(dataset, preset, device, skip_bad=skip_bad or None, **fields)
        typer.echo(f"{own.describe(data.load(dataset))}\n{suggest.said(settled)}")
    elif fields:
        raise InputError(f"a study of {dataset} takes its preset as it is: leave out {', '.join(fields)}, or use train, which takes them")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or (cores if device == "cpu" and backend == "processes" else 1)
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset)
    runs = train_all(configs, device, budget=seconds_of(budget), jobs=jobs, backend=backend, address=address)
    if len(runs) < len(configs):
        raise typer.Exit(0)  # the budget is used up, and train_all has said what is left
    written = report.study(runs, out or data.CACHE / "study", device)
    typer.echo(f"wrote {written}")


@app.command("report")
def report_command(
    records: Annotated[Path | None, typer.Option(help="folder of records  [default: the committed data/records]")] = None,
    dataset: Dataset = "digits", preset: Preset = None,
    out: Annotated[Path | None, typer.Option(help="the page to write  [default: data/cache/report.html]")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="renew README's tables and figures/ from the committed records")] = False,
    notebooks: Annotated[bool, typer.Option("--notebooks", help="execute the committed notebooks in place")] = False,
):  # fmt: skip
    """One self-contained page from records, nothing trained.

    Example: python -m penultimate report --dataset digits
    """
    from . import report

    dataset = located(dataset)
    if publish:
        report.publish()
    elif notebooks:
        report.execute()
    else:
        out = out or data.CACHE / "report.html"
        report.page(out, records, dataset, Config(dataset=dataset, preset=preset).preset)
        typer.echo(f"wrote {out}")


def _terminated(number, frame) -> None:
    """A cluster takes its machine back: stop as at Ctrl-C. (os.write: a print may be what was interrupted.)"""
    os.write(2, b"terminated: finished runs and epochs are kept; call again to go on\n")
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line; what the caller can mend is one line and exit code 1, Ctrl-C is 130, SIGTERM is one line and 143."""
    if threading.current_thread() is threading.main_thread():  # only the main thread may set a signal
        signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except (InputError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


from . import cli_adversary, cli_bench, cli_curvature, cli_experiments, cli_transfer  # noqa: E402, F401  they add their commands to `app`
