"""Theorem 6.1 to the constant, and for other noises than the Gaussian. Noise is not clamped here: the theory has none that is.

With S = (l(x + e) + l(x - e)) / 2 - l(x), e of i.i.d. symmetric components of variance sigma^2, q the penultimate features,
eta = E||q(x + e) - q(x)||^2 their instability and w_max = max_c ||w_c|| of the head:

    ||H||_F^2  <=  (2 / sigma^4) E[S^2] + O(sigma^2)  <=  (8 / sigma^4) w_max^2 eta + O(sigma^2)

The first link: S = e'He / 2 + O(|e|^4) and E[(e'He)^2] = sigma^4 (2 ||H||_F^2 + (tr H)^2) for Gaussian e. The second holds at every
sigma: CE's gradient in feature space, sum_c (p_c - y_c) w_c, is at most 2 w_max long. Everything here is in pixel space.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from . import InputError, at_least_one, one_of, positive
from .curvature import check, gradient, hessian, norms, plainly
from .logit_losses import cross_entropy
from .noise import NOISES

# Kurtosis E[e_i^4] / sigma^4 of the additive noises with i.i.d. symmetric components.
KURTOSIS = {"coin_flip": 1.0, "uniform": 1.8, "gaussian": 3.0, "laplace": 6.0}


class Differences(NamedTuple):
    """What noise does to loss and features, draw by draw, each (draws, N): S; l(x + e) - l(x); and the mean of
    ||q(x + e) - q(x)||^2 and ||q(x - e) - q(x)||^2, whose expectation is eta."""

    symmetric: Tensor
    one_sided: Tensor
    moved: Tensor


@plainly
def differences(
    model: nn.Module, images: Tensor, labels: Tensor, sigma: float, draws: int, noise: str = "gaussian",
    generator: torch.Generator | None = None,
) -> Differences:  # fmt: skip
    """S, the one-sided difference and the feature displacement under `draws` draws of unclamped noise and their mirror images.

    model: features(x) -> (N,d) and head, as `model.Classifier`; images (N,C,H,W) float; sigma in pixel units, the noise's
    standard deviation. float64 is wanted for small sigma: S is of order sigma^2. Raises InputError for a sigma that is not
    positive, draws that are no whole number from 1, a noise outside KURTOSIS, and what `curvature.check` refuses.

    >>> from penultimate.model import Classifier, small
    >>> model = Classifier(small(width=4), num_classes=10, dim=8).eval()
    >>> differences(model, torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2]), sigma=0.1, draws=5).symmetric.shape
    torch.Size([5, 3])
    """
    one_of("noise with i.i.d. symmetric components", noise, KURTOSIS)
    positive("sigma", sigma)
    at_least_one("draws", draws)
    check(model, images, labels)
    generator = generator or torch.Generator(images.device).manual_seed(0)
    q, rows = model.features(images), []
    clean = cross_entropy(model.head(q), labels)
    for _ in range(draws):
        e = NOISES[noise](torch.zeros_like(images), sigma, generator)
        ahead, behind = model.features(torch.cat([images + e, images - e])).chunk(2)
        up, down = (cross_entropy(model.head(moved), labels) for moved in (ahead, behind))
        moved = ((ahead - q).square().sum(1) + (behind - q).square().sum(1)) / 2
        rows.append(torch.stack([(up + down) / 2 - clean, up - clean, moved]))
    return Differences(*torch.stack(rows, 1))


def w_max(head: nn.Linear) -> float:
    """max_c ||w_c||: CE's gradient in feature space is at most twice as long.

    >>> head = nn.Linear(2, 2)
    >>> head.weight.data = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    >>> w_max(head)
    5.0
    """
    return float(torch.linalg.vector_norm(head.weight.detach(), dim=1).max())


def instability_bound(head: nn.Linear, eta: Tensor, sigma: float) -> Tensor:
    """(8 / sigma^4) w_max^2 eta, the right end of theorem 6.1's chain, unchanged when features grow by s and the head by 1/s.

    >>> head = nn.Linear(2, 2)
    >>> head.weight.data = torch.tensor([[3.0, 4.0], [0.0, 0.0]])  # w_max = 5
    >>> instability_bound(head, torch.tensor([1.0]), sigma=1.0)
    tensor([200.])
    """
    positive("sigma", sigma)
    return 8 / sigma**4 * w_max(head) ** 2 * eta


def quadratic_moment(hessians: Tensor, sigma: float, kurtosis: float) -> Tensor:
    """E[(e'He)^2] = sigma^4 ( 2 ||H||_F^2 + (tr H)^2 + (k - 3) sum_i H_ii^2 ), (N,D,D) -> (N,).

    For e of i.i.d. symmetric components of variance sigma^2 and kurtosis k (see KURTOSIS). It is at least
    sigma^4 min(2, k - 1) ||H||_F^2: theorem 6.1's first link holds for every such noise but the coin flip, k = 1.

    >>> H = torch.tensor([[[1.0, 0.0], [0.0, -1.0]]])
    >>> quadratic_moment(H, 1.0, KURTOSIS["gaussian"]), quadratic_moment(H, 1.0, KURTOSIS["coin_flip"])
    (tensor([4.]), tensor([0.]))
    """
    positive("sigma", sigma)
    if not kurtosis >= 1:
        raise InputError(f"kurtosis = {kurtosis}: no distribution has one below 1")
    diagonal = hessians.diagonal(dim1=1, dim2=2)
    return sigma**4 * (2 * hessians.square().sum((1, 2)) + diagonal.sum(1).square() + (kurtosis - 3) * diagonal.square().sum(1))


def curvature_share(kurtosis: float) -> float:
    """min(2, k - 1): E[(e'He)^2] >= sigma^4 times this times ||H||_F^2; 0 where the noise need not see the curvature.

    >>> [curvature_share(k) for k in KURTOSIS.values()]
    [0.0, 0.8, 2.0, 2.0]
    """
    return min(2.0, kurtosis - 1.0)


def sampled_moment(hessians: Tensor, sigma: float, noise: str, draws: int, generator: torch.Generator | None = None):
    """Monte Carlo for `quadratic_moment`: mean and standard error of (e'He)^2 over draws (2 at least), shared by all H; (N,), (N,).

    generator left out: seeded with 0, as everywhere here. Raises InputError for fewer than two draws.

    >>> H = torch.tensor([[[1.0, 0.0], [0.0, -1.0]]])  # e'He = e_1^2 - e_2^2, which a coin flip never moves
    >>> sampled_moment(H, 1.0, "coin_flip", draws=100)
    (tensor([0.]), tensor([0.]))
    """
    one_of("noise with i.i.d. symmetric components", noise, KURTOSIS)
    positive("sigma", sigma)
    at_least_one("draws", draws)
    if draws == 1:
        raise InputError("draws = 1: a standard error needs two at least")
    size, generator = hessians.shape[1], generator or torch.Generator().manual_seed(0)
    e = NOISES[noise](torch.zeros(draws, 1, 1, size, dtype=hessians.dtype), sigma, generator).reshape(draws, size).to(hessians.device)
    squared = vmap(lambda h: ((e @ h) * e).sum(1).square(), chunk_size=8)(hessians)  # draws x D numbers for each at once
    return squared.mean(1), squared.std(1) / draws**0.5


def one_sided_moment(model: nn.Module, images: Tensor, labels: Tensor, sigma: float, step: float = 1e-3) -> tuple[Tensor, Tensor, Tensor]:
    """The parts of E[(l(x + e) - l(x))^2] for Gaussian e, to sigma^4, each (N,), in pixel space:

    sigma^2 ||g||^2,  sigma^4 (||H||_F^2 / 2 + (tr H)^2 / 4),  sigma^4 g . grad tr H  (either sign: here S is needed)

    g = grad l(x). The last is the central difference of tr H along g / ||g|| over +-step, times ||g||; its error is O(step^2).

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).eval()
    >>> linear[1].weight.data, linear[1].bias.data = torch.tensor([[0.0, 0.0], [2.0, 4.0]]), torch.zeros(2)
    >>> first, second, third = one_sided_moment(linear.double(), torch.zeros(1, 1, 1, 2).double(), torch.tensor([1]), sigma=1.0)
    >>> round(float(first), 6), round(float(second), 6)  # g = -(1, 2), H = (2, 4)'(2, 4) / 4: 5, and 25 / 2 + 25 / 4
    (5.0, 18.75)
    """
    positive("sigma", sigma)
    positive("step", step)
    g = gradient(model, images, labels, "pixel")
    length = norms(g)
    along = step * g / length.clamp(min=torch.finfo(g.dtype).tiny)
    ahead, behind = (_trace(hessian(model, images + way * along, labels, "pixel")) for way in (1, -1))
    third = length.flatten() * (ahead - behind) / (2 * step)
    second = quadratic_moment(hessian(model, images, labels, "pixel"), sigma, KURTOSIS["gaussian"]) / 4
    return sigma**2 * length.flatten().square(), second, sigma**4 * third


def _trace(hessians: Tensor) -> Tensor:
    return hessians.diagonal(dim1=1, dim2=2).sum(1)


def softplus_twin(model: nn.Module, beta: float) -> nn.Module:
    """A copy with the same weights and every nn.ReLU within it (not F.relu, nor the model itself) replaced by log(1 + exp(beta z)) / beta,
    which is at most log(2) / beta above it.

    Theorem 6.1 needs a loss that is twice differentiable. The twin is another network: say how many predictions it changes.

    >>> softplus_twin(nn.Sequential(nn.ReLU()), beta=10.0)(torch.zeros(1))
    tensor([0.0693])
    """
    positive("beta", beta)
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU):
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, nn.Softplus(beta))
    return twin.train(model.training)
