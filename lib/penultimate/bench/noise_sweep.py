"""A sweep over noise levels and draws against the forward passes alone."""

import torch

from .. import data
from ..evaluate import correctness
from ..model import build, predict
from .compare import Row, in_turn
from .step import random_images

IMAGES, LEVELS, DRAWS, OVERHEAD = 1000, 10, 5, 0.10


def measure() -> list[Row]:
    split = random_images(IMAGES).train
    model = build("resnet18", 8, 128, 10, torch.full((3,), 0.5), torch.full((3,), 0.25), 0).eval()
    pixels, levels = data.to_unit(split.images), [8 * (i + 1) / 255 for i in range(LEVELS)]

    def bare():
        for _ in range(LEVELS * DRAWS):
            predict(model, pixels)

    a, b, ratio = in_turn(lambda: correctness(model, split.images, split.labels, "gaussian", levels, DRAWS), bare, rounds=5)
    what, target = f"sweep, {LEVELS} levels x {DRAWS} draws x {IMAGES:,} images, width 8", f"under {OVERHEAD:.0%} more"
    return [Row(what, "the forward passes alone", "ms", 1e3 * a, 1e3 * b, ratio, target, 1 / ratio < 1 + OVERHEAD)]
