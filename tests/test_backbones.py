"""Anyone's backbone: timm's and torchvision's, their heads taken off, their width found; the losses train them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from penultimate import InputError
from penultimate.losses import DiscriminativeLoss
from penultimate.methods import METHODS
from penultimate.model import Classifier, feature_width, headless, resnet18
from penultimate.support import vision


@pytest.fixture(scope="module")
def timm():
    try:
        return vision.imported("timm")
    except ImportError:
        pytest.skip("timm is not installed: pip install timm (the extra 'backbones')")


# The three families: the ResNet50 as it is, the smallest ConvNeXt, a small ViT built for small pictures.
ARCHITECTURES = {
    "resnet50": (dict(), 2048),
    "convnext_atto": (dict(), 320),
    "vit_tiny_patch16_224": (dict(img_size=32, patch_size=8, depth=4), 192),
}


@pytest.mark.parametrize("name, width", [("resnet10t", 512), ("convnext_atto", 320), ("vit_tiny_patch16_224", 192)])
def test_timms_width_is_found_without_its_head(timm, name, width):
    backbone = timm.create_model(name, num_classes=0, **ARCHITECTURES.get(name, ({},))[0])
    assert Classifier(backbone, num_classes=4, dim=8).embed.in_features == width


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_losses_train_timms_networks(timm, name):
    """Its width is found behind its head. Each way of using the noisy view gives a finite loss and a gradient to every weight of the
    network; a small step against that of `proposed` lowers it."""
    torch.manual_seed(0)
    options, width = ARCHITECTURES[name]
    model = Classifier(timm.create_model(name, **options), num_classes=3, dim=16, mean=[0.5] * 3, std=[0.25] * 3)
    assert model.embed.in_features == width
    loss = DiscriminativeLoss(3, 16)
    clean, labels = torch.rand(6, 3, 32, 32), torch.arange(3).repeat(2)
    noisy = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    for method in ("stability", "proposed"):
        model.zero_grad()
        total = METHODS[method](model, clean, noisy, labels, copy.deepcopy(loss), bn="joint", stability=1.0, ce_noisy=0.0)["total"]
        total.backward()
        assert total.isfinite()
        left = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not left, left
    slope = sum(p.grad.square().sum() for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p -= 1e-2 / slope * p.grad  # to first order the loss falls by 0.01
        after = METHODS["proposed"](model, clean, noisy, labels, copy.deepcopy(loss), bn="joint", stability=1.0, ce_noisy=0.0)["total"]
    assert 0.002 < float(total.detach() - after) < 0.02


def convnext(models):
    """torchvision's class with two small stages: its smallest has 28 million weights."""
    configs = [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(configs)


@pytest.mark.parametrize(
    "make, width",
    [(lambda m: m.resnet18(), 512), (lambda m: m.mobilenet_v3_small(), 1024), (lambda m: m.shufflenet_v2_x0_5(), 1024), (convnext, 16)],
    ids=["resnet18", "mobilenet", "shufflenet", "convnext"],
)
def test_torchvisions_heads_are_taken_off(make, width):
    model = Classifier(make(vision.imported("torchvision.models")), num_classes=3, dim=4)
    assert model.embed.in_features == width and model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_further_heads_do_not_answer_in_training(name):
    network = vision.imported("torchvision.models").__dict__[name](init_weights=False)
    model = Classifier(network, num_classes=3, dim=4).train()
    assert model(torch.rand(2, 3, 96, 96)).shape == (2, 3) if name == "googlenet" else not network.aux_logits and network.AuxLogits is None


def test_a_head_that_is_not_linear_is_refused_and_one_that_is_off_is_not():
    models = vision.imported("torchvision.models")
    with pytest.raises(InputError, match="the head of SqueezeNet, classifier, does not end in a linear layer: replace it by nn.Identity"):
        Classifier(models.squeezenet1_1(), num_classes=3)
    network = models.squeezenet1_1()
    network.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Identity())
    assert Classifier(network, num_classes=3).embed.in_features == 512
    assert Classifier(headless(models.resnet18()), num_classes=3).embed.in_features == 512


def test_what_comes_before_the_head_is_unchanged():
    """The features are those that torchvision's own head would have seen."""
    network = vision.imported("torchvision.models").resnet18().eval()
    seen, x = [], torch.rand(2, 3, 32, 32)
    network.fc.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    with torch.no_grad():
        network(x)
        features = headless(network)(x)
    assert torch.equal(features, seen[0])


def test_finding_the_width_changes_nothing_in_the_network():
    backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout())
    before, state = copy.deepcopy(backbone.state_dict()), torch.random.get_rng_state()
    backbone[1].eval()
    assert feature_width(backbone) == 6 and backbone.training and not backbone[1].training
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert feature_width(resnet18(width=8)) == 64


def test_a_network_for_one_size_of_picture():
    class Fixed(nn.Module):
        def forward(self, x):
            if x.shape[-1] != 224:
                raise ValueError("224 only")
            return F.adaptive_avg_pool2d(x, 2).flatten(1)

    assert feature_width(Fixed(), 3) == 12


def test_a_width_that_cannot_be_found_is_one_line():
    class Picky(nn.Module):
        def forward(self, x):
            raise ValueError("needs 7 channels\nand more")

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    unpooled = nn.Conv2d(3, 5, 3, padding=1)
    for backbone, said in (
        (Picky(), r"the feature width of Picky cannot be found: .* \(needs 7 channels\): wrap it"),
        (Pair(), "Pair gives tuple for 2 pictures, expected .2, width.: pool and flatten"),
        (unpooled, r"Conv2d gives \(2, 5, 32, 32\) for 2 pictures"),
    ):
        with pytest.raises(InputError, match=said) as no:
            Classifier(backbone, num_classes=2)
        assert "\n" not in str(no.value)
