"""One's own data set: a folder of pictures, decoded once and kept, split by a fixed rule, and what has been settled for it."""

import functools
import hashlib
import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import torch

from .. import InputError
from . import files, pictures
from .splits import SPLIT_SEED, VALIDATION_SHARE, Split, Splits

SIDE = 32  # pixels, unless image_size says otherwise
TEST_SHARE = 0.2
NAMED = 5  # bad pictures that a message names; the others are in a file


def short(name: str) -> str:
    """A data set's name for people, titles and file names: of a path its last part.

    >>> short("digits"), short("/some/where/my pictures"), short("set.npz")
    ('digits', 'my_pictures', 'set')
    """
    return re.sub(r"[^\w-]+", "_", pictures.shown(Path(name).stem))[:60]


def home(name: str, cache: Path) -> Path:
    """The folder in the cache for what is known of a data set, by its path.

    >>> one, other = (home(f"/{place}/pets", Path("cache")) for place in ("here", "there"))
    >>> one.name[:5], one.parent == other.parent == Path("cache/own"), one == other
    ('pets-', True, False)
    """
    digest = hashlib.sha256(os.fsencode(Path(name).resolve())).hexdigest()[:10]
    return cache / "own" / f"{short(name)}-{digest}"


def settings(name: str, cache: Path) -> dict:
    """What was settled for a data set: fields (of Config), levels, skip_bad, and how the noise level was found; {} if nothing."""
    path = home(name, cache) / "settings.json"
    if not path.exists():
        return {}
    kept = files.read_json(path)
    try:
        _check_settings(kept)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} holds no settings of a data set ({error}): delete it, and they are settled again") from error
    return kept


def _check_settings(kept: dict) -> None:
    for name in ("fields", "given"):
        for field, value in kept.get(name, {}).items():
            plain = isinstance(value, (bool, int, float, str)) or isinstance(value, list) and all(type(v) is int for v in value)
            if not plain or isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name}: {field} = {value!r}")
    if not isinstance(kept.get("skip_bad", False), bool):
        raise ValueError(f"skip_bad = {kept['skip_bad']!r}")
    found = kept.get("suggested")
    numbers = [*(kept.get("levels") or []), *([found["sigma"], *found["accuracy"].values()] if found else [])]
    if not all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers):
        raise ValueError(f"levels and noise: {numbers}")


def settle(name: str, cache: Path, **changes) -> dict:
    """Settle something for a data set; what is not named stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as cache:
    ...     settle("pets", Path(cache), skip_bad=True)
    ...     settle("pets", Path(cache), levels=[0, 0.1])
    {'skip_bad': True}
    {'skip_bad': True, 'levels': [0, 0.1]}
    """
    kept = settings(name, cache) | changes
    files.write_json(home(name, cache) / "settings.json", kept)
    return kept


def read(name: str, cache: Path, side: int, skip_bad: bool = False) -> Splits:
    """A folder of class folders as `Splits` of side x side images.

    A test split that is not given is 20 % of each class, a validation split 10 % of what trains, at least one picture, seed 0. Decoded
    once into the cache, again when a file has changed. Raises InputError in one line for pictures that cannot be used (unless skip_bad)
    and for a class with too few.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(10):
    ...         path = Path(folder, "pets", ("cat", "dog")[number % 2], f"{number}.png")
    ...         path.parent.mkdir(parents=True, exist_ok=True)
    ...         Image.new("L", (20, 30), 25 * number).save(path)
    ...     splits = read(str(path.parents[1]), Path(folder, "cache"), side=8)
    >>> len(splits.train), len(splits.validation), len(splits.test), splits.shape, splits.classes
    (6, 2, 2, (1, 8, 8), ('cat', 'dog'))
    """
    found = pictures.find(name)
    return _read(found.root, found.manifest, home(name, cache), side, skip_bad)


@functools.lru_cache(maxsize=1)  # a grid of runs asks for the same pictures again and again
def _read(root: Path, manifest: str, kept: Path, side: int, skip_bad: bool) -> Splits:
    tensors, about = _kept(kept / f"pictures-{side}.safetensors", manifest, side) or _decode(root, manifest, kept, side)
    if about["bad"]:
        listed = [f"{name}: {why}" for name, why in about["bad"].items()]
        what = f"{len(listed)} of {len(listed) + len(tensors['labels']):,} pictures of {root.name} cannot be used"
        more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
        if not skip_bad:
            raise InputError(f"{what} ({'; '.join(listed[:NAMED])}{more}, listed in {kept / 'bad.txt'}): mend them, or give --skip-bad")
        print(f"{what} and are skipped (listed in {kept.name}/bad.txt)", file=sys.stderr)
    return _splits(root, tensors, about, side)


def _kept(path: Path, manifest: str, side: int) -> tuple[dict[str, torch.Tensor], dict] | None:
    """What `_decode` kept of these very files; None where it is not there, is of other files, or is damaged (a line says so)."""
    if not path.exists():
        return None
    try:
        tensors, metadata = files.read_tensors(path)
    except InputError as error:
        print(f"decoding the pictures again: {error}", file=sys.stderr)
        return None
    return (tensors, json.loads(metadata["about"])) if metadata.get("manifest") == manifest else None


def _decode(root: Path, manifest: str, kept: Path, side: int) -> tuple[dict[str, torch.Tensor], dict]:
    found = pictures.find(root)
    if found.ignored:
        named = ", ".join(pictures.shown(name) for name in found.ignored[:NAMED])
        print(f"{root.name}: {len(found.ignored)} entries that are no pictures are passed over ({named}, ...)", file=sys.stderr)
    images, rows, unreadable = pictures.decode(found, side)
    names = sorted({*found.parts})
    tensors = {
        "images": torch.from_numpy(images),
        "labels": torch.tensor([found.labels[i] for i in rows], dtype=torch.long),
        "parts": torch.tensor([names.index(found.parts[i]) for i in rows], dtype=torch.long),
    }
    bad = {pictures.shown(name): why for name, why in (found.bad | unreadable).items()}
    about = {"classes": found.classes, "parts": names, "bad": bad}
    files.keep(kept / f"pictures-{side}.safetensors", tensors, {"manifest": manifest, "about": json.dumps(about)})
    if bad:
        files.write(kept / "bad.txt", "".join(f"{name}: {why}\n" for name, why in bad.items()).encode())
    return tensors, about


def _splits(root: Path, tensors: dict[str, torch.Tensor], about: dict, side: int) -> Splits:
    labels, classes = tensors["labels"].numpy(), about["classes"]
    rows = {part: np.flatnonzero(tensors["parts"].numpy() == code) for code, part in enumerate(about["parts"])}
    if "all" in rows:
        _enough(root, labels[rows["all"]], classes, 3, "one each to train, to validate and to test")
        rows["train"], rows["test"] = held_out(rows["all"], labels, TEST_SHARE)
    if "validation" not in rows:
        _enough(root, labels[rows.get("train", [])], classes, 2, "to train and to validate")
        rows["train"], rows["validation"] = held_out(rows["train"], labels, VALIDATION_SHARE)
    for part in ("train", "validation", "test"):
        _enough(root, labels[rows.get(part, [])], classes, 1, f"for {part}")
    whole = Split(tensors["images"], tensors["labels"], torch.ones(len(labels), dtype=torch.bool))
    splits = [whole[torch.from_numpy(rows[part])] for part in ("train", "validation", "test")]
    given = "its own test folder" if "all" not in rows else f"test: {100 * TEST_SHARE:.0f} % of each class"
    notes = [f"{len(labels):,} pictures of {len(classes)} classes", f"resized to {side}x{side}", given]
    if about["bad"]:
        notes.append(f"{len(about['bad'])} unusable ones left out")
    return Splits(short(str(root)), *splits, tuple(classes), ", ".join(notes))


def held_out(rows: np.ndarray, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows kept and rows held out: of every class the share, rounded, at least one; by a fixed shuffle.

    >>> [part.tolist() for part in held_out(np.arange(6), np.array([0, 0, 0, 0, 1, 1]), 0.5)]
    [[1, 3, 4], [0, 2, 5]]
    """
    rng, out = np.random.default_rng(SPLIT_SEED), []
    for c in np.unique(labels[rows]):
        own = rng.permutation(rows[labels[rows] == c])
        out.extend(own[: max(1, round(share * len(own)))])
    out = np.sort(np.array(out))
    return np.setdiff1d(rows, out), out


def _enough(root: Path, labels: np.ndarray, classes: list[str], needed: int, why: str) -> None:
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
        if count < needed:
            raise InputError(
                f"class {name!r} of {root.name} has {count} usable picture(s), {needed} are needed ({why}): add some, or take the class out"
            )


def describe(splits: Splits) -> str:
    """Classes, sizes and imbalance of a data set, in two lines at most, for 2 classes as for 1,000.

    >>> split = Split(torch.zeros(5, 3, 32, 32).byte(), torch.tensor([0, 0, 0, 0, 1]), torch.ones(5).bool())
    >>> print(describe(Splits("pets", split, split, split, ("cat", "dog"), "15 pictures")))
    pets: 15 pictures; 5 train, 5 validation, 5 test
    to train: cat 4, dog 1; the largest has 4.0 times as many as the smallest: read balanced accuracy too
    """
    counts = torch.bincount(splits.train.labels, minlength=len(splits.classes))
    order = counts.argsort(descending=True, stable=True).tolist()
    named = [f"{splits.classes[c]} {int(counts[c]):,}" for c in order]
    listed = ", ".join(named if len(named) <= 8 else [*named[:3], f"... {len(named) - 6} more ...", *named[-3:]])
    ratio = float(counts.max() / counts.min())
    said = f"; the largest has {ratio:.1f} times as many as the smallest: read balanced accuracy too" if ratio >= 1.5 else ""
    sizes = f"{len(splits.train):,} train, {len(splits.validation):,} validation, {len(splits.test):,} test"
    return f"{splits.name}: {splits.provenance}; {sizes}\nto train: {listed}{said}"
