"""Losses of the logits, image by image, whose curvature in the image is looked at: (logits (N,C), labels (N,)) -> (N,)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import positive

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """CE_i = -log softmax(z_i)_y = log(1 + exp(log sum_{j != y} e^{z_j} - z_y)), (N,C), (N,) -> (N,).

    The second form: its derivatives keep their relative precision where softmax(z)_y rounds to 1. `F.softplus` counts as linear beyond 20,
    its second derivative there as zero; so a wrong class that is nearly sure is taken at softplus(x) = x + softplus(-x).

    >>> cross_entropy(torch.tensor([[3.0, 1.0]]).log(), torch.tensor([0])).exp()
    tensor([1.3333])
    """
    odds = negative_log_odds(logits, labels)
    return torch.where(odds > 0, odds + F.softplus(-odds), F.softplus(odds))


def negative_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, (N,C), (N,) -> (N,): a loss that does not fade as confidence grows; negative where the class is right.

    Of a ReLU network it is piecewise linear: its Hessian is 0 almost everywhere, and what eq. 21 finds of it are kinks.

    >>> negative_margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    return _others(logits, labels).amax(1) - _own(logits, labels)


def negative_log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log sum_{j != y} e^{z_j} - z_y = log((1 - p_y) / p_y), (N,C), (N,) -> (N,): `negative_margin` with a smooth maximum.

    CE is softplus of it. Differentiable twice wherever the network is.

    >>> negative_log_odds(torch.tensor([[6.0, 1.0, 2.0]]).log(), torch.tensor([0])).exp()
    tensor([0.5000])
    """
    return _others(logits, labels).logsumexp(1) - _own(logits, labels)


def tempered(temperature: float) -> Loss:
    """CE(z / T): cross-entropy at another confidence, every prediction as it was. Raises InputError unless T > 0.

    >>> tempered(2.0)(torch.tensor([[9.0, 1.0]]).log(), torch.tensor([0])).exp()
    tensor([1.3333])
    """
    positive("temperature", temperature)
    return lambda logits, labels: cross_entropy(logits / temperature, labels)


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.masked_fill(F.one_hot(labels, logits.shape[1]).bool(), -torch.inf)
