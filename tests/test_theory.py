"""Theorem 6.1 and 6.3, the formula for other noises, and the rules of the curvature page, on networks where each link is known."""

import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist
from torch import nn

from penultimate import InputError, curvature, layers, logit_losses, records, theory
from penultimate.data import HOME
from penultimate.model import Classifier, build, small
from penultimate.noise import NOISES
from penultimate.study import curvature_decades, curvature_records, curvature_rules, curvature_tables
from penultimate.support import ranks
from penultimate.theory import KURTOSIS, differences, instability_bound, one_sided_moment, quadratic_moment, sampled_moment, w_max


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def symmetric(*shape, seed=0):
    a = draw(*shape, shape[-1], seed=seed)
    return a + a.transpose(-1, -2)


class Linear(nn.Module):
    """q(x) = A x, z = W q + b: Hessian A' W' (diag p - p p') W A, eta = sigma^2 ||A||_F^2, all in closed form."""

    def __init__(self):
        super().__init__()
        self.a, self.head = 0.5 * draw(5, 9, seed=1), nn.Linear(5, 4).double()
        self.head.load_state_dict({"weight": draw(4, 5, seed=2), "bias": draw(4, seed=3)})
        self.eval()

    def features(self, x):
        return x.flatten(1) @ self.a.T

    def forward(self, x):
        return self.head(self.features(x))

    def whole(self, x):
        p, map_ = self(x).softmax(1), self.head.weight @ self.a
        return map_.T @ (torch.diag_embed(p) - p[:, :, None] * p[:, None]) @ map_


@pytest.fixture(scope="module")
def linear():
    x = torch.cat([torch.zeros(1, 1, 3, 3), torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(0))]).double()
    return Linear(), x, torch.arange(6) % 4  # the first image is black: clamped noise would be halved there


def test_the_links_of_theorem_6_1(linear):
    model, x, y = linear
    h = model.whole(x)
    torch.testing.assert_close(curvature.hessian(model, x, y), h)
    sigma, draws = 0.02, 4000
    found = differences(model, x, y, sigma, draws)
    assert all(part.shape == (draws, 6) for part in found)
    error = lambda values: values.std(0) / math.sqrt(draws)  # noqa: E731
    eta = sigma**2 * model.a.square().sum()
    assert ((found.moved.mean(0) - eta).abs() < 5 * error(found.moved)).all()
    second = sigma**4 * (h.square().sum((1, 2)) / 2 + h.diagonal(dim1=1, dim2=2).sum(1).square() / 4)
    squared = found.symmetric.square()
    assert ((squared.mean(0) - second).abs() < 5 * error(squared) + 0.05 * second).all()  # the rest is O(sigma^6)
    assert (h.square().sum((1, 2)) <= 2 / sigma**4 * (squared.mean(0) + 5 * error(squared))).all()


@pytest.mark.parametrize("noise", KURTOSIS)
@pytest.mark.parametrize("sigma", [0.05, 3.0])
def test_the_second_link_holds_for_every_draw_at_every_sigma(linear, noise, sigma):
    model, x, y = linear
    found = differences(model, x, y, sigma, 200, noise)
    assert w_max(model.head) == pytest.approx(model.head.weight.detach().norm(dim=1).max().item())
    assert (found.symmetric.square() <= 4 * w_max(model.head) ** 2 * found.moved).all()
    assert (found.symmetric.abs() > 0).all() and (found.one_sided.square() <= 8 * w_max(model.head) ** 2 * found.moved).all()


def test_the_bound_is_the_chains_right_end_and_has_no_scale(linear):
    model, x, y = linear
    eta = differences(model, x, y, 0.1, 50).moved.mean(0)
    bound = instability_bound(model.head, eta, 0.1)
    torch.testing.assert_close(bound, 8 / 0.1**4 * model.head.weight.norm(dim=1).max().square() * eta)
    scaled = Linear()
    scaled.a, scaled.head.weight.data = 3 * scaled.a, scaled.head.weight.data / 3
    torch.testing.assert_close(instability_bound(scaled.head, differences(scaled, x, y, 0.1, 50).moved.mean(0), 0.1), bound)


def test_one_sided_needs_the_third_derivative(linear):
    """One image, one pixel would do: z = (0, a.x), so l and its derivatives are those of log(1 + e^-t) along a."""
    a = draw(4, seed=4)

    class Slope(nn.Module):
        std = torch.full((1, 1, 1), 0.5)  # a normalised space, which must play no part

        def forward(self, x):
            return torch.stack([torch.zeros(len(x), dtype=x.dtype), x.flatten(1) @ a], 1)

    x, y, sigma = draw(3, 1, 2, 2, seed=5), torch.ones(3, dtype=torch.long), 0.3
    p = torch.sigmoid(-(x.flatten(1) @ a))
    first, curved, bent = -p, p * (1 - p), -p * (1 - p) * (1 - 2 * p)  # l', l'', l''' by t
    norm = float(a.square().sum())
    expected = sigma**2 * first**2 * norm, sigma**4 * curved**2 * norm**2 * 3 / 4, sigma**4 * first * bent * norm**2
    for found, wanted in zip(one_sided_moment(Slope().eval(), x, y, sigma), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-12)
    model, x, y = linear
    sigma, draws = 0.05, 8_000
    measured = differences(model, x[1:3], y[1:3], sigma, draws).one_sided.square()
    total = sum(one_sided_moment(model, x[1:3], y[1:3], sigma))
    assert ((measured.mean(0) - total).abs() < 5 * measured.std(0) / math.sqrt(draws) + 20 * sigma**6).all()


@pytest.mark.parametrize("noise", KURTOSIS)
def test_the_kurtosis_formula_against_monte_carlo(noise):
    h, sigma = symmetric(8, 6), 0.7
    e = NOISES[noise](torch.zeros(200_000, 1, 1, 1, dtype=torch.float64), sigma, torch.Generator().manual_seed(0)).flatten()
    assert float(e.std()) == pytest.approx(sigma, rel=0.01) and float(e.mean()) == pytest.approx(0, abs=0.01)
    assert float(e.pow(4).mean() / sigma**4) == pytest.approx(KURTOSIS[noise], rel=0.05)
    mean, error = sampled_moment(h, sigma, noise, 100_000, torch.Generator().manual_seed(1))
    assert ((mean - quadratic_moment(h, sigma, KURTOSIS[noise])).abs() < 5 * error).all()
    assert (error < 0.05 * mean).all()


@given(seed=st.integers(0, 10_000), kurtosis=st.floats(1, 9), size=st.integers(1, 6))
def test_the_share_of_the_curvature_that_a_noise_is_sure_to_see(seed, kurtosis, size):
    h = symmetric(3, size, seed=seed)
    seen, frobenius = quadratic_moment(h, 1.0, kurtosis), h.square().sum((1, 2))
    assert (seen >= theory.curvature_share(kurtosis) * frobenius * (1 - 1e-9)).all()


def test_the_coin_flip_alone_can_miss_a_curvature():
    saddle = torch.diag(torch.tensor([1.0, -1.0]))[None]
    shares = {noise: float(quadratic_moment(saddle, 1.0, k)) / 2 for noise, k in KURTOSIS.items()}
    assert shares == pytest.approx({noise: k - 1 for noise, k in KURTOSIS.items()})  # for a diagonal without trace
    assert float(sampled_moment(saddle, 1.0, "coin_flip", 100)[0]) == 0


def test_a_twin_differs_in_its_activations_alone():
    model = build("small", 4, 8, 10, torch.zeros(1), torch.ones(1), 0).eval()
    twin = theory.softplus_twin(model, beta=20.0)
    assert not any(isinstance(m, nn.ReLU) for m in twin.modules()) and any(isinstance(m, nn.ReLU) for m in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)) and not twin.training
    x = torch.rand(4, 1, 8, 8)
    assert not torch.allclose(twin(x), model(x), atol=1e-4)
    torch.testing.assert_close(theory.softplus_twin(model, beta=1e5)(x), model(x), atol=1e-3, rtol=0)
    one = nn.Sequential(nn.Flatten(), nn.ReLU())
    assert (theory.softplus_twin(one, 20.0)(x - 0.5) - one(x - 0.5)).abs().max() <= math.log(2) / 20 + 1e-6


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, x, y: differences(m, x, y, 0.0, 5), "sigma = 0.0 must be a finite number above 0"),
        (lambda m, x, y: differences(m, x, y, 0.1, 0), "draws = 0: a whole number of at least 1 is needed"),
        (lambda m, x, y: differences(m, x, y, 0.1, 2.5), "draws = 2.5: a whole number"),
        (lambda m, x, y: sampled_moment(symmetric(1, 2), 0.1, "uniform", 0), "draws = 0: a whole number"),
        (lambda m, x, y: sampled_moment(symmetric(1, 2), 0.1, "uniform", 2.0), "draws = 2.0: a whole number"),
        (lambda m, x, y: sampled_moment(symmetric(1, 2), 0.1, "uniform", 1), "draws = 1: a standard error needs two"),
        (lambda m, x, y: differences(m, x, y, 0.1, 5, "salt_pepper"), "unknown noise with i.i.d. symmetric components 'salt_pepper'"),
        (lambda m, x, y: differences(m.train(), x, y, 0.1, 5), "the model is in training mode"),
        (lambda m, x, y: one_sided_moment(m, x, y, -1.0), "sigma = -1.0"),
        (lambda m, x, y: one_sided_moment(m, x, y, 0.1, step=0.0), "step = 0.0"),
        (lambda m, x, y: quadratic_moment(symmetric(1, 2), 0.1, 0.5), "kurtosis = 0.5: no distribution has one below 1"),
        (lambda m, x, y: quadratic_moment(symmetric(1, 2), math.inf, 3.0), "sigma = inf"),
        (lambda m, x, y: sampled_moment(symmetric(1, 2), 0.1, "occlusion", 5), "'occlusion': choose one of coin_flip, uniform"),
        (lambda m, x, y: instability_bound(m.head, x, 0.0), "sigma = 0.0"),
        (lambda m, x, y: theory.softplus_twin(m, 0.0), "beta = 0.0"),
        (lambda m, x, y: layers.stages(Classifier(pooled(), 3)), "has no known stages"),
        (lambda m, x, y: layers.separation(x, torch.arange(6)), "two classes and two samples of every class"),
        (lambda m, x, y: layers.separation(x, torch.zeros(6)), "two classes and two samples of every class"),
        (lambda m, x, y: curvature_records.matched_temperature(draw(4, 5), 0.2), "confidence = 0.2 must lie between 1/5 and 1"),
        (
            lambda m, x, y: curvature_records.matched_temperature(draw(4, 1).expand(4, 5)),
            "equal logits for all classes .a collapsed network",
        ),
    ],
)
def test_bad_input_is_named(linear, call, message):
    model, x, y = linear
    try:
        with pytest.raises(InputError, match=message) as error:
            call(model, x, y)
        assert "\n" not in str(error.value)
    finally:
        model.eval()


def pooled():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))


@pytest.fixture(scope="module")
def network():
    model = build("small", 4, 8, 3, torch.tensor([0.3]), torch.tensor([0.4]), 0)
    model(torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(2)))  # statistics unlike the initial ones
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return model.double().eval(), x.double(), torch.arange(12) % 3


def test_stages_make_up_the_features(network):
    model, x, _ = network
    found = layers.activations(model, x)
    assert list(found) == ["image", "normalise", "stem", "block 1", "block 2", "block 3", "pool", "features"]
    torch.testing.assert_close(found["features"], model.features(x))
    assert found["pool"].shape == (12, small(1, 4).num_features)


def test_separation_against_scipy(network):
    model, x, y = network
    flat, same = x.flatten(1).numpy(), y[:, None].numpy() == y.numpy()
    apart = cdist(flat, flat)
    own = np.where(same & ~np.eye(12, dtype=bool), apart, np.inf).min(1)
    other = np.where(same, np.inf, apart).min(1)
    assert layers.separation(x, y) == pytest.approx((other.min(), np.median(other / own)))


@pytest.mark.parametrize("stride", [1, 2])
def test_an_affine_norm_is_the_dense_matrix_one(stride):
    layer = nn.Sequential(nn.Conv2d(2, 3, 3, stride, 1), nn.BatchNorm2d(3)).double()
    layer(draw(50, 2, 6, 6) * 3 + 1)
    layer.eval()
    basis = torch.eye(72, dtype=torch.float64).reshape(72, 2, 6, 6)
    with torch.no_grad():
        dense = (layer(basis) - layer(torch.zeros_like(basis[:1]))).flatten(1)
        assert layers.affine_norm(layer, draw(1, 2, 6, 6)) == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=1e-4)
        column = nn.Linear(5, 1).double()
        assert layers.affine_norm(column, draw(1, 5)) == pytest.approx(float(column.weight.norm()))
        assert layers.affine_norm(lambda x: 0 * x + 1, draw(1, 2, 6, 6)) == 0


def test_a_blocks_bound_multiplies_along_its_convolutions_and_adds_its_shortcut(network):
    model, x, _ = network
    inputs = dict(zip(["block 1", "block 2"], list(layers.activations(model, x[:1]).values())[2:4], strict=True))
    for name, block in layers.stages(model)[2:4]:  # one of each kind of shortcut
        first, second = nn.Sequential(*block.convolutions[:2]), nn.Sequential(*block.convolutions[3:])
        given = inputs[name]
        along = layers.affine_norm(first, given) * layers.affine_norm(second, first(given))
        whole = along + layers.affine_norm(block.shortcut, given)
        assert layers.lipschitz_bound(block, given) == pytest.approx(whole, rel=1e-3) and layers.lipschitz_bound(block, given) > whole


def test_a_bound_is_one_though_svds_comes_from_below():
    """Against the dense singular value, on matrices whose largest two lie close together: there svds stops short of the first."""
    for seed in range(20):
        u, _ = torch.linalg.qr(draw(40, 40, seed=seed))
        layer = nn.Linear(40, 40, bias=False).double()
        layer.weight.data = u * torch.linspace(1, 1 - 1e-4, 40, dtype=torch.float64)
        true = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
        assert true <= layers.lipschitz_bound(layer, draw(1, 40)) <= true * (1 + 20 * layers.TOLERANCE)


def test_theorem_6_3_bound_and_estimate(network):
    """Any pair: ||q(a) - q(b)|| <= L ||h(a) - h(b)||; the local constants lie below the bound, and are exact for the last, affine map."""
    model, x, y = network
    found, bounds, local = layers.activations(model, x), layers.lipschitz_bounds(model, x[:1]), layers.local_lipschitz(model, x)
    apart = {name: torch.pdist(points.flatten(1)) for name, points in found.items()}
    for name in found:
        assert (apart["features"] <= bounds[name] * apart[name] * (1 + 1e-12)).all()
        assert 0 < local[name] <= bounds[name] * (1 + 1e-12)
        assert layers.separation(found["features"], y)[0] / bounds[name] <= layers.separation(found[name], y)[0] * (1 + 1e-9)
    assert local["features"] == bounds["features"] == pytest.approx(1)
    assert (
        bounds["pool"]
        == pytest.approx(local["pool"], rel=1e-3)
        == pytest.approx(torch.linalg.matrix_norm(model.embed.weight.detach(), 2).item(), rel=1e-4)
    )
    assert bounds["image"] == pytest.approx(bounds["normalise"] / 0.4, rel=1e-4)


def test_distances_are_measured_bound_and_estimate(network):
    model, x, y = network
    found, own = layers.distances(model, x, y), layers.activations(model, x)
    assert found["measured"] == {name: layers.separation(points, y)[0] for name, points in own.items()}
    assert found["separability"] == {name: layers.separation(points, y)[1] for name, points in own.items()}
    d, local = found["measured"]["features"], layers.local_lipschitz(model, x)
    assert found["estimate"] == pytest.approx({name: d / local[name] for name in own})
    assert all(0 < found["bound"][name] <= min(found["measured"][name], found["estimate"][name]) * (1 + 1e-12) for name in own)


def test_local_constants_are_jacobian_norms(network):
    model, x, _ = network
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda v: model.features(v[None])[0], image).flatten(1) for image in x])
    assert layers.local_lipschitz(model, x)["image"] == pytest.approx(float(torch.linalg.matrix_norm(jacobians, 2).max()))


def rows(method, kappas, **images):
    fixed = dict(noise="gaussian", network={"w_max": 2.0}, record={"settings": {"draws": 10}})
    return pd.DataFrame([dict(method=method, seed=seed, images={"kappa": k, **images}, **fixed) for seed, k in enumerate(kappas)])


def test_flatter_is_paired_by_seed_and_image():
    base = np.array([1e-6, 1e-3, 1e2])
    rival, own = rows("both", [10 * base, 1000 * base, 100 * base]), rows("proposed", [base] * 3)
    found = curvature_rules.flatter(rival, own.iloc[::-1], "eq. 21")
    low, high = stats.t.interval(0.95, 2, 2.0, stats.sem([1, 3, 2]))
    assert (found["mean"], found["low"], found["high"], found["n"]) == pytest.approx((2, low, high, 3)) and found["verdict"] == "undecided"
    assert curvature_rules.flatter(own, rival, "eq. 21")["mean"] == pytest.approx(-2)
    one = curvature_rules.flatter(rows("both", [np.geomspace(1, 10, 50)]), rows("proposed", [np.ones(50)]), "eq. 21")
    assert one["n"] == 1 and one["mean"] == pytest.approx(0.5) and 0 < one["low"] < 0.5 < one["high"] and one["verdict"] == "holds"
    with pytest.raises(InputError, match="no seed was measured for both"):
        curvature_rules.flatter(rival, own.assign(seed=9), "eq. 21")


def test_flatter_between_means_goes_by_the_most_curved_images():
    """Two images of three are ten times flatter, the third a hundred times more curved: the median says one decade, the means two less."""
    rival, own = [np.array([1.0, 1.0, 10.0]) * scale for scale in (1, 3, 5)], [np.array([0.1, 0.1, 1000.0]) * scale for scale in (1, 3, 7)]
    pair = rows("both", rival), rows("proposed", own)
    assert curvature_rules.flatter(*pair, "eq. 21")["mean"] == pytest.approx(1 + np.log10(5 / 7) / 3)
    by_seed = [np.log10(sum(r) / sum(o)) for r, o in zip(rival, own, strict=True)]
    low, high = stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
    found = curvature_rules.flatter(*pair, "eq. 21", curvature_decades.by_means)
    assert [found[key] for key in ("mean", "low", "high")] == pytest.approx([np.mean(by_seed), low, high]) and found[
        "verdict"
    ] == "does not hold"
    one = curvature_rules.flatter(*(p.iloc[:1] for p in pair), "eq. 21", curvature_decades.by_means)
    assert one["n"] == 1 and one["low"] < one["mean"] < one["high"] == pytest.approx(1)  # a draw without the third image
    assert curvature_tables.carried(pair[1], share=1 / 3).to_dict() == {"proposed": pytest.approx(1000 / 1000.2)}


def test_quantities_are_what_they_are_called():
    numbers = dict(frobenius=2.0, kappa_matched=3.0, frobenius_matched=4.0, odds=8.0, odds_slope=2.0, eta=5.0)
    found = rows("both", [np.ones(1)], **{name: np.array([value]) for name, value in numbers.items()})
    assert curvature_rules.quantities(found) == list(curvature_rules.QUANTITIES)
    assert [float(curvature_rules.quantity(found.iloc[0], name)[0]) for name in curvature_rules.QUANTITIES] == [1, 2, 3, 4, 8, 2, 20]
    large = rows("both", [np.ones(1)], **{name: np.array([value]) for name, value in numbers.items() if "odds" not in name})
    assert curvature_rules.quantities(large) == [name for name in curvature_rules.QUANTITIES if "twin" not in name]
    each = curvature_rules.flatter_than_each(pd.concat([large, large.assign(method="proposed"), large.assign(method="normal")]))
    assert {(r.panel, r.row) for r in each.itertuples()} == {(q, m) for q in curvature_rules.quantities(large) for m in ("both", "normal")}


def test_rank_correlations_against_scipy_and_what_ranks_leave():
    a, b, c = np.random.default_rng(0).normal(size=(3, 200)) + np.linspace(0, 3, 200)
    left = lambda v: (r := stats.rankdata(v)) - np.polyval(np.polyfit(stats.rankdata(c), r, 1), stats.rankdata(c))  # noqa: E731
    r = ranks.correlations(np.stack([a, b, c]))
    assert r == pytest.approx(stats.spearmanr(np.stack([a, b, c], 1)).statistic)
    assert ranks.partial(r, 0, 1, given=2) == pytest.approx(stats.pearsonr(left(a), left(b)).statistic)


def test_resampled_images_stay_together_and_give_the_bootstrap_interval():
    a, b = np.random.default_rng(0).normal(size=(2, 300)) + np.linspace(0, 2, 300)
    drawn = ranks.resampled(np.stack([a, b]))
    assert drawn.shape == (2, ranks.RESAMPLES, 300)
    pairs = set(zip(a, b, strict=True))
    assert set(zip(*drawn[:, 7], strict=True)) < pairs  # and some are missing, for others came twice
    tied = np.stack([a, b, a.round()])
    assert ranks.resampled_correlations(tied) == pytest.approx(ranks.correlations(ranks.resampled(tied)).astype(float), abs=1e-12)
    found = np.quantile(ranks.correlations(drawn)[:, 0, 1], (0.025, 0.975))
    scipys = stats.bootstrap(
        (a, b), lambda x, y: stats.spearmanr(x, y).statistic, paired=True, vectorized=False, method="percentile", rng=1, n_resamples=1000
    ).confidence_interval
    assert found == pytest.approx(scipys, abs=0.02)
    assert ranks.bootstrap(np.median, a) == pytest.approx(np.quantile(np.median(ranks.resampled(a), axis=1), (0.025, 0.975)))


def test_links_judge_by_the_interval():
    correct = np.repeat(np.arange(11.0), 20)
    noise = np.random.default_rng(1).normal(size=(5, 220))
    others = dict(margin=correct + 3 * noise[0], slope=np.exp(noise[1]), correct=correct)
    falling = rows("both", list(np.exp(-correct + noise)), **others)
    found = curvature_rules.links(falling, "eq. 21")
    assert tuple(found) == curvature_rules.LINKS and all(link["n"] == 5 for link in found.values())
    assert [key for key, link in found.items() if link.get("verdict") == "holds"] == ["rho", "given distance", "given margin"]
    rho = lambda v: [stats.spearmanr(v(r.images), correct).statistic for r in falling.itertuples()]  # noqa: E731
    distance = others["margin"] / others["slope"]
    for key, values in {
        "rho": rho(lambda i: i["kappa"]), "rho of distance": rho(lambda i: distance), "rho of margin": rho(lambda i: i["margin"])
    }.items():  # fmt: skip
        assert found[key]["mean"] == pytest.approx(np.mean(values)) and [v for v, *_ in found[key]["by_seed"]] == pytest.approx(values)
    for key, given_ in {"given distance": distance, "given margin": others["margin"]}.items():
        r = [ranks.correlations(np.stack([i.images["kappa"], correct, given_])) for i in falling.itertuples()]
        assert found[key]["mean"] == pytest.approx(np.mean([ranks.partial(one, 0, 1, given=2) for one in r]))
    assert all(low < value < high for link in found.values() for value, low, high in link["by_seed"])
    single = curvature_rules.links(falling[:1], "eq. 21")["rho"]
    assert (single["mean"], single["low"], single["high"]) == single["by_seed"][0] == found["rho"]["by_seed"][0] and single["high"] < 0
    rising = falling.assign(images=[i | {"kappa": 1 / i["kappa"]} for i in falling.images])
    assert curvature_rules.links(rising, "eq. 21")["rho"]["verdict"] == "does not hold"
    shown = curvature_tables.linked_table({"falling": found, "rising": curvature_rules.links(rising, "eq. 21")})
    assert shown.loc["falling", "rho"].endswith(" holds, 5 of 5 seeds") and shown.loc["rising", "rho"].endswith(
        "does not hold, 5 of 5 seeds"
    )


def test_a_ratio_agrees_by_its_interval_over_seeds():
    base = np.geomspace(0.5, 2, 51)
    found = curvature_decades.agrees([0.5 * base, 1.0 * base, 2.0 * base])
    low, high = stats.t.interval(0.95, 2, 0.0, stats.sem(np.log10([0.5, 1, 2])))
    assert (found["ratio"], found["low"], found["high"], found["n"]) == pytest.approx((1, 10**low, 10**high, 3))
    assert found["verdict"] == "undecided" and curvature_decades.agrees([30 * base] * 3)["verdict"] == "does not hold"
    measured = rows("both", [8 * base, 8 * base], frobenius=2 * base, kappa_matched=3 * base, frobenius_matched=base)
    counted = curvature_decades.kinks(measured).set_index("confidence").ratio
    assert counted.to_dict() == pytest.approx({"own confidence": 4, "matched confidence": 3})


def test_the_room_in_theorem_6_1_by_hand():
    left = np.array([1.0, 1.0, 1.0])
    chain = dict(chain_left=left, chain_middle=np.array([10.0, 0.1, 10]), chain_eta=left * 1e-6, chain_eta_trained=left * 2e-3)
    own = rows("both", [left, left], **chain).assign(record=[{"settings": dict(chain_sigma=0.1, eta_sigma=0.2)}] * 2)
    found = curvature_decades.theorem(own).set_index("part")
    right = 8 / 0.1**4 * 4 * 1e-6, 8 / 0.2**4 * 4 * 2e-3  # w_max is 2
    assert found["mean"].tolist() == pytest.approx([1, math.log10(right[0] / 10), math.log10(right[1])])
    assert found["share"].tolist() == pytest.approx([2 / 3, 1 / 3, 1]) and found.verdict.tolist() == ["holds", "does not hold", "holds"]


def test_ten_bins_by_hand():
    r, at, means, counts = ranks.ten_bins(np.array([100.0, 4, 6, 3, 1]), np.array([0, 1, 1, 2, 10]))
    assert at.tolist() == [1, 2, 10] and means.tolist() == [5, 3, 1] and counts.tolist() == [2, 1, 1]
    assert r == pytest.approx(np.corrcoef([1, 2, 10], [5, 3, 1])[0, 1])


@pytest.mark.parametrize("dataset, preset", [("digits", "digits"), ("cifar10", "small")])
def test_committed_curvature_records(dataset, preset):
    found = curvature_rules.read(None, dataset, preset)
    for record in found.record:
        assert {"name", "config", "environment", "data", "settings", "network", "images"} <= set(record)
        assert {len(values) for values in record["images"].values()} == {record["data"]["test_images"]}
        assert record["settings"]["space"] == "normalised" and record["settings"]["probes"] == 20
    normal = found[(found.method == "normal") & (found.noise == "gaussian")]
    assert 0.65 < np.mean([curvature_rules.robustness(row).mean() for row in normal.itertuples()]) < 0.75  # the noise level's rule


def test_claims_are_rows_of_the_committed_records():
    found = curvature_rules.claims()
    assert list(found) == ["claim", "dataset", "against", "measure", "mean", "low", "high", "n", "verdict"]
    assert set(found.claim) == {"proposed is flatter", "theorem 6.1", "curvature predicts robustness"} and not found.isna().any(axis=None)
    digits = curvature_rules.complete(curvature_rules.sets()["digits", "digits"])
    own, rival = (digits[digits.method == m] for m in ("proposed", "both"))
    row = found.query("dataset == 'digits' and against == 'both' and measure == '‖H‖², matched confidence'").iloc[0]
    assert row[["mean", "low", "high", "n", "verdict"]].to_dict() == curvature_rules.flatter(rival, own, "‖H‖², matched confidence")
    row = found.query("dataset == 'digits' and against == 'both' and measure == 'given margin, eq. 21'").iloc[0]
    assert row["mean"] == curvature_rules.links(rival, "eq. 21")["given margin"]["mean"]


def test_measured_numbers_are_those_of_the_library(tiny, tmp_path, monkeypatch):
    from penultimate import data, evaluate
    from penultimate.runs import load_or_train

    monkeypatch.setattr(curvature_records, "PART", 8)
    run = load_or_train(tiny(epochs=1), store=tmp_path)
    record = curvature_records.measure(run, images=20, sigma=0.2)
    test = data.load("digits").test
    chosen = torch.randperm(450, generator=torch.Generator().manual_seed(0))[:20].sort().values
    x, y = data.to_unit(test.images[chosen]), test.labels[chosen]
    images, t = record["images"], record["network"]["temperature"]
    for name, loss in (("frobenius", logit_losses.cross_entropy), ("frobenius_matched", logit_losses.tempered(t))):
        assert images[name] == pytest.approx(curvature.input_curvature(run.model, x, y, "exact", loss=loss).tolist(), rel=1e-3)
    twin = theory.softplus_twin(run.model, curvature_records.BETA)
    odds = curvature.hessian(twin, x, y, loss=logit_losses.negative_log_odds).square().sum((1, 2))
    assert images["odds"] == pytest.approx(odds.tolist(), rel=1e-3)
    assert images["chain_left"] == pytest.approx(curvature.hessian(twin, x, y, "pixel").square().sum((1, 2)).tolist(), rel=1e-3)
    noise = torch.Generator().manual_seed(2)
    noisy = theory.differences(twin, x[16:], y[16:], curvature_records.CHAIN_SIGMA, curvature_records.CHAIN_DRAWS, generator=noise)
    assert images["chain_eta"][16:] == pytest.approx(noisy.moved.mean(0).tolist(), rel=1e-3)
    middle = 2 / curvature_records.CHAIN_SIGMA**4 * noisy.symmetric.square().mean(0)
    assert images["chain_middle"][16:] == pytest.approx(middle.tolist(), rel=5e-3)
    seeded = torch.Generator().manual_seed(2)  # the third part
    assert images["kappa"][16:] == pytest.approx(curvature.input_curvature(run.model, x[16:], y[16:], generator=seeded).tolist(), rel=5e-3)
    logits = run.model(x).detach()
    assert float((logits / t).softmax(1).amax(1).mean()) == pytest.approx(curvature_records.MATCHED, abs=1e-3)
    assert np.array(images["margin"]) == pytest.approx(-logit_losses.negative_margin(logits, y).numpy(), rel=1e-3)
    assert images["correct"] == evaluate.correctness(run.model, test.images[chosen], y, "gaussian", [0.2], 10)[0].sum(0).tolist()
    folder = tmp_path / "records"
    records.collect([record], folder)
    assert curvature_rules.read(folder).seed.tolist() == [0] and list(curvature_rules.sets(folder)) == [("digits", "digits")]


def test_the_command_measures_runs_and_refuses_in_one_line(tmp_path):
    environment = os.environ | {"PENULTIMATE_CACHE": str(tmp_path), "PYTHONPATH": str(HOME / "lib"), "OMP_NUM_THREADS": "1"}
    tiny = ("--methods", "normal", "--width", "4", "--epochs", "1", "--images", "128", "--test-images", "20")

    def command(*words):
        call = [sys.executable, "-m", "penultimate", "curvature", *words]
        return subprocess.run(call, env=environment, capture_output=True, text=True)

    done = command(*tiny, "--records", str(tmp_path / "records"))
    assert done.returncode == 0 and "[1/1] digits-digits-normal-s0-" in done.stdout and "measured in" in done.stdout, done.stderr
    assert len(curvature_rules.read(tmp_path / "records").images.iloc[0]["kappa"]) == 20
    refused = command(*tiny, "--level", "-0.1")
    assert refused.returncode == 1 and refused.stderr.strip() == "error: level = -0.1 must be a finite number above 0"


def test_a_twin_has_no_relu_left_where_one_module_stands_twice():
    relu = nn.ReLU()
    twin = theory.softplus_twin(nn.Sequential(relu, nn.Linear(2, 2), relu), beta=10.0)
    assert not any(isinstance(module, nn.ReLU) for module in twin.modules()) and isinstance(twin[2], nn.Softplus)


def test_a_sampled_moment_is_the_same_twice():
    h = symmetric(2, 3)
    one, other = (sampled_moment(h, 0.1, "gaussian", 50)[0] for _ in range(2))
    assert torch.equal(one, other)


def test_distances_of_a_collapsed_network_are_unknown():
    """Every activation is cut off: all features are one point, and nothing is bound by them."""
    model = build("small", 4, 8, 2, torch.zeros(1), torch.ones(1), seed=0).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.bias, -100.0)
    found = layers.distances(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    assert found["measured"]["features"] == 0 and np.isnan(found["estimate"]["image"])


def test_distances_refuse_training_mode_and_leave_its_statistics_alone():
    model = Classifier(small(width=4), num_classes=2, dim=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match="training mode"):
        layers.distances(model.train(), torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_separability_with_twins_in_half_of_the_samples_is_infinite():
    assert layers.separation(torch.tensor([[0.0], [0.0], [3.0], [5.0]]), torch.tensor([0, 0, 1, 1])) == (3.0, math.inf)


@pytest.mark.parametrize("noise", KURTOSIS)
def test_differences_against_a_loop_over_draws_and_both_their_ways(linear, noise):
    """eta counts x + e and x - e; in a network that is not linear in x they move the features differently."""
    _, x, y = linear
    model, generator = build("small", 4, 8, 4, torch.zeros(1), torch.ones(1), seed=0).double().eval(), torch.Generator().manual_seed(5)
    found = differences(model, x, y, 0.2, 3, noise, torch.Generator().manual_seed(5))
    ce = lambda image, label: nn.functional.cross_entropy(model(image[None]), label[None])  # noqa: E731
    for draw in range(3):
        e = NOISES[noise](torch.zeros_like(x), 0.2, generator)
        for i, (image, label) in enumerate(zip(x, y, strict=True)):
            up, down, clean = (ce(view, label) for view in (image + e[i], image - e[i], image))
            q, ahead, behind = (model.features(view[None])[0] for view in (image, image + e[i], image - e[i]))
            assert found.symmetric[draw, i].item() == pytest.approx(((up + down) / 2 - clean).item(), abs=1e-12)
            assert found.one_sided[draw, i].item() == pytest.approx((up - clean).item(), abs=1e-12)
            ways = ((ahead - q) ** 2).sum().item(), ((behind - q) ** 2).sum().item()
            assert ways[0] != pytest.approx(ways[1], rel=1e-3) and found.moved[draw, i].item() == pytest.approx(sum(ways) / 2)


def test_a_loss_without_a_gradient_has_no_one_sided_moment():
    """Both classes' logits are the same everywhere: every part is 0, and the direction g / ||g|| does not make it nan."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double().eval()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    for part in one_sided_moment(model, torch.rand(3, 1, 2, 2).double(), torch.tensor([0, 1, 0]), sigma=0.1):
        assert torch.equal(part, torch.zeros(3).double())
