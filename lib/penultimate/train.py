"""One training loop for every method: data on the device, no synchronisation inside an epoch, exact resume."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.sgd import sgd  # the class SGD calls this too, but loads PyTorch's compiler: a second before every first step

from . import InputError, checkpoints
from .batches import learning_rate, stream, training_set, views
from .data import Splits, channel_statistics, to_unit
from .losses import DiscriminativeLoss
from .methods import METHODS
from .model import Classifier, build, penultimate_features, predict
from .noise import NOISES
from .support import files
from .support.devices import compiles, graphs_of, placed, usable
from .support.graphs import Recording
from .support.machine import environment
from .support.memory import keep_freed

KEPT_IMAGES, KEPT_EPOCHS = 2000, 16
WORTH_COMPILING = 1000  # steps: compiling takes as long as some hundreds do


class OutOfTime(Exception):
    """The time budget is used up; the checkpoint holds all finished epochs and the next call goes on from there."""


class Trained(NamedTuple):
    """The model after the last epoch, one history row per epoch, the best-on-test state and its epoch where asked for, and where it was
    trained: `machine.environment` of every process that took part and differs from the one before it."""

    model: Classifier
    history: list[dict[str, float]]
    best: dict[str, Tensor]
    best_epoch: int | None
    environments: list[dict]


def kept_epochs(epochs: int) -> list[int]:
    """The epochs after which features are kept: 0 (before training), early ones densely, the last.

    >>> kept_epochs(24)
    [0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 18, 21, 24]
    """
    return sorted({round(epochs * (k / (KEPT_EPOCHS - 1)) ** 2) for k in range(KEPT_EPOCHS)})


class Trainer:
    """Model, loss, momenta and history of one run, and an epoch of it."""

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
        self.model = placed(model, self.device)
        names = ("delta_v", "delta_d", "compact", "noisy", "margin", "reg", "tracking")
        self.loss = DiscriminativeLoss(
            len(splits.classes), config.dim, momentum=config.mu, **{name: getattr(config, name) for name in names}
        ).to(self.device)
        self.parameters = list(self.model.parameters())
        self.momenta: list[Tensor | None] = [None for _ in self.parameters]  # None: before the first step
        self.train, self.history, self.fingerprint = train.to(self.device), [], splits.fingerprint
        self.watched = {} if config.train_on_all else {"validation": splits.validation.to(self.device)}
        if config.best_on_test:
            self.watched["test"] = splits.test.to(self.device)
        self.looked_at = splits.test.sample(KEPT_IMAGES).to(self.device)
        self.best, self.best_epoch = {}, None
        self.environments = [environment(device)]
        self.on_disk, self.next_save = 0, 0.0  # epochs that the checkpoint holds; when the next one is due
        self.as_written = nullcontext  # inside, nothing compiled is used
        self.recording = None  # of a step as a CUDA graph
        if self.device.type == "cuda" and config.epochs * self.batches >= WORTH_COMPILING and compiles(self.device):
            self.compile()

    def compile(self, backend="inductor") -> None:
        """Compile the backbone and the loss for what a training step brings, each as one graph for each size of batch; on a GPU a whole
        step up to the gradients becomes one launch.

        Not for what evaluation brings: its sizes would make the graphs general, and slower, and soon be more than PyTorch keeps.
        """
        config = self.config
        torch._dynamo.config.suppress_errors = True  # what the compiler fails at runs as it is written, and a warning says so
        graphs_of(config.network, config.width, config.dim, config.batch, self.train.images.shape, str(backend))
        self.model.backbone.compile(backend=backend, dynamic=False)
        self.loss.compile(backend=backend, dynamic=False)
        self.as_written = lambda: torch.compiler.set_stance("force_eager")
        if self.device.type == "cuda":
            self.recording = Recording(self.device)

    def epoch(self, epoch: int) -> None:
        """Train one epoch and append its row to the history. Raises FloatingPointError for a loss that is not finite."""
        config, started = self.config, time.perf_counter()
        order, cropping, noise = (stream(config.seed, name, epoch, self.device) for name in ("order", "crop", "noise"))
        names, sums, finite = [], 0, []
        self.model.train()
        batches = torch.randperm(len(self.train), generator=order, device=self.device).split(config.batch)
        for step, rows in enumerate(batches[: self.batches]):
            lr = learning_rate(config, epoch * self.batches + step, self.batches)
            batch = *views(config, self.train.images[rows], cropping, noise), self.train.labels[rows]
            terms, largest, gradients = self.recording(self._backward, *batch) if self.recording else self._backward(*batch)
            self._descend(gradients, lr)
            names, values = list(terms), torch.stack(list(terms.values())).float()
            finite.append(torch.cat([values, largest[None]]).isfinite())  # looked at after the epoch: a look here would stop the device
            sums = sums + values
        self._check(epoch, torch.stack(finite), names, batches)
        row = {"epoch": epoch + 1, "lr": lr}
        row |= dict(zip(names, (sums / self.batches).tolist(), strict=True)) | self._watch()
        self.history.append(row | {"seconds": time.perf_counter() - started})

    def _backward(self, clean: Tensor, noisy: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
        """The loss of a batch by its terms, the largest gradient, and the gradients."""
        switches = {name: getattr(self.config, name) for name in ("bn", "stability", "ce_noisy")}
        with self.loss.tracker.in_place():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                terms = METHODS[self.config.method](self.model, clean, noisy, labels, self.loss, **switches)
            self.model.zero_grad()
            terms["total"].backward()
        gradients = [p.grad for p in self.parameters]
        return {name: term.detach() for name, term in terms.items()}, get_total_norm(gradients, torch.inf), gradients

    @torch.no_grad()
    def _descend(self, gradients: list[Tensor], lr: float) -> None:
        """One step of SGD with weight decay and, where there is momentum, Nesterov's."""
        momentum, decay = self.config.momentum, self.config.weight_decay
        fixed = dict(dampening=0, nesterov=momentum > 0, maximize=False)
        sgd(self.parameters, gradients, self.momenta, lr=lr, momentum=momentum, weight_decay=decay, **fixed)

    def _check(self, epoch: int, finite: Tensor, names: list[str], batches: list[Tensor]) -> None:
        """Raise FloatingPointError for the first step with a term (or the gradient) that is not finite, finite (steps, terms + 1)."""
        kept = f"the checkpoint of epoch {self.on_disk} is kept" if self.on_disk else "nothing was kept yet"
        mend = f"lower lr ({self.config.lr}); {kept}"
        if not finite.all():
            step = int(finite.all(1).logical_not().nonzero()[0])
            bad = [name for name, good in zip(names, finite[step].tolist(), strict=False) if not good and name != "total"]
            what = f"the loss ({', '.join(bad) or 'total'})" if not finite[step, :-1].all() else "the gradient"
            batch = f"the batch of training images {', '.join(map(str, batches[step][:5].tolist()))}, ... ({len(batches[step])} of them)"
            raise FloatingPointError(f"{self.config.name}: {what} is not finite at epoch {epoch + 1}, step {step + 1}, {batch}: {mend}")
        if not torch.stack([p.isfinite().all() for p in self.parameters]).all():
            raise FloatingPointError(f"{self.config.name}: weights are not finite after epoch {epoch + 1}: {mend}")

    def features(self) -> dict[str, Tensor]:
        """clean, noisy: features (N,d) of a sample of test images, for pictures of training, float16 where they fit; the head's weight and
        bias."""
        views = zip(("clean", "noisy"), self._views(self.looked_at.images), strict=True)
        with self.as_written():
            whole = {name: penultimate_features(self.model, view) for name, view in views}
        kept = {name: half if (half := q.half()).isfinite().all() else q for name, q in whole.items()}  # from 65,520 on, half is inf
        return kept | {"weight": self.model.head.weight, "bias": self.model.head.bias}

    def _views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Whole images, clean and noisy, with the same noise whenever they are looked at."""
        clean = to_unit(images)
        return clean, NOISES[self.config.noise](clean, self.config.sigma, stream(0, "watch", 0, self.device)).clamp(0, 1)

    def _watch(self) -> dict[str, float]:
        row = {}
        for name, split in self.watched.items():
            for view, pixels in zip((name, f"{name}_noisy"), self._views(split.images), strict=True):
                with self.as_written():
                    row[view] = float((predict(self.model, pixels) == split.labels).float().mean())
        if "test" in row and row["test"] > max((past["test"] for past in self.history), default=-1):
            self.best_epoch = len(self.history) + 1
            self.best = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        return row


def train(
    config, splits: Splits, device: str = "cpu", checkpoint: Path | None = None,
    deadline: float | None = None, on_epoch: Callable[[dict], None] | None = None, kept: Path | None = None,
) -> Trained:  # fmt: skip
    """Train one configuration, from its checkpoint where there is one.

    The checkpoint is written after every epoch, or every `checkpoints.SPARSE` seconds if that takes long. deadline: a time.time() by
    which the last epoch ends, as long as none takes longer than the one before it (OutOfTime); one that has not passed yet allows a
    call's first epoch. on_epoch receives each finished row of the history. kept: a folder for the features at `kept_epochs`. On the CPU
    the same configuration and thread count give the same weights to the bit, interrupted or not.

    >>> from penultimate.data import load
    >>> from penultimate.runs import Config
    >>> trained = train(Config(method="both", width=4, dim=8, images=64, epochs=2), load("digits"))
    >>> [list(row) for row in trained.history][1]
    ['epoch', 'lr', 'total', 'ce', 'validation', 'validation_noisy', 'seconds']
    """
    trainer = Trainer(config, splits, device)
    if checkpoint and checkpoint.exists():
        checkpoints.restore(trainer, checkpoint)
    keep = lambda epoch: files.write_tensors(kept / f"epoch-{epoch:04d}.safetensors", trainer.features())  # noqa: E731
    if kept and not trainer.history:
        keep(0)
    took = 0.0  # the epoch before: of the first one much may have been compiling
    for epoch in range(len(trainer.history), config.epochs):
        if deadline and time.time() + took > deadline:
            if checkpoint and trainer.on_disk < epoch:
                checkpoints.save(trainer, checkpoint)
            raise OutOfTime(f"{epoch} of {config.epochs} epochs done")
        started = time.monotonic()
        trainer.epoch(epoch)
        if kept and epoch + 1 in kept_epochs(config.epochs):
            keep(epoch + 1)
        if checkpoint and (time.monotonic() >= trainer.next_save or epoch + 1 == config.epochs):
            checkpoints.save(trainer, checkpoint)
        took = time.monotonic() - started
        if on_epoch:
            on_epoch(trainer.history[-1])
    return Trained(trainer.model.eval(), trainer.history, trainer.best, trainer.best_epoch, trainer.environments)
