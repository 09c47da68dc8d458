"""How long one waits before anything happens: the import, and a run of digits from the command line with an empty and a full store."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .compare import Row

SECONDS, ROUNDS = 1.5, 5
NAMED = {
    "import": "import penultimate.runs", "cold": "train, one run of digits, empty store, less its epoch", "warm": "the same, from the store"
}  # fmt: skip
TRAIN = ("-m", "penultimate", "train", "--methods", "normal", "--epochs", "1")


def wall(*arguments: str, **environment: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - started


def measure() -> list[Row]:
    """Seconds beyond `import torch`: of the import; of a command whose run trains one epoch, less that epoch; of the same when stored."""
    taken = {"import": [], "cold": [], "warm": []}
    wall("-c", "import torch, penultimate.runs")  # compiles, and fills the disk's cache
    bare = []
    for _ in range(ROUNDS):
        bare.append(wall("-c", "import torch"))
        taken["import"].append(wall("-c", "import torch, penultimate.runs") - bare[-1])
        with tempfile.TemporaryDirectory() as cache:
            cold = wall(*TRAIN, PENULTIMATE_CACHE=cache)
            (stored,) = Path(cache).glob("runs/*/record.json")
            trained = sum(row["seconds"] for row in json.loads(stored.read_text())["history"])
            taken["cold"].append(cold - trained - bare[-1])
            taken["warm"].append(wall(*TRAIN, PENULTIMATE_CACHE=cache) - bare[-1])
    base, rows = statistics.median(bare), []
    for key, what in NAMED.items():
        extra = statistics.median(taken[key])
        total, target = base + extra, f"under {SECONDS} s more"
        rows.append(Row(what, "import torch", "s", total, base, base / total, target, extra < SECONDS))
    return rows
