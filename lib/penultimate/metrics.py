"""What a run's record says of its network: accuracy under noise, with the correctness of each image, and the feature geometry; at full size
also accuracy under other perturbations and the curvature of CURVED images.

Cost at full size, in passes through the network: 51 of the test images for the noise (`brief`: 26), 32 for the other perturbations; for
the curvature, 21 gradients of each of CURVED images (`brief`: a quarter of them) for `kappa` and 10 for `frobenius`, together fewer than
one epoch of training has.
"""

import math

import torch

from . import data, geometry
from .configs import Config
from .curvature import input_curvature
from .evaluate import balanced, correctness, pack
from .logit_losses import Loss, cross_entropy
from .model import Classifier, penultimate_features
from .noise import FIXED
from .support.splits import Split, Splits, shuffled
from .theory import KURTOSIS

# Standard deviations at which a run is measured, beside the one it trains at, and how often.
LEVELS = {"digits": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), "default": tuple(n / 255 for n in (0, 8, 16, 24, 32))}
SAME = 1e-5  # levels nearer than that are one: records hold six digits of them
DRAWS = 5
# The presets of the published comparison are measured at more length, `brief` at less of it; their trials, which no result rests on, with
# one draw.
FULL_SIZE, FULL_DRAWS = ("paper", "tuned", "brief"), 10
TRIAL_SEED = 100  # seeds from here on are those of trials: smoke runs, searches of learning rates
KINDS = {
    "uniform": (8 / 255, 16 / 255), "occlusion": (0.125, 0.25), "low_resolution": (2.0, 3.0),
    "occlusion+gaussian": ((0.125, 8 / 255), (0.25, 16 / 255)),
}  # fmt: skip
CURVED = 1000  # test images of a fixed shuffle
SPACE, STEP, PROBES = "normalised", 1e-2, 20  # the paper's
FROBENIUS = "piecewise_linear"
PART = 50  # images that share their probes: fixed, so that a number depends on nothing else


def at_length(config: Config) -> bool:
    """Whether a run is measured at length: one of full size that a result may rest on.

    >>> at_length(Config(dataset="cifar10", preset="tuned")), at_length(Config(dataset="cifar10", preset="tuned", seed=TRIAL_SEED))
    (True, False)
    """
    return config.preset in FULL_SIZE and config.seed < TRIAL_SEED


def draws(config: Config) -> int:
    """How often noise is drawn.

    >>> [draws(Config(dataset="cifar10", preset=preset)) for preset in ("small", "brief", "paper")]
    [5, 5, 10]
    """
    if config.preset not in FULL_SIZE or (config.preset == "brief" and at_length(config)):
        return DRAWS
    return FULL_DRAWS if at_length(config) else 1


def curved(config: Config) -> int:
    """Of how many test images the curvature is measured.

    >>> curved(Config(dataset="cifar10", preset="brief")), curved(Config(dataset="cifar10", preset="paper"))
    (250, 1000)
    """
    return CURVED // 4 if config.preset == "brief" else CURVED


def levels_of(config: Config) -> list[float]:
    """The standard deviations of the noise at which a run is measured; for one's own data as they were settled.

    Its own is among them, where the level of the noise it trains with is one, and its preset's; in the place of others that are the SAME.

    >>> levels_of(Config(sigma=0.25))
    [0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5]
    """
    settled = data.settings(config.dataset).get("levels") or LEVELS.get(config.dataset, LEVELS["default"])
    own = [config.sigma] if config.noise in KURTOSIS else []
    found = []
    for level in (*own, Config(dataset=config.dataset, preset=config.preset).sigma, *settled):
        if all(abs(level - other) >= SAME for other in found):
            found.append(level)
    return sorted(found)


def told(levels: list[float]) -> list[float]:
    """Levels as records have them.

    >>> told([8 / 255])
    [0.031373]
    """
    return [round(level, 6) for level in levels]


@torch.inference_mode()
def measure(model: Classifier, splits: Splits, config: Config) -> dict:
    """Accuracy on test under Gaussian noise (levels x draws), the correctness of each image, and the feature geometry; `at_length`,
    accuracy under KINDS as well.

    >>> from penultimate.model import build
    >>> model, digits = build("small", 4, 8, 10, torch.zeros(1), torch.ones(1), seed=0), data.load("digits")
    >>> found = measure(model, digits, Config(sigma=0.3))
    >>> list(found), found["gaussian"]["levels"], len(found["gaussian"]["accuracy"][0])  # levels, and draws at each
    (['gaussian', 'geometry'], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 5)
    """
    test = splits.test.to(model.head.weight.device)
    levels = levels_of(config)
    correct = correctness(model, test.images, test.labels, "gaussian", levels, draws(config))
    gaussian = {"levels": told(levels), "accuracy": correct.mean(2).round(6).tolist(), "correct": pack(correct)}
    if data.is_own(config.dataset):
        gaussian["balanced"] = balanced(correct, splits.test.labels).round(6).tolist()
    if not test.exact.all():
        gaussian["accuracy_exact"] = correct[:, :, test.exact.cpu().numpy()].mean(2).round(6).tolist()
    others = {}
    for kind, levels in KINDS.items() if at_length(config) else ():
        found = correctness(model, test.images, test.labels, kind, levels, 1 if kind in FIXED else DRAWS)
        others[kind] = {"levels": levels, "accuracy": found.mean(2).round(6).tolist()}
    features = penultimate_features(model, data.to_unit(test.images))
    shape = geometry.describe(features, test.labels, model.head.weight, model.head.bias)
    shape = {name: round(value, 5) if math.isfinite(value) else None for name, value in shape.items()}
    return {"gaussian": gaussian, **others, "geometry": shape}


def curvature(model: Classifier, splits: Splits, images: int) -> dict:
    """`curvatures` of so many test images (`sample`), with 4 digits. The model must not be compiled: torch.func goes through it.

    >>> from penultimate.model import build
    >>> model = build("small", 4, 8, 10, torch.zeros(1), torch.ones(1), seed=0).eval()
    >>> found = curvature(model, data.load("digits"), images=5)
    >>> found["space"], len(found["kappa"]), len(found["frobenius"])
    ('normalised', 5, 5)
    """
    test = sample(splits.test, images).to(model.head.weight.device)
    parts = zip(data.to_unit(test.images).split(PART), test.labels.split(PART), strict=True)
    rows = [curvatures(model, images, labels, index) for index, (images, labels) in enumerate(parts)]
    settings = {"images": len(test), "space": SPACE, "step": STEP, "probes": PROBES}
    return settings | {name: digits(torch.cat([row[name] for row in rows])) for name in rows[0]}


def curvatures(model, images: torch.Tensor, labels: torch.Tensor, index: int, loss: Loss = cross_entropy) -> dict[str, torch.Tensor]:
    """Of one part of the images, whose probes depend on its index alone: kappa, eq. 21 with STEP and PROBES, and frobenius, ||H_x||_F^2
    without sampling (FROBENIUS), both in normalised space; (N,) each.

    >>> linear = torch.nn.Linear(4, 2).eval()
    >>> found = curvatures(linear, torch.rand(3, 4), torch.tensor([0, 1, 0]), index=0)
    >>> bool((found["kappa"] / found["frobenius"] - 1).abs().max() < 1)  # twenty probes of a Hessian of rank one
    True
    """

    def squared(method: str) -> torch.Tensor:
        return input_curvature(model, images, labels, method, PROBES, STEP, SPACE, torch.Generator().manual_seed(index), loss)

    return {"kappa": squared("finite_difference"), "frobenius": squared(FROBENIUS)}


def sample(test: Split, images: int) -> Split:
    """The first so many test images of `splits.shuffled`, in their own order.

    >>> sample(data.load("digits").test, 3).labels.shape
    torch.Size([3])
    """
    return test[shuffled(len(test))[:images].sort().values]


def digits(values: torch.Tensor) -> list[float]:
    """Numbers with 4 digits each, for a record.

    >>> digits(torch.tensor([1.23456, 1.23456e-7]))
    [1.235, 1.235e-07]
    """
    return [float(f"{value:.4g}") for value in values.tolist()]
