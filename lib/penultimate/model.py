"""The classifier z(x) = W q(x) + b, its penultimate features q(x) in R^d, and the small residual networks behind it."""

import contextlib

import torch
from torch import Tensor, nn

from . import InputError, one_of


class Block(nn.Module):
    """A residual block of two 3x3 convolutions (He et al. 2016).

    >>> Block(channels=4, width=8, stride=2)(torch.rand(1, 4, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

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

    >>> ResNet(channels=3, widths=(8, 16), blocks=1)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 16])
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

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)  # of its own, as PyTorch compiles nothing of the forward of nn.Sequential: block by block instead


def resnet18(channels: int = 3, width: int = 64) -> ResNet:
    """CIFAR-style ResNet18: widths w, 2w, 4w, 8w, two blocks each; the paper's has w = 64.

    >>> sum(p.numel() for p in Classifier(resnet18(), num_classes=10).parameters())
    11235786
    """
    return ResNet(channels, (width, 2 * width, 4 * width, 8 * width), blocks=2)


def small(channels: int = 1, width: int = 16) -> ResNet:
    """A small residual network for 8x8 digits: widths w, 2w, 4w, one block each.

    >>> small(width=16).num_features
    64
    """
    return ResNet(channels, (width, 2 * width, 4 * width), blocks=1)


NETWORKS = {"resnet18": resnet18, "small": small}


HEADS = ("fc", "classifier", "head", "heads")  # what torchvision calls the part that maps features to ImageNet's classes
AUXILIARY = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and of Inception
SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384, 448)  # of the blank pictures tried: some networks take a single size


def headless(backbone: nn.Module) -> nn.Module:
    """A network without its own classifier, the same object: timm's by reset_classifier(0), torchvision's by its name.

    Of a head of several layers only the last, linear one goes: LayerNorm and flattening before it are part of the features. Raises
    InputError for a head of torchvision's that does not end in one (SqueezeNet's).

    >>> headless(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))  # whose module this is, is not known: it stays as it is
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=4, out_features=3, bias=True)
    )
    """
    if callable(reset := getattr(backbone, "reset_classifier", None)):
        reset(0)
    elif type(backbone).__module__.startswith("torchvision."):
        name = next((name for name in HEADS if isinstance(getattr(backbone, name, None), nn.Module)), None)
        head = getattr(backbone, name) if name else None
        if isinstance(head, nn.Linear):
            setattr(backbone, name, nn.Identity())
        elif isinstance(head, nn.Sequential) and isinstance(head[-1], nn.Linear):
            head[-1] = nn.Identity()
        elif name and not isinstance(head[-1] if isinstance(head, nn.Sequential) else head, nn.Identity):
            raise InputError(f"the head of {type(backbone).__name__}, {name}, does not end in a linear layer: replace it by nn.Identity()")
        if getattr(backbone, "aux_logits", False):  # further heads, which answer in training mode alone
            backbone.aux_logits = False
            for name in AUXILIARY:
                if hasattr(backbone, name):
                    setattr(backbone, name, None)
    return backbone


@torch.no_grad()
def feature_width(backbone: nn.Module, channels: int | None = None) -> int:
    """The number of features of a backbone, (N,C,H,W) -> (N, width), found by passing two blank pictures.

    channels: of the pictures; left out, those of the first convolution. The pass is in evaluation mode, so that it moves no statistic.
    Raises InputError where no size of SIDES passes, or what comes out is not one vector for each picture.

    >>> feature_width(nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    5
    """
    if isinstance(backbone, ResNet):  # known, and no pass that could move anything in a run to be repeated to the bit
        return backbone.num_features
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    channels = channels or (first.in_channels if first else 3)
    like, refused = next(backbone.parameters(), torch.empty(0)), ""
    with _evaluating(backbone):
        for side in SIDES:
            try:
                out = backbone(torch.zeros(2, channels, side, side, dtype=like.dtype, device=like.device))
            except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:  # a size that does not fit
                refused = (str(error).strip().splitlines() or [type(error).__name__])[0]
                continue
            if isinstance(out, Tensor) and out.ndim == 2 and len(out) == 2 and out.is_floating_point():
                return out.shape[1]
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"{type(backbone).__name__} gives {shape} for 2 pictures, expected (2, width): pool and flatten its features")
    raise InputError(
        f"the feature width of {type(backbone).__name__} cannot be found: it takes no picture of {channels} channels and {SIDES[0]} to "
        f"{SIDES[-1]} pixels ({refused[:200]}): wrap it in a module that takes your images and returns (N, width)"
    )


class Classifier(nn.Module):
    """z(x) = W q(x) + b with q(x) = Linear(backbone((x - mean) / std)) in R^dim: no activation between features and head.

    Input x in [0,1], (N,C,H,W); the normalisation is inside, so that every noise and every attack acts in pixel space.
    backbone maps (N,C,H,W) to features: any model of timm or torchvision, pretrained or not, with or without its own head (which is
    taken off), or any module; how wide they are is found by `feature_width`. Give a pretrained one the mean and std it was trained with.

    >>> model = Classifier(resnet18(width=8), num_classes=10, dim=128)
    >>> x = torch.rand(2, 3, 32, 32)
    >>> model.features(x).shape, model(x).shape
    (torch.Size([2, 128]), torch.Size([2, 10]))
    """

    def __init__(self, backbone: nn.Module, num_classes: int, dim: int = 128, mean: Tensor | None = None, std: Tensor | None = None):
        super().__init__()
        for name, value, neutral in (("mean", mean, 0.0), ("std", std, 1.0)):
            self.register_buffer(name, torch.as_tensor(neutral if value is None else value, dtype=torch.float32).reshape(-1, 1, 1).clone())
        self.backbone = headless(backbone)
        channels = max(len(self.mean), len(self.std))
        self.embed = nn.Linear(feature_width(self.backbone, None if channels == 1 else channels), dim)
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
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed a GPU's generator as well
        return Classifier(NETWORKS[network](len(mean), width), num_classes, dim, mean, std)


def must_evaluate(model: nn.Module) -> None:
    """Raise InputError for a model in training mode, whole or in part: there the images of a batch may see each other.

    >>> must_evaluate(nn.BatchNorm2d(1))
    Traceback (most recent call last):
    penultimate.InputError: the model is in training mode, where images of a batch may see each other: call model.eval() first
    """
    if any(module.training for module in model.modules()):
        raise InputError("the model is in training mode, where images of a batch may see each other: call model.eval() first")


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch: int = 1000) -> Tensor:
    """Predicted classes (N,) of images in [0,1], in evaluation mode; the model's mode is restored.

    >>> predict(nn.Flatten(), torch.tensor([[0.1, 0.9], [0.8, 0.2]]))
    tensor([1, 0])
    """
    return _in_parts(model, lambda part: model(part).argmax(1), images, batch)


@torch.inference_mode()
def penultimate_features(model: Classifier, images: Tensor, batch: int = 1000) -> Tensor:
    """Penultimate features (N,d) of images in [0,1], in evaluation mode; the model's mode is restored.

    >>> model = Classifier(small(width=4), num_classes=3, dim=8)
    >>> penultimate_features(model, torch.rand(5, 1, 8, 8), batch=2).shape, model.training
    (torch.Size([5, 8]), True)
    """
    return _in_parts(model, model.features, images, batch)


def _in_parts(model: nn.Module, function, images: Tensor, batch: int) -> Tensor:
    with _evaluating(model):
        return torch.cat([function(part) for part in images.split(batch)])


@contextlib.contextmanager
def _evaluating(model: nn.Module):
    """In evaluation mode; every module's own mode comes back: a part may be frozen."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
