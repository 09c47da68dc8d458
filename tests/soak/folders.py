"""Folders of pictures as people have them, and as a broken disk or a stranger leaves them."""

import io
import os
import random
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from penultimate import InputError
from penultimate.support import own

SIDE, EACH = 6, 4  # pixels; whole pictures in a class: one may be lost


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


def whole(rng: random.Random) -> tuple[str, bytes]:
    """A readable picture of some mode, size and format: (suffix, content)."""
    size = rng.randrange(1, 14), rng.randrange(1, 14)
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    rgba, exif = Image.fromarray(pixels), Image.Exif()
    rgb, grey, wide = rgba.convert("RGB"), rgba.convert("L"), pixels[..., 0].astype(np.uint16) * 257
    exif[0x0112] = rng.randrange(10)  # 1 to 8 turn it; the others say nothing
    return rng.choice([
        lambda: (".png", encoded(rgb, "PNG")), lambda: (".jpg", encoded(rgb, "JPEG")), lambda: (".png", encoded(rgba, "PNG")),
        lambda: (".png", encoded(grey, "PNG")), lambda: (".PNG", encoded(rgb.quantize(7), "PNG", transparency=0)),
        lambda: (".png", encoded(Image.fromarray(wide), "PNG")), lambda: (".tif", encoded(Image.fromarray(wide.astype(np.int32)), "TIFF")),
        lambda: (".tiff", encoded(Image.fromarray(pixels[..., 0].astype(np.float32) / 255), "TIFF")),
        lambda: (".gif", encoded(grey.convert("P"), "GIF", save_all=True, append_images=[grey.convert("P")])),
        lambda: (".bmp", encoded(grey.convert("1"), "BMP")), lambda: (".jpeg", encoded(rgb.convert("CMYK"), "JPEG")),
        lambda: (".webp", encoded(rgb, "WEBP")), lambda: (".ppm", encoded(rgb, "PPM")), lambda: (".jpg", encoded(rgb, "JPEG", exif=exif)),
        lambda: (".png", encoded(rgba.convert("LA"), "PNG", exif=exif)),
    ])()  # fmt: skip


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it is 60,000 pixels wide and high."""
    chunk = lambda name, content: struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))  # noqa: E731
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")


NAMES = ["a b", "ünï", "東京", "x" * 200, "new\nline", "tab\t", "\x1b[31mred", "a'\"b", "$(touch pwned)", "-rf", "%s{0}", "\udcff", "con."]


def folder_of(rng: random.Random, bent) -> dict:
    """path -> content, or what makes it: two classes of whole pictures, and up to three odd entries."""
    classes = rng.sample(["cat", "my dog", "東京", "a\nb", "Straße"], 2)
    entries = {f"{c}/{i}{suffix}": content for c in classes for i in range(EACH) for suffix, content in [whole(rng)]}
    for _ in range(rng.randrange(1, 4)):
        path, content = odd(rng, classes, bent)
        entries[path] = content
    if rng.random() < 0.2:
        entries |= {path: bent(content, rng) for path, content in list(entries.items())[:1]}
    return entries


def odd(rng: random.Random, classes: list[str], bent) -> tuple[str, object]:
    """A path, anywhere in the folder, and what is there."""
    suffix, content = whole(rng)
    at = f"{rng.choice([*classes, *classes, 'third', '.'])}/{rng.choice(NAMES)}"
    choices = [(suffix, bent(content, rng))] * 4 + [(suffix, content), (".jpg", b"not a picture"), (".png", b""), (".txt", b"notes")]
    choices += [(".png", bomb()), (".png", bent(bomb(), rng)), (".gif", b"<svg onload='x'/>"), (".png", "link out"), ("", "link to itself")]
    choices += [(".png", kind) for kind in ("link to nothing", "link to itself", "link to a folder", "folder", "pipe")]
    suffix, content = rng.choice(choices)
    return os.path.normpath(at + suffix), content


def written(root: Path, entries: dict) -> None:
    shutil.rmtree(root, ignore_errors=True)
    (root.parent / "outside.png").write_bytes(encoded(Image.new("RGB", (3, 3)), "PNG"))
    make = {
        "link out": lambda path: path.symlink_to(root.parent / "outside.png"),
        "link to nothing": lambda path: path.symlink_to("nowhere.png"),
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to a folder": lambda path: path.symlink_to(root),
        "folder": lambda path: path.mkdir(),
        "pipe": os.mkfifo,
    }
    for name, content in entries.items():
        path = root / name
        if path.is_dir() and not path.is_symlink():  # an odd name for the folder of a class that is there
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        make[content](path) if isinstance(content, str) else path.write_bytes(content)


def read(root: Path, cache: Path, entries: dict) -> None:
    """Read with and without what cannot be used. The line must name a file that is odd, or a class; what is read has the right shape."""
    written(root, entries)
    try:
        splits = own.read(str(root), cache, SIDE)
    except InputError as error:
        if "cannot be used" in str(error):
            listed = (own.home(str(root), cache) / "bad.txt").read_text().splitlines()
            ours = {own.pictures.shown(name) for name in entries}
            assert listed and all(any(line.startswith(f"{name}: ") for name in ours) for line in listed), listed
            assert listed[0] in str(error) and "mend them, or give --skip-bad" in str(error)
        try:
            splits = own.read(str(root), cache, SIDE, skip_bad=True)
        except InputError as again:
            assert "of which" in str(again) or "usable picture(s)" in str(again) or "class folder" in str(again), again
            raise
    for split in (splits.train, splits.validation, splits.test):
        assert split.images.shape[2:] == (SIDE, SIDE) and split.labels.unique().tolist() == list(range(len(splits.classes)))
