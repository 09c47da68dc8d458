"""Adversarial images: the worst within a budget, x' in [0,1] with ||x' - x|| <= budget, sought by a kept library.

pyautoattack 0.2.0, the authors' own AutoAttack (Croce and Hein 2020, arXiv 2003.01690; MIT), was chosen by measuring. It needs nothing but
PyTorch; no other candidate has L-inf and L2 gradient attacks and the standard AutoAttack and installs beside these versions:
torchattacks 3.5.1 pins requests 2.25, adversarial-robustness-toolbox (ART) was seen to take over nine minutes for its AutoAttack on 100
digits where this takes a minute and a half, torchattack, foolbox and adv-lib have none. Of 100 digits `normal` keeps, at 0.1 in L-inf:
65 under APGD from five starts and under all of AutoAttack here, 65 under torchattacks' AutoAttack, 66 under ART's APGD, 68 and 69 under
torchattacks' and ART's PGD of 40 steps.

    apgd        Auto-PGD on cross-entropy: projected gradient ascent that halves its step where the loss no longer grows; one random start
    autoattack  the standard version: APGD on cross-entropy (100 steps), targeted APGD and targeted FAB (9 classes each, or all there are),
                and Square, which uses no gradients (5,000 queries); `steps` plays no part. Of at least FEWEST classes
"""

import contextlib

import numpy as np
import torch
from torch import Tensor, nn

from . import InputError, at_least_one, one_of, positive
from .curvature import check
from .data import to_unit
from .model import predict

NORMS = {"linf": "Linf", "l2": "L2"}
ATTACKS = ("apgd", "autoattack")
FEWEST = 4  # classes: the targeted loss divides by a difference that the fourth largest logit is in
STEPS = 20  # five times as many find two more of 100 digits at most, mostly none: `masking_checks` of every network
CHECKED_STEPS = (5, 10, 20, 40, 100)
SEED = 0  # of the random start


def adversarial(
    model: nn.Module, images: Tensor, labels: Tensor, norm: str, budget: float, attack: str = "apgd", steps: int = STEPS, seed: int = SEED,
) -> Tensor:  # fmt: skip
    """x' for each image: one that the model gets wrong where the attack finds one, else x itself; (N,C,H,W) in [0,1].

    images (N,C,H,W) uint8 or float32 in [0,1]; labels (N,); norm linf or l2, budget its bound in pixel units of [0,1].
    Raises InputError for a model in training mode, images outside [0,1], labels that do not fit, an unknown norm or attack, a budget or
    steps that are not positive.

    >>> class Brighter(nn.Module):  # says 1 where the mean pixel is above 1/2
    ...     def forward(self, x): return (x.mean((1, 2, 3)) - 0.5)[:, None] * torch.tensor([-1.0, 1.0])
    >>> x, y = torch.tensor([0.55, 0.9]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4), torch.tensor([1, 1])
    >>> adversarial(Brighter().eval(), x, y, "linf", 0.1).mean((1, 2, 3)).round(decimals=2)
    tensor([0.4500, 0.9000])
    """
    pixels = _checked(model, images, labels, norm, budget, steps)
    one_of("attack", attack, ATTACKS)
    with _undisturbed(model, seed):
        if attack == "apgd":
            return _apgd(model, pixels, norm, budget, steps, seed).perturb(pixels, labels).detach()
        from pyautoattack import AutoAttack

        classes = model(pixels[:1]).shape[1]
        if classes < FEWEST:
            raise InputError(f"the model tells {classes} classes apart: AutoAttack needs {FEWEST}; attack with apgd")
        whole = AutoAttack(model, norm=NORMS[norm], eps=budget, seed=seed, device=pixels.device)
        whole.apgd_targeted.n_target_classes = whole.fab.n_target_classes = min(9, classes - 1)
        return whole.run_standard_evaluation(pixels, labels, batch_size=len(pixels))[0]


def adversarial_correct(model: nn.Module, images: Tensor, labels: Tensor, *which, **named) -> np.ndarray:
    """Whether the model is right on the image and on what `adversarial` makes of it (same arguments); bool (N,).

    >>> class Brighter(nn.Module):  # says 1 where the mean pixel is above 1/2
    ...     def forward(self, x): return (x.mean((1, 2, 3)) - 0.5)[:, None] * torch.tensor([-1.0, 1.0])
    >>> model, y = Brighter().eval(), torch.tensor([1, 1, 1])
    >>> x = torch.tensor([0.45, 0.55, 0.9]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    >>> adversarial_correct(model, x, y, "linf", 0.1)
    array([False, False,  True])
    """
    return _right(model, adversarial(model, images, labels, *which, **named), labels)


def transferred_correct(model: nn.Module, source: nn.Module, images: Tensor, labels: Tensor, norm: str, budget: float) -> np.ndarray:
    """Whether the model is right on the image and on the one in the budget where another network's loss is highest (APGD); bool (N,).

    >>> class Brighter(nn.Module):  # says 1 where the mean pixel is above 1/2
    ...     def forward(self, x): return (x.mean((1, 2, 3)) - 0.5)[:, None] * torch.tensor([-1.0, 1.0])
    >>> model, y = Brighter().eval(), torch.tensor([1, 1, 1])
    >>> x = torch.tensor([0.45, 0.55, 0.9]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    >>> class Darker(Brighter):  # what is made on it is brighter
    ...     def forward(self, x): return -super().forward(x)
    >>> transferred_correct(model, Darker().eval(), x, y, "linf", 0.1), transferred_correct(model, model, x, y, "linf", 0.1)
    (array([False,  True,  True]), array([False, False,  True]))
    """
    pixels = _checked(source, images, labels, norm, budget, STEPS)
    check(model, pixels, labels)
    with _undisturbed(source, SEED):
        worst = _apgd(source, pixels, norm, budget, STEPS, SEED).perturb(pixels, labels, best_loss=True)
    return _right(model, pixels, labels) & _right(model, worst, labels)


def masking_checks(model: nn.Module, images: Tensor, labels: Tensor, norm: str, budget: float, large: float, sources: dict) -> dict:
    """Accuracies by which masked gradients would show (Athalye et al. 2018; Carlini et al. 2019), all under APGD.

    large: at a budget that leaves nothing of an image. by_steps: at `budget`, steps -> accuracy. direct and transferred: at `budget`, made
    on the network itself, or on others (name -> model). The rules by which they are judged: `adversary_rules`.

    >>> class Brighter(nn.Module):  # says 1 where the mean pixel is above 1/2
    ...     def forward(self, x): return (x.mean((1, 2, 3)) - 0.5)[:, None] * torch.tensor([-1.0, 1.0])
    >>> model, y = Brighter().eval(), torch.tensor([1, 1, 1])
    >>> x = torch.tensor([0.45, 0.55, 0.9]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    >>> found = masking_checks(model, x, y, "linf", 0.1, large=0.5, sources={"itself": model})
    >>> found["large"], found["by_steps"]["5"], found["direct"], found["transferred"]
    (0.0, 0.33333, 0.33333, {'itself': 0.33333})
    """
    rate = lambda correct: round(float(correct.mean()), 5)  # noqa: E731
    by_steps = {steps: rate(adversarial_correct(model, images, labels, norm, budget, steps=steps)) for steps in CHECKED_STEPS}
    return {
        "large": rate(adversarial_correct(model, images, labels, norm, large)),
        "by_steps": {str(steps): value for steps, value in by_steps.items()},
        "direct": by_steps[STEPS],
        "transferred": {name: rate(transferred_correct(model, source, images, labels, norm, budget)) for name, source in sources.items()},
    }


def _checked(model: nn.Module, images: Tensor, labels: Tensor, norm: str, budget: float, steps: int) -> Tensor:
    """The images as float32 in [0,1], with everything else in order."""
    one_of("norm", norm, NORMS)
    positive("budget", budget)
    at_least_one("steps", steps)
    pixels = to_unit(images) if images.dtype == torch.uint8 else images
    if pixels.dtype != torch.float32:
        raise InputError(f"images are {pixels.dtype}: an attack needs uint8, or float32 in [0,1]")
    check(model, pixels, labels)
    if pixels.min() < 0 or pixels.max() > 1:
        raise InputError(f"images run from {float(pixels.min()):.3g} to {float(pixels.max()):.3g}: an attack needs pixels in [0,1]")
    return pixels


def _apgd(model: nn.Module, images: Tensor, norm: str, budget: float, steps: int, seed: int):
    from pyautoattack.autopgd_base import APGDAttack

    return APGDAttack(model, n_iter=steps, norm=NORMS[norm], n_restarts=1, eps=budget, seed=seed, device=images.device)


def _right(model: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    return (predict(model, images) == labels).cpu().numpy()


@contextlib.contextmanager
def _undisturbed(model: nn.Module, seed: int):
    """The attack library draws from the global generators, which it seeds itself only when it looks for errors, not for the highest loss;
    and differentiates by the weights too: neither outlives this."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # all that torch.manual_seed seeds
        torch.manual_seed(seed)
        for parameter in wanted:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
