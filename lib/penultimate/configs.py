"""Config: everything that decides a run's weights, the presets, and the hash by which a run is found."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from . import InputError, data, one_of
from .batches import CROPS, SCHEDULES
from .losses import DiscriminativeLoss
from .methods import BATCHNORM, METHODS
from .model import NETWORKS
from .noise import NOISES

# What each preset changes in Config's defaults, which are the authors' CIFAR-10 settings with the sound choice of every switch.
PRESETS = {
    "digits": dict(network="small", width=16, epochs=24, batch=64, lr=0.05, schedule="cosine", sigma=0.3, pad=0, flip=False),
    "small": dict(width=8, images=20_000, epochs=12, batch=128, lr=0.05, schedule="onecycle"),
    "paper": dict(crops="independent", bn="separate", train_on_all=True, best_on_test=True),
    "tuned": dict(epochs=30, batch=256, lr=0.1, schedule="onecycle"),
    "brief": dict(epochs=10, batch=250, lr=0.03, schedule="onecycle"),  # 250 divides the 45,000 images: no batch is of another size
}
# With the clean view alone the whole compactness weight rests on it.
METHOD_DEFAULTS = {"discriminative": dict(compact=1.0, noisy=0.0)}
# The authors' SVHN noise; and their `both` is one concatenated pass, their other two-view methods are two passes.
DATASET_DEFAULTS = {"svhn": dict(sigma=0.15)}
# In `digits` and `brief` the learning rate is chosen per method on the validation split (data/records/search): the preset's, or these.
PRESET_METHOD_DEFAULTS = {
    ("paper", "both"): dict(bn="joint"),
    ("brief", "stability"): dict(lr=0.1),
    ("digits", "discriminative"): dict(lr=0.02),
    ("digits", "proposed"): dict(lr=0.02),
}


def _field(meaning: str):
    """A field that takes its preset's value where it is left out."""
    return dataclasses.field(default=None, metadata={"help": meaning})


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's weights. A field left out takes its preset's value, or the default in DEFAULTS.

    preset left out: digits for digits, small for other data sets.

    Raises InputError for an unknown name or a value out of range.

    >>> config = Config(method="proposed", seed=1, epochs=3)
    >>> config.sigma, config.epochs, config.hash == Config(method="proposed", seed=1, epochs=3, delta_v=0.5).hash
    (0.3, 3, True)
    """

    dataset: str = "digits"
    preset: str = None
    method: str = "proposed"
    seed: int = 0
    network: str = _field("resnet18 or small")
    width: int = _field("channels of the first stage")
    dim: int = _field("d, the number of penultimate features")
    images: int = _field("at most this many training images; 0 = all")
    train_on_all: bool = _field("train on the validation images too")
    epochs: int = _field("passes over the training images")
    batch: int = _field("images in a batch; two views make twice as many")
    lr: float = _field("learning rate at its highest")
    momentum: float = _field("of SGD (Nesterov)")
    weight_decay: float = _field("of SGD")
    schedule: str = _field("of the learning rate: multistep, cosine or onecycle")
    milestones: tuple[int, ...] = _field("multistep: epochs, joined by commas, after which the rate falls")
    gamma: float = _field("multistep: factor by which the rate falls")
    noise: str = _field("kind of noise trained with: gaussian, uniform, laplace, salt_pepper, ...")
    sigma: float = _field("its level; for gaussian the standard deviation in pixel units of [0,1]")
    pad: int = _field("pixels of the random shift")
    flip: bool = _field("mirror half of the images")
    crops: str = _field("shared or independent: one shift and flip for both views, or one for each")
    bn: str = _field("BatchNorm and the two views: joint, separate or clean")
    best_on_test: bool = _field("record the epoch that is best on test too")
    delta_v: float = _field("radius within which features cost nothing")
    delta_d: float = _field("distance that centroids must keep from boundaries")
    compact: float = _field("alpha, weight of L_compact")
    noisy: float = _field("lambda, weight of L_noisy")
    margin: float = _field("beta, weight of L_margin")
    reg: float = _field("the paper's gamma, weight of L_reg")
    mu: float = _field("momentum of the centroids")
    tracking: str = _field("of the centroids: partial, momentum or naive")
    stability: float = _field("weight of mean ||q(x) - q(x~)|| in the method stability")
    ce_noisy: float = _field("share of the cross-entropy on noisy logits in the method proposed, 0 to 1")
    image_size: int = _field("side in pixels that images are resized to; 0 = as they are, 32 for a folder of pictures")

    def __post_init__(self):
        if not isinstance(self.dataset, str) or not self.dataset or "\0" in self.dataset:
            raise InputError(f"dataset = {self.dataset!r} is not a name or a path")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InputError(f"seed = {self.seed!r} is not a whole number from 0 to 2^63 - 1")
        if self.preset is None:
            object.__setattr__(self, "preset", "digits" if self.dataset == "digits" else "small")
        one_of("preset", self.preset, PRESETS)
        one_of("method", self.method, METHODS)
        values = DEFAULTS | DATASET_DEFAULTS.get(self.dataset, {}) | PRESETS[self.preset]
        values |= METHOD_DEFAULTS.get(self.method, {}) | PRESET_METHOD_DEFAULTS.get((self.preset, self.method), {})
        values |= data.settings(self.dataset).get("fields", {})  # what was settled for one's own data set
        for field in dataclasses.fields(self)[4:]:
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _typed(field.name, values[field.name] if value is None else value))
        for what, known in (("network", NETWORKS), ("schedule", SCHEDULES), ("noise", NOISES), ("crops", CROPS), ("bn", BATCHNORM)):
            one_of(what, getattr(self, what), known)
        for what in ("momentum", "mu"):
            if not 0 <= getattr(self, what) < 1:
                raise InputError(f"{what} = {getattr(self, what)} must lie in [0, 1)")
        if self.batch < 2:
            raise InputError(f"batch = {self.batch}: BatchNorm needs at least 2 images")
        for what in ("width", "dim", "epochs", "lr", "gamma"):
            if not getattr(self, what) > 0:
                raise InputError(f"{what} = {getattr(self, what)} must be positive")
        for what in ("images", "sigma", "pad", "weight_decay", "stability", "image_size"):
            if not getattr(self, what) >= 0:
                raise InputError(f"{what} = {getattr(self, what)} must not be negative")
        if any(later <= earlier for earlier, later in zip((0, *self.milestones), self.milestones, strict=False)):
            raise InputError(f"milestones = {self.milestones} must rise, from 1 on")
        if not 0 <= self.ce_noisy <= 1:
            raise InputError(f"ce_noisy = {self.ce_noisy} must lie in [0, 1]: it is a share of the cross-entropy")
        if self.margin == 0 and self.delta_d != values["delta_d"]:
            raise InputError(f"delta_d = {self.delta_d} changes nothing with margin = 0: leave it out, or give the margin a weight")
        for what in ("milestones", "gamma"):
            if self.schedule != "multistep" and getattr(self, what) != values[what]:
                raise InputError(f"{what} = {getattr(self, what)} changes nothing with schedule {self.schedule}: only multistep has {what}")
        DiscriminativeLoss(1, 1, self.delta_v, self.delta_d, self.compact, self.noisy, self.margin, self.reg, self.mu, self.tracking)

    @cached_property
    def hash(self) -> str:
        """sha256 of the values that differ from the defaults, first 10 digits: a later field orphans no run."""
        named = {f: getattr(self, f) for f in ("dataset", "preset", "method", "seed")}
        other = {name: getattr(self, name) for name, default in DEFAULTS.items() if getattr(self, name) != default}
        return hashlib.sha256(json.dumps(named | other, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """For people and folders: dataset, preset, method, seed, hash."""
        return f"{data.short(self.dataset)}-{self.preset}-{self.method}-s{self.seed}-{self.hash}"


def _typed(name: str, value):
    """The value in the type of its default (1 -> 1.0 for a float, a list -> a tuple), or InputError."""
    kind = type(DEFAULTS[name])
    if kind is tuple and isinstance(value, (list, tuple)) and all(type(v) is int for v in value):
        return tuple(value)
    if kind is float and type(value) is not bool and isinstance(value, (int, float)) and abs(value) < 1e300:  # an int may be larger
        return float(value)
    if kind is int and type(value) is int and value >= 2**31:
        raise InputError(f"{name} = {value} must be below 2^31")
    if type(value) is not kind or kind in (tuple, float):
        raise InputError(f"{name} = {value!r} is not a{' finite' * (kind is float)} {'tuple of int' if kind is tuple else kind.__name__}")
    return value


DEFAULTS = dict(
    network="resnet18", width=64, dim=128, images=0, train_on_all=False,
    epochs=200, batch=64, lr=0.001, momentum=0.9, weight_decay=5e-4, schedule="multistep", milestones=(60, 120, 160), gamma=0.2,
    noise="gaussian", sigma=0.06, pad=4, flip=True, crops="shared", bn="joint", best_on_test=False,
    delta_v=0.5, delta_d=5.0, compact=0.5, noisy=0.5, margin=1.0, reg=1e-3, mu=0.99, tracking="partial", stability=1.0,
    ce_noisy=0.0, image_size=0,
)  # fmt: skip


def grid(methods, seeds, **fields) -> list[Config]:
    """A configuration for every method and seed, seeds outermost, so that every method has a first seed early.

    >>> [(c.method, c.seed) for c in grid(["normal", "both"], [0, 1])]
    [('normal', 0), ('both', 0), ('normal', 1), ('both', 1)]
    """
    return [Config(method=method, seed=seed, **fields) for seed in dict.fromkeys(seeds) for method in dict.fromkeys(methods)]
