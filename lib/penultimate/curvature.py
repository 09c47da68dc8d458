"""How flat the loss is in input space, per image: the Hessian H_x of l(x) by finite differences (eq. 21), products, or whole.

Spaces. With u = (x - mean) / std the normalised-space Hessian is H_u = S H_x S, S = diag(std): the pixel one, scaled by std on
both sides, so that ||H_u||_F^2 is smaller by std^4 where std is one number. A module without a buffer `std` gives no scale: what it
is fed is its only space, and both names mean that one. Everything is computed in the images' float32 or float64, never under autocast,
nor in the 10 bits to which a GPU's convolutions round unless told not to: differences would be differences of rounding.
"""

import functools

import torch
from torch import Tensor, nn

from . import at_least_one, one_of, positive
from .logit_losses import Loss, cross_entropy
from .support.hessians import check, draw_probes, gradient_of, logit_parts, norms, operators, parts, scale_of, unit_vectors

METHODS = ("finite_difference", "hvp", "exact", "piecewise_linear")
WHOLE = ("exact", "piecewise_linear")  # ways to the Hessian itself


def plainly(function):
    """Run a function of (model, images, ...) in the images' precision and without a graph of the weights; torch.func differentiates anyway.

    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     plainly(lambda model, images: model(images))(nn.Linear(4, 3), torch.rand(2, 4)).dtype
    torch.float32
    """

    @functools.wraps(function)
    def run(model, images, *given, **named):
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False), exact:
            return function(model, images, *given, **named)

    return run


@plainly
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
        seen = torch.cat([curved @ j @ j.mT for j, curved in logit_parts(model, images, labels, space, loss)])
        return (seen * seen.mT).sum((1, 2)).to(images)
    directions = unit_vectors(images) if method == "exact" else draw_probes(images, probes, generator)
    difference = step if method == "finite_difference" else None
    squared = torch.cat([
        torch.cat([h(v).square().flatten(2).sum(2) for v in directions[:, None].split(together)])
        for h, together in operators(model, images, labels, space, loss, difference)
    ], 1)  # fmt: skip
    return squared.sum(0) if method == "exact" else squared.mean(0)


@plainly
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
    basis = unit_vectors(images)
    if method == "piecewise_linear":
        return torch.cat([j.mT @ curved @ j for j, curved in logit_parts(model, images, labels, space, loss)]).to(images)
    return torch.cat([
        torch.cat([h(v).flatten(2) for v in basis[:, None].split(together)]).transpose(0, 1)
        for h, together in operators(model, images, labels, space, loss)
    ])  # fmt: skip


@plainly
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
    for h, _ in operators(model, images, labels, space, loss):
        v, hv = start, h(start[None])[0]
        for _ in range(iterations):
            v = hv / norms(hv).clamp(min=torch.finfo(hv.dtype).tiny)
            hv = h(v[None])[0]
        found.append((v * hv).flatten(1).sum(1))
    return torch.cat(found)


@plainly
def gradient(model: nn.Module, images: Tensor, labels: Tensor, space: str = "normalised", loss: Loss = cross_entropy) -> Tensor:
    """grad_x l(x) of each image, in units of loss / length of the space; (N,C,H,W).

    >>> class Linear(nn.Module):  # p = (1/2, 1/2) at 0, so that the gradient is -(2, 4) / 2
    ...     def forward(self, x): return torch.stack([torch.zeros(len(x)), x.flatten(1) @ torch.tensor([2.0, 4.0])], 1)
    >>> gradient(Linear().eval(), torch.zeros(1, 1, 1, 2), torch.tensor([1]))
    tensor([[[[-1., -2.]]]])
    """
    check(model, images, labels)
    scale = scale_of(model, images, space)
    return torch.cat([scale * gradient_of(model, y, loss)(x) for x, y in parts(images, labels)])
