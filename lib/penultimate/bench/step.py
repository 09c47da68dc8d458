"""A training step of `proposed` against plain eager PyTorch, the loss's share of it, and where the rest of its time goes."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .. import data
from ..batches import learning_rate, stream, views
from ..losses import DiscriminativeLoss
from ..model import Classifier
from ..runs import Config
from ..train import Trainer
from .compare import Row, alone, faster
from .loss import LoopLoss
from .loss import step as loss_step

SHARE, FASTER, DIM = 0.03, 1.2, 128
STEPS = {"narrow (width 8)": (8, 128, 4), "full (width 64)": (64, 64, 1)}  # width, images in a batch, batches in an epoch
WHAT, AGAINST = "step of proposed, {} ResNet18, batch {}", "eager PyTorch, two passes, loop"
NAMED = {"convolutions": ("conv",), "batch norm": ("batch_norm", "batchnorm")}  # parts of the names of PyTorch's operations


def random_images(count: int) -> data.Splits:
    """CIFAR-10's shapes filled at random: what images show takes no time."""
    gen = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=gen)
    split = data.Split(images, torch.arange(count) % 10, torch.ones(count, dtype=torch.bool))
    return data.Splits("random", split, split[:0], split[:20], data.CIFAR10_CLASSES, "random")


def config(width: int, batch: int, **fields) -> Config:
    return Config(dataset="cifar10", preset="small", method="proposed", width=width, batch=batch, images=0, train_on_all=True, **fields)


def plain_optimizer(model: Classifier, c: Config) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), c.lr, momentum=c.momentum, nesterov=True, weight_decay=c.weight_decay)


def plain_step(model: Classifier, optimizer: torch.optim.SGD, loss: LoopLoss, clean: Tensor, noisy: Tensor, labels: Tensor) -> float:
    """A step as one would write it from the paper: two passes, a loop over classes, the loss read at the end."""
    q, q_noisy = model.features(clean), model.features(noisy)
    total = F.cross_entropy(model.head(q), labels) + loss(q, labels, model.head, q_noisy)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total.item()


def plain_epoch(trainer: Trainer, optimizer: torch.optim.SGD, loss: LoopLoss, epoch: int) -> None:
    """An epoch of such steps."""
    c, model, train = trainer.config, trainer.model, trainer.train
    order, cropping, noise = (stream(c.seed, name, epoch) for name in ("order", "crop", "noise"))
    model.train()
    running = 0.0
    for step, rows in enumerate(torch.randperm(len(train), generator=order).split(c.batch)):
        optimizer.param_groups[0]["lr"] = learning_rate(c, epoch * trainer.batches + step, trainer.batches)
        running += plain_step(model, optimizer, loss, *views(c, train.images[rows], cropping, noise), train.labels[rows])


def trainers(width: int, batch: int, batches: int) -> tuple[Trainer, Trainer]:
    splits = random_images(batch * batches)
    return Trainer(config(width, batch), splits, "cpu"), Trainer(config(width, batch, bn="separate"), splits, "cpu")


def measure() -> list[Row]:
    rows = []
    for (named, (width, batch, batches)), rounds in zip(STEPS.items(), (9, 3), strict=True):
        ours, theirs = trainers(width, batch, batches)
        plain = functools.partial(plain_epoch, theirs, plain_optimizer(theirs.model, theirs.config), LoopLoss(), 0)
        row = faster(WHAT.format(named, batch), AGAINST, FASTER, functools.partial(ours.epoch, 0), plain, rounds)
        rows.append(row._replace(ours=row.ours / batches, theirs=row.theirs / batches))
        ours.model.to(memory_format=torch.channels_last)
        row = faster(f"the same in channels-last, batch {batch}", AGAINST, FASTER, functools.partial(ours.epoch, 0), plain, rounds)
        rows.append(row._replace(ours=row.ours / batches, theirs=row.theirs / batches))
    loss, step = loss_alone(STEPS[named][1]), rows[-2].ours
    what, against, target = "the loss in it, forward and backward", "the whole step, full ResNet18", f"under {SHARE:.0%} of it"
    return [*rows, Row(what, against, "ms", loss, step, step / loss, target, loss < SHARE * step)]


def loss_alone(batch: int) -> float:
    """Milliseconds of the discriminative loss on random features, forward and backward."""
    return alone(loss_step(DiscriminativeLoss(10, DIM), 10, batch, DIM))


def shares(steps: dict[str, tuple[int, int, int]] = STEPS) -> dict[str, dict[str, float]]:
    """Which shares of a step of `proposed` are convolutions and batch norm, both with their backward pass, the loss, and the rest."""
    found = {}
    for named, (width, batch, batches) in steps.items():
        trainer, _ = trainers(width, batch, batches)
        trainer.epoch(0)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            trainer.epoch(1)
        taken = {op.key.lower(): op.self_cpu_time_total / 1e3 for op in profiler.key_averages()}  # ms
        step = sum(taken.values()) / batches
        parts = {name: sum(ms for op, ms in taken.items() if any(word in op for word in words)) / batches for name, words in NAMED.items()}
        parts["the loss"] = loss_alone(batch)
        found[named] = {name: ms / step for name, ms in parts.items()}
        found[named]["the rest"] = 1 - sum(found[named].values())
    return found
