"""How flat the loss is in input space, per image: the Hessian H_x of l(x) by finite differences (eq. 21), products, or whole.

Spaces. With u = (x - mean) / std the normalised-space Hessian is H_u = S H_x S, S = diag(std): the pixel one, scaled by std on
both sides, so that ||H_u||_F^2 is smaller by std^4 where std is one number. A module without a buffer `std` gives no scale: what it
is fed is its only space, and both names mean that one. Everything is computed in the images' float32 or float64, never under autocast.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vjp, vmap

from . import InputError, at_least_one, one_of, positive
from .logit_losses import Loss, cross_entropy
from .model import must_evaluate

METHODS = ("finite_difference", "hvp", "exact", "piecewise_linear")
WHOLE = ("exact", "piecewise_linear")  # ways to the Hessian itself
SPACES = ("normalised", "pixel")
LOOKED_AT = 4  # images of a part at which logits are tried for being piecewise linear
LARGEST_EXACT = 1024  # numbers in an image: beyond it the whole Hessian costs thousands of gradients an image
NUMBERS_AT_ONCE = 2**18  # in the images of one forward pass


def _plainly(function):
    """Run a function of (model, images, ...) without autocast and without a graph of the weights; torch.func differentiates anyway."""

    @functools.wraps(function)
    def run(model, images, *given, **named):
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return function(model, images, *given, **named)

    return run


@_plainly
def input_curvature(
    model: nn.Module, images: Tensor, labels: Tensor, method: str = "finite_difference", probes: int = 20, step: float = 1e-2,
    space: str = "normalised", generator: torch.Generator | None = None, loss: Loss = cross_entropy,
) -> Tensor:  # fmt: skip
    """||H_x||_F^2 of each image, the sum of the squared eigenvalues of the input Hessian of l(x) = loss(model(x), y); (N,).

    finite_difference  mean over K probes g ~ N(0, I) of || (grad l(x + h g) - grad l(x)) / h ||^2      (the paper's eq. 21)
    hvp                mean over K probes of ||H g||^2 (Hutchinson): its expectation is ||H||_F^2, its standard error
                       sqrt(2 tr(H^4) / K); automatic differentiation sees no curvature in the kinks of ReLU, differences do
    exact              sum over the D unit vectors e of ||H e||^2; probes and step play no part
    piecewise_linear   ||J' L J||_F^2 with J = dz/dx and L = d^2 l / dz^2, C products: all that automatic differentiation sees where
                       the logits z are piecewise linear in x (ReLU), without sampling and for images of any size

    images (N,C,H,W) or (N,D) float, as the model takes them; labels (N,); step h in units of `space` (see the module). K = probes, drawn
    once and shared by all images: an image's value depends on no other image. generator left out: seeded with 0. The unit is
    loss^2 / length^4. Source: arXiv 2405.18499, eq. 21, h = 1e-2 and K = 20 in normalised space.

    Raises InputError for a model in training mode, images that are not float, labels that do not fit, probes or step that are not
    positive, an unknown method or space, an image of more than LARGEST_EXACT numbers for the exact Hessian, and for
    piecewise_linear a network that is not.

    >>> class Quadratic(nn.Module):  # CE of logits (0, z) and label 1 is log(1 + e^-z); its second derivative at z = 0 is 1/4
    ...     def forward(self, x): return torch.stack([torch.zeros(len(x)), 2 * x.flatten(1).sum(1)], 1)
    >>> x, y = torch.zeros(1, 1, 1, 2), torch.tensor([1])  # H = 2^2 / 4 everywhere in a 2x2 matrix: ||H||_F^2 = 4
    >>> input_curvature(Quadratic().eval(), x, y, "exact")
    tensor([4.])
    """
    one_of("method", method, METHODS)
    positive("step", step)
    at_least_one("probes", probes)
    check(model, images, labels)
    if method == "piecewise_linear":  # ||J' L J||_F^2 = tr((L J J')^2)
        seen = torch.cat([curved @ j @ j.mT for j, curved in _logit_parts(model, images, labels, space, loss)])
        return (seen * seen.mT).sum((1, 2)).to(images)
    directions = _unit_vectors(images) if method == "exact" else draw_probes(images, probes, generator)
    difference = step if method == "finite_difference" else None
    squared = torch.cat([
        torch.cat([h(v).square().flatten(2).sum(2) for v in directions[:, None].split(together)])
        for h, together in _operators(model, images, labels, space, loss, difference)
    ], 1)  # fmt: skip
    return squared.sum(0) if method == "exact" else squared.mean(0)


@_plainly
def hessian(
    model: nn.Module, images: Tensor, labels: Tensor, space: str = "normalised", loss: Loss = cross_entropy, method: str = "exact",
) -> Tensor:  # fmt: skip
    """The whole input Hessian of each image, (N,D,D) with D = C*H*W: its products with all unit vectors.

    method="piecewise_linear": J' L J instead, C gradients and not D products, for networks whose logits are (see `input_curvature`).
    Raises InputError as `input_curvature` does; for D > LARGEST_EXACT take input_curvature(method="hvp").

    >>> class Linear(nn.Module):
    ...     def forward(self, x): return torch.stack([torch.zeros(len(x)), x.flatten(1) @ torch.tensor([2.0, 4.0])], 1)
    >>> hessian(Linear().eval(), torch.zeros(1, 1, 1, 2), torch.tensor([1]))
    tensor([[[1., 2.],
             [2., 4.]]])
    """
    one_of("method", method, WHOLE)
    check(model, images, labels)
    basis = _unit_vectors(images)
    if method == "piecewise_linear":
        return torch.cat([j.mT @ curved @ j for j, curved in _logit_parts(model, images, labels, space, loss)]).to(images)
    operators = _operators(model, images, labels, space, loss)
    return torch.cat([torch.cat([h(v).flatten(2) for v in basis[:, None].split(together)]).transpose(0, 1) for h, together in operators])


@_plainly
def top_eigenvalue(
    model: nn.Module, images: Tensor, labels: Tensor, iterations: int = 100, space: str = "normalised",
    generator: torch.Generator | None = None, loss: Loss = cross_entropy,
) -> Tensor:  # fmt: skip
    """The eigenvalue of H_x that is largest in magnitude, with its sign, by power iteration on all images at once; (N,).

    v <- H v / ||H v||, lambda = v . H v: from below in magnitude, the error falls as (lambda_2 / lambda_1)^(2 iterations).

    >>> class Linear(nn.Module):
    ...     def forward(self, x): return torch.stack([torch.zeros(len(x)), x.flatten(1) @ torch.tensor([2.0, 4.0])], 1)
    >>> top_eigenvalue(Linear().eval(), torch.zeros(1, 1, 1, 2), torch.tensor([1]))
    tensor([5.])
    """
    at_least_one("iterations", iterations)
    check(model, images, labels)
    start, found = draw_probes(images, 1, generator), []
    for h, _ in _operators(model, images, labels, space, loss):
        v, hv = start, h(start[None])[0]
        for _ in range(iterations):
            v = hv / norms(hv).clamp(min=torch.finfo(hv.dtype).tiny)
            hv = h(v[None])[0]
        found.append((v * hv).flatten(1).sum(1))
    return torch.cat(found)


@_plainly
def gradient(model: nn.Module, images: Tensor, labels: Tensor, space: str = "normalised", loss: Loss = cross_entropy) -> Tensor:
    """grad_x l(x) of each image, in units of loss / length of the space; (N,C,H,W).

    >>> class Linear(nn.Module):  # p = (1/2, 1/2) at 0, so that the gradient is -(2, 4) / 2
    ...     def forward(self, x): return torch.stack([torch.zeros(len(x)), x.flatten(1) @ torch.tensor([2.0, 4.0])], 1)
    >>> gradient(Linear().eval(), torch.zeros(1, 1, 1, 2), torch.tensor([1]))
    tensor([[[[-1., -2.]]]])
    """
    check(model, images, labels)
    scale = _scale(model, images, space)
    return torch.cat([scale * _gradient(model, y, loss)(x) for x, y in _parts(images, labels)])


def _logit_parts(model: nn.Module, images: Tensor, labels: Tensor, space: str, loss: Loss):
    """For each part of n images: S J with J = dz/dx (n,C,D), and L = d^2 l / dz^2 (n,C,C), float64; S as in `_operators`.

    L is taken in float64: where a wrong class is nearly sure, p (1 - p) of it is lost in float32. The rows of J are those of one batch,
    as far as it may be large. Raises InputError where the logits are not piecewise linear.
    """
    scale = _scale(model, images, space)
    for x, y in _parts(images, labels):
        unit = torch.eye(piecewise_linear(model, x[:: -(-len(x) // LOOKED_AT)])).to(images)
        together = min(len(unit), _rows(x))
        logits, pull = vjp(model, x.expand(together, *x.shape).flatten(0, 1))
        blocks = F.pad(unit, (0, 0, 0, -len(unit) % together)).repeat_interleave(len(x), 0).split(len(logits))
        j = torch.cat([scale * pull(e)[0] for e in blocks]).flatten(1).unflatten(0, (-1, len(x)))[: len(unit)].transpose(0, 1)
        z = logits[: len(x)].double()
        _, bend = vjp(grad(lambda z, y=y: loss(z, y).sum()), z)
        yield j.double(), vmap(lambda e, z=z, bend=bend: bend(e.expand_as(z))[0], out_dims=1)(unit.double())


def piecewise_linear(model: nn.Module, images: Tensor) -> int:
    """How many logits there are; InputError unless the Hessian of a combination of them is zero, to the last bit.

    >>> piecewise_linear(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(2, 4))
    3
    """
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        logits = model(x)
        mixed = logits @ torch.linspace(1, 2, logits.shape[1]).to(logits)
        (slope,) = torch.autograd.grad(mixed.sum(), x, create_graph=True)
        along = (slope * draw_probes(x, 1)).sum()
        if along.requires_grad and torch.autograd.grad(along, x, materialize_grads=True)[0].any():
            raise InputError("the logits are not piecewise linear in the image (softplus, tanh?): take method='hvp'")
    return logits.shape[1]


def draw_probes(images: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """g ~ N(0, I), (count, C, H, W), the same on every device; without a generator from one that is seeded with 0.

    >>> draw_probes(torch.zeros(50, 1, 8, 8), count=20).shape
    torch.Size([20, 1, 8, 8])
    """
    generator = generator or torch.Generator().manual_seed(0)
    drawn = torch.randn(count, *images.shape[1:], dtype=images.dtype, generator=generator, device=generator.device)
    return drawn.to(images.device)


def norms(x: Tensor) -> Tensor:
    """||x_i|| of each image, (N,1,1,1).

    >>> norms(torch.tensor([[[[3.0, 4.0]]]]))
    tensor([[[[5.]]]])
    """
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def _operators(model: nn.Module, images: Tensor, labels: Tensor, space: str, loss: Loss, step: float | None = None):
    """For each part of n images: v -> S H S v, (k,1,C,H,W) or (k,n,C,H,W) -> (k,n,C,H,W), and how large k may be.

    S = std in normalised space, else 1. With a step the product is the difference quotient of the gradient.
    """
    scale = _scale(model, images, space)
    for x, y in _parts(images, labels):
        yield (_product(model, x, y, scale, loss) if step is None else _quotient(model, x, y, scale, loss, step)), _rows(x)


def _product(model: nn.Module, x: Tensor, y: Tensor, scale: Tensor, loss: Loss) -> Callable[[Tensor], Tensor]:
    """v -> S H S v: one graph of the gradient, through which the v are mapped; H is symmetric, v'H = Hv."""
    _, pull = vjp(_gradient(model, y, loss), x)
    return vmap(lambda v: scale * pull((scale * v).expand(x.shape))[0])


def _quotient(model: nn.Module, x: Tensor, y: Tensor, scale: Tensor, loss: Loss, step: float) -> Callable[[Tensor], Tensor]:
    """v -> S (grad l(x + step S v) - grad l(x)) / step, as rows of one batch: a fifth faster on the CPU than mapped."""
    at_x = _gradient(model, y, loss)(x)

    def h(v: Tensor) -> Tensor:
        moved = (x + step * scale * v).flatten(0, 1)
        return scale * (_gradient(model, y.repeat(len(v)), loss)(moved).unflatten(0, (len(v), len(x))) - at_x) / step

    return h


def _gradient(model: nn.Module, labels: Tensor, loss: Loss) -> Callable[[Tensor], Tensor]:
    """x -> grad_x l(x) of every image at once: in evaluation mode no image sees another, so the sum has each one's gradient."""

    return grad(lambda x: loss(model(x), labels).sum())


def _parts(images: Tensor, labels: Tensor):
    rows = _rows(images[0])
    return zip(images.split(rows), labels.split(rows), strict=True)


def _rows(x: Tensor) -> int:
    """How many of it may pass the network together."""
    return max(1, NUMBERS_AT_ONCE // x.numel())


def _unit_vectors(images: Tensor) -> Tensor:
    size = images[0].numel()
    if size > LARGEST_EXACT:
        raise InputError(f"an image of {size:,} numbers is too large for the exact Hessian (at most {LARGEST_EXACT:,}): take method='hvp'")
    return torch.eye(size, dtype=images.dtype, device=images.device).reshape(size, *images.shape[1:])


def _scale(model: nn.Module, images: Tensor, space: str) -> Tensor:
    one_of("space", space, SPACES)
    std = getattr(model, "std", None)
    return std.to(images) if space == "normalised" and isinstance(std, Tensor) else torch.ones((), dtype=images.dtype, device=images.device)


def check(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Raise InputError unless the model is in evaluation mode and takes these images, and the labels are theirs.

    >>> check(nn.Linear(4, 3).eval(), torch.rand(2, 4), torch.tensor([0, 3]))
    Traceback (most recent call last):
    penultimate.InputError: labels run from 0 to 3, the model has 3 classes: 0 to 2
    """
    must_evaluate(model)
    if images.dtype not in (torch.float32, torch.float64):
        raise InputError(f"images are {images.dtype}: curvature needs float32 or float64 (uint8: data.to_unit)")
    if images.ndim < 2 or not len(images) or not images.isfinite().all():
        raise InputError(f"images of shape {tuple(images.shape)}: expected at least one, (N,C,H,W) or (N,D), of finite numbers")
    weights = next(model.parameters(), images)
    if (weights.dtype, weights.device) != (images.dtype, images.device):
        found = f"the model is {weights.dtype} on {weights.device}, the images are {images.dtype} on {images.device}"
        raise InputError(f"{found}: bring them together with .to")
    if labels.shape != (len(images),) or labels.dtype != torch.int64 or labels.device != images.device:
        found = f"labels are {labels.dtype} of shape {tuple(labels.shape)} on {labels.device}"
        raise InputError(f"{found}: expected torch.int64 of shape ({len(images)},) on {images.device}")
    classes = model(images[:1]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels run from {int(labels.min())} to {int(labels.max())}, the model has {classes} classes: 0 to {classes - 1}")
