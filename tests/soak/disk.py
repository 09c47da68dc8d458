"""A real disk that is full, then read-only: a small one in memory, mounted for the test (that takes root)."""

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from penultimate import InputError, data
from penultimate.runs import load_or_train
from penultimate.study import lookup

from . import Row, row, runs


def mountable() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def small_disk(where: Path, kilobytes: int) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", where], check=True, capture_output=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def remount(where: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", where], check=True, capture_output=True)


def disks(sizes: list[int], folder: Path) -> Row:
    """A run on disks of so many kilobytes: one line, then room is made and it ends as it should; then read-only, it is still read."""
    asked, told = runs.config(folder, 0), []
    whole, lost, filled = load_or_train(asked, store=folder / "whole"), [], 0
    images = data.load(asked.dataset).test.images[:5]
    expected = runs.contents(whole), lookup.look_up(whole, images)
    for size in sizes:
        with small_disk(folder / "disk", size) as disk, contextlib.redirect_stderr(io.StringIO()) as notices:
            try:
                load_or_train(asked, store=disk)
            except InputError as error:
                filled, told = filled + 1, [*told, str(error)]
                lost += [f"{size} kB: {error}"] * (str(disk) not in str(error) or "safe" not in str(error) or "\n" in str(error))
            lost += runs.unreadable(disk)
            remount(disk, "size=20m")
            load_or_train(asked, store=disk)
            remount(disk, "ro")
            run = load_or_train(asked, store=disk)
            seen = lookup.look_up(run, images)
            same = runs.contents(run) == expected[0] and all(np.array_equal(a, b) for a, b in zip(seen, expected[1], strict=True))
            lost += [f"{size} kB: differs"] * (not same) + [f"{size} kB: no notice"] * (notices.getvalue().count("not kept") != 1)
            try:
                load_or_train(runs.config(folder, 1), store=disk)
                lost.append(f"{size} kB: wrote to a read-only disk")
            except InputError as error:
                lost += [str(error)] * ("Read-only" not in str(error) or "\n" in str(error))
    return row(
        "a disk that fills, then is read-only", len(sizes), f"{filled} ended in one line, then were finished, equal to the bit", lost
    )
