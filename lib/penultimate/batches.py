"""What a step of training takes: images, their views, random streams of their own, and the learning rate."""

import hashlib
import math

import torch
from torch import Tensor

from .data import Split, Splits, augment, to_unit
from .noise import NOISES

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
    """The rate at a step (from 0), in closed form: PyTorch's MultiStepLR per epoch, CosineAnnealingLR and OneCycleLR per step."""
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
    """The images a configuration trains on: train, with validation where `train_on_all`, at most `images` of a fixed shuffle."""
    chosen = splits.train
    if config.train_on_all:
        pairs = ((getattr(chosen, f), getattr(splits.validation, f)) for f in ("images", "labels", "exact"))
        chosen = Split(*(torch.cat(pair) for pair in pairs))
    return chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))[: config.images]] if config.images else chosen


def views(config, images: Tensor, cropping: torch.Generator, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 images -> the clean and the noisy view, in [0,1]. Crops shared: the noise is the only difference."""
    clean = to_unit(augment(images, config.pad, config.flip, cropping))
    base = to_unit(augment(images, config.pad, config.flip, cropping)) if config.crops == "independent" else clean
    return clean, NOISES[config.noise](base, config.sigma, noise).clamp(0, 1)
