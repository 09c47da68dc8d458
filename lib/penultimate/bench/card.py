"""On a GPU: what it gives a run of `brief`: images a second, their share of the card's measured matrix rate, and what measuring takes.

In two to three minutes, most of them the compiler's, it says whether compiling is worth its time. Sizes and the device are parameters, so
that a test runs the same functions small and on the CPU.
"""

import dataclasses
import functools
import sys
import time

import torch

from .. import metrics
from ..data import Splits
from ..model import build
from ..runs import Config
from ..support.devices import placed, usable
from ..train import Trainer
from .compare import Row, in_turn
from .gpu import flops, matrix_rate
from .step import random_images

IMAGES, WIDTH, ROUNDS = 22_500, 64, 2
FASTER, SHARE, MEASURING = 1.1, 0.35, 4
VIEWS = {"normal": 1, "proposed": 2}


def trainers(method: str, splits: Splits, device: str, backend: str, **fields) -> tuple[Trainer, Trainer]:
    """Two of a method: as PyTorch has it, and compiled, on a GPU in CUDA graphs. One epoch alone is never worth that; so low a rate bears
    random labels."""
    config = Config(dataset="cifar10", preset="brief", method=method, epochs=1, lr=1e-4, train_on_all=True, **fields)
    plain, compiled = (Trainer(config, splits, device) for _ in range(2))
    compiled.compile(backend)
    started = time.perf_counter()
    compiled.epoch(0)
    print(f"card: {method}, the first epoch, which compiles: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return plain, compiled


def epochs(
    device: str = "cuda", images: int = IMAGES, width: int = WIDTH, rounds: int = ROUNDS, side: int = 8192, backend: str = "inductor",
    **fields,
) -> list[Row]:  # fmt: skip
    """Of each method of VIEWS: images a second, compiled beside not compiled, and the faster's share of the card's matrix rate."""
    splits, rate, rows = random_images(images), matrix_rate(device, side), []
    for method, views in VIEWS.items():
        plain, compiled = (functools.partial(t.epoch, 0) for t in trainers(method, splits, device, backend, width=width, **fields))
        a, b, ratio = in_turn(compiled, plain, rounds)
        what, seen = f"training of {method}, {views} view{'s' * (views > 1)} of an image, ResNet18 (width {width})", views * images
        row = Row(what, "not compiled", "images/s", seen / a, seen / b, ratio, f"{FASTER}x as fast", ratio >= FASTER)
        reached, target = seen * flops(width) / min(a, b), f"at least {SHARE:.0%} of it"
        rates, share = (reached / 1e12, rate / 1e12), reached / rate
        against = f"bf16 products of {side:,} x {side:,}"
        rows += [row, Row("the same: its matrix rate", against, "TFLOP/s", *rates, share, target, share >= SHARE)]
    return rows


def measuring(epoch: float, device: str = "cuda", images: int = 10_000, width: int = WIDTH) -> Row:
    """Measuring a run of `brief`, accuracies and curvature, beside so many seconds of an epoch."""
    config, splits = Config(dataset="cifar10", preset="brief", width=width), random_images(images)
    splits = dataclasses.replace(splits, test=splits.train)
    model = placed(build(config.network, width, config.dim, len(splits.classes), torch.zeros(3), torch.ones(3), 0), usable(device)).eval()
    started = time.perf_counter()
    metrics.measure(model, splits, config)
    between = time.perf_counter()
    metrics.curvature(model, splits, metrics.curved(config))
    ended = time.perf_counter()
    print(f"card: accuracies {between - started:.1f} s, curvature {ended - between:.1f} s", file=sys.stderr, flush=True)
    seconds, what = ended - started, f"measuring a run of brief, {images:,} test images (width {width})"
    target = f"under {MEASURING}x the time"
    return Row(what, "an epoch of proposed", "s", seconds, epoch, epoch / seconds, target, seconds < MEASURING * epoch)


def measure() -> list[Row]:
    rows = epochs()
    proposed = rows[2]
    return [*rows, measuring(VIEWS["proposed"] * 45_000 / max(proposed.ours, proposed.theirs))]
