"""The classifier z(x) = W q(x) + b, its penultimate features q(x) in R^d, and the small residual networks behind it."""

import torch
from torch import Tensor, nn

from . import one_of


class Block(nn.Module):
    """A residual block of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.convolutions(x) + self.shortcut(x))


class ResNet(nn.Sequential):
    """A 3x3 stem without max-pool, stages of `blocks` residual blocks that halve the image, global average pool.

    (N, channels, H, W) -> (N, widths[-1]). The paper's ReLU after the pool is left out: the pooled values are >= 0 already.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int):
        stem = nn.Sequential(nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        stages, entering = [], widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(Block(entering, width, stride=2 if stage and not block else 1))
                entering = width
        super().__init__(stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = widths[-1]


def resnet18(channels: int = 3, width: int = 64) -> ResNet:
    """CIFAR-style ResNet18: widths w, 2w, 4w, 8w, two blocks each; the paper's has w = 64."""
    return ResNet(channels, (width, 2 * width, 4 * width, 8 * width), blocks=2)


def small(channels: int = 1, width: int = 16) -> ResNet:
    """A small residual network for 8x8 digits: widths w, 2w, 4w, one block each."""
    return ResNet(channels, (width, 2 * width, 4 * width), blocks=1)


NETWORKS = {"resnet18": resnet18, "small": small}


class Classifier(nn.Module):
    """z(x) = W q(x) + b with q(x) = Linear(backbone((x - mean) / std)) in R^dim: no activation between features and head.

    Input x in [0,1], (N,C,H,W); the normalisation is inside, so that every noise and every attack acts in pixel space.
    backbone maps (N,C,H,W) to (N, backbone.num_features).

    >>> model = Classifier(resnet18(width=8), num_classes=10, dim=128)
    >>> x = torch.rand(2, 3, 32, 32)
    >>> model.features(x).shape, model(x).shape
    (torch.Size([2, 128]), torch.Size([2, 10]))
    """

    def __init__(self, backbone: nn.Module, num_classes: int, dim: int = 128, mean: Tensor | None = None, std: Tensor | None = None):
        super().__init__()
        for name, value, neutral in (("mean", mean, 0.0), ("std", std, 1.0)):
            self.register_buffer(name, torch.as_tensor(neutral if value is None else value, dtype=torch.float32).reshape(-1, 1, 1))
        self.backbone = backbone
        self.embed = nn.Linear(backbone.num_features, dim)
        self.head = nn.Linear(dim, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features q(x), (N, dim)."""
        return self.embed(self.backbone((x - self.mean) / self.std))

    def forward(self, x: Tensor) -> Tensor:
        """Logits z(x), (N, num_classes)."""
        return self.head(self.features(x))


def build(network: str, width: int, dim: int, num_classes: int, mean: Tensor, std: Tensor, seed: int) -> Classifier:
    """A classifier on the CPU whose initial weights depend on the seed alone, not on the global generator.

    >>> one, two = (build("small", 4, 8, 10, torch.zeros(1), torch.ones(1), seed=3) for _ in range(2))
    >>> torch.equal(one.head.weight, two.head.weight)
    True
    """
    one_of("network", network, NETWORKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(NETWORKS[network](len(mean), width), num_classes, dim, mean, std)


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch: int = 1000) -> Tensor:
    """Predicted classes (N,) of images in [0,1], in evaluation mode; the model's mode is restored."""
    return _in_parts(model, lambda part: model(part).argmax(1), images, batch)


@torch.inference_mode()
def penultimate_features(model: Classifier, images: Tensor, batch: int = 1000) -> Tensor:
    """Penultimate features (N,d) of images in [0,1], in evaluation mode; the model's mode is restored."""
    return _in_parts(model, model.features, images, batch)


def _in_parts(model: nn.Module, function, images: Tensor, batch: int) -> Tensor:
    was_training = model.training
    model.eval()
    result = torch.cat([function(part) for part in images.split(batch)])
    model.train(was_training)
    return result
