"""What commands measure of stored runs (curvature, transfer, adversary): one JSON a run, <folder>/<dataset>-<preset>/<name>.json."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from .. import InputError, data
from ..data import short
from ..methods import METHODS
from ..records import COMMITTED
from ..runs import Config, Run
from ..support import files
from . import checks

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
    """Where under a folder the record of a configuration belongs.

    >>> path_of(Config(), Path("found")).as_posix() == f"found/digits-digits/{Config().name}.json"
    True
    """
    return folder / checks.place({"name": config.name, "config": {"method": config.method}})


def read(kind: str, folder: str | Path | None, dataset: str, preset: str, apart=("noise", "method", "seed")) -> list[dict]:
    """Every record of a kind (a key of CHECKS) of a data set, ordered by the noise trained with, method and seed.

    Raises InputError where there are none, where two agree in the fields of Config `apart`: which of them counts? And where they are not
    of the same images and settings: their difference would be of these too.

    >>> first = [r for r in read("curvature", None, "digits", "digits") if r["config"]["noise"] == "gaussian"][0]
    >>> first["config"]["method"], first["config"]["seed"], len(first["images"]["kappa"]) == first["data"]["test_images"]
    ('normal', 0, True)
    >>> read("curvature", "nowhere", "digits", "digits")
    Traceback (most recent call last):
    penultimate.InputError: no curvature records of digits with preset digits: make them with python -m penultimate curvature
    """
    paths = sorted(home(kind, folder, dataset, preset).glob("*.json"))
    found = [checks.read(path, CHECKS[kind], f"{kind} record") for path in paths if path.name != SEVERITIES]
    if not found:
        raise InputError(f"no {kind} records of {dataset} with preset {preset}: make them with python -m penultimate {kind}")
    told = lambda r: ", ".join(f"{name} {r['config'][name]}" for name in apart)  # noqa: E731
    for which, same in groupby(sorted(found, key=told), told):
        if len(names := [r["name"] for r in same]) > 1:
            raise InputError(f"{len(names)} {kind} records of {which} ({', '.join(names)}): keep one in the folder")
    _alike(found, kind)
    return sorted(found, key=lambda r: (r["config"]["noise"], list(METHODS).index(r["config"]["method"]), r["config"]["seed"]))


def _alike(found: list[dict], kind: str) -> None:
    """AutoAttack is left aside: it may be added to some, and tables of it say to how many images."""
    seen = {}
    for record in found:
        data_of = {name: value for name, value in record["data"].items() if name in ("fingerprint", "test_images")}
        for where, values in (("data", data_of), ("settings", record["settings"])):
            for name, value in values.items():
                first, before = seen.setdefault((where, name), (record["name"], value))
                if json.dumps(value) != json.dumps(before) and not name.startswith("autoattack"):
                    told = f"{first} has {name} = {before}, {record['name']} {value}"
                    raise InputError(f"{kind} records of different {where} ({told}): keep those of one kind, and measure the others again")


def present(kind: str, folder: str | Path | None = None) -> list[tuple[str, str]]:
    """The studied data sets, with their presets, of which a folder has records.

    >>> present("curvature"), present("curvature", "nowhere")
    ([('digits', 'digits'), ('cifar10', 'small')], [])
    """
    return [pair for pair in PLACES.items() if any(home(kind, folder, *pair).glob("*-s*.json"))]


def missing(configs: list[Config], folder: Path, whole: Callable[[Path], bool] = Path.exists, **training) -> Iterator[tuple[Run, Path]]:
    """The run of every configuration without a whole record, trained where it must be (options of `train_all`), and where its record goes.

    Says how many records exist, and after each run how long the caller took to measure it.

    >>> import contextlib, io, tempfile
    >>> config = Config(width=4, dim=8, images=64, epochs=1)
    >>> with tempfile.TemporaryDirectory() as store, contextlib.redirect_stdout(io.StringIO()):  # its lines of progress
    ...     ((run, path),) = missing([config], Path("found"), store=Path(store))
    >>> run.config == config, path == path_of(config, Path("found"))
    (True, True)
    """
    from ..jobs import train_all

    left = [config for config in configs if not whole(path_of(config, folder))]
    _same_pictures([c for c in configs if data.is_own(c.dataset) and path_of(c, folder).exists()], folder, training.get("root"))
    print(f"{len(configs) - len(left)} of {len(configs)} records exist")
    for done, run in enumerate(train_all(left, **training), 1):
        started, path = time.perf_counter(), path_of(run.config, folder)
        yield run, path
        print(f"[{done}/{len(left)}] {path.stem}: measured in {time.perf_counter() - started:.0f} s")


def _same_pictures(configs: list[Config], folder: Path, root: Path | None) -> None:
    """Raise InputError where one's own pictures are no longer those that a record, whole or to be added to, is of."""
    now = {seen: data.load(seen[0], root, seen[1]).fingerprint for seen in {(c.dataset, c.image_size) for c in configs}}
    for config in configs:
        path, is_now = path_of(config, folder), now[config.dataset, config.image_size]
        then = files.read_json(path)["data"]["fingerprint"]
        if then != is_now:
            raise InputError(
                f"{path} was measured on other images than {config.dataset} holds now (sha256 {then[:10]}, now {is_now[:10]}): put the "
                f"former ones back, or delete {path.parent} to measure again"
            )
