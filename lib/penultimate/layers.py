"""Theorem 6.3: separability layer by layer. Where h -> q, from a layer to the features, is L-Lipschitz, samples of different classes
that lie D apart in feature space lie at least D / L apart in that layer, for ||q(a) - q(b)|| <= L ||h(a) - h(b)||.

A product of spectral norms is such an L; the largest Jacobian norm that was measured is below the true L, so that D / L_local is an
estimate and no bound.
"""

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor, nn
from torch.func import jacrev, vjp, vmap

from . import InputError
from .curvature import check
from .model import Block, Classifier

TOLERANCE = 1e-5  # relative, of a spectral norm: found from below, so that a bound is widened by ten times as much


class Normalise(nn.Module):
    """(x - mean) / std, the classifier's first step as a module of its own.

    >>> Normalise(torch.tensor(0.5), torch.tensor(0.25))(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-2.,  0.,  2.])
    """

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def stages(model: Classifier) -> list[tuple[str, nn.Module]]:
    """The maps from image to features, one for each layer that is looked at; applied in turn they are model.features.

    normalise, stem, each residual block, pool (with flatten), embed. Raises InputError for a backbone that is not a model.ResNet.

    >>> from penultimate.model import small
    >>> model, image = Classifier(small(width=4), num_classes=3, dim=8).eval(), torch.rand(1, 1, 8, 8)
    >>> [name for name, _ in stages(model)]
    ['normalise', 'stem', 'block 1', 'block 2', 'block 3', 'pool', 'features']
    >>> torch.equal(nn.Sequential(*(stage for _, stage in stages(model)))(image), model.features(image))
    True
    """
    if not isinstance(model.backbone, nn.Sequential) or not any(isinstance(part, Block) for part in model.backbone):
        raise InputError(f"backbone {type(model.backbone).__name__} has no known stages: take one of model.NETWORKS")
    stem, *blocks, pool, flatten = model.backbone
    named = [(f"block {number}", block) for number, block in enumerate(blocks, 1)]
    first = [("normalise", Normalise(model.mean, model.std)), ("stem", stem)]
    return [*first, *named, ("pool", nn.Sequential(pool, flatten)), ("features", model.embed)]


@torch.no_grad()
def activations(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    """What each stage gives: name -> (N, ...), with "image" first and "features" last.

    >>> from penultimate.model import small
    >>> found = activations(Classifier(small(width=4), num_classes=3, dim=8).eval(), torch.rand(2, 1, 8, 8))
    >>> found["stem"].shape, found["features"].shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2, 8]))
    """
    found = {"image": images}
    for name, stage in stages(model):
        found[name] = stage(found[next(reversed(found))])
    return found


def separation(points: Tensor, labels: Tensor) -> tuple[float, float]:
    """D, the smallest distance between samples of different classes; and separability, the median over samples of the distance to
    the nearest sample of another class over that to the nearest of the own class: scale-free, above 1 where neighbours agree.

    points (N, ...), labels (N,); every class twice at least, and two classes. A sample with a twin in its class counts as inf; a twin in
    another class too leaves nan, as where all features are one point.

    >>> separation(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([0, 0, 1, 1]))
    (3.0, 3.5)
    """
    flat, same = points.flatten(1).double(), labels[:, None] == labels
    apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    other = apart.masked_fill(same, torch.inf).amin(1)
    own = apart.masked_fill(~same, torch.inf).fill_diagonal_(torch.inf).amin(1)
    if not (other.isfinite() & own.isfinite()).all():
        raise InputError("separation needs two classes and two samples of every class: give more images")
    return float(other.min()), float(np.median((other / own).cpu()))


def distances(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """By layer: D `measured`, its `bound` D / L and `estimate` D / L_local from the D of the features, and `separability`.

    nan where a constant is 0, as in a network whose features are all one point.

    images (N,C,H,W) in [0,1], labels (N,), on the CPU. Raises InputError for a model in training mode.

    >>> from penultimate.model import small
    >>> model = Classifier(small(width=4), num_classes=3, dim=8).eval()
    >>> found = distances(model, torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2] * 2))
    >>> all(found["bound"][name] <= found["measured"][name] for name in found["measured"])
    True
    """
    check(model, images, labels)
    apart = {name: separation(points, labels) for name, points in activations(model, images).items()}
    bounds, local, d = lipschitz_bounds(model, images[:1]), local_lipschitz(model, images), apart["features"][0]
    over = lambda constants: {name: d / constants[name] if constants[name] else math.nan for name in apart}  # noqa: E731
    return {
        "measured": {name: found[0] for name, found in apart.items()}, "bound": over(bounds),
        "estimate": over(local), "separability": {name: found[1] for name, found in apart.items()},
    }  # fmt: skip


@torch.no_grad()
def affine_norm(function: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """||A||_2 of an affine function f(x) = A x + b on one input shaped and typed as `like`, by SciPy's svds on products with A and A'.

    Converged to TOLERANCE, from below.

    >>> round(affine_norm(lambda x: 3 * x + 1, torch.zeros(1, 2, 4, 4)), 4)
    3.0
    """
    like = torch.zeros_like(like)
    origin, pull = vjp(function, like)
    forward = lambda v: (function(torch.as_tensor(v, dtype=like.dtype).reshape(like.shape)) - origin).flatten().numpy()  # noqa: E731
    backward = lambda u: pull(torch.as_tensor(u, dtype=like.dtype).reshape(origin.shape))[0].flatten().numpy()  # noqa: E731
    size = origin.numel(), like.numel()
    if not forward(np.random.default_rng(0).normal(size=size[1])).any():  # of no other map is a random vector's image zero
        return 0.0
    if min(size) == 1:  # a single row or column is its own norm
        return float(np.linalg.norm(backward(np.ones(1)) if size[0] == 1 else forward(np.ones(1))))
    return float(
        svds(LinearOperator(size, forward, rmatvec=backward, dtype=np.float64), k=1, tol=TOLERANCE, return_singular_vectors=False, rng=0)[0]
    )


@torch.no_grad()
def lipschitz_bound(stage: nn.Module, like: Tensor) -> float:
    """An L for one stage on inputs shaped as `like` (1,C,H,W): spectral norms, multiplied along a chain, added over a block's two ways.

    ReLU and softplus are 1-Lipschitz. A convolution and its BatchNorm (evaluation mode) are one affine map, whose norm is found from
    below and widened here: what is left of svds' error is of the order of its tolerance, the margin ten times that.

    >>> double = nn.Linear(2, 2)
    >>> double.weight.data = 2 * torch.eye(2)
    >>> round(lipschitz_bound(nn.Sequential(double, nn.ReLU(), double), torch.zeros(1, 2)), 2)
    4.0
    """
    if isinstance(stage, Block):
        return lipschitz_bound(stage.convolutions, like) + lipschitz_bound(stage.shortcut, like)
    if not isinstance(stage, nn.Sequential):
        return affine_norm(stage, like) * (1 + 10 * TOLERANCE)
    bound, rest = 1.0, like
    for part in _affine_runs(stage):
        bound *= affine_norm(part, rest) * (1 + 10 * TOLERANCE)
        rest = part(rest)
    return bound


def _affine_runs(chain: nn.Sequential) -> Iterator[nn.Sequential]:
    """The stretches of a chain between its activations."""
    run = []
    for part in [*chain, nn.ReLU()]:
        if not isinstance(part, (nn.ReLU, nn.Softplus)):
            run.append(part)
        elif run:
            yield nn.Sequential(*run)
            run = []


@torch.no_grad()
def lipschitz_bounds(model: Classifier, image: Tensor) -> dict[str, float]:
    """L of the map from each layer (the image, and what each stage gives) to the features: products of the later stages' bounds.

    image (1,C,H,W) gives the shape, its dtype must be the model's; the features' own map is the identity, L = 1.

    >>> from penultimate.model import small
    >>> model = Classifier(small(width=4), num_classes=3, dim=8).eval()
    >>> bounds, local = lipschitz_bounds(model, torch.rand(1, 1, 8, 8)), local_lipschitz(model, torch.rand(4, 1, 8, 8))
    >>> list(bounds), all(local[name] <= 1.001 * bounds[name] for name in bounds)
    (['image', 'normalise', 'stem', 'block 1', 'block 2', 'block 3', 'pool', 'features'], True)
    """
    model = copy.deepcopy(model).double()  # in float32 the products are too rough for svds to converge
    steps, shapes = stages(model), activations(model, image.double())
    own = [lipschitz_bound(stage, shape) for (_, stage), shape in zip(steps, shapes.values(), strict=False)]
    after = np.cumprod([1.0, *reversed(own)])[::-1]
    return dict(zip(shapes, map(float, after), strict=True))


@torch.no_grad()
def local_lipschitz(model: Classifier, images: Tensor) -> dict[str, float]:
    """L_local of the map from each layer to the features: the largest Jacobian norm ||dq/dh||_2 over these images.

    An ESTIMATE of L, from below.

    >>> from penultimate.model import small
    >>> found = local_lipschitz(Classifier(small(width=4), num_classes=3, dim=8).eval(), torch.rand(4, 1, 8, 8))
    >>> round(found["features"], 4)  # the features' own map is the identity
    1.0
    """
    steps, found = stages(model), activations(model, images)
    largest = {}
    for index, (name, points) in enumerate(found.items()):
        rest = nn.Sequential(*(stage for _, stage in steps[index:]))
        jacobian = vmap(jacrev(lambda h, rest=rest: rest(h[None])[0]), chunk_size=16)(points).flatten(2)
        largest[name] = float(torch.linalg.matrix_norm(jacobian, 2).max())
    return largest
