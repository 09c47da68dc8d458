"""Class centroids m_c of the penultimate features: batch means, and their momentum over steps."""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import one_of

TRACKING = ("partial", "momentum", "naive")


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean of the features of each class, (C,d), and the counts N_c, (C,); an absent class has mean 0 and count 0.

    Summed and counted in at least float32: half precision cannot count beyond 2,048, bfloat16 beyond 256.

    >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2]), 3)
    (tensor([[2.],
            [0.],
            [5.]]), tensor([2., 0., 1.]))
    """
    q = _at_least_float32(features)
    counts = q.new_zeros(num_classes).index_add_(0, labels, q.new_ones(len(labels)))
    sums = q.new_zeros(num_classes, q.shape[1]).index_add(0, labels, q)
    return (sums / counts.clamp(min=1)[:, None]).to(features.dtype), counts


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Centroids(NamedTuple):
    """Two centroids per class, (C,d) each, and the counts (C,) of the classes in the batch: what CentroidTracker gives."""

    anchor: Tensor  # serves L_compact, L_noisy and L_reg
    mean: Tensor  # serves L_margin
    counts: Tensor


class CentroidTracker(nn.Module):
    """m_c <- (1 - mu) batch mean + mu m_c(previous, detached); gradient flows through the batch part only.

    tracking="partial" (the paper): momentum for the anchor, the plain batch mean with its full gradient for the margin,
    whose gradient momentum would scale by 1 - mu. "momentum": momentum for both. "naive": the batch mean for both.
    A class seen for the first time starts from its batch mean, with its full gradient; absent classes keep theirs, as do those whose
    batch mean is not finite.
    In evaluation mode nothing moves and the stored centroid itself is the anchor (a class never seen: its batch mean); under
    torch.inference_mode nothing moves either.
    The stored centroids stay in at least float32, whatever the model becomes: in half precision small steps would be rounded away.

    >>> tracker = CentroidTracker(num_classes=2, dim=1, momentum=0.9)
    >>> for value in (1.0, 2.0):
    ...     anchor, mean, counts = tracker(torch.tensor([[value]]), torch.tensor([0]))
    >>> anchor[0], mean[0], tracker.seen
    (tensor([1.1000]), tensor([2.]), tensor([ True, False]))
    """

    def __init__(self, num_classes: int, dim: int, momentum: float = 0.99, tracking: str = "partial"):
        super().__init__()
        one_of("centroid tracking", tracking, TRACKING)
        self.momentum, self.tracking = momentum, tracking
        self.register_buffer("centroids", _at_least_float32(torch.zeros(num_classes, dim)))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    def _apply(self, fn, recurse: bool = True) -> "CentroidTracker":
        """What PyTorch calls for .to(), .half() and their like."""
        before = self.centroids
        super()._apply(fn, recurse)
        if torch.finfo(self.centroids.dtype).bits < 32:
            self.centroids = before.to(self.centroids.device)
        return self

    def _load_from_state_dict(self, *given, **named) -> None:
        """What PyTorch calls for load_state_dict, which with assign=True takes the other state's type."""
        super()._load_from_state_dict(*given, **named)
        self.centroids = _at_least_float32(self.centroids)

    @contextmanager
    def in_place(self):
        """Around a step, its backward pass included: afterwards the tensors from before hold what `forward` has set.

        So a step that is recorded as a CUDA graph finds them where it left them. After an error they hold what they did.
        """
        before = self.centroids, self.seen
        try:
            yield
            for old, new in zip(before, (self.centroids, self.seen), strict=True):
                old.copy_(new)
        finally:
            self.centroids, self.seen = before

    def forward(self, features: Tensor, labels: Tensor) -> Centroids:
        """features (N,d), labels (N,) -> Centroids, in at least float32."""
        mean, counts = class_means(_at_least_float32(features), labels, len(self.seen))
        if self.tracking == "naive":
            return Centroids(mean, mean, counts)
        stored, present = self.centroids.to(mean.dtype), counts > 0
        moved = (1 - self.momentum) * mean + self.momentum * stored if self.training else stored
        anchor = torch.where(self.seen[:, None], torch.where(present[:, None], moved, stored), mean)
        if self.training and (torch.compiler.is_compiling() or not torch.is_inference_mode_enabled()):
            # New tensors: a compiled backward pass would read what the old ones became, were they changed in place.
            after = anchor.detach()
            present = present & after.sum(1).isfinite()  # one overflow of mixed precision must not stay in them for good
            self.centroids = torch.where(present[:, None], after.to(self.centroids.dtype), self.centroids)
            self.seen = self.seen | present
        return Centroids(anchor, anchor if self.tracking == "momentum" else mean, counts)
