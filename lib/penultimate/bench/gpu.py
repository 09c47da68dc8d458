"""On a GPU: an epoch of `proposed` against eager PyTorch with a DataLoader, its share of the card's matrix rate, seeds trained together.

Sizes and the device are parameters, so that a test runs the same functions small and on the CPU.
"""

import contextlib
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, StackDataset
from torch.utils.flop_counter import FlopCounterMode

from ..data import Splits
from ..jobs import train_all
from ..model import build
from ..runs import Config
from ..train import Trainer
from .compare import Row, in_turn
from .loss import LoopLoss
from .pipeline import TwoViews
from .step import DIM, config, plain_optimizer, plain_step, random_images

IMAGES, WIDTH, BATCH, SMALL_BATCH, ROUNDS = 50_000, 64, 256, 64, 3
FASTER, SHARE, SMALL_SHARE = 15, 0.35, 0.60
SEEDS, SEEDS_FASTER, SEEDS_IMAGES, SEEDS_EPOCHS = 5, 2.5, 20_000, 12


def matrix_rate(device: str, side: int = 8192, rounds: int = 20) -> float:
    """FLOP/s of bf16 products of two side x side matrices of random numbers, after a warm-up."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def run(times: int) -> float:
        _wait(device)
        started = time.perf_counter()
        for _ in range(times):
            a @ b
        _wait(device)
        return time.perf_counter() - started

    run(3)
    return 2 * side**3 * rounds / run(rounds)


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def flops(width: int, images: int = 2) -> float:
    """Of one image of one view: forward and backward pass of ResNet18, its matrix products and convolutions alone."""
    model = build("resnet18", width, DIM, 10, torch.zeros(3), torch.ones(3), 0)
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(images, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / images


def plain_epoch(settings: Config, splits: Splits, device: str, workers: int) -> Callable:
    """An epoch as one would write it: a DataLoader of PIL pictures, float32 as PyTorch has it, two passes, a loop over classes."""
    pictures = StackDataset(TwoViews(splits.train.images, settings.sigma), splits.train.labels)
    pinned = torch.device(device).type == "cuda"
    loader = DataLoader(pictures, settings.batch, shuffle=True, num_workers=workers, pin_memory=pinned, persistent_workers=workers > 0)
    model = build("resnet18", settings.width, settings.dim, 10, torch.full((3,), 0.5), torch.full((3,), 0.25), 0).to(device)
    loss, optimizer = LoopLoss(), plain_optimizer(model, settings)

    def epoch():
        model.train()
        for (clean, noisy), labels in loader:
            plain_step(model, optimizer, loss, *(given.to(device, non_blocking=True) for given in (clean, noisy, labels)))

    return epoch


def epochs(
    device: str = "cuda", images: int = IMAGES, width: int = WIDTH, batch: int = BATCH, small_batch: int = SMALL_BATCH,
    rounds: int = ROUNDS, workers: int | None = None, side: int = 8192,
) -> list[Row]:  # fmt: skip
    """Rows of an epoch: beside eager PyTorch, beside the card's matrix rate, and at a small batch, there with CUDA graphs too."""
    splits, rate = random_images(images), matrix_rate(device, side)
    work = 2 * images * flops(width)  # two views
    how = lambda trainer: ", compiled, in CUDA graphs" * bool(trainer.recording)  # noqa: E731
    trainer = Trainer(config(width, batch), splits, device)
    ours = functools.partial(trainer.epoch, 0)
    plain = plain_epoch(config(width, batch), splits, device, workers if workers is not None else os.cpu_count() or 1)
    a, b, ratio = in_turn(ours, plain, rounds)
    what = f"epoch of proposed, {images:,} images x 2 views, ResNet18 (width {width}), batch {batch}{how(trainer)}"
    rows = [Row(what, "eager PyTorch, DataLoader", "s", a, b, ratio, f"{FASTER}x as fast", ratio >= FASTER)]
    target = f"at least {SHARE:.0%} of it"
    against = f"bf16 products of {side:,} x {side:,}"
    rows.append(
        Row("the same: its matrix rate", against, "TFLOP/s", work / a / 1e12, rate / 1e12, work / a / rate, target, work / a > SHARE * rate)
    )
    for compiled in (False, True) if torch.device(device).type == "cuda" else (False,):
        trainer = Trainer(config(width, small_batch, epochs=1), splits, device)  # too few steps for it to compile of itself
        if compiled:
            trainer.compile()
        small, large, ratio = in_turn(functools.partial(trainer.epoch, 0), ours, rounds)
        what, target = f"the same, batch {small_batch}{how(trainer)}: its matrix rate", f"at least {SMALL_SHARE:.0%} of it"
        rates = work / small / 1e12, work / large / 1e12
        rows.append(Row(what, f"batch {batch}", "TFLOP/s", *rates, ratio, target, ratio >= SMALL_SHARE))
    return rows


def seeds(device: str = "cuda", count: int = SEEDS, images: int = SEEDS_IMAGES, epochs: int = SEEDS_EPOCHS, width: int = 8) -> Row:
    """Runs of `proposed` as `train` makes them, measured and stored: all at once, a process each, against one after another."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        path = Path(folder) / "random.npz"
        halves = {"train": images, "test": max(images // 10, 10)}
        arrays = {f"x_{part}": rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for part, n in halves.items()}
        np.savez(path, **arrays, **{f"y_{part}": np.arange(n) % 10 for part, n in halves.items()})

        def seconds(jobs: int, epochs: int, first: int = 0) -> float:
            fields = dict(dataset=str(path), preset="small", images=0, width=width, epochs=epochs)
            started = time.perf_counter()
            train_all(
                [Config(seed=first + seed, **fields) for seed in range(count)], device, store=Path(folder) / f"jobs-{jobs}", jobs=jobs
            )
            return time.perf_counter() - started

        for jobs in (count, 1):
            seconds(jobs, 1, first=count)  # starts the processes and fills the compiler's cache
        together, in_a_row = seconds(count, epochs), seconds(1, epochs)
    what = f"{count} seeds of proposed, width {width}, {images:,} images, {epochs} epochs, together"
    ratio, target = in_a_row / together, f"{SEEDS_FASTER}x as fast"
    return Row(what, "one after another", "s", together, in_a_row, ratio, target, ratio >= SEEDS_FASTER)


def measure() -> list[Row]:
    return [*epochs(), seeds()]
