"""What commands share: the program they belong to, their options, and how text becomes seeds, times, methods and numbers."""

import dataclasses
import inspect
import os
import re
import typing
from pathlib import Path
from typing import Annotated

import typer

from .. import InputError, data
from ..methods import METHODS
from ..noise import NOISES
from ..runs import PRESETS, Config

HELP = "Train, measure, compare and show. Every field of Config is an option of train, sweep, study, curvature and adversary."
MOST_SEEDS = 10_000

app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Dataset = Annotated[str, typer.Option(help="digits, cifar10, svhn, an .npz file in Keras layout, or a folder of class folders of pictures")]
Preset = Annotated[str | None, typer.Option(help=f"one of {', '.join(PRESETS)} (default: digits for digits, small for others)")]
Methods = Annotated[str, typer.Option(help=f"'all', or names joined by commas: {', '.join(METHODS)}")]
Seeds = Annotated[str, typer.Option(help="a seed, a range 0-4, or a list 0,2,5")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
DataRoot = Annotated[Path | None, typer.Option(help="folder of data sets (default: data/cache)")]
Budget = Annotated[str | None, typer.Option(help="time to spend, as 90s, 9m or 2h; the next call goes on from there")]
Perturbation = Annotated[str, typer.Option(help=f"one of {', '.join(NOISES)}, or several joined by +")]
TestImages = Annotated[int, typer.Option(help="at most this many, of a fixed shuffle of the test images")]
Records = Annotated[Path | None, typer.Option(help="folder to write to (default: the command's name in data/cache)")]
Jobs = Annotated[int, typer.Option(help="processes that share the cores")]
Backend = Annotated[str, typer.Option(help="where runs are computed: processes (here), or on a ray or dask cluster, see CLUSTER.md")]
Address = Annotated[str | None, typer.Option(help="of the cluster: HOST:6379 for ray, tcp://HOST:8786 or a scheduler file for dask")]
SkipBad = Annotated[bool | None, typer.Option(help="leave out pictures that cannot be used, from now on, or make them an error again")]


def seeds_of(text: str, what: str = "seeds") -> list[int]:
    """Seeds, or what else is counted, from text.

    >>> seeds_of("0-2,7")
    [0, 1, 2, 7]
    """
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", part)
        if not match:
            raise InputError(f"{what} {text!r}: give a number, a range 0-4, or a list 0,2,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MOST_SEEDS:
            raise InputError(f"{what} {text!r}: {part.strip()} are more than {MOST_SEEDS:,}; give a shorter range")
        seeds += range(first, last + 1)
    if not seeds:
        raise InputError(f"{what} {text!r} are empty: a range goes from the smaller to the larger")
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
        return _quotient(part)

    try:
        return tuple(map(number, text.split(",")))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{what} {text!r}: give numbers joined by commas, such as 0,8/255,0.1") from None


def _quotient(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)


def number_from(name: str):
    """What reads the number that an option takes."""

    def read(text: str) -> float:
        try:
            return _quotient(text)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{name} {text!r}: give a number, such as 0.06 or 8/255") from None

    return read


def _milestones(text: str) -> tuple:
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text):
        raise InputError(f"milestones {text!r}: give epochs joined by commas, such as 60,120,160")
    return tuple(map(int, text.split(",")))


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
        reader = dict(parser=number_from(field.name), metavar="FLOAT") if kind is float else {}
        option = typer.Option(help=field.metadata["help"], rich_help_panel=panel, show_default=False, **reader)
        added.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]))

    def run(**given):
        fields = {name: given.pop(name) for name in further}
        fields = {name: value for name, value in fields.items() if value is not None}
        if "milestones" in fields:
            fields["milestones"] = _milestones(fields["milestones"])
        given["dataset"] = located(given["dataset"])
        return command(**given, **fields)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in own] + added)
    run.__annotations__ = {p.name: p.annotation for p in own + added}
    return run
