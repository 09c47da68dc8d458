"""Every reader over damaged and odd input: each case ends in a result, or in one line that names the file and the mend."""

import contextlib
import copy
import io
import json
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from typer.testing import CliRunner

from penultimate import InputError, checkpoints, data, evaluate, jobs, noise, records
from penultimate.commands import cli
from penultimate.runs import Config, Run, load_or_train
from penultimate.study import curvature_rules, films, lookup
from penultimate.support import files, own
from penultimate.support.devices import usable
from penultimate.train import Trainer

from . import Row, folders, row, runs

SECONDS = 20  # of one case: longer is a hang
ODD = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    10**30,
    "",
    "x",
    "../../x",
    "/etc/x",
    "!!python/object:os.system",
    [],
    {},
    [[1], [2, 3]],
    {"a": []},
]
WORDS = ["", "0", "-1", "1e999", "nan", "0-99999999999", "9" * 30, "8/0", "1+2+", "a,b", ",", "../x", "/", "\u2014", "a b.npz", "\x00",
         "0.5", "٣", "all", "normal", "2-1", "1.5h", "$(touch pwned)", "'; touch pwned",
         "!!python/object/apply:os.system [x]", "{}", "inf,0", "3.5", "100000000000"]  # fmt: skip


class Reader(NamedTuple):
    """make(rng): one odd input; read(input): a result or InputError; named: what its line must hold."""

    make: Callable[[random.Random], object]
    read: Callable[[object], object]
    named: str = ""


def bent(content: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, doubled: bytes as a broken disk or download leaves them."""
    content, at = bytearray(content), rng.randrange(max(1, len(content)))
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(content[:at])
    if kind == 1:
        return bytes(content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:])
    if kind == 2:
        return bytes(content[:at] + content[at + rng.randrange(1, 99) :])
    if kind == 3:
        content[at : at + 16] = rng.randbytes(16)
    elif kind == 4:
        content[at : at + 64] = bytes(64)
    else:
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def odd_json(whole: dict, rng: random.Random) -> bytes:
    """One value, anywhere, lost or replaced by another; or the bytes bent."""
    if rng.random() < 0.3:
        return bent(json.dumps(whole).encode(), rng)
    changed = copy.deepcopy(whole)
    parent, key = {"": changed}, ""
    while isinstance(parent[key], (dict, list)) and len(parent[key]) and rng.random() < 0.8:
        parent = parent[key]
        key = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    if rng.random() < 0.3:
        parent.pop(key)
        changed = parent.get("", changed) if key == "" else changed
    else:
        parent[key] = rng.choice(ODD)
        changed = parent[""] if key == "" else changed
    return json.dumps(changed).encode()


def odd_npz(rng: random.Random) -> bytes:
    """An npz in Keras layout of which one array is of another type or shape, an object, lost or empty; or the bytes bent."""
    draw = np.random.default_rng(rng.randrange(2**32))
    arrays = {"x_train": draw.integers(0, 256, (40, 5, 4, 3), dtype=np.uint8), "y_train": np.arange(40) % 3,
              "x_test": draw.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8), "y_test": np.arange(6) % 3}  # fmt: skip
    bend, name = rng.random() < 0.5, rng.choice(list(arrays))
    if not bend:
        array = arrays[name]
        other = rng.choice([
            lambda: array.astype(rng.choice([np.float32, np.uint16, np.int8, bool, "S3", "U2", complex, "M8[s]"])), lambda: array[:0],
            lambda: array[: rng.randrange(len(array))], lambda: array.astype(object), lambda: array[None], lambda: array.reshape(-1),
            lambda: array[..., :0], lambda: np.array(7), lambda: np.full_like(array, rng.choice([0, 1, 200])), lambda: array[:, None],
            lambda: np.full(array.shape, rng.choice([-1, 10**9, 2**62])), lambda: np.full(array.shape, 2**64 - 1, np.uint64),
            lambda: None,
            lambda: np.zeros(len(array), [("a", "u1"), ("b", object)]), lambda: array[..., :1],
            lambda: array[:, :1] if array.ndim > 1 else None,
        ])()  # fmt: skip
        arrays = {key: value for key, value in (arrays | {name: other}).items() if value is not None}
    packed = io.BytesIO()
    rng.choice([np.savez, np.savez_compressed])(packed, **arrays)
    return bent(packed.getvalue(), rng) if bend else packed.getvalue()


def to_file(path: Path, read: Callable[[], object], content: bytes) -> object:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return read()


SETTLED = {"given": {"flip": False}, "fields": {"flip": False, "sigma": 0.1, "milestones": [1, 2]}, "skip_bad": False, "levels": [0, 0.1],
           "suggested": {"pilot": "1a", "data": "2b", "sigma": 0.1, "accuracy": {"clean": 0.9, "0.1": 0.8}}}  # fmt: skip


def quietly(read: Callable[[object], object]) -> Callable[[object], object]:
    """The same without what it says of files that are passed over."""

    def reading(given):
        with contextlib.redirect_stderr(io.StringIO()):
            return read(given)

    return reading


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader of the library, over tiny inputs."""
    asked = runs.config(folder, 0)
    run, splits = load_or_train(asked, store=folder / "whole"), data.load(asked.dataset)
    stored = run.folder / "weights.safetensors"
    trainer = Trainer(asked, splits, "cpu")
    trainer.epoch(0)
    checkpoints.save(trainer, folder / "checkpoint")
    checkpoint, weights = (folder / "checkpoint").read_bytes(), stored.read_bytes()
    unsealed = files.safetensors.torch.save(files.read_tensors(stored)[0])
    lookup.look_up(run, splits.test.images[:3])
    looked = (run.folder / "lookup" / "gaussian.safetensors").read_bytes()
    copied = Run(asked, folder / "read" / asked.name, run.record)
    committed = records.read(None, "digits")[0]
    film = json.loads(next((records.COMMITTED / "films").glob("digits-digits/*.json")).read_text())
    film |= {"frames": film["frames"][:1], "epochs": film["epochs"][:1], "terms": {name: row[:1] for name, row in film["terms"].items()}}
    curved = json.loads(next((records.COMMITTED / "curvature").glob("digits-digits/*.json")).read_text())
    curved["images"] = {name: values[:4] for name, values in curved["images"].items()}
    curved["data"]["test_images"] = 4
    at = folder / "read"

    def table(where: Path):
        found = records.read(where)
        records.collect(found, folder / "collected")
        return records.table(found), records.geometry(found), records.caption(found)

    def pictures(where: Path):
        return [films.scenes(one)[-1] for one in films.read(where).values()]

    def measured(where: Path):
        return curvature_rules.read(where).apply(lambda one: one["images"]["kappa"].mean() / one["network"]["w_max"], axis=1)

    def restored(content: bytes):
        with contextlib.redirect_stderr(io.StringIO()):
            checkpoints.restore(Trainer(asked, splits, "cpu"), at / "c")

    def settled():
        kept = own.settings("a set", at / "cache")
        assert all(0 <= level < np.inf for level in kept.get("levels") or []) and isinstance(kept.get("fields", {}), dict)

    def looked_up():
        with contextlib.redirect_stderr(io.StringIO()):
            found = lookup.look_up(copied, splits.test.images[:3])
        assert found.features.shape == (9, 3, asked.dim) and found.confidence.shape == (9, 3)

    copied.__dict__["model"] = run.model
    of_file = lambda path, read, *make: Reader(partial(*make), partial(to_file, path, read), path.name)  # noqa: E731
    bytes_of = lambda content: lambda rng: bent(content, rng)  # noqa: E731
    return {
        "npz": of_file(at / "a set é.npz", lambda: data.load(str(at / "a set é.npz")), odd_npz),
        "records": of_file(at / "one" / "set" / "r.json", lambda: table(at / "one"), odd_json, committed),
        "films": of_file(at / "films" / "digits-digits" / "f.json", lambda: pictures(at), odd_json, film),
        "curvature records": of_file(at / "two" / "digits-digits" / "k.json", lambda: measured(at / "two"), odd_json, curved),
        "weights": of_file(copied.folder / "weights.safetensors", lambda: Run(asked, copied.folder, {}).model, bytes_of(weights)),
        "weights of an older version": of_file(
            copied.folder / "weights.safetensors", lambda: Run(asked, copied.folder, {}).model, bytes_of(unsealed)
        ),
        "checkpoints": of_file(at / "c", lambda: restored(b""), bytes_of(checkpoint)),
        "lookups": of_file(copied.folder / "lookup" / "gaussian.safetensors", looked_up, bytes_of(looked)),
        "folders of pictures": Reader(
            partial(folders.folder_of, bent=bent), quietly(partial(folders.read, at / "my pictures é", at / "cache")), "my pictures é"
        ),
        "what was settled": of_file(own.home("a set", at / "cache") / "settings.json", settled, odd_json, SETTLED),
        "command line": Reader(command_line, called),
        "notebooks' parameters": Reader(parameters, with_parameters),
    }


OPTIONS = (
    "dataset",
    "preset",
    "methods",
    "seeds",
    "device",
    "budget",
    "jobs",
    "epochs",
    "lr",
    "milestones",
    "width",
    "noise",
    "bn",
    "delta-v",
)


def command_line(rng: random.Random) -> list[str]:
    """train, sweep, curvature or report with options of odd values; budget 0, so that what is right after all trains nothing."""
    words = [rng.choice(["train"] * 4 + ["report", "frain", "--help"])]
    for name in rng.sample(OPTIONS, rng.randrange(1, 4)):
        words += [f"--{name}", rng.choice(WORDS)]
    return words + (["--budget", "0s"] if words[0] == "train" and "--budget" not in words else [])


def called(words: list[str]) -> None:
    """Up to where training would begin: parsing, configurations, data."""
    before, jobs.train_all = jobs.train_all, lambda configs, device, *given, **named: list(map(usable, [device]))[:0]
    try:
        outcome = CliRunner().invoke(cli.app, words)
    finally:
        jobs.train_all = before
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert "Traceback" not in outcome.output


def parameters(rng: random.Random) -> dict:
    """What a notebook's first cell may be given: each of any type."""
    values = [*ODD, *WORDS, 0.3, 3, "gaussian", "digits", (0.1, 0.2)]
    names = ("dataset", "preset", "method", "seed", "epochs", "width", "delta_v", "noise", "level", "folder", "device", "draws")
    return {name: rng.choice(values) for name in rng.sample(names, rng.randrange(1, 4))}


def with_parameters(given: dict) -> None:
    """The calls that notebooks make with their parameters, up to where training would begin."""
    given = SimpleNamespace(**({"noise": "gaussian", "level": 0.1, "device": "cpu", "draws": 1, "folder": "", "dataset": "digits"} | given))
    fields = {name: value for name, value in vars(given).items() if name in ("preset", "method", "seed", "epochs", "width", "delta_v")}
    asked = Config(dataset=given.dataset, **fields)
    if isinstance(given.folder, str):
        with contextlib.suppress(OSError):
            records.read(given.folder or None, asked.dataset, asked.preset)
    usable(given.device)
    noise.apply(given.noise, torch.rand(2, 1, 8, 8), given.level)
    evaluate.correctness(torch.nn.Flatten(), torch.rand(2, 1, 8, 8), torch.zeros(2), given.noise, [given.level], given.draws)


class Hang(Exception):
    pass


def _hang(number, frame):
    raise Hang(f"no end after {SECONDS} s")


def fuzz(name: str, reader: Reader, count: int, seed: int = 0) -> Row:
    """So many odd inputs for one reader."""
    rng, lost, results, lines = random.Random(f"{name}{seed}"), [], 0, 0
    before = signal.signal(signal.SIGALRM, _hang)
    for case in range(count):
        given = reader.make(rng)
        signal.alarm(SECONDS)
        try:
            reader.read(given)
            results += 1
        except InputError as error:
            lines += 1
            told = str(error)
            if "\n" in told or reader.named not in told or len(told) > 1500:
                lost.append(f"{name} {case}: {told[:200]!r}")
        except Exception as error:
            lost.append(f"{name} {case}: {type(error).__name__}: {str(error)[:200]!r} of {str(given)[:200]!r}")
        finally:
            signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    return row(f"odd input: {name}", count, f"{lines} ended in one line, {results} in a result", lost)
