"""The ways of training that are compared. Each maps a batch to its loss:

(model, clean, noisy, labels, loss, **switches) -> {"total": ..., and every term of it, unweighted}

clean, noisy: two views (N,C,H,W) in [0,1]; loss: a DiscriminativeLoss. All are given the same switches, and each names those it has: bn,
how BatchNorm meets the two views; stability, the weight of its term; ce_noisy, the share of the cross-entropy that `proposed` takes on
noisy logits (the paper: 0).

>>> from penultimate.losses import DiscriminativeLoss
>>> from penultimate.model import Classifier, small
>>> model, loss = Classifier(small(width=4), num_classes=2, dim=8), DiscriminativeLoss(num_classes=2, dim=8)
>>> clean, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
>>> noisy_view = (clean + 0.06 * torch.randn(4, 1, 8, 8)).clamp(0, 1)
>>> for name, method in METHODS.items():
...     print(name, *method(model, clean, noisy_view, labels, loss, bn="joint", stability=1.0, ce_noisy=0.0))
normal total ce
noisy total ce
both total ce
stability total ce stability
discriminative total compact margin reg ce
proposed total compact noisy margin reg ce
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import one_of

BATCHNORM = ("joint", "separate", "clean")


@contextmanager
def frozen_statistics(model: nn.Module):
    """Inside, BatchNorm still normalises by the batch but leaves its running mean and variance alone (batches are counted).

    >>> norm = nn.BatchNorm1d(1)
    >>> with frozen_statistics(norm):
    ...     normalised = norm(torch.tensor([[1.0], [3.0]]))
    >>> normalised.flatten().round(decimals=2), norm.running_mean
    (tensor([-1.,  1.], grad_fn=<RoundBackward1>), tensor([0.]))
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


def two_views(model: nn.Module, clean: Tensor, noisy: Tensor, bn: str) -> tuple[Tensor, Tensor]:
    """Penultimate features q(x), q(x~) of both views, (N,d) each.

    bn="joint": one concatenated pass, so both views share their batch statistics. "separate": two passes, each normalised
    by its own view, running statistics a blend. "clean": two passes, running statistics from the clean view alone.
    Raises InputError for another bn.

    >>> from types import SimpleNamespace
    >>> model = SimpleNamespace(features=nn.BatchNorm1d(1))  # whose features are the normalised input
    >>> q, q_noisy = two_views(model, torch.zeros(2, 1), torch.ones(2, 1), bn="joint")
    >>> torch.cat([q, q_noisy]).detach().flatten().round(decimals=2)  # by statistics that the views share: they stay apart
    tensor([-1., -1.,  1.,  1.])
    """
    one_of("bn", bn, BATCHNORM)
    if bn == "joint":
        return model.features(torch.cat([clean, noisy])).chunk(2)
    q = model.features(clean)
    if bn == "separate":
        return q, model.features(noisy)
    with frozen_statistics(model):
        return q, model.features(noisy)


def normal(model, clean, noisy, labels, loss, **_) -> dict[str, Tensor]:
    """CE(z(x), y): clean images only."""
    ce = F.cross_entropy(model(clean), labels)
    return {"total": ce, "ce": ce}


def noisy(model, clean, noisy, labels, loss, **_) -> dict[str, Tensor]:
    """CE(z(x~), y): noisy images only."""
    ce = F.cross_entropy(model(noisy), labels)
    return {"total": ce, "ce": ce}


def both(model, clean, noisy, labels, loss, *, bn, **_) -> dict[str, Tensor]:
    """CE over clean and noisy images together."""
    q = torch.cat(two_views(model, clean, noisy, bn))
    ce = F.cross_entropy(model.head(q), labels.repeat(2))
    return {"total": ce, "ce": ce}


def stability(model, clean, noisy, labels, loss, *, bn, stability, **_) -> dict[str, Tensor]:
    """CE(z(x), y) + stability * mean_i ||q(x_i) - q(x~_i)||: noisy features pulled to their own clean image, point by point."""
    q, q_noisy = two_views(model, clean, noisy, bn)
    ce = F.cross_entropy(model.head(q), labels)
    apart = torch.linalg.vector_norm(q.float() - q_noisy.float(), dim=1).mean()
    return {"total": ce + stability * apart, "ce": ce, "stability": apart}


def discriminative(model, clean, noisy, labels, loss, **_) -> dict[str, Tensor]:
    """CE(z(x), y) + the discriminative loss of the clean features alone (weights: compact 1, noisy 0)."""
    q = model.features(clean)
    terms = _with_terms(F.cross_entropy(model.head(q), labels), loss(q, labels, model.head))
    return {name: value for name, value in terms.items() if name != "noisy"}  # there is no noisy view


def proposed(model, clean, noisy, labels, loss, *, bn, ce_noisy, **_) -> dict[str, Tensor]:
    """CE(z(x), y) + alpha L_compact + beta L_margin + gamma L_reg + lambda L_noisy: the paper's method, CE on clean logits only.

    With 0 < ce_noisy <= 1 the first term is (1 - ce_noisy) CE(z(x), y) + ce_noisy CE(z(x~), y): an ablation; at 1/2 that of `both`.
    """
    q, q_noisy = two_views(model, clean, noisy, bn)
    ce = F.cross_entropy(model.head(q), labels)
    if ce_noisy:
        ce = (1 - ce_noisy) * ce + ce_noisy * F.cross_entropy(model.head(q_noisy), labels)
    return _with_terms(ce, loss(q, labels, model.head, q_noisy))


def _with_terms(ce: Tensor, terms) -> dict[str, Tensor]:
    return {**terms._asdict(), "total": ce + terms.total, "ce": ce}


METHODS = {f.__name__: f for f in (normal, noisy, both, stability, discriminative, proposed)}
