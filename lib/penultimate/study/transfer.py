"""Accuracy of stored runs under perturbations they were not trained with, as records; how strong those are is set by `normal`.

Severities. On the validation split, the level of each perturbation at which the accuracy of `normal` (mean over its seeds) comes
nearest to 90, 75 and 50 % of its clean accuracy, found by bisection on a ladder of levels, each about 5 % above the one before or
the next whole pixel or quality. A file `severities.json` beside the records keeps them, with the share that was reached: a ladder may
be too coarse (patches of whole pixels in an 8x8 image) or end too early.

A record: name, config, environment, data, settings, seconds; clean: which test images are classified correctly (`evaluate.pack`);
perturbations: name -> levels, accuracy (levels, draws) and correct (levels, draws, N) packed; calibration: clean and noisy (Gaussian
noise of the preset's training level) -> `calibration.reliability`.
"""

import bisect
import dataclasses
import functools
import time
from pathlib import Path

import numpy as np
import torch

from .. import calibration, data, evaluate
from ..metrics import DRAWS
from ..model import predict
from ..noise import FIXED, apply, must_touch
from ..progress import each
from ..runs import Config, Run
from ..support.machine import environment

TARGETS = (0.9, 0.75, 0.5)  # shares of its clean accuracy that `normal` keeps
NEAR = 0.05  # a share that lies further from its target is called not reached
PATCH = 0.125  # side of the patches in occlusion + Gaussian, as a share of the image's: one pixel in eight
PERTURBATIONS = (
    "gaussian", "uniform", "laplace", "salt_pepper", "occlusion", "low_resolution", "occlusion+gaussian", "blur", "contrast", "jpeg",
)  # fmt: skip
MATRIX = ("uniform", "laplace", "salt_pepper")  # training noises beside none and Gaussian
VALIDATION = 250  # at most this many images choose the severities
STEPS = 121  # of a ladder


def ladder(perturbation: str, side: int) -> list:
    """The levels that severities are chosen from, weakest first, for images of this side in px.

    >>> ladder("occlusion", 8)[:2], ladder("low_resolution", 8)[-1], ladder("jpeg", 8)[-1]
    ([0.125, 0.25], 8.0, 99)
    """

    def geometric(low: float, high: float, flipped: bool = False) -> list[float]:
        found = np.geomspace(low, high, STEPS)
        return list(dict.fromkeys(float(f"{1 - value if flipped else value:.3g}") for value in found))

    if perturbation in ("gaussian", "uniform", "laplace"):
        return geometric(0.004, 1.5)
    if perturbation == "occlusion+gaussian":
        return [(PATCH, level) for level in geometric(0.004, 1.5)]
    return {
        "salt_pepper": geometric(0.002, 1),
        "occlusion": [patch / side for patch in range(1, side)],
        "low_resolution": [side / small for small in range(side - 1, 0, -1)],
        "blur": geometric(0.3, (side - 1) / 3 - 0.005),
        "contrast": geometric(0.99, 0.004, flipped=True),
        "jpeg": [*range(1, 100)],
    }[perturbation]


def nearest(levels: list, share, target: float) -> tuple:
    """The level whose share (a function that falls along the levels) comes nearest to the target, by bisection, and its share.

    >>> nearest([0.1, 0.2, 0.4, 0.8], lambda level: 1 - level, 0.55)
    (0.4, 0.6)
    """
    below = bisect.bisect_left(levels, -target, key=lambda level: -share(level))
    around = levels[max(below - 1, 0) : below + 1]
    return min(((level, share(level)) for level in around), key=lambda found: abs(found[1] - target))


def severities(runs: list[Run], device: str = "cpu", draws: int = DRAWS, root: Path | None = None) -> dict:
    """What `severities.json` holds: perturbations -> rows of target, level, share; the level of salt and pepper as harmful as the noise
    trained with (`matched`); clean accuracy, seeds, images. runs: of `normal`, one a seed."""
    config, splits = runs[0].config, data.load(runs[0].config.dataset, root, runs[0].config.image_size)
    validation, models = splits.validation.sample(VALIDATION).to(device), [run.model.to(device) for run in runs]
    clean = float(np.mean([(predict(m, data.to_unit(validation.images)) == validation.labels).double().mean().item() for m in models]))

    @functools.cache
    def share(perturbation: str, level) -> float:
        of = (validation.images, validation.labels, perturbation, [level], 1 if perturbation in FIXED else draws)
        return float(np.mean([evaluate.correctness(model, *of).mean() for model in models])) / clean

    found = {}
    for name in each([*PERTURBATIONS], f"severities of {config.dataset}", "perturbation"):
        levels = ladder(name, min(splits.shape[1:]))
        rows = [(target, *nearest(levels, functools.partial(share, name), target)) for target in TARGETS]
        found[name] = [{"target": target, "level": level, "share": round(reached, 4)} for target, level, reached in rows]
    plain = share("gaussian", config.sigma)
    matched, reached = nearest(ladder("salt_pepper", min(splits.shape[1:])), functools.partial(share, "salt_pepper"), plain)
    return {
        "dataset": config.dataset, "preset": config.preset, "fingerprint": splits.fingerprint,
        "clean": round(clean, 5), "seeds": [run.config.seed for run in runs],
        "images": len(validation), "draws": draws, "perturbations": found,
        "matched": {"sigma": config.sigma, "gaussian": round(plain, 4), "salt_pepper": matched, "share": round(reached, 4)},
    }  # fmt: skip


def levels_of(chosen: dict) -> dict[str, list]:
    """Perturbation -> its distinct levels, weakest first; two targets may share one.

    >>> levels_of({"perturbations": {"occlusion": [{"level": 0.125}, {"level": 0.125}, {"level": 0.25}]}})
    {'occlusion': [0.125, 0.25]}
    """
    as_level = lambda level: tuple(level) if isinstance(level, list) else level  # noqa: E731
    return {name: list(dict.fromkeys(as_level(row["level"]) for row in rows)) for name, rows in chosen["perturbations"].items()}


def measure(run: Run, chosen: dict, device: str = "cpu", images: int = 1000, draws: int = DRAWS, root: Path | None = None) -> dict:
    """The record of a run (see the module) at the severities of `severities`, on at most so many test images of a fixed shuffle.

    Raises InputError for a level that cannot apply or leaves every image as it is.
    """
    started, config = time.perf_counter(), run.config
    splits, model = data.load(config.dataset, root, config.image_size), run.model.to(device)
    test = splits.test.sample(images).to(device)
    x, y = data.to_unit(test.images), test.labels
    measured = {}
    for name, levels in each([*levels_of(chosen).items()], config.name, "perturbation"):
        for level in levels:
            must_touch(name, x[: evaluate.CHUNK], level)
        correct = evaluate.correctness(model, x, y, name, levels, 1 if name in FIXED else draws)
        measured[name] = {"levels": levels, "accuracy": correct.mean(2).round(6).tolist(), "correct": evaluate.pack(correct)}
    sigma = Config(dataset=config.dataset, preset=config.preset).sigma
    noisy = [apply("gaussian", x, sigma, torch.Generator(x.device).manual_seed(draw)) for draw in range(draws)]
    clean = calibration.scores(model, x, y)
    noisy = [np.concatenate(parts) for parts in zip(*(calibration.scores(model, view, y) for view in noisy), strict=True)]
    return {
        "name": config.name, "config": dataclasses.asdict(config), "environment": environment(device),
        "data": {"fingerprint": splits.fingerprint, "provenance": splits.provenance, "test_images": len(y)},
        "settings": {"draws": draws, "sigma": sigma, "bins": calibration.BINS}, "seconds": round(time.perf_counter() - started, 1),
        "clean": evaluate.pack(clean[1]), "perturbations": measured,
        "calibration": {"clean": calibration.reliability(*clean), "noisy": calibration.reliability(*noisy)},
    }  # fmt: skip


def matrix_configs(chosen: dict, seeds: list[int]) -> list[Config]:
    """`both` and `proposed` trained with each noise of MATRIX: uniform and Laplace of the Gaussian's standard deviation, salt and pepper
    of the level that harms `normal` as much (`matched`).

    >>> chosen = {"dataset": "digits", "preset": "digits", "matched": {"sigma": 0.3, "salt_pepper": 0.2}}
    >>> [(c.method, c.noise, c.sigma) for c in matrix_configs(chosen, [0])][:3]
    [('both', 'uniform', 0.3), ('both', 'laplace', 0.3), ('both', 'salt_pepper', 0.2)]
    """
    which, matched = dict(dataset=chosen["dataset"], preset=chosen["preset"]), chosen["matched"]
    level = {"salt_pepper": matched["salt_pepper"]}
    return [
        Config(**which, method=method, seed=seed, noise=noise, sigma=level.get(noise, matched["sigma"]))
        for seed in seeds for method in ("both", "proposed") for noise in MATRIX
    ]  # fmt: skip
