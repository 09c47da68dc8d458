"""The command line: train, sweep, study, report. Every field of Config is an option of train and sweep."""

import dataclasses
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Annotated

import typer

from . import InputError
from .methods import METHODS
from .runs import PRESETS, Config, grid

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Dataset = Annotated[str, typer.Option(help="digits, cifar10, svhn, or the path of an .npz file in Keras layout")]
Preset = Annotated[str, typer.Option(help=f"one of {', '.join(PRESETS)}")]
Methods = Annotated[str, typer.Option(help=f"'all', or names joined by commas: {', '.join(METHODS)}")]
Seeds = Annotated[str, typer.Option(help="a seed, a range 0-4, or a list 0,2,5")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
DataRoot = Annotated[Path | None, typer.Option(help="folder of data sets  [default: data/cache]")]
Budget = Annotated[str | None, typer.Option(help="time to spend, as 90s, 9m or 2h; the next call goes on from there")]
Jobs = Annotated[int, typer.Option(help="processes that share the cores")]


def seeds_of(text: str) -> list[int]:
    """Seeds from text.

    >>> seeds_of("0-2,7")
    [0, 1, 2, 7]
    """
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise InputError(f"seeds {text!r}: give a seed, a range 0-4, or a list 0,2,5")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
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
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise InputError(f"budget {text!r}: give a time as 90s, 9m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def methods_of(text: str) -> list[str]:
    """Names of methods from text; Config rejects unknown ones."""
    return list(METHODS) if text == "all" else [name.strip() for name in text.split(",")]


def numbers_of(what: str, text: str) -> tuple[float, ...]:
    """Numbers from text; a quotient such as 8/255 is a number too.

    >>> numbers_of("levels", "0,0.5,51/255")
    (0.0, 0.5, 0.2)
    """
    try:
        parts = [part.partition("/") for part in text.split(",")]
        return tuple(float(over) / float(under or 1) for over, _, under in parts)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{what} {text!r}: give numbers joined by commas, such as 0,8/255,0.1") from None


def with_config_fields(command):
    """Give a command an option for every field of Config that it does not name itself; they arrive as **fields."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = typing.get_type_hints(Config)
    further = [f.name for f in dataclasses.fields(Config) if f.name not in ("dataset", "preset", "method", "seed")]
    option = typer.Option(help="[default: the preset's]", rich_help_panel="Fields of Config", show_default=False)
    kinds = {name: str if hints[name] not in (int, float, bool) else hints[name] for name in further}
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kinds[name] | None, option])
        for name in further
    ]

    def run(**given):
        fields = {name: given.pop(name) for name in further if given.get(name) is not None or given.pop(name, None)}
        if "milestones" in fields:
            fields["milestones"] = tuple(int(m) for m in numbers_of("milestones", fields["milestones"]))
        return command(**given, **fields)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in own] + added)
    run.__annotations__ = {p.name: p.annotation for p in own + added}
    return run


@app.command()
@with_config_fields
def train(
    dataset: Dataset = "digits", preset: Preset = "digits", methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None, budget: Budget = None, jobs: Jobs = 1,
    records: Annotated[Path | None, typer.Option(help="also put the finished runs' records in this folder")] = None, **fields,
):  # fmt: skip
    """Train and measure runs; those in the store are reused, interrupted ones resumed.

    Example: python -m penultimate train --methods normal,proposed --seeds 0-4 --jobs 2 --epochs 10
    """
    from .jobs import train_all
    from .records import collect

    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    runs = train_all(configs, device, data_root, budget=seconds_of(budget), jobs=jobs)
    if records:
        collect([run.record for run in runs], records)
    for run in runs:
        gaussian = run.record["metrics"]["last"]["gaussian"]
        accuracy = "  ".join(f"{100 * sum(a) / len(a):.1f}" for a in gaussian["accuracy"])
        typer.echo(f"{run.config.name:52} accuracy (%) at noise {', '.join(f'{level:.3g}' for level in gaussian['levels'])}:  {accuracy}")


@app.command()
@with_config_fields
def sweep(
    dataset: Dataset = "digits", preset: Preset = "digits", methods: Methods = "all", seeds: Seeds = "0", device: Device = "cpu",
    data_root: DataRoot = None,
    perturbation: Annotated[str, typer.Option(help="gaussian, uniform, laplace, salt_pepper, occlusion, low_resolution")] = "gaussian",
    levels: Annotated[str, typer.Option(help="levels in the perturbation's units, joined by commas; 8/255 is a number")] = "0,0.1,0.2,0.3",
    draws: Annotated[int, typer.Option(help="draws of the noise")] = 5,
    out: Annotated[Path | None, typer.Option(help="also write the table (one row a draw) to this .csv")] = None, **fields,
):  # fmt: skip
    """Accuracy of runs under any perturbation; runs that are not in the store are trained first.

    Example: python -m penultimate sweep --methods normal,proposed --perturbation occlusion --levels 0,0.125,0.25
    """
    import pandas as pd

    from . import data, evaluate, files
    from .jobs import train_all

    amounts, tables = numbers_of("levels", levels), []
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset, **fields)
    test = data.load(dataset, data_root).test.to(device)
    for run in train_all(configs, device, data_root):
        table = evaluate.sweep(run.model.to(device), test.images, test.labels, perturbation, amounts, draws)
        tables.append(table.assign(method=run.config.method, seed=run.config.seed))
    rows = pd.concat(tables)
    typer.echo(rows.pivot_table(index="method", columns="level", values="accuracy", sort=False).mul(100).round(1).to_string())
    if out:
        files.write(out, rows.to_csv(index=False).encode())
        typer.echo(f"wrote {out}")


@app.command()
def study(
    dataset: Dataset = "digits", preset: Annotated[str | None, typer.Option(help="[default: digits for digits, small for others]")] = None,
    methods: Methods = "all", seeds: Seeds = "0-4", device: Device = "cpu", data_root: DataRoot = None, budget: Budget = None,
    jobs: Annotated[int, typer.Option(help="processes  [default: one for each core, one on cuda]")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder to write to  [default: data/cache/study]")] = None,
):  # fmt: skip
    """Train every method on several seeds, run the notebooks, write figures and one report.html.

    Example: python -m penultimate study --dataset cifar10 --preset small --device cuda
    """
    import os

    from . import data, report
    from .jobs import train_all

    preset = preset or ("digits" if dataset == "digits" else "small")
    jobs = jobs or (1 if device != "cpu" else os.cpu_count() or 1)
    configs = grid(methods_of(methods), seeds_of(seeds), dataset=dataset, preset=preset)
    runs = train_all(configs, device, data_root, budget=seconds_of(budget), jobs=jobs)
    if len(runs) < len(configs):
        raise typer.Exit(0)  # the budget is used up, and train_all has said what is left
    written = report.study(runs, out or data.CACHE / "study")
    typer.echo(f"wrote {written}")


@app.command("report")
def report_command(
    records: Annotated[Path | None, typer.Option(help="folder of records  [default: the committed data/records]")] = None,
    dataset: Dataset = "digits", preset: Preset = "digits",
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("report.html"),
    publish: Annotated[bool, typer.Option("--publish", help="renew README's tables and figures/ from the committed records")] = False,
):  # fmt: skip
    """One self-contained page from records, nothing trained.

    Example: python -m penultimate report --out report.html
    """
    from . import report

    if publish:
        report.publish()
    else:
        report.page(out, records, dataset, preset)
        typer.echo(f"wrote {out}")


def main() -> None:
    """Run the command line; what the caller can mend is one line and exit code 1, Ctrl-C is 130."""
    try:
        app()
    except (InputError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
