"""How long one waits before anything happens: the import, and a run of digits from the command line with an empty and a full store."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from .compare import Row

SECONDS, ROUNDS = 1.5, 5
TRAIN = ("train", "--methods", "normal", "--epochs", "1")
# The command, which ends where its first training step asks for its views.
UNTIL_FIRST_STEP = """import sys
from penultimate import train
from penultimate.commands.cli import main
train.views = lambda *given: sys.exit()
main()"""
ARGUMENTS = {
    "import penultimate.runs": ("-c", "import torch, penultimate.runs"),
    "train, one run of digits, empty store: until its first step": ("-c", UNTIL_FIRST_STEP, *TRAIN),
    "the same, from the store: all of it": ("-m", "penultimate", *TRAIN),
}


def wall(*arguments: str, **environment: str) -> float:
    """Seconds from the start of a Python process to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - started


def measure() -> list[Row]:
    """Seconds of each command, and of `import torch` alone: medians of alternating runs, each with a store of its own."""
    what, bare = list(ARGUMENTS), []
    imported, cold, warm = ARGUMENTS.values()
    taken = {name: [] for name in what}
    with tempfile.TemporaryDirectory() as full:
        wall(*warm, PENULTIMATE_CACHE=full)  # compiles, fills the disk's cache and the store
        for _ in range(ROUNDS):
            bare.append(wall("-c", "import torch"))
            with tempfile.TemporaryDirectory() as empty:
                for name, arguments, store in zip(what, (imported, cold, warm), (empty, empty, full), strict=True):
                    taken[name].append(wall(*arguments, PENULTIMATE_CACHE=store))
    rows, base = [], statistics.median(bare)
    for name in what:
        total, extra = statistics.median(taken[name]), statistics.median(a - b for a, b in zip(taken[name], bare, strict=True))
        rows.append(Row(name, "import torch", "s", total, base, base / total, f"under {SECONDS} s more", extra < SECONDS))
    return rows
