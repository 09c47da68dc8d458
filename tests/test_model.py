"""The networks: size by formula, normalisation inside, features without an activation, seeds."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

from penultimate import InputError
from penultimate.model import NETWORKS, Classifier, build, predict, resnet18, small


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def expected_backbone(channels, widths, blocks):
    """Convolutions without bias, k*k*in*out weights; two parameters per channel of every BatchNorm."""
    conv_bn = lambda k, i, o: k * k * i * o + 2 * o  # noqa: E731
    total, entering = conv_bn(3, channels, widths[0]), widths[0]
    for width in widths:
        for _ in range(blocks):
            total += conv_bn(3, entering, width) + conv_bn(3, width, width)
            total += conv_bn(1, entering, width) if entering != width else 0
            entering = width
    return total


def test_resnet18_has_the_size_of_the_papers():
    backbone = resnet18(width=64)
    assert parameters(backbone) == expected_backbone(3, (64, 128, 256, 512), 2) == 11_168_832
    assert parameters(Classifier(backbone, 10, 128)) == 11_168_832 + 513 * 128 + 129 * 10
    assert parameters(small(1, 16)) == expected_backbone(1, (16, 32, 64), 1)


def test_the_backbone_ends_in_an_eighth_of_the_resolution():
    sizes, backbone = [], resnet18(width=8)
    for layer in list(backbone)[:-2]:
        layer.register_forward_hook(lambda layer, given, out: sizes.append(tuple(out.shape[1:])))
    assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, 64)
    assert sizes == [(8, 32, 32)] * 3 + [(16, 16, 16)] * 2 + [(32, 8, 8)] * 2 + [(64, 4, 4)] * 2


def test_a_block_is_its_convolutions_plus_its_shortcut():
    for block in list(resnet18(width=8).eval())[2:4]:  # one of each kind of shortcut
        x = torch.randn(2, block.convolutions[0].in_channels, 8, 8)
        assert torch.equal(block(x), F.relu(block.convolutions(x) + block.shortcut(x)))


@pytest.mark.parametrize("network, channels, size", [("resnet18", 3, 32), ("small", 1, 8)])
def test_features_are_linear_before_the_head(network, channels, size):
    model = build(network, 8, 128, 10, torch.zeros(channels), torch.ones(channels), 0).eval()
    x = torch.rand(64, channels, size, size)
    q = model.features(x)
    assert q.shape == (64, 128) and model(x).shape == (64, 10)
    assert torch.equal(model.head(q), model(x))
    torch.testing.assert_close(q @ model.head.weight.T + model.head.bias, model(x))
    assert 0.2 < float((q < 0).float().mean()) < 0.8  # no activation cuts them off


def test_normalisation_is_inside():
    mean, std, x = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.1, 0.2, 0.3]), torch.rand(4, 3, 32, 32)
    inside, outside = build("resnet18", 8, 16, 10, mean, std, 0).eval(), Classifier(resnet18(3, 8), 10, 16).eval()
    outside.backbone, outside.embed, outside.head = inside.backbone, inside.embed, inside.head
    normalised = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(inside(x), outside(normalised))
    assert not torch.allclose(inside(x), outside(x))


@pytest.mark.parametrize("network", NETWORKS)
def test_initial_weights_depend_on_the_seed_alone(network):
    def weights(seed):
        return torch.cat([p.detach().flatten() for p in build(network, 8, 16, 10, torch.zeros(3), torch.ones(3), seed).parameters()])

    first = weights(1)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(weights(1), first) and not torch.equal(weights(2), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_network_names_the_known():
    with pytest.raises(InputError, match="unknown network 'vgg': choose one of resnet18, small"):
        build("vgg", 8, 16, 10, torch.zeros(3), torch.ones(3), 0)


@pytest.mark.parametrize("training", [True, False])
def test_predict_is_the_argmax_in_evaluation_mode(training):
    model, images = build("small", 8, 16, 10, torch.zeros(1), torch.ones(1), 0), torch.rand(50, 1, 8, 8)
    model(images)  # running statistics unlike those of a batch
    expected = model.eval()(images).argmax(1)
    before = {name: t.clone() for name, t in model.train(training).state_dict().items()}
    assert torch.equal(predict(model, images, batch=7), expected) and expected.unique().numel() > 1
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2])  # with two the pass ends in an error
def test_predict_leaves_a_frozen_backbone_frozen(channels):
    model = build("small", 8, 16, 10, torch.zeros(1), torch.ones(1), 0).train()
    model.backbone.eval()
    with contextlib.suppress(RuntimeError):
        predict(model, torch.rand(5, channels, 8, 8))
    assert model.training and model.head.training and not any(module.training for module in model.backbone.modules())


def test_models_built_from_the_same_statistics_do_not_share_them():
    mean = torch.tensor([0.5])
    one, other = (Classifier(small(width=4), 2, 4, mean=mean, std=[0.2]) for _ in range(2))
    other.load_state_dict(other.state_dict() | {"mean": torch.full((1, 1, 1), 0.1)})
    assert one.mean.item() == mean.item() == 0.5 and other.mean.item() == pytest.approx(0.1)


def test_building_leaves_every_generator_of_the_caller_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU's generators were seeded"))
    before = torch.get_rng_state()
    build("small", 4, 8, 10, torch.zeros(1), torch.ones(1), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
