"""A run is found by its configuration: loaded where it exists, trained where it does not, locked while it trains."""

import dataclasses
import hashlib
import json
import math
import platform
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from . import InputError, data, files, geometry, one_of
from .evaluate import correctness, pack
from .losses import DiscriminativeLoss
from .methods import BATCHNORM, METHODS
from .model import NETWORKS, Classifier, build
from .noise import NOISES
from .train import CROPS, SCHEDULES, Trained, train, training_set

STORE = data.CACHE / "runs"

# What each preset changes in Config's defaults, which are the authors' CIFAR-10 settings with the sound choice of every switch.
PRESETS = {
    "digits": dict(network="small", width=16, epochs=24, batch=64, lr=0.02, schedule="cosine", sigma=0.3, pad=0, flip=False),
    "small": dict(width=8, images=20_000, epochs=12, batch=128, lr=0.05, schedule="onecycle"),
    "paper": dict(crops="independent", bn="separate", train_on_all=True, best_on_test=True),
    "tuned": dict(epochs=30, batch=256, lr=0.1, schedule="onecycle"),
}
# With the clean view alone the whole compactness weight rests on it.
METHOD_DEFAULTS = {"discriminative": dict(compact=1.0, noisy=0.0)}
# Standard deviations at which a run is measured, and how often.
LEVELS = {"digits": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), "default": tuple(n / 255 for n in (0, 8, 16, 24, 32))}
DRAWS = 5


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's weights. A field left out takes its preset's value, or the default below.

    Raises InputError for an unknown name or a value out of range.

    >>> config = Config(method="proposed", seed=1, epochs=3)
    >>> config.sigma, config.epochs, config.hash == Config(method="proposed", seed=1, epochs=3, delta_v=0.5).hash
    (0.3, 3, True)
    """

    dataset: str = "digits"
    preset: str = "digits"
    method: str = "proposed"
    seed: int = 0
    network: str = None
    width: int = None
    dim: int = None
    images: int = None
    train_on_all: bool = None
    epochs: int = None
    batch: int = None
    lr: float = None
    momentum: float = None
    weight_decay: float = None
    schedule: str = None
    milestones: tuple[int, ...] = None
    gamma: float = None
    noise: str = None
    sigma: float = None
    pad: int = None
    flip: bool = None
    crops: str = None
    bn: str = None
    best_on_test: bool = None
    delta_v: float = None
    delta_d: float = None
    compact: float = None
    noisy: float = None
    margin: float = None
    reg: float = None
    mu: float = None
    tracking: str = None
    stability: float = None

    def __post_init__(self):
        one_of("preset", self.preset, PRESETS)
        one_of("method", self.method, METHODS)
        values = DEFAULTS | PRESETS[self.preset] | METHOD_DEFAULTS.get(self.method, {})
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
        for what in ("seed", "images", "sigma", "pad", "weight_decay", "stability"):
            if not getattr(self, what) >= 0:
                raise InputError(f"{what} = {getattr(self, what)} must not be negative")
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
        dataset = re.sub(r"[^\w-]+", "_", Path(self.dataset).stem)
        return f"{dataset}-{self.preset}-{self.method}-s{self.seed}-{self.hash}"


def _typed(name: str, value):
    """The value in the type of its default (1 -> 1.0 for a float, a list -> a tuple), or InputError."""
    kind = type(DEFAULTS[name])
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
        return tuple(value)
    if kind is float and isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    if type(value) is not kind or kind in (tuple, float):
        raise InputError(f"{name} = {value!r} is not a{' finite' * (kind is float)} {'tuple of int' if kind is tuple else kind.__name__}")
    return value


DEFAULTS = dict(
    network="resnet18", width=64, dim=128, images=0, train_on_all=False,
    epochs=200, batch=64, lr=0.001, momentum=0.9, weight_decay=5e-4, schedule="multistep", milestones=(60, 120, 160), gamma=0.2,
    noise="gaussian", sigma=0.06, pad=4, flip=True, crops="shared", bn="joint", best_on_test=False,
    delta_v=0.5, delta_d=5.0, compact=0.5, noisy=0.5, margin=1.0, reg=1e-3, mu=0.99, tracking="partial", stability=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run: its configuration, its record (see `record`), and its weights, read when first asked for."""

    config: Config
    folder: Path
    record: dict

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch: mean of every term, learning rate, accuracy on the watched splits, seconds."""
        return self.record["history"]

    @cached_property
    def model(self) -> Classifier:
        """The network after the last epoch, on the CPU, in evaluation mode."""
        return _model(self.config, files.read_tensors(self.folder / "weights.safetensors")[0])


def _model(config: Config, weights: dict[str, Tensor]) -> Classifier:
    network = build(config.network, config.width, config.dim, len(weights["head.bias"]), weights["mean"].flatten(), weights["std"].flatten(), 0)
    network.load_state_dict(weights)
    return network.eval()


def load_or_train(
    config: Config, device: str = "cpu", root: str | Path | None = None, store: Path | None = None,
    deadline: float | None = None, on_epoch: Callable[[dict], None] | None = None,
) -> Run:  # fmt: skip
    """The run of a configuration: from the store (data/cache/runs) if it is there, else trained, measured and stored.

    root: the folder of data sets. An interrupted run goes on from its checkpoint. Two processes that ask for the same
    run train it once. Raises train.OutOfTime at the deadline (a time.time()).
    """
    folder = (store or STORE) / config.name
    if (folder / "record.json").exists():
        return Run(config, folder, files.read_json(folder / "record.json"))
    splits = data.load(config.dataset, root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if not (folder / "record.json").exists():  # another process may have trained it meanwhile
                _train(config, splits, folder, device, deadline, on_epoch)
    except OSError as error:
        raise InputError(f"cannot write the run to {folder} ({error.strerror}): free space or make it writable; what was finished before is safe") from error
    return Run(config, folder, files.read_json(folder / "record.json"))


def _lock(folder: Path) -> FileLock:
    lock = FileLock(f"{folder}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder.name}: another process is training this run; waiting for it", file=sys.stderr)
        return lock.acquire()


def _train(config: Config, splits: data.Splits, folder: Path, device: str, deadline, on_epoch) -> None:
    checkpoint = folder / "checkpoint.safetensors"
    trained = train(config, splits, device, checkpoint, deadline, on_epoch)
    files.write_tensors(folder / "weights.safetensors", trained.model.state_dict())
    files.write_json(folder / "record.json", record(config, splits, trained, device))
    checkpoint.unlink(missing_ok=True)


def record(config: Config, splits: data.Splits, trained: Trained, device: str) -> dict:
    """All that a table or a figure needs, as JSON: config, environment, data, metrics (last epoch; best on test beside it), history."""
    started = time.perf_counter()
    metrics = {"last": measure(trained.model, splits, config)}
    if trained.best_epoch:
        best = _model(config, {name: tensor.cpu() for name, tensor in trained.best.items()}).to(device)
        metrics["best_on_test"] = {"epoch": trained.best_epoch, **measure(best, splits, config)}
    sizes = {"train": len(training_set(config, splits)), "validation": len(splits.validation), "test": len(splits.test)}
    history = [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in trained.history]
    seconds = {"training": round(sum(row["seconds"] for row in history), 2), "measuring": round(time.perf_counter() - started, 2)}
    return {
        "name": config.name,
        "config": dataclasses.asdict(config),
        "environment": environment(device),
        "data": {"fingerprint": splits.fingerprint, "provenance": splits.provenance, "images": sizes, "exact_test": int(splits.test.exact.sum())},
        "seconds": seconds,
        "metrics": metrics,
        "history": history,
    }


@torch.inference_mode()
def measure(model: Classifier, splits: data.Splits, config: Config) -> dict:
    """Accuracy on test under Gaussian noise (levels x draws, with the correctness of each image), and the feature geometry."""
    test = splits.test.to(model.head.weight.device)
    levels = LEVELS.get(config.dataset, LEVELS["default"])
    correct = correctness(model, test.images, test.labels, "gaussian", levels, DRAWS)
    gaussian = {"levels": [round(level, 6) for level in levels], "accuracy": correct.mean(2).round(6).tolist(), "correct": pack(correct)}
    if not test.exact.all():
        gaussian["accuracy_exact"] = correct[:, :, test.exact.cpu().numpy()].mean(2).round(6).tolist()
    features = torch.cat([model.features(data.to_unit(part)) for part in test.images.split(1000)])
    shape = geometry.describe(features, test.labels, model.head.weight, model.head.bias)
    return {"gaussian": gaussian, "geometry": {name: round(value, 5) if math.isfinite(value) else None for name, value in shape.items()}}


def environment(device: str) -> dict:
    """What a number's reader must know of the machine; the code version is the hash of lib/."""
    name = torch.cuda.get_device_name() if str(device).startswith("cuda") else _processor()
    return {
        "python": platform.python_version(), "torch": torch.__version__, "platform": f"{platform.system()} {platform.machine()}",
        "device": name, "threads": torch.get_num_threads(), "code": CODE_VERSION,
    }  # fmt: skip


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"CPU ({found[1] if found else platform.processor() or 'unknown'})"


def _code_version() -> str:
    """First 10 digits of the sha256 over the library's sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:10]


CODE_VERSION = _code_version()  # of the code that runs, not of files edited meanwhile


def grid(methods, seeds, **fields) -> list[Config]:
    """A configuration for every method and seed, seeds outermost, so that every method has a first seed early.

    >>> [(c.method, c.seed) for c in grid(["normal", "both"], [0, 1])]
    [('normal', 0), ('both', 0), ('normal', 1), ('both', 1)]
    """
    return [Config(method=method, seed=seed, **fields) for seed in seeds for method in methods]
