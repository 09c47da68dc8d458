"""One training loop for every method: data on the device, no synchronisation inside an epoch, exact resume."""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.sgd import sgd  # the class SGD calls this too, but loads PyTorch's compiler: a second before every first step

from . import InputError, files
from .data import Split, Splits, augment, channel_statistics, to_unit
from .losses import DiscriminativeLoss
from .memory import keep_freed
from .methods import METHODS
from .model import Classifier, build, penultimate_features, predict
from .noise import NOISES

SCHEDULES = ("multistep", "cosine", "onecycle")
CROPS = ("shared", "independent")
KEPT_IMAGES, KEPT_EPOCHS = 2000, 16


class OutOfTime(Exception):
    """The time budget is used up; the checkpoint holds all finished epochs and the next call goes on from there."""


class Trained(NamedTuple):
    """The model after the last epoch, one history row per epoch, the best-on-test state and its epoch where asked for."""

    model: Classifier
    history: list[dict[str, float]]
    best: dict[str, Tensor]
    best_epoch: int | None


def stream(seed: int, name: str, epoch: int, device="cpu") -> torch.Generator:
    """A generator of its own for each use and epoch, so that methods share order and noise, and resuming needs no state.

    >>> stream(0, "noise", 3).initial_seed() == stream(0, "noise", 3).initial_seed() != stream(0, "order", 3).initial_seed()
    True
    """
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def usable(device: str) -> torch.device:
    """The device of that name, or InputError where this machine or this build of PyTorch has none."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used here ({told}): choose cpu, or install a build of PyTorch for it") from error
    return found


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


def kept_epochs(epochs: int) -> list[int]:
    """The epochs after which features are kept: 0 (before training), early ones densely, the last.

    >>> kept_epochs(24)
    [0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 18, 21, 24]
    """
    return sorted({round(epochs * (k / (KEPT_EPOCHS - 1)) ** 2) for k in range(KEPT_EPOCHS)})


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


class Trainer:
    """Model, loss, momenta and history of one run, and how they go to and come from a checkpoint."""

    def __init__(self, config, splits: Splits, device: str):
        self.config, self.device = config, usable(device)
        keep_freed()
        train = training_set(config, splits)
        self.batches = len(train) // config.batch + (len(train) % config.batch > 1)  # BatchNorm cannot take a last batch of one image
        if not self.batches:
            raise InputError(f"{len(train)} training image(s) make no batch: at least two are needed")
        mean, std = channel_statistics(train.images)
        std = torch.where(std > 0, std, 1.0)  # a channel that is constant in all images
        model = build(config.network, config.width, config.dim, len(splits.classes), mean, std, config.seed)
        self.model = model.to(self.device)
        names = ("delta_v", "delta_d", "compact", "noisy", "margin", "reg", "tracking")
        self.loss = DiscriminativeLoss(
            len(splits.classes), config.dim, momentum=config.mu, **{name: getattr(config, name) for name in names}
        ).to(self.device)
        self.momenta: list[Tensor | None] = [None for _ in model.parameters()]  # None: before the first step
        self.train, self.history = train.to(self.device), []
        self.watched = {} if config.train_on_all else {"validation": splits.validation.to(self.device)}
        if config.best_on_test:
            self.watched["test"] = splits.test.to(self.device)
        self.looked_at = splits.test.sample(KEPT_IMAGES).to(self.device)
        self.best, self.best_epoch = {}, None
        if self.device.type == "cuda":  # on the CPU, channels-last would be faster, but PyTorch 2.13 then corrupts memory at width 4
            self.model.to(memory_format=torch.channels_last)
            self.model.backbone.compile()

    def epoch(self, epoch: int) -> None:
        """Train one epoch and append its row to the history. Raises FloatingPointError for a loss that is not finite."""
        config, started = self.config, time.perf_counter()
        order, cropping, noise = (stream(config.seed, name, epoch, self.device) for name in ("order", "crop", "noise"))
        step_loss, names, sums, finite = METHODS[config.method], [], 0, []
        parameters = list(self.model.parameters())
        self.model.train()
        batches = torch.randperm(len(self.train), generator=order, device=self.device).split(config.batch)
        for step, rows in enumerate(batches[: self.batches]):
            lr = learning_rate(config, epoch * self.batches + step, self.batches)
            clean, noisy = views(config, self.train.images[rows], cropping, noise)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                labels, switches = self.train.labels[rows], (config.bn, config.stability, config.ce_noisy)
                terms = step_loss(self.model, clean, noisy, labels, self.loss, *switches)
            self.model.zero_grad()
            terms["total"].backward()
            largest = get_total_norm([p.grad for p in parameters], torch.inf)
            self._descend(parameters, lr)
            names, values = list(terms), torch.stack(list(terms.values())).detach().float()
            finite.append(torch.cat([values, largest[None]]).isfinite())  # looked at after the epoch: a look here would stop the device
            sums = sums + values
        self._check(epoch, torch.stack(finite), names, batches)
        row = {"epoch": epoch + 1, "lr": lr}
        row |= dict(zip(names, (sums / self.batches).tolist(), strict=True)) | self._watch()
        self.history.append(row | {"seconds": time.perf_counter() - started})

    @torch.no_grad()
    def _descend(self, parameters: list[Tensor], lr: float) -> None:
        """One step of SGD with weight decay and, where there is momentum, Nesterov's."""
        momentum, decay = self.config.momentum, self.config.weight_decay
        gradients, fixed = [p.grad for p in parameters], dict(dampening=0, nesterov=momentum > 0, maximize=False)
        sgd(parameters, gradients, self.momenta, lr=lr, momentum=momentum, weight_decay=decay, **fixed)

    def _check(self, epoch: int, finite: Tensor, names: list[str], batches: list[Tensor]) -> None:
        """Raise FloatingPointError for the first step with a term (or the gradient) that is not finite, finite (steps, terms + 1)."""
        kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "nothing was kept yet"
        mend = f"lower lr ({self.config.lr}); {kept}"
        if not finite.all():
            step = int(finite.all(1).logical_not().nonzero()[0])
            bad = [name for name, good in zip(names, finite[step].tolist(), strict=False) if not good and name != "total"]
            what = f"the loss ({', '.join(bad) or 'total'})" if not finite[step, :-1].all() else "the gradient"
            batch = f"the batch of training images {', '.join(map(str, batches[step][:5].tolist()))}, ... ({len(batches[step])} of them)"
            raise FloatingPointError(f"{self.config.name}: {what} is not finite at epoch {epoch + 1}, step {step + 1}, {batch}: {mend}")
        if not torch.stack([p.isfinite().all() for p in self.model.parameters()]).all():
            raise FloatingPointError(f"{self.config.name}: weights are not finite after epoch {epoch + 1}: {mend}")

    def features(self) -> dict[str, Tensor]:
        """clean, noisy: features (N,d) of a sample of test images, float16, for pictures of training; the head's weight and bias."""
        images = to_unit(self.looked_at.images)
        noise = NOISES[self.config.noise](images, self.config.sigma, stream(0, "watch", 0, self.device)).clamp(0, 1)
        kept = {name: penultimate_features(self.model, view).half() for name, view in (("clean", images), ("noisy", noise))}
        return kept | {"weight": self.model.head.weight, "bias": self.model.head.bias}

    def _watch(self) -> dict[str, float]:
        row = {}
        for name, split in self.watched.items():
            images = to_unit(split.images)
            noisy = NOISES[self.config.noise](images, self.config.sigma, stream(0, "watch", 0, self.device)).clamp(0, 1)
            for view, pixels in ((name, images), (f"{name}_noisy", noisy)):
                row[view] = float((predict(self.model, pixels) == split.labels).float().mean())
        if "test" in row and row["test"] > max((past["test"] for past in self.history), default=-1):
            self.best_epoch = len(self.history) + 1
            self.best = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        return row

    def state(self) -> dict[str, Tensor]:
        """Everything a later process needs to go on to the bit."""
        parts = {"model": self.model.state_dict(), "loss": self.loss.state_dict(), "best": self.best}
        parts["momentum"] = {str(i): m for i, m in enumerate(self.momenta) if m is not None}
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def save(self, path: Path) -> None:
        files.write_tensors(path, self.state(), {"history": json.dumps(self.history), "best_epoch": json.dumps(self.best_epoch)})

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; a damaged one is named in a line, and the run begins again."""
        try:
            tensors, metadata = files.read_tensors(path)
        except InputError as error:
            print(f"{self.config.name}: {str(error).partition(': delete it')[0]}; beginning again", file=sys.stderr, flush=True)
            return
        try:
            self._restore(tensors, metadata)
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise InputError(f"{path} is no checkpoint of this version of the code: delete it, and the run begins again") from error

    def _restore(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        part = lambda prefix: {name[len(prefix) :]: t.to(self.device) for name, t in tensors.items() if name.startswith(prefix)}  # noqa: E731
        self.model.load_state_dict(part("model/"))
        self.loss.load_state_dict(part("loss/"))
        momenta, parameters = part("momentum/"), list(self.model.parameters())
        for index, momentum in momenta.items():
            if momentum.shape != parameters[int(index)].shape:
                raise ValueError(f"momentum {index} is {tuple(momentum.shape)}")
            self.momenta[int(index)] = momentum
        self.best, self.best_epoch = part("best/"), json.loads(metadata["best_epoch"])
        self.history = json.loads(metadata["history"])
        if [row["epoch"] for row in self.history] != list(range(1, len(self.history) + 1)):
            raise ValueError("the history has a hole")


def train(
    config, splits: Splits, device: str = "cpu", checkpoint: Path | None = None,
    deadline: float | None = None, on_epoch: Callable[[dict], None] | None = None, kept: Path | None = None,
) -> Trained:  # fmt: skip
    """Train one configuration, from its checkpoint where there is one.

    The checkpoint is written after every epoch. deadline: a time.time() after which no further epoch is begun (OutOfTime).
    on_epoch receives each finished row of the history. kept: a folder for the features at `kept_epochs`. On the CPU the same
    configuration and thread count give the same weights to the bit, interrupted or not.
    """
    trainer = Trainer(config, splits, device)
    if checkpoint and checkpoint.exists():
        trainer.restore(checkpoint)
    keep = lambda epoch: files.write_tensors(kept / f"epoch-{epoch:04d}.safetensors", trainer.features())  # noqa: E731
    if kept and not trainer.history:
        keep(0)
    for epoch in range(len(trainer.history), config.epochs):
        if deadline and time.time() > deadline:
            raise OutOfTime(f"{epoch} of {config.epochs} epochs done")
        trainer.epoch(epoch)
        if kept and epoch + 1 in kept_epochs(config.epochs):
            keep(epoch + 1)
        if checkpoint:
            trainer.save(checkpoint)
        if on_epoch:
            on_epoch(trainer.history[-1])
    return Trained(trainer.model.eval(), trainer.history, trainer.best, trainer.best_epoch)
