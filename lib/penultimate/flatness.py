"""Measured flatness of stored runs: per-image curvature and robustness as records, and what they say of the paper's explanation.

A record: name, config, environment, data, settings (space, step, probes, sigma, ...), seconds, network (one number each:
temperature, confidence, w_max) and images (one number for each image, 4 digits):
    kappa             eq. 21 for cross-entropy, normalised space
    frobenius         ||H||_F^2 for cross-entropy by automatic differentiation: exact, or Hutchinson where exact is too large
    kappa_matched     eq. 21 for cross-entropy at the temperature where the mean confidence is MATCHED
    kappa_margin      eq. 21 for the logit margin max_{j != y} z_j - z_y
    margin, slope     m = z_y - max_{j != y} z_j and ||grad m||, normalised space: m / slope is the distance to the boundary, to first order
    eta               E||q(x + e) - q(x)||^2, e unclamped Gaussian at the noise trained with
    correct           how many of DRAWS noisy views at `sigma` (clamped, as a camera would) are classified correctly
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy import optimize

from . import InputError, data, evaluate, files, theory
from .curvature import LARGEST_EXACT, cross_entropy, gradient, input_curvature, negative_margin, norms, tempered
from .jobs import SECONDS_BETWEEN_LINES
from .records import COMMITTED
from .runs import Run, environment

RECORDS = COMMITTED / "curvature"  # two levels below the records of runs, which `records.read` thus leaves alone
SPACE, STEP, PROBES = "normalised", 1e-2, 20  # the paper's
MATCHED = 0.9  # mean over images of the largest softmax value, at which networks are compared
DRAWS = 10  # the paper's number of noisy views for an image's robustness
SIGMA = {"digits": 0.4, "default": 7 / 255}  # where `normal` is near 70 %: elsewhere nearly all images tie at 10 of 10
PART = 50  # images that share their probes: fixed, so that a record depends on nothing else


def matched_temperature(logits: torch.Tensor, confidence: float = MATCHED) -> float:
    """T at which the mean over images of max_c softmax(z / T)_c is `confidence`, by SciPy's brentq on log T; logits (N,C).

    >>> round(matched_temperature(torch.tensor([[0.0, 2 * np.log(9)]]), 0.9), 6)
    2.0
    """
    if not 1 / logits.shape[1] < confidence < 1:
        raise InputError(f"confidence = {confidence} must lie between 1/{logits.shape[1]} and 1")
    z = logits.double()
    return float(np.exp(optimize.brentq(lambda t: float((z / np.exp(t)).softmax(1).amax(1).mean()) - confidence, -9, 9, xtol=1e-10)))


def measure(run: Run, device: str = "cpu", images: int = 1000, sigma: float | None = None, root: Path | None = None) -> dict:
    """The record of a run (see the module) on `images` test images of a fixed shuffle, `sigma` in pixel units of [0,1]."""
    from tqdm.auto import tqdm

    started, config = time.perf_counter(), run.config
    splits, model = data.load(config.dataset, root, config.image_size), run.model.to(device)
    chosen = torch.randperm(len(splits.test), generator=torch.Generator().manual_seed(0))[:images].sort().values
    test = splits.test[chosen].to(device)  # shuffled first: a file may be ordered by class
    sigma = SIGMA.get(config.dataset, SIGMA["default"]) if sigma is None else sigma
    x, y = data.to_unit(test.images), test.labels
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(500)])
    temperature = matched_temperature(logits)
    exact = x[0].numel() <= LARGEST_EXACT
    parts, rows = list(zip(x.split(PART), y.split(PART), strict=True)), []
    lines = not sys.stderr.isatty()
    hidden, last_line = lines and "ipykernel" not in sys.modules, started
    for index, (part, labels) in enumerate(tqdm(parts, desc=config.name, unit="part", disable=hidden)):
        rows.append(_measure_part(model, part, labels, index, temperature, config.sigma, exact))
        if lines and time.perf_counter() - last_line > SECONDS_BETWEEN_LINES:
            last_line = time.perf_counter()
            print(f"  {config.name}: part {index + 1}/{len(parts)} of {len(y)} images", flush=True)
    measured = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    measured["margin"] = -negative_margin(logits, y)
    correct = evaluate.correctness(model, test.images, y, "gaussian", [sigma], DRAWS)[0].sum(0)
    shown = {name: [float(f"{value:.4g}") for value in values.tolist()] for name, values in measured.items()}
    return {
        "name": config.name, "config": dataclasses.asdict(config), "environment": environment(device),
        "data": {"fingerprint": splits.fingerprint, "provenance": splits.provenance, "test_images": len(y)},
        "settings": {"space": SPACE, "step": STEP, "probes": PROBES, "frobenius": "exact" if exact else "hvp",
                     "matched_confidence": MATCHED, "sigma": sigma, "draws": DRAWS, "eta_sigma": config.sigma},
        "seconds": round(time.perf_counter() - started, 1),
        "network": {"temperature": round(temperature, 5), "confidence": round(float(logits.softmax(1).amax(1).mean()), 5),
                    "w_max": round(theory.w_max(model.head), 5), "accuracy": round(float((logits.argmax(1) == y).double().mean()), 5)},
        "images": shown | {"correct": correct.tolist()},
    }  # fmt: skip


def _measure_part(model, images, labels, index: int, temperature: float, eta_sigma: float, exact: bool) -> dict[str, torch.Tensor]:
    """The numbers of one part of the images, whose probes and noise depend on its index alone."""

    def squared(loss, method="finite_difference"):
        return input_curvature(model, images, labels, method, PROBES, STEP, SPACE, torch.Generator().manual_seed(index), loss)

    noise = torch.Generator(images.device).manual_seed(index)
    return {
        "kappa": squared(cross_entropy),
        "frobenius": squared(cross_entropy, "exact" if exact else "hvp"),
        "kappa_matched": squared(tempered(temperature)),
        "kappa_margin": squared(negative_margin),
        "slope": norms(gradient(model, images, labels, SPACE, negative_margin)).flatten(),
        "eta": theory.differences(model, images, labels, eta_sigma, PROBES, generator=noise).moved.mean(0),
    }


def write(record: dict, folder: Path) -> Path:
    """Write a record as <dataset>-<preset>/<name>.json under a folder."""
    path = folder / record["name"].rpartition(f"-{record['config']['method']}-")[0] / f"{record['name']}.json"
    files.write_json(path, record)
    return path
