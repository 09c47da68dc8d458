"""Measured flatness of stored runs: per-image curvature and robustness as records, and what they say of the paper's explanation.

A record: name, config, environment, data, settings (space, step, probes, sigma, ...), seconds, network (one number each:
temperature, confidence, w_max, accuracy, predictions that the twin changes) and images (one number for each image, 4 digits):
    kappa               eq. 21 for cross-entropy, normalised space: on a ReLU network mostly kinks
    frobenius           ||H||_F^2 for cross-entropy as automatic differentiation sees it (`piecewise_linear`): no kinks
    .._matched          both at the temperature where the mean confidence is MATCHED
    odds, odds_slope    ||H||_F^2 and ||grad|| of the negative log-odds, normalised space, on the softplus twin of sharpness BETA, which
                        bends where the network has kinks
    chain_left          ||H||_F^2 for cross-entropy on the twin, pixel space: the left end of theorem 6.1's chain
    chain_middle        its middle, (2 / sigma^4) E[S^2] on the twin, at the noise CHAIN_SIGMA
    chain_eta           eta on the twin at CHAIN_SIGMA; chain_eta_trained at the noise trained with
    margin, slope       m = z_y - max_{j != y} z_j and ||grad m||, normalised space: m / slope is the distance to the boundary, to first
                        order
    eta                 E||q(x + e) - q(x)||^2, e unclamped Gaussian at the noise trained with
    correct             how many of DRAWS noisy views at `sigma` (clamped, as a camera would) are classified correctly
The numbers of the twin are measured where an image is small enough for the exact Hessian.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from scipy import optimize

from .. import InputError, data, evaluate, theory
from ..curvature import gradient, input_curvature, norms
from ..logit_losses import negative_log_odds, negative_margin, tempered
from ..metrics import FROBENIUS, PART, PROBES, SPACE, STEP, curvatures, digits, sample
from ..model import predict
from ..progress import each
from ..runs import Run
from ..support.hessians import LARGEST_EXACT
from ..support.machine import environment

BETA = 20.0  # the least sharpness, doubled from 5, at which a twin changes about 1 % of the predictions or less, CIFAR-10 included
CHAIN_SIGMA, CHAIN_DRAWS = 0.02, 100  # small enough for the second-order picture of theorem 6.1 on digits
MATCHED = 0.9  # mean over images of the largest softmax value, at which networks are compared
DRAWS = 10  # the paper's number of noisy views for an image's robustness
SIGMA = {"digits": 0.4, "default": 7 / 255}  # where `normal` is near 70 %: elsewhere nearly all images tie at 10 of 10


def matched_temperature(logits: torch.Tensor, confidence: float = MATCHED) -> float:
    """T at which the mean over images of max_c softmax(z / T)_c is `confidence`, by SciPy's brentq on log T; logits (N,C).

    >>> round(matched_temperature(torch.tensor([[0.0, 2 * np.log(9)]]), 0.9), 6)
    2.0
    """
    if not 1 / logits.shape[1] < confidence < 1:
        raise InputError(f"confidence = {confidence} must lie between 1/{logits.shape[1]} and 1")
    if torch.equal(logits.amin(1), logits.amax(1)):
        raise InputError("every image has equal logits for all classes (a collapsed network?): no temperature makes it more confident")
    z = logits.double()
    return float(np.exp(optimize.brentq(lambda t: float((z / np.exp(t)).softmax(1).amax(1).mean()) - confidence, -9, 9, xtol=1e-10)))


def measure(run: Run, device: str = "cpu", images: int = 1000, sigma: float | None = None, root: Path | None = None) -> dict:
    """The record of a run (see the module) on `images` test images of a fixed shuffle, `sigma` in pixel units of [0,1]."""
    started, config = time.perf_counter(), run.config
    splits, model = data.load(config.dataset, root, config.image_size), run.model.to(device)
    test = sample(splits.test, images).to(device)
    sigma = SIGMA.get(config.dataset, SIGMA["default"]) if sigma is None else sigma
    x, y = data.to_unit(test.images), test.labels
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(500)])
    temperature, twin = matched_temperature(logits), theory.softplus_twin(model, BETA)
    rows = [
        _measure_part(model, part, labels, index, temperature, config.sigma)
        | (_measure_twin(twin, part, labels, index, config.sigma) if part[0].numel() <= LARGEST_EXACT else {})
        for index, (part, labels) in each([*enumerate(zip(x.split(PART), y.split(PART), strict=True))], config.name, "part")
    ]
    measured = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    measured["margin"] = -negative_margin(logits, y)
    correct = evaluate.correctness(model, test.images, y, "gaussian", [sigma], DRAWS)[0].sum(0)
    shown = {name: digits(values) for name, values in measured.items()}
    return {
        "name": config.name, "config": dataclasses.asdict(config), "environment": environment(device),
        "data": {"fingerprint": splits.fingerprint, "provenance": splits.provenance, "test_images": len(y)},
        "settings": {"space": SPACE, "step": STEP, "probes": PROBES, "frobenius": FROBENIUS, "beta": BETA,
                     "matched_confidence": MATCHED, "sigma": sigma, "draws": DRAWS, "eta_sigma": config.sigma, "chain_sigma": CHAIN_SIGMA,
                     "chain_draws": CHAIN_DRAWS},
        "seconds": round(time.perf_counter() - started, 1),
        "network": {"temperature": round(temperature, 5), "confidence": round(float(logits.softmax(1).amax(1).mean()), 5),
                    "w_max": round(theory.w_max(model.head), 5), "accuracy": round(float((logits.argmax(1) == y).double().mean()), 5),
                    "twin_changes": int((predict(twin, x) != logits.argmax(1)).sum())},
        "images": shown | {"correct": correct.tolist()},
    }  # fmt: skip


def _measure_part(model, images, labels, index: int, temperature: float, eta_sigma: float) -> dict[str, torch.Tensor]:
    """The numbers of one part of the images, whose probes and noise depend on its index alone."""
    matched = curvatures(model, images, labels, index, tempered(temperature))
    noise = torch.Generator(images.device).manual_seed(index)
    return {
        **curvatures(model, images, labels, index),
        **{f"{name}_matched": values for name, values in matched.items()},
        "slope": norms(gradient(model, images, labels, SPACE, negative_margin)).flatten(),
        "eta": theory.differences(model, images, labels, eta_sigma, PROBES, generator=noise).moved.mean(0),
    }


def _measure_twin(twin, images, labels, index: int, eta_sigma: float) -> dict[str, torch.Tensor]:
    """The numbers of the softplus twin, on exact Hessians."""

    def noisy(sigma, draws):
        return theory.differences(twin, images, labels, sigma, draws, generator=torch.Generator(images.device).manual_seed(index))

    small = noisy(CHAIN_SIGMA, CHAIN_DRAWS)
    return {
        "odds": input_curvature(twin, images, labels, "exact", space=SPACE, loss=negative_log_odds),
        "odds_slope": norms(gradient(twin, images, labels, SPACE, negative_log_odds)).flatten(),
        "chain_left": input_curvature(twin, images, labels, "exact", space="pixel"),
        "chain_middle": 2 / CHAIN_SIGMA**4 * small.symmetric.square().mean(0),
        "chain_eta": small.moved.mean(0),
        "chain_eta_trained": noisy(eta_sigma, PROBES).moved.mean(0),
    }
