"""What to train one's own data with: the noise level that the data itself suggests, settled beside the decoded pictures."""

import pandas as pd
from torch import nn

from .. import InputError, data, positive
from ..configs import DEFAULTS, Config
from ..data import Split
from ..evaluate import sweep
from ..support import own
from ..support.wording import level_name
from ..train import OutOfTime

COST = 0.05  # of accuracy: the points that `normal` must lose
LEVELS = tuple(n / 255 for n in (2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128))
MEASURED = (0.0, 0.5, 1.0, 1.5, 2.0)  # times the noise trained with: where runs on this data are measured
DRAWS = 5
NOTHING = dict(given={}, fields={}, skip_bad=False, levels=None, suggested=None)  # settled


def noise_level(model: nn.Module, split: Split, cost: float = COST) -> tuple[float, pd.Series]:
    """The smallest of LEVELS at which Gaussian noise costs a network that much accuracy, and the accuracies by level up to it.

    To be asked of a network that was trained on clean images, on a split that no result uses (validation). Where no level costs that
    much, the largest. Raises InputError where the network is hardly better than the most frequent class: there is nothing to lose.

    >>> import torch
    >>> compare = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval()  # class 1 where a pixel is above 127.5/255
    >>> compare[1].weight.data, compare[1].bias.data = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    >>> labels = torch.arange(2).repeat(2000)
    >>> split = Split((120 + 15 * labels).byte().view(-1, 1, 1, 1), labels, labels >= 0)  # pixels 7.5/255 from that
    >>> level, accuracies = noise_level(compare, split)  # P(noise > 7.5/255) is 3 % at 4/255, 11 % at 6/255
    >>> round(255 * level), accuracies.round(1).tolist()
    (6, [1.0, 1.0, 1.0, 0.9])
    """
    clean = float(sweep(model, split.images, split.labels, "gaussian", [0.0], 1).accuracy.iloc[0])
    largest = float(split.labels.bincount().max()) / len(split)
    if clean - cost < largest:
        raise InputError(
            f"no noise level can be suggested: normal training reaches {100 * clean:.1f} % on the validation split, of which "
            f"{100 * largest:.1f} % is one class: train longer (--epochs), see more (--image-size), or give --sigma"
        )
    accuracies = {0.0: clean}
    for level in LEVELS:
        accuracies[level] = float(sweep(model, split.images, split.labels, "gaussian", [level], DRAWS).accuracy.mean())
        if clean - accuracies[level] >= cost - 1e-9:
            break
    return level, pd.Series(accuracies, name="accuracy").rename_axis("level")


def settle(
    dataset: str, preset: str | None = None, device: str = "cpu", store=None, skip_bad: bool | None = None, training: dict | None = None,
    **fields,
) -> dict:  # fmt: skip
    """Settle how one's own data set is trained on, for every later run and notebook; returns what is settled.

    fields: fields of Config that are to hold for this data set (image_size=64, flip=False); those given before stay. Without sigma among
    them, a pilot run of `normal` on seed 0 is trained, and the noise level is what costs it COST on the validation split. training: of
    `train_all`, for that run: budget, backend, address. Raises train.OutOfTime where the budget ends before it does; InputError for
    another noise than Gaussian, which is what runs are measured under.

    >>> settle("digits")
    Traceback (most recent call last):
    penultimate.InputError: digits has its presets: only for one's own data (a folder, an .npz file) is anything settled
    """
    from ..jobs import train_all

    if not data.is_own(dataset):
        raise InputError(f"{dataset} has its presets: only for one's own data (a folder, an .npz file) is anything settled")
    before = data.settings(dataset)
    given = before.get("given", {}) | fields
    if strange := given.keys() - Config.__dataclass_fields__.keys():
        path = own.home(dataset, data.CACHE) / "settings.json"
        raise InputError(f"{path} settles {', '.join(sorted(strange))}, which no run has: delete it, and the data is settled again")
    noise = Config(dataset=dataset, preset=preset, **given).noise  # refuses what cannot be
    if noise != "gaussian":
        raise InputError(
            f"noise = {noise}: a study tells of Gaussian noise alone; for {noise} use sweep --noise {noise} --sigma LEVEL "
            f"--perturbation {noise} --levels 0,LEVEL, which trains what it needs"
        )
    skip = before.get("skip_bad", False) if skip_bad is None else skip_bad
    splits = data.load(dataset, image_size=given.get("image_size", 0), skip_bad=skip)
    keep = dict(given=given, fields=given, skip_bad=skip)
    if "sigma" in given:
        positive("sigma", given["sigma"])
        levels = [k * given["sigma"] for k in MEASURED]
        return own.settle(dataset, data.CACHE, **keep, levels=levels, suggested=None)
    asked = {"sigma": DEFAULTS["sigma"]} | given
    pilot = Config(**{"dataset": dataset, "preset": preset, "method": "normal"} | asked)
    by = {"pilot": pilot.hash, "data": splits.fingerprint}
    suggested = before.get("suggested") or {}
    if {name: suggested.get(name) for name in by} != by:
        own.settle(dataset, data.CACHE, **keep, levels=None, suggested=None)
        runs = train_all([pilot], device, store=store, **training or {})
        if not runs:
            raise OutOfTime("the pilot run is left")
        run = runs[0]
        try:
            sigma, accuracies = noise_level(run.model.to(device), splits.validation.to(device))
        except InputError:  # what was given led nowhere: it shall not hold unseen in the next call
            own.settle(dataset, data.CACHE, **NOTHING | before)
            raise
        run.model.to("cpu")
        suggested = by | {"sigma": sigma, "accuracy": {level_name(level): round(a, 5) for level, a in accuracies.items()}}
    fields = given | {"sigma": suggested["sigma"]}
    levels = [k * suggested["sigma"] for k in MEASURED]
    return own.settle(dataset, data.CACHE, **keep | {"fields": fields}, levels=levels, suggested=suggested)


def said(settled: dict) -> str:
    """The suggestion in a line, from `settle`, and in a second what else holds for this data from now on.

    >>> print(said({"given": {"sigma": 0.1, "flip": False}, "fields": {"sigma": 0.1, "flip": False}, "suggested": None}))
    noise trained with: 0.1 (25.5/255), as given
    also settled for this data, now or before, until given otherwise: flip = False
    """
    others = ", ".join(f"{name} = {value}" for name, value in settled["given"].items() if name != "sigma")
    return _noise_said(settled) + f"\nalso settled for this data, now or before, until given otherwise: {others}" * bool(others)


def _noise_said(settled: dict) -> str:
    level, found = level_name(settled["fields"]["sigma"]), settled["suggested"]
    if not found:
        return f"noise trained with: {level}, as given"
    accuracies = list(found["accuracy"].values())
    lost = 100 * (accuracies[0] - accuracies[-1])
    if lost < 100 * COST - 1e-6:
        return f"noise trained with: {level}, the largest tried: even that costs `normal` only {lost:.1f} points on the validation split"
    return f"noise trained with: {level}, the smallest tried that costs `normal` {100 * COST:.0f} points (validation split: {lost:.1f})"
