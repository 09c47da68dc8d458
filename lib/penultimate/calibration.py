"""Is a classifier as often right as it says? Reliability in bins of confidence, and the expected calibration error."""

import numpy as np
import torch
from torch import Tensor, nn

from . import InputError
from .model import must_evaluate
from .noise import checked

BINS = 15  # of equal width, as in Guo et al. 2017, arXiv 1706.04599


@torch.inference_mode()
def scores(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Confidence max_c softmax(z(x))_c and whether the most probable class is right, (N,) each; images uint8 or in [0,1], (N,C,H,W).

    Raises InputError for a model in training mode and for images outside [0,1].

    >>> certain = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval()
    >>> certain[1].weight.data, certain[1].bias.data = torch.zeros(2, 1), torch.tensor([0.6, 0.4]).log()
    >>> confidence, correct = scores(certain, torch.rand(2, 1, 1, 1), torch.tensor([0, 1]))  # always 60 % for class 0
    >>> confidence.round(4), correct
    (array([0.6, 0.6]), array([ True, False]))
    """
    must_evaluate(model)
    parts = checked("gaussian", images).split(batch)
    confidence, predicted = torch.cat([model(part).double().softmax(1) for part in parts]).max(1)
    return confidence.cpu().numpy(), (predicted == labels).cpu().numpy()


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict[str, list]:
    """By bin of confidence, ((b-1)/bins, b/bins] for b = 1..bins: how many predictions, their summed confidence, how many are correct.

    >>> reliability(np.array([0.3, 0.9, 1.0]), np.array([True, True, False]), bins=2)
    {'count': [1, 2], 'confidence': [0.3, 1.9], 'correct': [1, 1]}
    """
    if not len(confidence) or not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError(f"{len(confidence)} confidences, some not in [0,1]: expected probabilities of the predicted classes")
    at = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    count, summed, right = (np.bincount(at, weights, minlength=bins) for weights in (None, confidence, correct))
    return {"count": count.tolist(), "confidence": summed.round(4).tolist(), "correct": right.astype(int).tolist()}


def calibration_error(table: dict[str, list]) -> float:
    """Expected calibration error ECE = sum_b (n_b / N) |acc_b - conf_b| of a `reliability`: 0 for a classifier that is right as often
    as it says.

    >>> calibration_error({"count": [1, 2], "confidence": [0.3, 1.9], "correct": [1, 1]})  # (|1 - 0.3| + |1 - 1.9|) / 3
    0.533...
    """
    return float(np.abs(np.subtract(table["correct"], table["confidence"])).sum() / np.sum(table["count"]))


def overconfidence(table: dict[str, list]) -> float:
    """Mean confidence minus accuracy: positive for a classifier that is right less often than it says.

    >>> overconfidence({"count": [1, 3], "confidence": [0.5, 2.5], "correct": [0, 2]})  # (3 - 2) / 4
    0.25
    """
    return float((np.sum(table["confidence"]) - np.sum(table["correct"])) / np.sum(table["count"]))
