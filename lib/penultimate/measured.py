"""What commands measure of stored runs (curvature, transfer, adversary): one JSON a run, <folder>/<dataset>-<preset>/<name>.json."""

from itertools import groupby
from pathlib import Path

from . import InputError, checks
from .data import short
from .methods import METHODS
from .records import COMMITTED
from .runs import Config

PLACES = {"digits": "digits", "cifar10": "small"}  # data set -> the preset with which it is studied
SEVERITIES = "severities.json"  # what transfer records rest on stands beside them
CHECKS = {"curvature": checks.curvature_record, "transfer": checks.transfer_record, "adversary": checks.adversary_record}


def home(kind: str, folder: str | Path | None, dataset: str, preset: str) -> Path:
    """Where the records of a data set stand; folder: left out, the committed ones, which `records.read` leaves alone as they lie deeper.

    >>> home("curvature", "found", "/some/where/my pictures", "small").as_posix()
    'found/my_pictures-small'
    """
    return Path(folder or COMMITTED / kind) / f"{short(dataset)}-{preset}"


def path_of(config: Config, folder: Path) -> Path:
    """Where under a folder the record of a configuration belongs."""
    return folder / checks.place({"name": config.name, "config": {"method": config.method}})


def read(
    kind: str, folder: str | Path | None, dataset: str, preset: str, apart: tuple[str, ...] = ("noise", "method", "seed")
) -> list[dict]:
    """Every record of a kind (a key of CHECKS) of a data set, ordered by the noise trained with, method and seed.

    Raises InputError where there are none, and where two agree in the fields of Config `apart`: which of them counts?
    """
    paths = sorted(home(kind, folder, dataset, preset).glob("*.json"))
    found = [checks.read(path, CHECKS[kind], f"{kind} record") for path in paths if path.name != SEVERITIES]
    if not found:
        raise InputError(f"no {kind} records of {dataset} with preset {preset}: make them with python -m penultimate {kind}")
    told = lambda r: ", ".join(f"{name} {r['config'][name]}" for name in apart)  # noqa: E731
    for which, same in groupby(sorted(found, key=told), told):
        if len(names := [r["name"] for r in same]) > 1:
            raise InputError(f"{len(names)} {kind} records of {which} ({', '.join(names)}): keep one in the folder")
    return sorted(found, key=lambda r: (r["config"]["noise"], list(METHODS).index(r["config"]["method"]), r["config"]["seed"]))


def present(kind: str, folder: str | Path | None = None) -> list[tuple[str, str]]:
    """The studied data sets, with their presets, of which a folder has records."""
    return [pair for pair in PLACES.items() if any(home(kind, folder, *pair).glob("*-s*.json"))]
