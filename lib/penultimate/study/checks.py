"""JSON from outside: a file is what its readers rely on, or one line names it. A record's name says where it is written.

A check takes what the file holds and returns nothing, or raises one of the errors that `read` catches, most often ValueError.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import InputError
from ..configs import Config
from ..evaluate import unpack
from ..metrics import KINDS
from ..planes import Scene
from ..support import files

KEYS = ("dataset", "preset", "method", "seed")


def read(path: Path, check: Callable[[dict], None], what: str) -> dict:
    """A JSON file that passes a check; InputError names the file that does not.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files.write_json(Path(folder, "a.json"), {"name": "a"})
    ...     read(Path(folder, "a.json"), lambda content: content["config"], "record")
    Traceback (most recent call last):
    penultimate.InputError: ...a.json is no record (KeyError: 'config'): take it out of its folder, or make it again
    """
    content = files.read_json(path)
    try:
        check(content)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:  # whatever odd content stumbles over
        told = " ".join(f"{error}".split())[:200]
        raise InputError(f"{path} is no {what} ({type(error).__name__}: {told}): take it out of its folder, or make it again") from error
    return content


def place(record: dict) -> Path:
    """Where a record belongs under a folder: <dataset>-<preset>/<name>.json.

    >>> place({"name": "digits-digits-both-s0-1a2b", "config": {"method": "both"}}).as_posix()
    'digits-digits/digits-digits-both-s0-1a2b.json'
    >>> place({"name": "../../both-s0", "config": {"method": "both"}})
    Traceback (most recent call last):
    penultimate.InputError: '../../both-s0' is no name of a run: expected <dataset>-<preset>-both-s<seed>-<hash> of letters, digits, - and _
    """
    name, method = record["name"], record["config"]["method"]
    folder = name.rpartition(f"-{method}-")[0] if isinstance(name, str) and re.fullmatch(r"[\w-]+", name) else ""
    if not folder:
        raise InputError(f"{name!r} is no name of a run: expected <dataset>-<preset>-{method}-s<seed>-<hash> of letters, digits, - and _")
    return Path(folder) / f"{name}.json"


def run_record(record: dict) -> None:
    """What tables and figures read of a run's record (see `runs.record` and `metrics`).

    >>> from penultimate import records
    >>> record = records.read(None, "digits", "digits")[0]
    >>> run_record(record | {"history": []})
    Traceback (most recent call last):
    ValueError: expected a history and seconds
    """
    _common(record)
    sizes = record["data"]["images"]
    _require(min(sizes["train"], sizes["test"], record["data"]["exact_test"]) >= 0, "sizes of the splits")
    _require(isinstance(record["data"]["fingerprint"], str) and record["config"]["width"] > 0, "which images and how wide a network")
    _require("last" in record["metrics"], "metrics of the last epoch")
    for measured in record["metrics"].values():
        gaussian, shape = measured["gaussian"], measured["gaussian"]["correct"]["shape"]
        levels, draws, _ = shape
        _numbers(gaussian["levels"], (levels,))
        for name in gaussian.keys() & {"accuracy", "accuracy_exact", "balanced"} | {"accuracy"}:
            _numbers(gaussian[name], (levels, draws))
        unpack(gaussian["correct"])
        _require(measured["geometry"].keys() >= {"radius", "margin", "ratio", "gap"}, "the feature geometry")
        _numbers([value for value in measured["geometry"].values() if value is not None])
        for kind in KINDS.keys() & measured.keys():
            at, accuracy = measured[kind]["levels"], measured[kind]["accuracy"]
            _numbers(at, (len(accuracy), *np.shape(KINDS[kind])[1:]))
            _numbers(accuracy, (len(accuracy), len(accuracy[0])))
        if "curvature" in measured:
            images = measured["curvature"]["images"]
            _require(images > 0, "curvature of at least one image")
            for name in ("kappa", "frobenius"):
                _numbers(measured["curvature"][name], (images,))
    for row in record["history"]:
        _numbers(list(row.values()))
    _require(record["history"] and record["seconds"].keys() >= {"training"}, "a history and seconds")


def film(record: dict) -> None:
    """What pictures of training read of a film (see `films.film`).

    >>> from penultimate.records import COMMITTED
    >>> content = files.read_json(min((COMMITTED / "films" / "digits-digits").glob("*.json")))
    >>> film(content)
    >>> film(content | {"classes": [0, 1]})
    Traceback (most recent call last):
    ValueError: expected three classes
    """
    config, frames = record["config"], record["frames"]
    _of_known(config)
    _numbers([config["delta_v"], config["delta_d"], record["images"]])
    _require(len(record["classes"]) == 3 and all(type(c) is int for c in record["classes"]), "three classes")
    _require(len(frames) == len(record["epochs"]) > 0 and all(type(e) is int for e in record["epochs"]), "a frame for every epoch")
    for name in ("compact", "noisy", "margin", "accuracy", "accuracy_noisy"):
        _numbers(record["terms"][name], (len(frames),))
    for frame in frames:
        points, rows = len(frame["points"]), len(frame["weight"])
        shapes = ((points, 2), (points, 2), (points,), (3, 2), (rows, 2), (rows,), (3,), (3, 3))
        _require(frame.keys() == set(Scene._fields), "the parts of a scene")
        for name, shape in zip(Scene._fields, shapes, strict=True):
            _numbers(frame[name], shape)
        for name, size in (("labels", 3), ("chosen", rows)):
            _require(all(type(index) is int and 0 <= index < size for index in frame[name]), f"{name} from 0 to {size - 1}")


def broken_record(record: dict) -> None:
    """What is read of the record of a run that broke off (see `replication`).

    >>> record = {"name": "a run", "config": Config().__dict__, "reason": "the loss is not finite"}
    >>> broken_record(record)
    >>> broken_record(record | {"reason": None})
    Traceback (most recent call last):
    ValueError: expected name and reason
    """
    _of_known(record["config"])
    _require(all(isinstance(record[name], str) for name in ("name", "reason")), "name and reason")


def curvature_record(record: dict) -> None:
    """What tables read of a curvature record (see `curvature_records`).

    >>> from penultimate.records import COMMITTED
    >>> record = files.read_json(min((COMMITTED / "curvature" / "digits-digits").glob("*-s0-*.json")))
    >>> curvature_record(record)
    >>> curvature_record(record | {"network": record["network"] | {"w_max": float("inf")}})
    Traceback (most recent call last):
    ValueError: expected finite numbers
    """
    _common(record)
    _numbers([record["network"][name] for name in ("temperature", "confidence", "w_max", "accuracy")])
    _numbers([record["settings"][name] for name in ("step", "probes", "sigma", "draws", "matched_confidence", "eta_sigma")])
    names = {"kappa", "frobenius", "kappa_matched", "frobenius_matched", "margin", "slope", "eta", "correct"}
    for name in names | record["images"].keys():  # those of the softplus twin only where its Hessian is exact
        _numbers(record["images"][name], (len(record["images"]["kappa"]),))
    _require(record["images"]["kappa"] and record["data"]["test_images"] == len(record["images"]["kappa"]), "numbers of every test image")


def transfer_record(record: dict) -> None:
    """What tables read of a transfer record (see `transfer`).

    >>> from penultimate.records import COMMITTED
    >>> record = files.read_json(min((COMMITTED / "transfer" / "digits-digits").glob("*-s0-*.json")))
    >>> transfer_record(record)
    >>> transfer_record(record | {"data": record["data"] | {"test_images": 3}})
    Traceback (most recent call last):
    ValueError: expected the correctness of every clean image
    """
    _common(record)
    images = record["data"]["test_images"]
    _require(unpack(record["clean"]).shape == (images,), "the correctness of every clean image")
    _numbers([record["settings"][name] for name in ("draws", "sigma", "bins")], (3,))
    for measured in record["perturbations"].values():
        levels, draws = len(measured["levels"]), len(measured["accuracy"][0])
        _numbers(measured["accuracy"], (levels, draws))
        _require(unpack(measured["correct"]).shape == (levels, draws, images), "the correctness of every image")
    for table in (record["calibration"]["clean"], record["calibration"]["noisy"]):
        for name in ("count", "confidence", "correct"):
            _numbers(table[name], (record["settings"]["bins"],))


def replay(record: dict) -> None:
    """What is read of a run that was trained again (see `replays`).

    >>> record = {"name": "a run", "config": Config().__dict__, "environment": {}, "history": [{"epoch": 1, "total": 2.5}]}
    >>> replay(record)
    >>> replay(record | {"history": []})
    Traceback (most recent call last):
    ValueError: expected name, environment and history
    """
    _of_known(record["config"])
    whole = isinstance(record["name"], str) and isinstance(record["environment"], dict) and record["history"]
    _require(whole, "name, environment and history")
    for row in record["history"]:
        _numbers(list(row.values()))


def severities(content: dict) -> None:
    """What transfer records rest on (see `transfer.severities`).

    >>> matched = dict(sigma=0.3, gaussian=0.7, salt_pepper=0.2, share=0.7)
    >>> rows = {"occlusion+gaussian": [dict(target=0.9, share=0.89, level=[0.125, 0.2])]}
    >>> severities(dict(dataset="digits", seeds=[0], clean=0.99, images=135, matched=matched, perturbations=rows))
    >>> severities(dict(dataset="digits", seeds=[]))
    Traceback (most recent call last):
    ValueError: expected a data set and seeds
    """
    _require(isinstance(content["dataset"], str) and content["seeds"], "a data set and seeds")
    _numbers([content["clean"], content["images"], *(content["matched"][name] for name in ("sigma", "gaussian", "salt_pepper", "share"))])
    for rows in content["perturbations"].values():
        _numbers([value for row in rows for value in (row["target"], row["share"], *np.atleast_1d(row["level"]))])


def adversary_record(record: dict) -> None:
    """What tables read of an adversary record (see `adversary`).

    >>> from penultimate.records import COMMITTED
    >>> record = files.read_json(min((COMMITTED / "adversary" / "digits-digits").glob("*-s0-*.json")))
    >>> adversary_record(record)
    >>> adversary_record(record | {"settings": record["settings"] | {"middle": {"linf": 0.5, "l2": 0.5}}})
    Traceback (most recent call last):
    ValueError: expected the middle among the budgets
    """
    _common(record)
    settings, images = record["settings"], record["data"]["test_images"]
    _require(unpack(record["clean"]).shape == (images,) and images <= record["data"]["test_total"], "a bit for every test image")
    for norm in ("linf", "l2"):
        _numbers([settings["middle"][norm], *settings["budgets"][norm]])
        _require(settings["middle"][norm] in settings["budgets"][norm], "the middle among the budgets")
        _require(unpack(record["apgd"][norm]).shape == (len(settings["budgets"][norm]), images), "bits for every budget and image")
    _require(all(unpack(bits).shape == (settings["autoattack_images"],) for bits in record["autoattack"].values()), "bits of AutoAttack")
    _require(len(record["checks"]["by_steps"]) > 1, "at least two numbers of steps")
    _numbers([record["checks"]["large"], record["checks"]["direct"], *record["checks"]["by_steps"].values()])
    _numbers(
        [*record["checks"]["transferred"].values(), *map(float, record["certified"]), settings["n0"], settings["n"], settings["alpha"]]
    )
    for found in record["certified"].values():
        _numbers(found["radius"], (settings["certified_images"],))
        _require(unpack(found["right"]).shape == unpack(found["abstains"]).shape == (settings["certified_images"],), "bits of certificates")


def _common(record: dict) -> None:
    _of_known(record["config"])
    place(record)
    _require(isinstance(record["config"]["noise"], str), "a kind of noise")
    _require(isinstance(record["data"]["provenance"], str), "where the data come from")
    _require(all(isinstance(record["environment"][name], str) for name in ("device", "torch")), "the environment")
    _numbers([record["environment"]["threads"]], (1,))


def _of_known(config: dict) -> None:
    Config(**{key: config[key] for key in KEYS})
    _require(isinstance(config["preset"], str), "a preset")


def _numbers(values, shape: tuple[int, ...] | None = None) -> None:
    found = np.array(values)
    wanted = found.dtype.kind in "if" and np.isfinite(found).all() if found.size else True
    _require(wanted and shape in (None, found.shape), f"finite numbers{f' of shape {shape}' if shape else ''}")


def _require(true, what: str) -> None:
    if not true:
        raise ValueError(f"expected {what}")
