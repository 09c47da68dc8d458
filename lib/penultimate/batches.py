"""What a step of training takes: images, their views, random streams of their own, and the learning rate."""

import hashlib
import math

import torch
from torch import Tensor

from .data import Split, Splits, augment, to_unit
from .noise import NOISES
from .support.splits import shuffled

SCHEDULES = ("multistep", "cosine", "onecycle")
CROPS = ("shared", "independent")


def stream(seed: int, name: str, epoch: int, device="cpu") -> torch.Generator:
    """A generator of its own for each use and epoch, so that methods share order and noise, and resuming needs no state.

    >>> stream(0, "noise", 3).initial_seed() == stream(0, "noise", 3).initial_seed() != stream(0, "order", 3).initial_seed()
    True
    """
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def learning_rate(config, step: int, steps_per_epoch: int) -> float:
    """The rate at a step (from 0), in closed form: PyTorch's MultiStepLR per epoch, CosineAnnealingLR and OneCycleLR per step.

    >>> from penultimate.runs import Config
    >>> [round(learning_rate(Config(schedule="cosine", lr=0.1, epochs=4), step, steps_per_epoch=1), 3) for step in range(4)]
    [0.1, 0.085, 0.05, 0.015]
    """
    total = config.epochs * steps_per_epoch
    if config.schedule == "multistep":
        return config.lr * config.gamma ** sum(step // steps_per_epoch >= milestone for milestone in config.milestones)
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * step / total)) / 2
    rise, last = 0.3 * total - 1, total - 1
    start, end, share = (
        (config.lr / 25, config.lr, step / rise) if step <= rise else (config.lr, config.lr / 25e4, (step - rise) / (last - rise))
    )
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def training_set(config, splits: Splits) -> Split:
    """The images a configuration trains on: train, with validation where `train_on_all`, at most `images` of a fixed shuffle.

    >>> from penultimate.runs import Config
    >>> from penultimate.data import load
    >>> len(training_set(Config(images=100), load("digits"))), len(training_set(Config(train_on_all=True), load("digits")))
    (100, 1347)
    """
    chosen = splits.train
    if config.train_on_all:
        pairs = ((getattr(chosen, f), getattr(splits.validation, f)) for f in ("images", "labels", "exact"))
        chosen = Split(*(torch.cat(pair) for pair in pairs))
    return chosen[shuffled(len(chosen))[: config.images]] if config.images else chosen


def views(config, images: Tensor, cropping: torch.Generator, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 images -> the clean and the noisy view, in [0,1]. Crops shared: the noise is the only difference.

    >>> from penultimate.runs import Config
    >>> grey, draws = torch.full((1, 1, 200, 200), 128, dtype=torch.uint8), (stream(0, "crop", 0), stream(0, "noise", 0))
    >>> clean, noisy = views(Config(sigma=0.06, pad=0), grey, *draws)
    >>> round(float((noisy - clean).std()), 2)
    0.06
    """
    clean = to_unit(augment(images, config.pad, config.flip, cropping))
    base = to_unit(augment(images, config.pad, config.flip, cropping)) if config.crops == "independent" else clean
    return clean, NOISES[config.noise](base, config.sigma, noise).clamp(0, 1)
