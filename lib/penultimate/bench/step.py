"""A training step of `proposed` against plain eager PyTorch, and the loss's share of it."""

import functools

import torch
import torch.nn.functional as F

from .. import data
from ..losses import DiscriminativeLoss
from ..runs import Config
from ..train import Trainer, learning_rate, stream, views
from .compare import Row, faster, in_turn
from .loss import LoopLoss

SHARE, FASTER, FULL_WIDTH, DIM = 0.03, 1.2, 64, 128


def random_images(count: int) -> data.Splits:
    """CIFAR-10's shapes filled at random: what images show takes no time."""
    gen = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=gen)
    split = data.Split(images, torch.arange(count) % 10, torch.ones(count, dtype=torch.bool))
    return data.Splits("random", split, split[:20], split[:20], data.CIFAR10_CLASSES, "random")


def config(width: int, batch: int, **fields) -> Config:
    return Config(dataset="cifar10", preset="small", method="proposed", width=width, batch=batch, images=0, train_on_all=True, **fields)


def plain_optimizer(trainer: Trainer) -> torch.optim.SGD:
    c = trainer.config
    return torch.optim.SGD(trainer.model.parameters(), c.lr, momentum=c.momentum, nesterov=True, weight_decay=c.weight_decay)


def plain_epoch(trainer: Trainer, optimizer: torch.optim.SGD, loss: LoopLoss, epoch: int) -> None:
    """An epoch as one would write it from the paper: two passes, a loop over classes, the loss read after every step."""
    c, model, train = trainer.config, trainer.model, trainer.train
    order, cropping, noise = (stream(c.seed, name, epoch) for name in ("order", "crop", "noise"))
    model.train()
    running = 0.0
    for step, rows in enumerate(torch.randperm(len(train), generator=order).split(c.batch)):
        optimizer.param_groups[0]["lr"] = learning_rate(c, epoch * trainer.batches + step, trainer.batches)
        clean, noisy = views(c, train.images[rows], cropping, noise)
        labels = train.labels[rows]
        q, q_noisy = model.features(clean), model.features(noisy)
        total = F.cross_entropy(model.head(q), labels) + loss(q, labels, model.head, q_noisy)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        running += total.item()


def trainers(width: int, batch: int, batches: int) -> tuple[Trainer, Trainer]:
    splits = random_images(batch * batches)
    return Trainer(config(width, batch), splits, "cpu"), Trainer(config(width, batch, bn="separate"), splits, "cpu")


def measure() -> list[Row]:
    rows = []
    for named, width, batch, batches, rounds in (("narrow (width 8)", 8, 128, 4, 9), ("full (width 64)", FULL_WIDTH, 64, 1, 3)):
        ours, theirs = trainers(width, batch, batches)
        plain = functools.partial(plain_epoch, theirs, plain_optimizer(theirs), LoopLoss(), 0)
        what, against = f"step of proposed, {named} ResNet18, batch {batch}", "eager PyTorch, two passes, loop"
        row = faster(what, against, FASTER, functools.partial(ours.epoch, 0), plain, rounds)
        rows.append(row._replace(ours=row.ours / batches, theirs=row.theirs / batches))
    return [*rows, _share(rows[-1].ours)]


def _share(step: float) -> Row:
    """The loss alone on 64 features, forward and backward, beside the whole step in ms."""
    q, labels, head = torch.randn(64, DIM).requires_grad_(), torch.arange(64) % 10, torch.nn.Linear(DIM, 10)
    loss = DiscriminativeLoss(10, DIM)
    run = lambda: torch.autograd.grad(loss(q, labels, head, q).total, (q, head.weight, head.bias))  # noqa: E731
    alone = 1e3 * in_turn(run, run)[0]
    what, against, target = "the loss in it, forward and backward", "the whole step, full ResNet18", f"under {SHARE:.0%} of it"
    return Row(what, against, "ms", alone, step, step / alone, target, alone < SHARE * step)
