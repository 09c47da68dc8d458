"""Accuracy under perturbations, the same draws for every model, and the intervals that belong to it."""

import base64
import math
import numbers
import zlib

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from . import InputError
from .model import predict
from .noise import apply, checked

MOST_DRAWS, MOST_SEEDS = 1_000, 10**10  # a seed's draws are numbered below the next seed's, and all fit into 63 bits
MOST_BITS = 2**28  # of one array in a record
CHUNK = 500  # images that share one noise generator: fixed, so that draws do not depend on anything else


def correctness(model: nn.Module, images: Tensor, labels: Tensor, perturbation: str, levels, draws: int, seed: int = 0) -> np.ndarray:
    """Whether each image is classified correctly: bool (levels, draws, N).

    images uint8 or in [0,1], (N,C,H,W), on the model's device; levels in the perturbation's units, 0 = untouched.
    Draw k uses the same random numbers for every model on the same kind of device and, scaled, at every level: compare paired.
    Raises InputError where `noise.check` does, for labels that are not as many as the images, no levels, and draws or a seed out of range.

    >>> always_one = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> always_one[1].weight.data, always_one[1].bias.data = torch.zeros(2, 4), torch.tensor([0.0, 1.0])
    >>> correctness(always_one, torch.rand(3, 1, 2, 2), torch.tensor([1, 0, 1]), "gaussian", [8 / 255], draws=2)
    array([[[ True, False,  True],
            [ True, False,  True]]])
    """
    if not isinstance(draws, numbers.Integral) or not 1 <= draws <= MOST_DRAWS or not len(levels):
        raise InputError(f"{draws!r} draws at {len(levels)} levels: a sweep needs at least one of each, and at most {MOST_DRAWS:,} draws")
    pixels = checked(perturbation, images)
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < MOST_SEEDS:
        raise InputError(f"seed = {seed!r} is not a whole number from 0 to below {MOST_SEEDS:,}")
    if len(pixels) != len(labels):
        raise InputError(f"{len(pixels)} images but {len(labels)} labels")
    result = torch.empty(len(levels), draws, len(labels), dtype=torch.bool, device=pixels.device)
    for level_index, level in enumerate(levels):
        if level == 0:
            result[level_index] = predict(model, pixels) == labels
            continue
        for draw in range(draws):
            for chunk, (part, truth) in enumerate(zip(pixels.split(CHUNK), labels.split(CHUNK), strict=True)):
                generator = torch.Generator(pixels.device).manual_seed((seed * MOST_DRAWS + draw) * 100_000 + chunk)
                hits = predict(model, apply(perturbation, part, level, generator)) == truth
                result[level_index, draw, chunk * CHUNK : chunk * CHUNK + len(truth)] = hits
    return result.cpu().numpy()


def sweep(model: nn.Module, images: Tensor, labels: Tensor, perturbation: str, levels, draws: int, seed: int = 0, per_image: bool = False):
    """Accuracy for each level and draw, as a tidy table: perturbation, level, draw, accuracy.

    With per_image=True also the correctness of each image, bool (levels, draws, N).

    >>> from penultimate.data import load
    >>> digits, always_zero = load("digits").test, lambda x: torch.eye(10)[torch.zeros(len(x), dtype=torch.long)]
    >>> class Constant(nn.Module):
    ...     def forward(self, x): return always_zero(x)
    >>> sweep(Constant(), digits.images, digits.labels, "gaussian", [0, 0.1], draws=1).round(3)
      perturbation  level  draw  accuracy
    0     gaussian    0.0     0       0.1
    1     gaussian    0.1     0       0.1
    """
    correct = correctness(model, images, labels, perturbation, levels, draws, seed)
    rows = [
        (perturbation, level, draw, correct[i, draw].mean()) for i, level in enumerate(levels) for draw in range(draws)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["perturbation", "level", "draw", "accuracy"])
    return (table, correct) if per_image else table


def balanced(correct: np.ndarray, labels: Tensor) -> np.ndarray:
    """Balanced accuracy, the mean over classes of the share of each that is classified correctly: correct (..., N) -> (...).

    >>> balanced(np.array([[True, True, True, False]]), torch.tensor([0, 0, 0, 1]))
    array([0.5])
    """
    truth = labels.cpu().numpy()
    return np.mean([correct[..., truth == c].mean(-1) for c in np.unique(truth)], axis=0)


def pack(correct: np.ndarray) -> dict:
    """A boolean array (..., N) as JSON: its shape, and its bits image by image, each image's in whole bytes, by zlib, in base64.

    Side by side, an image's answers at all levels and draws are much alike: 10,000 CIFAR-10 images x 6 levels x 10 draws take 41 kB and not
    100, and the clean level, alike in every draw, no more than one draw of it.

    >>> unpack(pack(np.array([[True, False, True]])))
    array([[ True, False,  True]])
    """
    *before, images = correct.shape
    bits = np.packbits(correct.reshape(math.prod(before), images).T, axis=1)
    return {"shape": list(correct.shape), "zlib": base64.b64encode(zlib.compress(bits.tobytes(), 9)).decode()}


def unpack(packed: dict) -> np.ndarray:
    """The inverse of `pack`; InputError where the bits are damaged or not as many as the shape says.

    Older records have their bits plain, in the order of the array, under the key `bits`.

    >>> unpack({"shape": [1, 3], "bits": base64.b64encode(bytes([0b10100000])).decode()})
    array([[ True, False,  True]])
    """
    *before, images = shape = packed["shape"]
    of_image, plain = math.prod(before), "bits" in packed
    if min(shape) < 0 or images * of_image > MOST_BITS:
        raise InputError(f"{shape} is no shape of at most {MOST_BITS:,} bits")
    wanted = -(-images * of_image // 8) if plain else images * -(-of_image // 8)
    try:
        content = base64.b64decode(packed["bits" if plain else "zlib"], validate=True)
        rows = np.frombuffer(content if plain else _inflated(content, wanted), np.uint8)
    except (ValueError, zlib.error) as error:
        raise InputError(f"the bits of an array of shape {shape} are damaged ({error})") from error
    if len(rows) != wanted:
        raise InputError(f"{len(rows)} bytes of bits do not fill the shape {shape}: expected {wanted}")
    if plain:
        return np.unpackbits(rows, count=images * of_image).astype(bool).reshape(shape)
    return np.unpackbits(rows.reshape(images, -(-of_image // 8)), axis=1, count=of_image).T.astype(bool).reshape(shape)


def _inflated(content: bytes, wanted: int) -> bytes:
    """What zlib packed, no more of it than a byte beyond what is wanted: a few bytes can claim to be many."""
    stream = zlib.decompressobj()
    found = stream.decompress(content, wanted + 1)
    if len(found) <= wanted and not (stream.eof and not stream.unused_data):
        raise InputError("cut short, or something stands behind their end")
    return found


def seed_interval(values, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and two-sided t interval over seeds; with a single seed the interval is unknown (nan).

    For a difference between methods pass the differences, paired by seed.

    >>> [round(v, 3) for v in seed_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def image_interval(correct: np.ndarray, baseline: np.ndarray | None = None, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean accuracy (or its difference to a baseline, paired by image and draw) and a bootstrap interval over images.

    correct, baseline: bool (draws, N) of one level. An image's draws stay together as one cluster. For the interval alone two images are
    added, one that speaks for and one that speaks against (as Agresti and Coull, Agresti and Min do): few images on which all is right,
    or on which two methods agree, would otherwise be taken for certainty.

    >>> [round(v, 2) for v in image_interval(np.ones((5, 20), bool))]  # the rule of three: from about 1 - 3/20
    [1.0, 0.86, 1.0]
    """
    from scipy import stats

    per_image = correct.mean(0) - (0 if baseline is None else baseline.mean(0))
    mean, added = float(per_image.mean()), (1, 0 if baseline is None else -1)
    found = stats.bootstrap(
        (np.append(per_image, added),), np.mean, confidence_level=confidence, n_resamples=2000, batch=50, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)
