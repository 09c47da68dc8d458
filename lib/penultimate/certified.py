"""Randomized smoothing (Cohen, Rosenfeld and Kolter 2019, arXiv 1902.02918): a radius within which NO perturbation changes the prediction.

The certificate belongs to the smoothed classifier, not to the network that was trained:

    g(x) = argmax_c P( f(x + e) = c ),  e ~ N(0, sigma^2 I)            f: the network; noise unclamped, in pixel units of [0,1]
    g is constant within R = sigma Phi^-1(p_A) of x in L2,  p_A <= P( f(x + e) = g(x) )

n0 draws choose the class, n others bound p_A from below with confidence 1 - alpha (exact, one-sided); where the bound is not above 1/2 the
smoothed classifier abstains. All n draws agreeing gives the largest radius there is, sigma Phi^-1(alpha^(1/n)).
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from . import InputError, at_least_one, positive
from .model import must_evaluate, predict
from .noise import checked

ABSTAINS = -1


class Certificates(NamedTuple):
    """predicted (N,): the smoothed classifier's class, or ABSTAINS; radius (N,): certified in L2, pixel units, 0 where it abstains."""

    predicted: np.ndarray
    radius: np.ndarray


def lower_bound(successes: int, n: int, alpha: float) -> float:
    """The exact one-sided (Clopper-Pearson) bound: p lies above it with confidence 1 - alpha.

    >>> round(lower_bound(1000, 1000, 0.001), 6), round(0.001 ** (1 / 1000), 6), lower_bound(0, 10, 0.05)
    (0.993116, 0.993116, 0.0)
    """
    at_least_one("n", n)
    if not 0 < alpha < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n}, alpha = {alpha}: successes lie in [0, n], alpha in (0, 1)")
    return float(stats.binomtest(successes, n, alternative="greater").proportion_ci(1 - alpha, "exact").low)


@torch.inference_mode()
def certify(
    model: nn.Module, images: Tensor, sigma: float, n0: int = 100, n: int = 1000, alpha: float = 0.001, seed: int = 0
) -> Certificates:
    """The smoothed classifier's predictions and certified radii; images (N,C,H,W) uint8 or float in [0,1], on the model's device.

    sigma in pixel units of [0,1]. The draws are the same for every model on the same kind of device and, scaled, at every sigma: compare
    paired. Raises InputError for a model in training mode, images outside [0,1], a sigma that is not positive, n0 or n
    below 1, an alpha outside (0, 1).

    >>> class Brighter(nn.Module):  # a half-space: 1 where the one pixel is above 1/2, and the true radius is the distance to 1/2
    ...     def forward(self, x): return (x.flatten(1) - 0.5) * torch.tensor([-1.0, 1.0])
    >>> found = certify(Brighter().eval(), torch.tensor([0.9, 0.5]).reshape(2, 1, 1, 1), sigma=0.25)
    >>> found.predicted, found.radius.round(2)  # the true radii: 0.4 and 0
    (array([ 1, -1]), array([0.35, 0.  ]))
    """
    positive("sigma", sigma)
    at_least_one("n0", n0)
    lower_bound(0, n, alpha)
    must_evaluate(model)
    pixels = checked("gaussian", images)
    generator, found = torch.Generator(pixels.device).manual_seed(seed), []
    for image in pixels:
        noise = torch.randn(n0 + n, *image.shape, generator=generator, device=pixels.device, dtype=pixels.dtype)
        said = predict(model, image + sigma * noise).cpu()
        chosen = int(said[:n0].bincount().argmax())
        p = lower_bound(int((said[n0:] == chosen).sum()), n, alpha)
        found.append((chosen, sigma * stats.norm.ppf(p)) if p > 0.5 else (ABSTAINS, 0.0))
    return Certificates(np.array([chosen for chosen, _ in found], dtype=int), np.array([radius for _, radius in found], dtype=float))


def certified_accuracy(found: Certificates, labels, radii) -> np.ndarray:
    """The share of images on which the smoothed classifier is right and certified to stay so within each radius; (len(radii),).

    >>> certified_accuracy(Certificates(np.array([1, 2, -1]), np.array([0.3, 0.5, 0.0])), [1, 1, 1], [0, 0.2, 0.4])
    array([0.33333333, 0.33333333, 0.        ])
    """
    right = found.predicted == np.asarray(labels)
    return np.array([(right & (found.radius >= radius)).mean() for radius in radii])
