"""Attacks against a linear network, whose worst case is known in closed form; what they refuse; how masked gradients show."""

import numpy as np
import pytest
import torch
from torch import nn

from penultimate import InputError, attacks
from penultimate.attacks import adversarial, adversarial_correct, masking_checks, transferred_correct


class Linear(nn.Module):
    """Logits W (x - 1/2), for pixels near 1/2, so that the box [0,1] is never reached."""

    def __init__(self, seed=0, classes=10):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, 9, generator=generator))
        self.eval()

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.weight.T


def labelled(model):
    """Images, the labels that the model gives them, and how far each can be moved: norm -> (N,), by the dual norm of w_y - w_j."""
    x = 0.5 + 0.1 * (2 * torch.rand(60, 1, 3, 3, generator=torch.Generator().manual_seed(1)) - 1)
    with torch.no_grad():
        z = model(x)
        y = z.argmax(1)
        gaps, apart = z[range(60), y][:, None] - z, model.weight[y][:, None] - model.weight
        gaps[range(60), y] = torch.inf
        radius = {norm: (gaps / apart.norm(p=dual, dim=2).clamp(min=1e-9)).amin(1).numpy() for norm, dual in (("linf", 1), ("l2", 2))}
    return model, x, y, radius


@pytest.fixture(scope="module")
def batch():
    return labelled(Linear())


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_apgd_finds_what_can_be_found_and_nothing_more(norm):
    """Of two classes: of more, cross-entropy climbs towards the likeliest, which need not be the nearest; that is AutoAttack's business."""
    model, x, y, radius = labelled(Linear(classes=2))
    budget = float(np.median(radius[norm]))
    correct = adversarial_correct(model, x, y, norm, budget)
    clear = abs(radius[norm] / budget - 1) > 0.02
    assert 20 < correct.sum() < 40 and (correct == (radius[norm] > budget))[clear].all()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 5, attacks.FEWEST])
def test_autoattack_misses_none(classes):
    model, x, y, radius = labelled(Linear(classes=classes))
    order = np.argsort(radius["linf"])
    kept, budget = order[[*range(30), 59]], float(radius["linf"][order[29]] * 1.02)
    correct = adversarial_correct(model, x[kept], y[kept], "linf", budget, "autoattack")
    assert correct.tolist() == [False] * 30 + [True]


@pytest.mark.parametrize("norm, order", [("linf", torch.inf), ("l2", 2)])
def test_images_stay_within_budget_and_box(batch, norm, order):
    model, _, y, _ = batch
    x = torch.rand(60, 1, 3, 3, generator=torch.Generator().manual_seed(2))  # up to the edges of the box
    found = adversarial(model, x, y, norm, 0.3)
    assert found.min() >= 0 and found.max() <= 1
    moved = (found - x).flatten(1).norm(p=order, dim=1)
    assert moved.max() <= 0.3 + 1e-5 and moved.max() > 0.29


def test_a_transferred_attack_is_the_direct_one_on_the_same_network_and_weaker_on_another(batch):
    model, x, y, radius = batch
    budget = float(np.median(radius["linf"]))
    direct = adversarial_correct(model, x, y, "linf", budget).mean()
    same, other = (transferred_correct(model, source, x, y, "linf", budget).mean() for source in (model, Linear(seed=5)))
    assert abs(same - direct) < 0.1 and other > direct + 0.1


def test_nothing_else_is_disturbed(batch):
    model, x, y, _ = batch
    before = torch.random.get_rng_state()
    first, again = (adversarial(model, x, y, "linf", 0.05, seed=3) for _ in range(2))
    assert torch.equal(first, again) and not first.requires_grad
    assert torch.equal(before, torch.random.get_rng_state())
    assert model.weight.requires_grad and model.weight.grad is None


class Steps(Linear):
    """The same with grey levels rounded to quarters: no gradient anywhere, an adversary is held off for the wrong reason."""

    def forward(self, x):
        return super().forward((4 * x).round() / 4)


def test_masked_gradients_show(batch):
    model, x, y, radius = batch
    budget = float(np.median(radius["linf"]))
    honest = masking_checks(model, x, y, "linf", budget, 0.5, {"another": Linear(seed=5)})
    assert honest["large"] == 0 and honest["transferred"]["another"] > honest["direct"] == honest["by_steps"]["20"]
    x = 0.5 + 2 * (x - 0.5)  # far enough from 1/2 that some round to other quarters
    y = Steps()(x).argmax(1)
    masked = masking_checks(Steps(), x, y, "linf", 0.12, 0.5, {"without steps": model})
    assert masked["large"] > 0.05 or masked["transferred"]["without steps"] < masked["direct"] - 0.02


BAD = {
    "norm": (dict(norm="l1"), "unknown norm 'l1': choose one of linf, l2"),
    "attack": (dict(attack="fgsm"), "unknown attack 'fgsm'"),
    "budget": (dict(budget=0.0), "budget = 0.0 must be a finite number above 0"),
    "infinite": (dict(budget=float("nan")), "budget = nan"),
    "steps": (dict(steps=0), "steps = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(batch, case):
    model, x, y, _ = batch
    changed, message = BAD[case]
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        adversarial(model, x, y, **(dict(norm="linf", budget=0.1) | changed))


def test_autoattack_refuses_fewer_classes_than_its_loss_needs():
    model, x, y, _ = labelled(Linear(classes=3))
    with pytest.raises(InputError, match="the model tells 3 classes apart: AutoAttack needs 4; attack with apgd"):
        adversarial(model, x, y, "linf", 0.1, "autoattack")


def test_bad_images_and_models(batch):
    model, x, y, _ = batch
    with pytest.raises(InputError, match="the model is in training mode"):
        adversarial(Linear().train(), x, y, "linf", 0.1)
    with pytest.raises(InputError, match="pixels in"):
        adversarial(model, x + 1, y, "linf", 0.1)
    with pytest.raises(InputError, match="images are torch.float64"):
        adversarial(model, x.double(), y, "linf", 0.1)
    with pytest.raises(InputError, match="labels are"):
        adversarial(model, x, y[:3], "linf", 0.1)


class Wavy(nn.Module):
    """Two classes in turn along every pixel, so finely that where APGD ends is a matter of where it began; it keeps what it last saw."""

    def forward(self, x):
        self.seen = x.detach()
        lead = (1e4 * (x - 0.5)).sin().sum((1, 2, 3))
        return torch.stack([lead, -lead], 1)


def test_the_start_is_that_of_the_seed():
    """Neither what was drawn before nor another seed's start gets in, also where the highest loss is sought (a transferred attack)."""
    model, x, y = Wavy().eval(), torch.full((4, 1, 3, 3), 0.5), torch.zeros(4, dtype=torch.long)
    ends = []
    for drawn_before in (1, 2):
        torch.manual_seed(drawn_before)
        direct = adversarial(model, x, y, "linf", 0.1)
        transferred_correct(model, Wavy().eval(), x, y, "linf", 0.1)
        ends.append((direct, model.seen))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert not torch.equal(adversarial(model, x, y, "linf", 0.1, seed=1), direct)
