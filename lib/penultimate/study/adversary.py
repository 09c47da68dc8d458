"""How stored runs hold against an adversary: correctness within budgets, checks of the attack, certified radii, as records.

A record: name, config, environment, data, settings, seconds, and on `test_images` test images of a fixed shuffle, in its order:
    clean        whether each is classified correctly (bits)
    apgd         norm -> whether it still is within each of BUDGETS under APGD (bits, budgets x images)
    autoattack   norm -> the same at the MIDDLE budget under the standard AutoAttack, on the first `autoattack_images`, where it was run,
                 by the machine and code of settings' `autoattack_environment` (the oldest records lack it)
    checks       `attacks.masking_checks` in L-inf at the middle budget, on the first `checked_images`
    certified    smoothing noise -> right and abstains (bits), radius, on the first `certified_images`: of the SMOOTHED classifier

Budgets were chosen on the validation split, by `normal` on two seeds under APGD: of 135 digits it keeps 91, 55, 11 and 0 % at 0.05, 0.1,
0.15 and 0.2 in L-inf; 90, 55, 10 and 0 % at 0.25, 0.5, 0.75 and 1 in L2; of 100 CIFAR-10 images, 68 % when clean, 57, 41, 17, 1 and 0 % at
0.25, 0.5, 1, 2 and 4/255; 61, 44, 24, 3 and 0 % at 0.03, 0.06, 0.12, 0.24 and 0.5.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from .. import InputError, attacks, data, evaluate
from ..certified import ABSTAINS, certify
from ..model import predict
from ..progress import each
from ..runs import Run
from ..support.machine import environment
from ..support.splits import shuffled

BUDGETS = {
    "digits": {"linf": (0.05, 0.075, 0.1, 0.15, 0.2), "l2": (0.25, 0.375, 0.5, 0.75, 1.0)},
    "default": {"linf": tuple(n / 255 for n in (0.25, 0.5, 1, 2, 4)), "l2": (0.03, 0.06, 0.12, 0.24, 0.5)},
}
MIDDLE = {"digits": {"linf": 0.1, "l2": 0.5}, "default": {"linf": 0.5 / 255, "l2": 0.06}}  # `normal` near half of its clean accuracy
LARGE = 0.5  # in L-inf: any image can become the same grey
SMOOTHING = {"digits": (0.15, 0.3), "default": (0.06, 0.12)}  # on digits half the noise trained with and it, on others it and twice
N0, ALPHA = 100, 0.001


def of(table: dict, dataset: str):
    """The entry of a data set in BUDGETS, MIDDLE or SMOOTHING.

    >>> of(MIDDLE, "digits")["linf"], of(MIDDLE, "one's own") == of(MIDDLE, "cifar10")
    (0.1, True)
    """
    return table.get(dataset, table["default"])


def chosen(total: int, images: int) -> np.ndarray:
    """The first `images` of a fixed shuffle of `total` test images: the same that curvature is measured on, in another order.

    >>> more, fewer = chosen(10, 10), chosen(10, 4)
    >>> sorted(more.tolist()) == [*range(10)], bool((more[:4] == fewer).all())
    (True, True)
    """
    return shuffled(total)[:images].numpy()


def measure(
    run: Run, sources: dict[str, Run], device: str = "cpu", images: int = 450, checked: int = 100, certified: int = 60, n: int = 1000,
    root: Path | None = None,
) -> dict:  # fmt: skip
    """The record of a run (see the module), without AutoAttack; sources: name -> run whose adversarial images are tried on it.

    Which these are depends on what was asked for together: settings' `sources` names them.
    """
    started, config = time.perf_counter(), run.config
    splits, model = data.load(config.dataset, root, config.image_size), run.model.to(device)
    x, y = _images(splits, images, device)
    budgets, middle, correct = of(BUDGETS, config.dataset), of(MIDDLE, config.dataset), {}
    for norm, budget in each([(name, budget) for name, values in budgets.items() for budget in values], config.name, "attack"):
        correct.setdefault(norm, []).append(attacks.adversarial_correct(model, x, y, norm, budget))
    first = lambda size: (x[:size], y[:size])  # noqa: E731
    others = {name: source.model.to(device) for name, source in sources.items()}
    return {
        "name": config.name, "config": dataclasses.asdict(config), "environment": environment(device),
        "data": {"fingerprint": splits.fingerprint, "provenance": splits.provenance, "test_images": len(y), "test_total": len(splits.test)},
        "settings": {"steps": attacks.STEPS, "budgets": {norm: list(at) for norm, at in budgets.items()}, "middle": middle, "large": LARGE,
                     "checked_images": min(checked, len(y)), "certified_images": min(certified, len(y)), "n0": N0, "n": n, "alpha": ALPHA,
                     "sources": {name: source.config.name for name, source in sources.items()}, "autoattack_images": 0},
        "clean": evaluate.pack((predict(model, x) == y).cpu().numpy()),
        "apgd": {norm: evaluate.pack(np.array(found)) for norm, found in correct.items()},
        "autoattack": {},
        "checks": attacks.masking_checks(model, *first(checked), "linf", middle["linf"], LARGE, others),
        "certified": {f"{sigma:g}": _certified(model, *first(certified), sigma, n) for sigma in of(SMOOTHING, config.dataset)},
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def with_autoattack(record: dict, run: Run, images: int, device: str = "cpu", root: Path | None = None) -> dict:
    """The record with the standard AutoAttack at the middle budgets on the first `images` of its images: minutes for a hundred digits.

    Raises InputError where the run's network does not give the record's answers to the clean images.
    """
    started, images = time.perf_counter(), min(images, record["data"]["test_images"])
    x, y = _images(data.load(run.config.dataset, root, run.config.image_size), images, device)
    if not np.array_equal((predict(run.model.to(device), x) == y).cpu().numpy(), evaluate.unpack(record["clean"])[:images]):
        raise InputError(f"the record of {record['name']} is of another network, as other code trains it: delete it to measure it again")
    found = {}
    for norm, budget in each([*record["settings"]["middle"].items()], run.config.name, "AutoAttack"):
        found[norm] = evaluate.pack(attacks.adversarial_correct(run.model.to(device), x, y, norm, budget, "autoattack"))
    seconds = round(record["seconds"] + time.perf_counter() - started, 1)
    added = {"autoattack_images": images, "autoattack_environment": environment(device)}  # later, perhaps on another machine
    return record | {"autoattack": found, "settings": record["settings"] | added, "seconds": seconds}


def _images(splits: data.Splits, images: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    test = splits.test[torch.from_numpy(chosen(len(splits.test), images))].to(device)
    return data.to_unit(test.images), test.labels


def _certified(model, images, labels, sigma: float, n: int) -> dict:
    found = certify(model, images, sigma, N0, n, ALPHA)
    right = found.predicted == labels.cpu().numpy()
    abstains, radius = evaluate.pack(found.predicted == ABSTAINS), [float(f"{r:.4g}") for r in found.radius]
    return {"right": evaluate.pack(right), "abstains": abstains, "radius": radius}
