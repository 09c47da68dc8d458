"""Each way of training against its formula, and how BatchNorm meets the two views."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penultimate.data import to_unit
from penultimate.losses import DiscriminativeLoss
from penultimate.methods import BATCHNORM, METHODS, frozen_statistics, two_views
from penultimate.model import build
from penultimate.noise import apply

STABILITY = 0.7
WEIGHTS = dict(compact=0.4, noisy=0.3, margin=2.0, reg=0.05)


@pytest.fixture(scope="module")
def views(digits):
    clean, labels = to_unit(digits.train.images[:64]), digits.train.labels[:64]
    return clean, apply("gaussian", clean, 0.3, torch.Generator().manual_seed(0)), labels


@pytest.fixture
def network():
    return build("small", 8, 16, 10, torch.tensor([0.3]), torch.tensor([0.4]), seed=0).train()


def new_loss():
    return DiscriminativeLoss(10, 16, **WEIGHTS)


def statistics(model):
    return torch.cat([t.flatten() for name, t in model.named_buffers() if "running" in name]).clone()


def formula(method, q, q_noisy, labels, head):
    """The total as the paper writes it, from the features of both views."""
    ce, ce_noisy = (-F.log_softmax(head(features), 1)[range(len(labels)), labels].mean() for features in (q, q_noisy))
    terms, clean_terms = new_loss()(q, labels, head, q_noisy), new_loss()(q, labels, head)
    alone = WEIGHTS["compact"] * terms.compact + WEIGHTS["margin"] * terms.margin + WEIGHTS["reg"] * terms.reg
    assert torch.allclose(clean_terms.total, alone)
    return {
        "normal": ce, "noisy": ce_noisy, "both": (ce + ce_noisy) / 2, "discriminative": ce + alone,
        "stability": ce + STABILITY * (q - q_noisy).square().sum(1).sqrt().mean(), "proposed": ce + alone + WEIGHTS["noisy"] * terms.noisy,
    }[method]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bn", BATCHNORM)
def test_total_equals_the_formula(network, views, method, bn):
    clean, noisy, labels = views
    one_view = method in ("normal", "noisy", "discriminative")
    if bn == "joint" and not one_view:
        q, q_noisy = network.features(torch.cat([clean, noisy])).split(64)
    else:
        q, q_noisy = network.features(clean), network.features(noisy)
    found = METHODS[method](network, clean, noisy, labels, new_loss(), bn=bn, stability=STABILITY, ce_noisy=0.0)
    torch.testing.assert_close(found["total"], formula(method, q, q_noisy, labels, network.head))


@pytest.mark.parametrize("method", METHODS)
def test_every_term_is_an_unweighted_scalar_with_its_name(network, views, method):
    extra = {"stability": {"stability"}, "discriminative": set(WEIGHTS) - {"noisy"}, "proposed": set(WEIGHTS)}.get(method, set())
    found = METHODS[method](network, *views, new_loss(), bn="joint", stability=STABILITY, ce_noisy=0.0)
    assert set(found) == {"total", "ce"} | extra and all(t.ndim == 0 for t in found.values())
    weights = {"ce": 1.0, "stability": STABILITY} | WEIGHTS
    torch.testing.assert_close(found["total"], sum(weights[name] * found[name] for name in set(found) - {"total"}))


def test_joint_is_one_concatenated_pass(network, views):
    sizes = []
    network.backbone.register_forward_hook(lambda module, given, out: sizes.append(len(given[0])))
    q, q_noisy = two_views(network, *views[:2], "joint")
    assert sizes == [128]
    assert torch.equal(torch.cat([q, q_noisy]), network.features(torch.cat(views[:2])))


@pytest.mark.parametrize("bn", ["separate", "clean"])
def test_two_passes_are_each_normalised_by_their_own_batch(network, views, bn):
    q, q_noisy = two_views(network, *views[:2], bn)
    assert torch.equal(q, network.features(views[0])) and torch.equal(q_noisy, network.features(views[1]))


def after(views, *batches):
    """Running statistics of a fresh network after passes over the given batches."""
    model = build("small", 8, 16, 10, torch.tensor([0.3]), torch.tensor([0.4]), seed=0).train()
    for batch in batches:
        model.features(batch)
    return statistics(model)


def test_running_statistics_of_every_bn(views):
    clean, noisy, _ = views
    found = {}
    for bn in BATCHNORM:
        model = build("small", 8, 16, 10, torch.tensor([0.3]), torch.tensor([0.4]), seed=0).train()
        two_views(model, clean, noisy, bn)
        found[bn] = statistics(model)
    assert torch.equal(found["clean"], after(views, clean))
    assert torch.equal(found["separate"], after(views, clean, noisy)) and not torch.allclose(found["separate"], found["clean"])
    assert torch.equal(found["joint"], after(views, torch.cat([clean, noisy]))) and not torch.allclose(found["joint"], found["clean"])


@pytest.mark.parametrize("bn", BATCHNORM)
def test_gradients_flow_through_both_views(network, views, bn):
    pixels = [view.clone().requires_grad_() for view in views[:2]]
    q, q_noisy = two_views(network, *pixels, bn)
    for features, pixel in ((q, pixels[0]), (q_noisy, pixels[1])):
        grad = torch.autograd.grad(features.square().sum(), pixel, retain_graph=True)[0]
        assert grad.abs().sum() > 0


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_frozen_statistics_come_back_to_life(network, views, error):
    network.embed = nn.Sequential(network.embed, nn.BatchNorm1d(network.embed.out_features))  # as in networks of one's own
    layers = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    layers[0].momentum = 0.3
    before = statistics(network)
    try:
        with frozen_statistics(network):
            network.features(views[0])
            if error:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    assert [layer.momentum for layer in layers] == [0.3] + [0.1] * (len(layers) - 1)
    assert torch.equal(statistics(network), before)
    network.features(views[0])
    assert not torch.equal(statistics(network), before)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_own_loss(network, views, method):
    loss, totals = new_loss(), []
    optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9, nesterov=True)
    for _ in range(12):
        total = METHODS[method](network, *views, loss, bn="joint", stability=STABILITY, ce_noisy=0.0)["total"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.9 * totals[0]


def test_all_methods_take_the_same_and_name_the_switches_they_have():
    taken = {name: list(inspect.signature(method).parameters) for name, method in METHODS.items()}
    assert {tuple(names[:5]) for names in taken.values()} == {("model", "clean", "noisy", "labels", "loss")}
    assert {name: names[5:-1] for name, names in taken.items()} == {
        "normal": [], "noisy": [], "both": ["bn"], "stability": ["bn", "stability"], "discriminative": [], "proposed": ["bn", "ce_noisy"],
    }  # fmt: skip


@pytest.mark.parametrize("bn", BATCHNORM)
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_cross_entropy_on_noisy_logits_is_mixed_in_by_its_share(network, views, bn, share):
    """Without a weight on the features, share 1/2 is `both` and share 1 is the noisy half of it."""
    nothing = DiscriminativeLoss(10, 16, compact=0.0, noisy=0.0, margin=0.0, reg=0.0)
    found = METHODS["proposed"](network, *views, nothing, bn=bn, stability=STABILITY, ce_noisy=share)["total"]
    q, q_noisy = two_views(network, *views[:2], bn)
    ce, ce_noisy = (-F.log_softmax(network.head(part), 1)[range(64), views[2]].mean() for part in (q, q_noisy))
    torch.testing.assert_close(found, (1 - share) * ce + share * ce_noisy)
    if share == 0.5:
        torch.testing.assert_close(found, METHODS["both"](network, *views, nothing, bn=bn, stability=STABILITY, ce_noisy=0.0)["total"])


def test_stability_is_measured_in_float32_whatever_the_features_are(network, views):
    """Of features in bfloat16 the distance is that of their values, not rounded to three digits again."""
    clean, noisy, labels = views
    with torch.autocast("cpu", torch.bfloat16):
        terms = METHODS["stability"](network, clean, noisy, labels, new_loss(), bn="joint", stability=1.0)
        q, q_noisy = two_views(network, clean, noisy, "joint")
    assert q.dtype == torch.bfloat16 and terms["stability"].dtype == torch.float32
    assert terms["stability"].item() == pytest.approx((q.double() - q_noisy.double()).norm(dim=1).mean().item(), rel=1e-4)
