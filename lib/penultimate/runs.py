"""A run is found by its configuration: loaded where it exists, trained where it does not, locked while it trains."""

import contextlib
import dataclasses
import functools
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from . import InputError, data, metrics
from .batches import training_set
from .configs import PRESETS, Config, grid
from .model import Classifier, build
from .support import files, integrity
from .support.devices import placed
from .support.machine import environment
from .train import OutOfTime, Trained, train

__all__ = ["PRESETS", "Config", "Run", "grid", "load_or_train"]

STORE = data.CACHE / "runs"


@dataclass(frozen=True)
class Run:
    """A finished run: its configuration, its record (see `record`), and its weights, read when first asked for."""

    config: Config
    folder: Path
    record: dict = dataclasses.field(repr=False)

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch: mean of every term, learning rate, accuracy on the watched splits, seconds."""
        return self.record["history"]

    @functools.cached_property
    def model(self) -> Classifier:
        """The network after the last epoch, on the CPU, in evaluation mode."""
        path = self.folder / integrity.WEIGHTS
        try:
            return _model(self.config, files.read_tensors(path)[0])
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"{path} does not hold the weights of {self.config.name}: delete its folder, and it is trained again"
            ) from error

    @functools.cached_property
    def kept(self) -> dict[int, dict[str, Tensor]]:
        """Epoch -> what `Trainer.features` gave then: clean and noisy features (N,d) of a sample of test images, weight, bias.

        Empty for a run that an older version trained.
        """
        found = sorted((self.folder / "features").glob("epoch-*.safetensors"))
        return {int(path.stem[6:]): files.read_tensors(path)[0] for path in found}


def _model(config: Config, weights: dict[str, Tensor]) -> Classifier:
    network = build(
        config.network, config.width, config.dim, len(weights["head.bias"]), weights["mean"].flatten(), weights["std"].flatten(), 0
    )
    network.load_state_dict(weights)
    return network.eval()


def load_or_train(
    config: Config, device: str = "cpu", root: str | Path | None = None, store: Path | None = None,
    deadline: float | None = None, on_epoch: Callable[[dict], None] | None = None,
) -> Run:  # fmt: skip
    """The run of a configuration: from the store (data/cache/runs) if it is there, else trained, measured and stored.

    root: the folder of data sets. An interrupted run goes on from its checkpoint. Two processes that ask for the same
    run train it once; a stored run that is not what was written is trained again, and a line says so. One that was measured at other
    noise levels than are settled now, for one's own data, is measured again. Raises train.OutOfTime at the deadline (a time.time()).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as store:
    ...     run = load_or_train(Config(width=4, dim=8, images=64, epochs=2), store=Path(store))
    ...     again = load_or_train(run.config, store=Path(store))  # found, not trained
    >>> len(run.history), again == run, run.record["data"]["images"]
    (2, True, {'train': 64, 'validation': 135, 'test': 450})
    """
    store = store or STORE
    if found := stored(config, store):
        check_pictures([found], root)
        if measured_as_settled(found):
            return found
    splits, folder = data.load(config.dataset, root, config.image_size), store / config.name
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = _lock(folder, deadline)
    with held:
        found = stored(config, store)  # another process may have trained it meanwhile
        if found and not measured_as_settled(found):
            _measure_again(found, splits, device)
        elif not found:
            _clear_if_damaged(config, folder)
            _train(config, splits, folder, device, deadline, on_epoch)
    return Run(config, folder, files.read_json(folder / integrity.RECORD))


@contextlib.contextmanager
def _writing(folder: Path):
    """What the disk refuses, in one line; what training and the caller's `on_epoch` raise is not of the disk, and `files` says its own."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write the run to {folder} ({error.strerror}): free space or make it writable; what was finished before is safe"
        ) from error


def check_pictures(found: list[Run], root=None) -> None:
    """Raise InputError where a data set no longer has the pictures that a run was trained on: a run is found by its name or path.

    >>> check_pictures([Run(Config(), Path("store"), {})])  # digits come with scikit-learn: nothing to check
    """
    asked = [run for run in found if run.config.dataset != "digits"]
    now = {seen: _fingerprint(*seen, root) for seen in {(run.config.dataset, run.config.image_size) for run in asked}}
    other = [run for run in asked if run.record["data"]["fingerprint"] != now[run.config.dataset, run.config.image_size]]
    if other:
        config, then = other[0].config, other[0].record["data"]["fingerprint"]
        more = f" (and {len(other) - 1} more)" * (len(other) > 1)
        raise InputError(
            f"{config.name}{more} was trained on other images than {config.dataset} holds now (sha256 {then[:10]}, now "
            f"{now[config.dataset, config.image_size][:10]}): put the former ones back, or delete "
            f"{' '.join(shlex.quote(str(run.folder)) for run in other)} to train again"
        )


def _fingerprint(dataset: str, side: int, root) -> str:
    return data.load(dataset, root, side).fingerprint if data.is_own(dataset) else _fingerprint_of_named(dataset, side, root)


@functools.lru_cache  # of one's own pictures the manifest is looked at each time; these are files of hundreds of megabytes
def _fingerprint_of_named(dataset: str, side: int, root) -> str:
    return data.load(dataset, root, side).fingerprint


def stored(config: Config, store: Path) -> Run | None:
    """The finished run of a configuration, every file of it verified; None where it is not there or is damaged.

    >>> stored(Config(), Path("nowhere"))
    """
    folder = store / config.name
    if not integrity.finished(folder) or integrity.damage(folder, config.name):
        return None
    return Run(config, folder, files.read_json(folder / integrity.RECORD))


def measured_as_settled(run: Run) -> bool:
    """Whether a run was measured at the noise levels at which its data is measured now: those of one's own data follow its noise, those
    of other data are never settled.

    >>> gaussian = {"levels": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}
    >>> measured_as_settled(Run(Config(), Path("store"), {"metrics": {"last": {"gaussian": gaussian}}}))
    True
    """
    measured = run.record["metrics"]["last"]["gaussian"]["levels"]
    return not data.is_own(run.config.dataset) or measured == metrics.told(metrics.levels_of(run.config))


def _measure_again(run: Run, splits: data.Splits, device: str) -> None:
    """Renew what depends on the noise levels; of the epoch that was best on test no weights are left, so that it is left out."""
    print(f"{run.config.name}: measured at other noise levels before; measuring it again", file=sys.stderr, flush=True)
    last = metrics.measure(placed(run.model, torch.device(device)), splits, run.config)
    integrity.replace_record(run.folder, run.record | {"metrics": {"last": run.record["metrics"]["last"] | last}})


def _clear_if_damaged(config: Config, folder: Path) -> None:
    if integrity.finished(folder):
        print(f"{config.name}: {integrity.damage(folder, config.name)}; training it again", file=sys.stderr, flush=True)
        with _writing(folder):
            integrity.clear(folder)


def _lock(folder: Path, deadline: float | None) -> FileLock:
    lock = FileLock(f"{folder}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder.name}: another process is training this run; waiting for it", file=sys.stderr, flush=True)
    try:
        return lock.acquire(timeout=-1 if deadline is None else max(0, deadline - time.time()))
    except Timeout as error:
        raise OutOfTime("another process is training it") from error


def _train(config: Config, splits: data.Splits, folder: Path, device: str, deadline, on_epoch) -> None:
    with _writing(folder):
        for place in (folder, folder / "features"):
            files.sweep(place)
    checkpoint = folder / "checkpoint.safetensors"
    trained = train(config, splits, device, checkpoint, deadline, on_epoch, kept=folder / "features")
    if deadline and time.time() > deadline:
        raise OutOfTime("all epochs done, to be measured in the next call")
    files.write_tensors(folder / integrity.WEIGHTS, trained.model.state_dict())
    integrity.finish(folder, record(config, splits, trained, device))
    checkpoint.unlink(missing_ok=True)


def told(history: list[dict]) -> list[dict]:
    """Rows of a history with the digits that records keep: six.

    >>> told([{"epoch": 1, "total": 2.25000049}])
    [{'epoch': 1, 'total': 2.25}]
    """
    return [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in history]


def record(config: Config, splits: data.Splits, trained: Trained, device: str) -> dict:
    """All that a table or a figure needs, as JSON: config, environment, data, metrics (last epoch; best on test beside it), history; where
    another machine or version of the code trained the first epochs, earlier_environments.

    >>> config, digits = Config(width=4, dim=8, images=64, epochs=1), data.load("digits")
    >>> list(record(config, digits, train(config, digits), "cpu"))
    ['name', 'config', 'environment', 'data', 'seconds', 'metrics', 'history']
    """
    started = time.perf_counter()
    afresh = lambda weights: placed(_model(config, {k: v.cpu() for k, v in weights.items()}), torch.device(device))  # noqa: E731
    network = afresh(trained.model.state_dict())  # what was trained may be compiled, for batches of other sizes
    measured = {"last": metrics.measure(network, splits, config)}
    if metrics.at_length(config):
        measured["last"]["curvature"] = metrics.curvature(network, splits, metrics.curved(config))
    if trained.best_epoch:
        measured["best_on_test"] = {"epoch": trained.best_epoch, **metrics.measure(afresh(trained.best), splits, config)}
    trained_on, names = training_set(config, splits), splits.classes
    sizes = {"train": len(trained_on), "validation": len(splits.validation), "test": len(splits.test)}
    history = told(trained.history)
    seconds = {"training": round(sum(row["seconds"] for row in history), 2), "measuring": round(time.perf_counter() - started, 2)}
    here = environment(device)
    earlier = [other for other in trained.environments if other != here]
    return {
        "name": config.name,
        "config": dataclasses.asdict(config),
        "environment": here,
        **({"earlier_environments": earlier} if earlier else {}),
        "data": {
            "fingerprint": splits.fingerprint,
            "provenance": splits.provenance,
            "images": sizes,
            "exact_test": int(splits.test.exact.sum()),
            "classes": dict(zip(names, torch.bincount(trained_on.labels, minlength=len(names)).tolist(), strict=True)),
        },
        "seconds": seconds,
        "metrics": measured,
        "history": history,
    }
