"""Curvature: 20 probes against a loop that keeps the graph, in time and memory; the exact Hessian of a digit against a loop over rows."""

import functools
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import curvature
from ..curvature import gradient, hessian, input_curvature
from ..model import build
from .compare import Row, alone, faster

IMAGES, PROBES, STEP = 64, 20, 1e-2
FASTER, LEANER, HESSIAN_FASTER = 2, 2, 20
CURVATURE = f"eq. 21, {PROBES} probes, {IMAGES} images, width 8"
HESSIAN, ANY_NETWORK = "the exact Hessian of a digit, through the logits", "the same by its 64 products, for any network"


def plain_curvature(model: nn.Module, images: Tensor, labels: Tensor, probes: int = PROBES, step: float = STEP) -> Tensor:
    """Eq. 21 as it reads, in the space of `images`, every gradient with its graph; (N,)."""
    images, total = images.clone().requires_grad_(), 0
    slope = lambda x: torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x, create_graph=True)[0]  # noqa: E731
    at_x, gen = slope(images), torch.Generator().manual_seed(0)
    for direction in torch.randn(probes, *images.shape[1:], generator=gen, dtype=images.dtype):
        total = total + ((slope(images + step * direction) - at_x) / step).square().flatten(1).sum(1)
    return total / probes


def plain_hessian(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The Hessian of each image (N,C,H,W), a row at a time; (N,D,D)."""
    images = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(images), labels, reduction="sum"), images, create_graph=True)
    return torch.stack([torch.autograd.grad(g.sum(), images, retain_graph=True)[0].flatten(1) for g in slope.flatten(1).T], 1)


def network(name: str = "resnet18", width: int = 8, channels: int = 3) -> nn.Module:
    return build(name, width, 128, 10, torch.zeros(channels), torch.ones(channels), 0).eval()


def _batch(channels: int = 3, size: int = 32, count: int = IMAGES) -> tuple[Tensor, Tensor]:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 10


def _grown(plain: bool) -> float:
    """In a process of its own: by how many MiB its peak grows."""
    torch.set_num_threads(1)
    model, (images, labels) = network(), _batch()
    model(images[:1])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, which is that of the imports
    before = _peak_so_far()
    (plain_curvature if plain else input_curvature)(model, images, labels)
    return _peak_so_far() - before


def _peak_so_far() -> float:
    """Of resident memory, MiB; Linux."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def peak(plain: bool) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_grown, plain).result()


def measure() -> list[Row]:
    model, (images, labels) = network(), _batch()
    what, against = CURVATURE, "a loop that keeps the graph"
    time = faster(what, against, FASTER, lambda: input_curvature(model, images, labels), lambda: plain_curvature(model, images, labels), 5)
    ours, theirs = peak(plain=False), peak(plain=True)
    memory = Row(f"{what}: memory at the peak", against, "MiB", ours, theirs, theirs / ours, f"{LEANER}x less", theirs >= LEANER * ours)
    small, (digit, label) = network("small", 16, 1), _batch(1, 8, 1)
    ways = {HESSIAN: "piecewise_linear", ANY_NETWORK: "exact"}
    whole = [
        faster(what, "a loop over its 64 rows", HESSIAN_FASTER, functools.partial(hessian, small, digit, label, method=way),
               functools.partial(plain_hessian, small, digit, label))
        for what, way in ways.items()
    ]  # fmt: skip
    return [time, memory, *whole]


def reasons() -> dict[str, tuple[str, float]]:
    """Of equation 21 the forward passes; of a Hessian the look whether the logits are piecewise linear, or the gradient whose graph the
    products go through and what 64 gradients take, as each product is a pass through that graph and back."""
    (model, (images, _)), (small, (digits, named)) = (network(), _batch()), (network("small", 16, 1), _batch(1, 8, 64))
    with torch.no_grad():
        forward = alone(lambda: [model(images) for _ in range(PROBES + 1)], 5)
    look = alone(lambda: curvature.piecewise_linear(small, digits[:1]))
    products = alone(lambda: (gradient(small, digits[:1], named[:1]), gradient(small, digits, named)))
    return {
        CURVATURE: (f"its {PROBES + 1} forward passes without the backward ones", forward),
        HESSIAN: ("making sure that the logits are piecewise linear", look),
        ANY_NETWORK: ("the gradients of one digit and of 64 in one batch", products),
    }
