"""Randomized smoothing against a linear classifier, whose smoothed radius is known; the bound's coverage by simulation; abstention."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from penultimate import InputError, certified
from penultimate.certified import ABSTAINS, Certificates, certified_accuracy, certify, lower_bound


class HalfSpace(nn.Module):
    """Class 1 where w.x > b. Smoothed, it is itself, and its radius at x is the distance |w.x - b| / ||w||, for every sigma."""

    def __init__(self):
        super().__init__()
        self.w = torch.tensor([1.0, -2.0, 0.5, 3.0])
        self.b = 1.0
        self.eval()

    def forward(self, x):
        return (x.flatten(1) @ self.w - self.b)[:, None] * torch.tensor([-1.0, 1.0])


@pytest.fixture(scope="module")
def images():
    return torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_radii_lie_below_the_true_ones_and_near_them(images, sigma):
    model = HalfSpace()
    signed = ((images.flatten(1) @ model.w - model.b) / model.w.norm()).numpy()
    n, alpha = 20_000, 0.001
    found = certify(model, images, sigma, n0=200, n=n, alpha=alpha)
    certain = found.predicted != ABSTAINS
    assert certain.sum() >= 30 and (found.predicted[certain] == (signed > 0)[certain]).all()
    true = abs(signed)[certain]
    assert (found.radius[certain] <= true + 1e-6).mean() >= 0.99  # each fails with probability alpha
    p = stats.norm.cdf(true / sigma)
    least = p - 7 * np.sqrt(p * (1 - p) / n) - 15 / n  # the bound lies 3.1 standard errors (7 / n where p is near 1) below the draw
    assert (found.radius[certain] >= sigma * stats.norm.ppf(least) - 1e-6).all()


def test_the_largest_radius(images):
    found = certify(HalfSpace(), torch.ones_like(images), 0.02, n=500, alpha=0.01)  # 1.5 / ||w||, over 20 sigma, from the boundary
    assert found.radius == pytest.approx(0.02 * stats.norm.ppf(0.01 ** (1 / 500)), rel=1e-6)


def test_it_abstains_on_the_boundary_and_that_is_not_right():
    x = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(1, 1, 2, 2)  # w.x = b
    found = certify(HalfSpace(), x.repeat(5, 1, 1, 1), 0.2)
    assert (found.predicted == ABSTAINS).all() and (found.radius == 0).all()
    assert certified_accuracy(found, np.full(5, ABSTAINS + 1), [0.0])[0] == 0


def test_the_bound_is_clopper_and_pearsons():
    for successes, n, alpha in ((700, 1000, 0.001), (1, 5, 0.05), (99, 100, 0.01)):
        assert lower_bound(successes, n, alpha) == pytest.approx(stats.beta.ppf(alpha, successes, n - successes + 1))


@pytest.mark.parametrize("p", [0.6, 0.95])
def test_the_bounds_coverage(p):
    """Over many repetitions the bound lies above p in at most alpha of them, and not in far fewer: it is no idle bound."""
    n, alpha, repeated = 200, 0.05, 20_000
    drawn = np.random.default_rng(0).binomial(n, p, repeated)
    table = np.array([lower_bound(k, n, alpha) for k in range(n + 1)])
    above = (table[drawn] > p).mean()
    assert 0.4 * alpha < above < alpha + 3 * np.sqrt(alpha * (1 - alpha) / repeated)


def test_noise_is_not_clamped():
    """With noise clamped to [0,1] a black image could never fall below 0: the class could not change."""

    class Negative(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(1, keepdim=True) * torch.tensor([-1.0, 1.0])

    found = certify(Negative().eval(), torch.full((1, 1, 1, 1), 0.01), 0.5)
    assert found.predicted[0] == ABSTAINS


def test_certified_accuracy_by_hand():
    found = Certificates(np.array([3, 3, 1, ABSTAINS]), np.array([0.5, 0.2, 0.9, 0.0]))
    assert certified_accuracy(found, [3, 3, 3, 3], [0, 0.2, 0.3, 0.6]).tolist() == [0.5, 0.5, 0.25, 0]


def test_bad_input(images):
    for given, message in (
        (dict(sigma=0), "sigma = 0"), (dict(sigma=0.1, n=0), "n = 0"), (dict(sigma=0.1, n0=0), "n0 = 0"),
        (dict(sigma=0.1, alpha=1.0), "alpha = 1.0"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            certify(HalfSpace(), images, **given)
    with pytest.raises(InputError, match="expected finite values in"):
        certify(HalfSpace(), 255 * images, 0.1)
    with pytest.raises(InputError, match="training mode"):
        certify(HalfSpace().train(), images, 0.1)


def test_the_draws_that_choose_a_class_do_not_certify_it(monkeypatch):
    """Ten that choose say 0, ninety that certify say 1: nothing is certified, least of all 1."""
    said = torch.cat([torch.zeros(10), torch.ones(90)]).long()
    monkeypatch.setattr(certified, "predict", lambda model, views: said[: len(views)])
    found = certify(nn.Identity().eval(), torch.rand(1, 1, 2, 2), 0.1, n0=10, n=90)
    assert found.predicted.tolist() == [ABSTAINS] and found.radius.tolist() == [0.0]


def test_no_images_have_no_certificates():
    found = certify(nn.Identity().eval(), torch.rand(0, 1, 2, 2), 0.1)
    assert found.predicted.shape == found.radius.shape == (0,)
