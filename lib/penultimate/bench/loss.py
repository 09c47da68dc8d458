"""The discriminative loss, forward and backward, as it is and compiled, against a loop over the classes of the batch."""

import os
import shutil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import DiscriminativeLoss
from .compare import Row, alone, faster, in_turn

BATCH, DIM = 256, 128
FASTER = {10: 10, 100: 30}  # classes -> target
MOST_CLASSES, GROWTH = 1000, 6
WHAT, AGAINST = "loss, forward and backward, {} classes", "a loop over classes"


class LoopLoss:
    """The paper's loss as its formulas read, a class at a time: the weighted total of `DiscriminativeLoss`."""

    def __init__(self, delta_v=0.5, delta_d=5.0, compact=0.5, noisy=0.5, margin=1.0, reg=1e-3, momentum=0.99):
        self.delta_v, self.delta_d, self.mu = delta_v, delta_d, momentum
        self.weights = compact, noisy, margin, reg
        self.centroids = {}

    def __call__(self, features: Tensor, labels: Tensor, head: nn.Linear, noisy_features: Tensor) -> Tensor:
        w, b, sums, classes = head.weight, head.bias, [0.0] * 4, labels.unique().tolist()
        for c in classes:
            own = labels == c
            mean = features[own].mean(0)
            m = (1 - self.mu) * mean + self.mu * self.centroids[c] if c in self.centroids else mean
            self.centroids[c] = m.detach()
            for k, view in enumerate((features, noisy_features)):
                sums[k] = sums[k] + F.relu((view[own] - m).norm(dim=1) - self.delta_v).square().mean()
            others = torch.arange(len(w)) != c
            normal = w[others] - w[c]
            s = (normal @ mean + b[others] - b[c]) / normal.norm(dim=1)
            sums[2] = sums[2] + F.relu(self.delta_d + s).max()
            sums[3] = sums[3] + m.norm()
        return sum(weight * total for weight, total in zip(self.weights, sums, strict=True)) / len(classes)


def step(loss, classes: int, batch: int = BATCH, dim: int = DIM):
    """One forward and backward pass of a loss on random features, as a function."""
    gen = torch.Generator().manual_seed(0)
    q, noisy = (torch.randn(batch, dim, generator=gen).requires_grad_() for _ in range(2))
    labels, head = torch.randint(0, classes, (batch,), generator=gen), nn.Linear(dim, classes)
    leaves = q, noisy, head.weight, head.bias

    def run():
        found = loss(q, labels, head, noisy)
        torch.autograd.grad(found if isinstance(found, Tensor) else found.total, leaves)

    return run


def compiled(classes: int) -> DiscriminativeLoss:
    """The loss through torch.compile: for a loop of one's own; the study's does without."""
    return torch.compile(DiscriminativeLoss(classes, DIM), fullgraph=True, dynamic=False)


def compiles() -> bool:
    """Whether there is the C++ compiler that torch.compile takes on a CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def measure() -> list[Row]:
    ours = {classes: step(DiscriminativeLoss(classes, DIM), classes) for classes in (*FASTER, MOST_CLASSES)}
    rows = []
    for classes, times in FASTER.items():
        rows.append(faster(WHAT.format(classes), AGAINST, times, ours[classes], step(LoopLoss(), classes)))
        if compiles():
            quick = step(compiled(classes), classes)
            rows.append(faster(f"the same, compiled, {classes} classes", AGAINST, times, quick, step(LoopLoss(), classes)))
    many, few, ratio = in_turn(ours[MOST_CLASSES], ours[10])
    what = f"loss, {MOST_CLASSES:,} classes"
    return [*rows, Row(what, "10 classes", "ms", 1e3 * many, 1e3 * few, ratio, f"under {GROWTH}x the time", 1 / ratio < GROWTH)]


def reasons() -> dict[str, tuple[str, float]]:
    """The loss where there is next to nothing to compute: PyTorch's handing out of operations."""
    tiny = {classes: step(DiscriminativeLoss(classes, 1), classes, batch=16, dim=1) for classes in FASTER}
    what = "handing out its operations, as on 16 images of one feature"
    return {WHAT.format(classes): (what, alone(run)) for classes, run in tiny.items()}
