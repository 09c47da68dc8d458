"""Images as uint8 tensors, split once and for all: train, validation (cut from train, fixed seed), test."""

import dataclasses
import gzip
import importlib.util
import math
import os
import zipfile
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import InputError
from .support import own, vision
from .support.own import short  # noqa: F401  a name that a path has for people
from .support.pictures import LAYOUT, must_fit
from .support.splits import SPLIT_SEED, VALIDATION_SHARE, Split, Splits, stratified

HOME = Path(__file__).resolve().parents[2]  # the project's folder: committed records and figures are under it
CACHE = Path(os.environ.get("PENULTIMATE_CACHE") or HOME / "data" / "cache").resolve()  # data sets, runs, studies: never committed
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BOMB_BYTES, BOMB_RATIO = 4 * 2**30, 100  # an archive that is larger unpacked and so much larger than packed is refused
MOST_CHANNELS = 16
KERAS_LAYOUT = "x_train and x_test uint8 (N,H,W) or (N,H,W,C), y_train and y_test integers (N,)"


def load(name: str, root: str | Path | None = None, image_size: int | None = None, skip_bad: bool | None = None) -> Splits:
    """Load a data set by name (`digits`, `cifar10`, `svhn`), from a folder of class folders, or from an npz file in Keras layout.

    root is the folder that holds downloads (default: data/cache). Validation is 10 % of train, stratified,
    the same for everyone (seed 0). image_size: side in pixels to resize to; 0 = as they are, a folder's pictures at 32.
    skip_bad: leave out pictures that cannot be read. Both left out: as `settings` says, else 0 and False.
    Raises InputError for an unknown name or an unusable file.

    >>> digits = load("digits")
    >>> digits.train.images.shape, digits.train.images.dtype, len(digits.validation), len(digits.test)
    (torch.Size([1212, 1, 8, 8]), torch.uint8, 135, 450)
    """
    root, name = Path(root) if root else CACHE, str(name)
    kept = settings(name)
    side = kept.get("fields", {}).get("image_size", 0) if image_size is None else image_size
    if side < 0:
        raise InputError(f"image_size = {side} must not be negative")
    if name in READERS:
        return _resized(READERS[name](root), side)
    if name.endswith(".npz"):
        return _resized(_npz(Path(name), Path(name).stem), side)
    if os.path.isdir(name):
        return own.read(name, CACHE, side or own.SIDE, kept.get("skip_bad", False) if skip_bad is None else skip_bad)
    raise InputError(
        f"unknown dataset {name!r}: choose one of {', '.join(READERS)}, or the path of an .npz file with {KERAS_LAYOUT}, or of {LAYOUT}"
    )


def is_own(name: str) -> bool:
    """Whether a data set is the reader's own: a path, not a name.

    >>> is_own("digits"), is_own("pictures/of/mine")
    (False, True)
    """
    return name not in READERS


def settings(name: str) -> dict:
    """What was settled for one's own data set (see `suggest.settle`); {} for others and where nothing was.

    >>> settings("digits")
    {}
    """
    return own.settings(name, CACHE) if is_own(name) else {}


def _resized(splits: Splits, side: int) -> Splits:
    """Images at (side, side), bilinear with antialiasing; side 0: as they are."""
    if not side or splits.shape[1:] == (side, side):
        return splits
    must_fit(sum(len(part) for part in (splits.train, splits.validation, splits.test)), side, splits.shape[0])
    small = lambda x: F.interpolate(x.float(), (side, side), mode="bilinear", antialias=True).round().clamp(0, 255).byte()  # noqa: E731
    parts = {part: getattr(splits, part) for part in ("train", "validation", "test")}
    parts = {p: Split(torch.cat([small(x) for x in s.images.split(1000)]), s.labels, s.exact) for p, s in parts.items()}
    return dataclasses.replace(splits, **parts, provenance=f"{splits.provenance}, resized to {side}x{side}")


def _split(name, train: Split, test: Split, classes, provenance, path: Path | None = None) -> Splits:
    for part, split in (("train", train), ("test", test)):
        if not len(split):
            raise InputError(f"{path or name}: the {part} split has no images")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(classes):
            raise InputError(f"{path or name}: {part} labels run from {low} to {high}, expected 0 to {len(classes) - 1}")
    fewest, held = int(torch.bincount(train.labels, minlength=len(classes)).min()), math.ceil(VALIDATION_SHARE * len(train))
    if fewest < 2 or held < len(classes):
        raise InputError(
            f"{path or name}: {len(train)} training images of {len(classes)} classes, {fewest} in the smallest, leave none for validation: "
            f"give at least 2 for each class and {len(classes) * round(1 / VALIDATION_SHARE)} in all"
        )
    kept, held_out = stratified(train.labels.numpy(), VALIDATION_SHARE, SPLIT_SEED)
    return Splits(name, train[kept], train[held_out], test, tuple(classes), provenance)


def _tensors(images: np.ndarray, labels: np.ndarray, exact: np.ndarray | None = None) -> Split:
    """NHWC or NHW uint8 arrays -> Split."""
    images = torch.from_numpy(np.ascontiguousarray(images))
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(np.asarray(labels).reshape(-1).astype(np.int64))
    exact = torch.ones(len(labels), dtype=torch.bool) if exact is None else torch.from_numpy(exact)
    return Split(images, labels, exact)


def _digits(root: Path) -> Splits:
    scikit_learn = Path(importlib.util.find_spec("sklearn").origin).parent  # its load_digits reads this file, after a second of imports
    with gzip.open(scikit_learn / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        scans, labels = np.split(np.loadtxt(file, delimiter=","), [64], axis=1)
    images = np.rint(scans.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)  # 17 grey levels, 0 to 16
    halves = [_tensors(images[rows], labels[rows]) for rows in stratified(labels[:, 0], 0.25, SPLIT_SEED)]
    return _split("digits", *halves, tuple("0123456789"), "scikit-learn's copy of the UCI optical digits test set: 1,797 scans, 8x8")


def _cifar10(root: Path) -> Splits:
    if (root / "cifar10.npz").exists():
        return _npz(root / "cifar10.npz", "cifar10", CIFAR10_CLASSES)
    train, test = (_download("CIFAR10", root, train=part) for part in (True, False))
    return _split("cifar10", _tensors(train.data, train.targets), _tensors(test.data, test.targets), CIFAR10_CLASSES, "official archive")


def _svhn(root: Path) -> Splits:
    train, test = (_download("SVHN", root, split=part) for part in ("train", "test"))
    halves = [_tensors(part.data.transpose(0, 2, 3, 1), part.labels) for part in (train, test)]
    return _split("svhn", *halves, tuple("0123456789"), "official archive")


READERS = {"digits": _digits, "cifar10": _cifar10, "svhn": _svhn}


def _download(kind: str, root: Path, **which):
    """torchvision's own loader: it downloads where needed and verifies the checksum."""
    try:
        return getattr(vision.imported("torchvision.datasets"), kind)(root, download=True, **which)
    except (OSError, RuntimeError, HTTPException) as error:  # no network, or a file that fails its checksum
        own = {"CIFAR10": f"cifar10.npz there ({KERAS_LAYOUT})", "SVHN": "its train_32x32.mat and test_32x32.mat there"}
        raise InputError(
            f"{kind} is not in {root} and could not be downloaded ({error}): connect to the internet once or put {own[kind]}"
        ) from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, each verified by its checksum; nothing pickled is read."""
    try:
        with zipfile.ZipFile(path) as archive:  # np.load would also take a bare array
            expanded = sum(entry.file_size for entry in archive.infolist())
            if expanded > BOMB_BYTES and expanded > BOMB_RATIO * path.stat().st_size:
                raise ValueError(f"it would expand to {expanded / 2**30:.0f} GiB, more than {BOMB_RATIO} times its size")
            if damaged := archive.testzip():  # np.load stops at the end of an array: a changed shape would go unseen
                raise ValueError(f"the checksum of {damaged} is wrong")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        if others := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{others[0]} is no array")
        return arrays
    except Exception as error:  # zip, zlib and NumPy's header parser raise many kinds over odd bytes
        told = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise InputError(f"{path} is damaged or not an .npz file ({told}): write it again with {KERAS_LAYOUT}") from error


def _npz(path: Path, name: str, classes: tuple[str, ...] | None = None) -> Splits:
    """An npz file in Keras layout; boolean exact_train and exact_test mark images that are not rebuilt copies."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: expected an .npz file with {KERAS_LAYOUT}")
    arrays = _arrays(path)
    halves = []
    for part in ("train", "test"):
        try:
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        except KeyError as error:
            raise InputError(f"{path} has no {error}: expected {KERAS_LAYOUT}") from error
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(f"{path}: x_{part} is {images.dtype} {images.shape}, y_{part} is {labels.dtype}; expected {KERAS_LAYOUT}")
        if 0 in images.shape[1:] or images.ndim == 4 and images.shape[3] > MOST_CHANNELS:
            raise InputError(f"{path}: images of x_{part} are {images.shape[1:]}; expected {KERAS_LAYOUT}, C at most {MOST_CHANNELS}")
        if labels.size != len(images):
            raise InputError(f"{path}: {len(images)} images in x_{part} but {labels.size} labels in y_{part}")
        if not len(images):
            raise InputError(f"{path}: x_{part} has no images; expected {KERAS_LAYOUT}")
        exact = arrays.get(f"exact_{part}")
        if exact is not None and (exact.dtype != bool or exact.shape != (len(images),)):
            raise InputError(f"{path}: exact_{part} is {exact.dtype} {exact.shape}; expected bool ({len(images)},)")
        halves.append(_tensors(images, labels, exact))
    train, test = halves
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{path}: train images are {tuple(train.images.shape[1:])}, test images {tuple(test.images.shape[1:])}; make them the same size"
        )
    low, high = int(train.labels.min()), int(train.labels.max())
    if low == high or high >= len(train):
        raise InputError(f"{path}: y_train runs from {low} to {high}; expected classes 0, 1, ... with at least 2 images each")
    classes = classes or tuple(str(c) for c in range(high + 1))
    exact = ", ".join(
        f"{int(half.exact.sum()):,} of {len(half):,} {part} images" for half, part in zip(halves, ("train", "test"), strict=True)
    )
    rebuilt = not (train.exact.all() and test.exact.all())
    return _split(name, train, test, classes, f"{path.name}; byte-exact: {exact}, the others re-encoded" if rebuilt else path.name, path)


def to_unit(images: Tensor) -> Tensor:
    """uint8 images -> float32 in [0,1].

    >>> to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return images.float() / 255


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images (N,C,H,W), in [0,1], for normalisation.

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
    (tensor([0.5000]), tensor([0.5000]))
    """
    values = images.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in values]).double()
    share, level = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64, device=images.device) / 255
    mean = share @ level
    return mean.float(), (share @ level**2 - mean**2).sqrt().float()


def augment(images: Tensor, pad: int, flip: bool, generator: torch.Generator | None = None) -> Tensor:
    """Shift each image by up to `pad` pixels on a black ground, and mirror half of them: one gather for the batch.

    images (N,C,H,W) of any type -> the same shape and type. Source: the paper's random crop with padding and flip.

    >>> augment(torch.ones(2, 1, 4, 4), pad=0, flip=True).sum()
    tensor(32.)
    """
    if not pad and not flip:
        return images
    n, channels, height, width = images.shape
    draw = lambda high: torch.randint(0, high, (n, 1), device=images.device, generator=generator)  # noqa: E731
    rows = draw(2 * pad + 1) + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(n, width)
    if flip:
        columns = torch.where(draw(2).bool(), columns.flip(1), columns)
    columns = draw(2 * pad + 1) + columns
    padded = F.pad(images, (pad,) * 4).flatten(2)
    pixels = (rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]).flatten(1)  # one list for all channels of an image
    return padded.gather(2, pixels[:, None].expand(-1, channels, -1)).unflatten(2, (height, width))
