"""What ways to the input Hessian have in common: its products with vectors, the logits' part in it, the images in parts that fit.

Everything here is called without autocast and without a graph of the weights; `curvature` has the measures.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vjp, vmap

from .. import InputError, losses, one_of
from ..logit_losses import Loss
from ..model import must_evaluate

SPACES = ("normalised", "pixel")
LOOKED_AT = 4  # images of a part at which logits are tried for being piecewise linear
LARGEST_EXACT = 1024  # numbers in an image: beyond it the whole Hessian costs thousands of gradients an image
NUMBERS_AT_ONCE = 2**18  # in the images of one forward pass


def logit_parts(model: nn.Module, images: Tensor, labels: Tensor, space: str, loss: Loss):
    """For each part of n images: S J with J = dz/dx (n,C,D), and L = d^2 l / dz^2 (n,C,C), float64; S as in `operators`.

    L is taken in float64: where a wrong class is nearly sure, p (1 - p) of it is lost in float32. The rows of J are those of one batch,
    as far as it may be large. Raises InputError where the logits are not piecewise linear.

    >>> linear, x, y = nn.Linear(4, 3).eval(), torch.rand(5, 4), torch.zeros(5, dtype=torch.long)
    >>> ((j, bend),) = logit_parts(linear, x, y, "pixel", F.cross_entropy)
    >>> torch.allclose(j[0].float(), linear.weight), j.shape, bend.shape
    (True, torch.Size([5, 3, 4]), torch.Size([5, 3, 3]))
    """
    scale = scale_of(model, images, space)
    for x, y in parts(images, labels):
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
    """`losses.norms` of each image, (N,1,1,1).

    >>> norms(torch.tensor([[[[3.0, 4.0]]]]))
    tensor([[[[5.]]]])
    """
    return losses.norms(x.flatten(1)).reshape(-1, *(1 for _ in x.shape[1:]))


def operators(model: nn.Module, images: Tensor, labels: Tensor, space: str, loss: Loss, step: float | None = None):
    """For each part of n images: v -> S H S v, (k,1,C,H,W) or (k,n,C,H,W) -> (k,n,C,H,W), and how large k may be.

    S = std in normalised space, else 1. With a step the product is the difference quotient of the gradient.

    >>> linear, x, y = nn.Linear(4, 3).eval(), torch.rand(5, 4), torch.zeros(5, dtype=torch.long)
    >>> ((product, most),) = operators(linear, x, y, "pixel", lambda z, y: (z**2).sum(1))  # H = 2 W'W, of every image
    >>> torch.allclose(product(torch.eye(4)[:, None])[:, 0], 2 * linear.weight.T @ linear.weight, atol=1e-6)
    True
    """
    scale = scale_of(model, images, space)
    for x, y in parts(images, labels):
        yield (_product(model, x, y, scale, loss) if step is None else _quotient(model, x, y, scale, loss, step)), _rows(x)


def _product(model: nn.Module, x: Tensor, y: Tensor, scale: Tensor, loss: Loss) -> Callable[[Tensor], Tensor]:
    """v -> S H S v: one graph of the gradient, through which the v are mapped; H is symmetric, v'H = Hv."""
    _, pull = vjp(gradient_of(model, y, loss), x)
    return vmap(lambda v: scale * pull((scale * v).expand(x.shape))[0])


def _quotient(model: nn.Module, x: Tensor, y: Tensor, scale: Tensor, loss: Loss, step: float) -> Callable[[Tensor], Tensor]:
    """v -> S (grad l(x + step S v) - grad l(x)) / step, as rows of one batch: a fifth faster on the CPU than mapped."""
    at_x = gradient_of(model, y, loss)(x)

    def h(v: Tensor) -> Tensor:
        moved = (x + step * scale * v).flatten(0, 1)
        return scale * (gradient_of(model, y.repeat(len(v)), loss)(moved).unflatten(0, (len(v), len(x))) - at_x) / step

    return h


def gradient_of(model: nn.Module, labels: Tensor, loss: Loss) -> Callable[[Tensor], Tensor]:
    """x -> grad_x l(x) of every image at once: in evaluation mode no image sees another, so the sum has each one's gradient.

    >>> half = lambda z, y: (z**2).sum(1) / 2
    >>> gradient_of(nn.Identity(), torch.tensor([0, 1]), half)(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [3., 4.]])
    """

    return grad(lambda x: loss(model(x), labels).sum())


def parts(images: Tensor, labels: Tensor):
    """Images and labels in parts of which each may pass the network at once, one copy of it.

    >>> [len(x) for x, y in parts(torch.zeros(200, 3, 32, 32), torch.zeros(200))]  # NUMBERS_AT_ONCE
    [85, 85, 30]
    """
    rows = _rows(images[0])
    return zip(images.split(rows), labels.split(rows), strict=True)


def _rows(x: Tensor) -> int:
    """How many of it may pass the network together."""
    return max(1, NUMBERS_AT_ONCE // x.numel())


def unit_vectors(images: Tensor) -> Tensor:
    """Every e_i of an image's D numbers, (D,C,H,W); InputError where D is above LARGEST_EXACT.

    >>> unit_vectors(torch.rand(7, 1, 8, 8)).shape
    torch.Size([64, 1, 8, 8])
    """
    size = images[0].numel()
    if size > LARGEST_EXACT:
        raise InputError(f"an image of {size:,} numbers is too large for the exact Hessian (at most {LARGEST_EXACT:,}): take method='hvp'")
    return torch.eye(size, dtype=images.dtype, device=images.device).reshape(size, *images.shape[1:])


def scale_of(model: nn.Module, images: Tensor, space: str) -> Tensor:
    """S: the model's `std` in normalised space, 1 in pixel space or where it has none.

    >>> scale_of(nn.Linear(4, 3), torch.rand(2, 4), "normalised")
    tensor(1.)
    """
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
