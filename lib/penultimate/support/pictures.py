"""One's own pictures: a folder of class folders -> uint8 arrays of one size, whatever the files are; what cannot be used is listed."""

import hashlib
import os
import re
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # by content, so that no other decoder is ever started
OTHERS = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".svg"}  # pictures, not read
PART = re.compile(r"(train|training|test|testing|val|valid|validation)([ _-]?(set|data|images|split))?", re.IGNORECASE)
PARTS = {"tr": "train", "te": "test", "va": "validation"}
MOST_PIXELS = 50_000_000  # more in one picture is a decompression bomb, or a picture to be made smaller first
LAYOUT = "a folder of pictures for each class (FOLDER/cat/1.png), or train/ and test/ with such folders"


class Found(NamedTuple):
    """What lies in a folder. files: relative to root; labels, parts: of each; bad: path -> why; ignored: files that are no pictures."""

    root: Path
    files: list[str]
    labels: list[int]
    parts: list[str]
    classes: tuple[str, ...]
    bad: dict[str, str]
    ignored: list[str]

    @property
    def manifest(self) -> str:
        """sha256 over the names, sizes and dates of the files: equal manifests, equal pictures."""
        digest = hashlib.sha256(repr((self.classes, sorted(self.bad))).encode("utf-8", "backslashreplace"))
        for name, part in zip(self.files, self.parts, strict=True):
            status = (self.root / name).stat()
            digest.update(os.fsencode(f"{part}/{name}/{status.st_size}/{status.st_mtime_ns}\n"))
        return digest.hexdigest()


def shown(name: str) -> str:
    """A file name as text that can be printed in a line, whatever bytes it is made of.

    >>> shown("Stra\\u0308\\u00dfe"), shown("a\\udcff"), shown("a\\nb")
    ('Sträße', 'a\\\\udcff', 'a\\\\nb')
    """
    text = unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def find(root: str | Path) -> Found:
    """The pictures under a folder, in the order of their names: class folders, or train/ and test/ (and validation/) that hold them.

    Hidden files are passed over. A link that leads out of the folder is not followed but listed as bad, as are folders that cannot be
    read and pictures in formats that are not read.
    Raises InputError where there is no folder, no class folder, train without test, or where the two do not have the same classes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("dog/2.png", "cat/1.png", "cat/notes.txt"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Path(folder, name).touch()
    ...     found = find(folder)
    >>> found.classes, found.files, found.labels, found.ignored
    (('cat', 'dog'), ['cat/1.png', 'dog/2.png'], [0, 1], ['cat/notes.txt'])
    """
    root = Path(root).resolve()
    if not root.is_dir():
        raise InputError(f"{shown(str(root))} is not a folder: expected {LAYOUT}")
    at_top, bad, ignored = _folders(root, root)
    parts = {PARTS[name[:2].lower()]: name for name in at_top if PART.fullmatch(name)}
    if "train" in parts and "test" not in parts and "validation" in parts:  # train/ and val/ alone: val is what is tested on
        parts["test"] = parts.pop("validation")
    if not {"train", "test"} <= set(parts):
        if at_top and all(PART.fullmatch(name) for name in at_top):  # "train" among others may be a class
            raise InputError(f"{shown(str(root))} holds {', '.join(map(shown, at_top))} and nothing to go with them: expected {LAYOUT}")
        parts = {"all": ""}
    else:
        ignored += [f"{name}{os.sep}" for name in at_top if name not in parts.values()]
    held = {}
    for part, name in parts.items():
        folders, more_bad, more_ignored = _folders(root / name, root) if name else (at_top, {}, [])
        bad, ignored = bad | more_bad, ignored + more_ignored
        for folder in folders:
            files, more_bad, more_ignored = _files(root / name / folder, root)
            bad, ignored = bad | more_bad, ignored + more_ignored
            if files or more_bad:
                held.setdefault(part, {}).setdefault(shown(folder), []).extend(files)
        if name and part not in held:
            raise InputError(f"{shown(str(root / name))} holds no class folder with pictures: expected {LAYOUT}")
    classes = tuple(sorted(held.get("train", held.get("all", {}))))
    if len(classes) < 2:
        raise InputError(f"{shown(str(root))} holds {len(classes)} class folder(s) with pictures, needed are two: expected {LAYOUT}")
    for part, own in held.items():
        if differing := sorted(set(own) ^ set(classes)):
            raise InputError(f"{shown(str(root))}: {part}/ and train/ differ in {', '.join(differing[:5])}: give both the same classes")
    rows = [(name, classes.index(c), part) for part, own in sorted(held.items()) for c in classes for name in sorted(own[c])]
    files, labels, of = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    return Found(root, files, labels, of, classes, bad, sorted(ignored))


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root)


def _folders(folder: Path, root: Path) -> tuple[list[str], dict[str, str], list[str]]:
    """Names of the folders within a folder; links among them as bad; files beside them as ignored."""
    names, bad, ignored = [], {}, []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{shown(str(folder))} cannot be read ({error.strerror}): make it readable") from error
    for entry in entries:
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_symlink() and not os.path.isfile(entry.path):  # entry.is_file() raises where a link leads to itself
            bad[os.path.relpath(entry.path, root)] = "a link to a folder, or to nothing: put the pictures themselves there"
        elif entry.is_dir():
            names.append(entry.name)
        else:
            ignored.append(os.path.relpath(entry.path, root))
    return names, bad, ignored


def _files(folder: Path, root: Path) -> tuple[list[str], dict[str, str], list[str]]:
    files, bad, ignored = [], {}, []

    def refused(error: OSError) -> None:
        bad[os.path.relpath(error.filename, root)] = f"a folder that cannot be read ({error.strerror})"

    for here, folders, names in os.walk(folder, onerror=refused):  # does not follow links
        for name in sorted(n for n in folders if os.path.islink(os.path.join(here, n))):
            bad[os.path.relpath(os.path.join(here, name), root)] = "a link to a folder: put the pictures themselves there"
        folders[:] = sorted(n for n in folders if not n.startswith((".", "__MACOSX")))
        for name in names:
            path = Path(here, name)
            relative = os.path.relpath(path, root)
            if name.startswith("."):
                continue
            if path.suffix.lower() in OTHERS:
                bad[relative] = f"{path.suffix} is not read: save it as PNG or JPEG"
            elif path.suffix.lower() not in SUFFIXES:
                ignored.append(relative)
            elif path.is_symlink() and not path.exists():
                bad[relative] = "a link to nothing"
            elif not path.is_file():  # a pipe would be waited for
                bad[relative] = "not a file"
            elif not _inside(path, root):
                bad[relative] = "a link out of the folder: put the picture itself there"
            else:
                files.append(relative)
    return files, bad, ignored


def picture(path: Path, side: int) -> np.ndarray:
    """One picture, upright, as uint8 (side, side) if it is grey, else (side, side, 3): scaled, and cut to its middle square.

    16-bit values are divided by 257; what is transparent is seen on white; of an animation the first frame. Raises ValueError.

    >>> import io
    >>> from PIL import Image
    >>> Image.new("RGB", (40, 30), "red").save(file := io.BytesIO(), "PNG")
    >>> picture(file, 8).shape, picture(file, 8)[0, 0].tolist()
    ((8, 8, 3), [255, 0, 0])
    """
    from PIL import Image, ImageOps

    with Image.open(path, formats=FORMATS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels are more than {MOST_PIXELS:,}: make it smaller")
        opened.draft(None, (2 * side, 2 * side))  # a large JPEG is decoded at a fraction of its size
        upright = ImageOps.exif_transpose(opened)
        return np.asarray(ImageOps.fit(_eight_bit(upright), (side, side), Image.Resampling.BICUBIC))


def _eight_bit(image):
    """Any mode -> L or RGB."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bit, by itself or in 32
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError("real numbers outside of 0 to 1: save it with 8 or 16 bits")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("L" if image.mode == "LA" else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def must_fit(count: int, side: int, channels: int = 3) -> None:
    """Raise InputError where so many pictures, uint8 and (channels,side,side), are more than half of this machine's memory.

    >>> must_fit(1000, side=32)
    >>> must_fit(10**9, side=1000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    penultimate.InputError: image_size = 1000: 1,000,000,000 pictures of 1,000x1,000 take 2,793,967.7 GiB, more than half of ...
    """
    import psutil

    needed, there = count * channels * side**2, psutil.virtual_memory().total
    if needed > there / 2:
        raise InputError(
            f"image_size = {side}: {count:,} pictures of {side:,}x{side:,} take {needed / 2**30:,.1f} GiB, more than half of this "
            f"machine's {there / 2**30:.1f}: give a smaller one"
        )


def decode(found: Found, side: int) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """All pictures at once: images uint8 (M,C,side,side), rows (M,) into found.files, and those that cannot be read, path -> why.

    C = 1 where every picture is grey, else 3. Decoded in threads (Pillow leaves Python's lock while it decodes), with progress.
    """
    from tqdm.auto import tqdm

    must_fit(len(found.files), side)

    def attempt(name: str) -> np.ndarray | str:
        try:
            return picture(found.root / name, side)
        except Exception as error:  # a broken file can make a decoder raise anything
            return shown(str(error).replace(str(found.root) + os.sep, "")) or type(error).__name__

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd but readable files; bombs are listed by our own limit
        outcomes = list(tqdm(pool.map(attempt, found.files), "pictures", len(found.files), unit="picture", disable=None))
    bad = {name: outcome for name, outcome in zip(found.files, outcomes, strict=True) if isinstance(outcome, str)}
    rows = np.array([i for i, outcome in enumerate(outcomes) if not isinstance(outcome, str)], dtype=np.int64)
    colour = any(outcomes[i].ndim == 3 for i in rows)
    images = np.zeros((len(rows), 3 if colour else 1, side, side), np.uint8)
    for at, i in enumerate(rows):
        images[at] = outcomes[i].transpose(2, 0, 1) if outcomes[i].ndim == 3 else outcomes[i]  # grey fills all channels
        outcomes[i] = None
    return images, rows, bad
