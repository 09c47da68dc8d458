"""What a run leaves for a later process, so that it goes on to the bit: everything of a `train.Trainer`, in one safetensors file."""

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from . import InputError
from .support import files

QUICK, SPARSE = 0.2, 30.0  # seconds: a checkpoint that takes longer to write is written that seldom, where a whole epoch takes less
TOLD = ("history", "best_epoch", "environments")  # attributes of a trainer that are no tensors


def state(trainer) -> dict[str, Tensor]:
    """The tensors of a trainer: model, loss, best weights, momenta.

    >>> from penultimate import data, runs, train
    >>> trainer = train.Trainer(runs.Config(width=4, dim=8, images=64), data.load("digits"), "cpu")
    >>> sorted({name.partition("/")[0] for name in state(trainer)})  # momenta and best weights come later
    ['loss', 'model']
    """
    parts = {"model": trainer.model.state_dict(), "loss": trainer.loss.state_dict(), "best": trainer.best}
    parts["momentum"] = {str(i): m for i, m in enumerate(trainer.momenta) if m is not None}
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def save(trainer, path: Path) -> None:
    """Write the checkpoint, and note in the trainer how many epochs it holds and when the next one is due.

    >>> import tempfile
    >>> from penultimate import data, runs, train
    >>> trainer = train.Trainer(runs.Config(width=4, dim=8, images=64), data.load("digits"), "cpu")
    >>> trainer.epoch(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(trainer, Path(folder, "c"))
    >>> trainer.on_disk
    1
    """
    started = time.monotonic()
    told = {name: json.dumps(getattr(trainer, name)) for name in TOLD} | {"data": trainer.fingerprint}
    files.write_tensors(path, state(trainer), told)
    trainer.on_disk, ended = len(trainer.history), time.monotonic()
    trainer.next_save = ended + SPARSE * (ended - started > QUICK)


def restore(trainer, path: Path) -> None:
    """Go on from a checkpoint; one that is damaged, or of other images, is named in a line, and the run begins again.

    Raises InputError for one of another version of the code.

    >>> import tempfile
    >>> from penultimate import data, runs, train
    >>> one, other = (train.Trainer(runs.Config(width=4, dim=8, images=64), data.load("digits"), "cpu") for _ in range(2))
    >>> one.epoch(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(one, Path(folder, "c"))
    ...     restore(other, Path(folder, "c"))
    >>> len(other.history), torch.equal(other.model.head.weight, one.model.head.weight)
    (1, True)
    """
    try:
        tensors, metadata = files.read_tensors(path)
    except InputError as error:
        print(f"{trainer.config.name}: {str(error).partition(': delete it')[0]}; beginning again", file=sys.stderr, flush=True)
        return
    if metadata.get("data", trainer.fingerprint) != trainer.fingerprint:  # older versions did not say
        print(f"{trainer.config.name}: the images have changed since its last epoch; beginning again", file=sys.stderr, flush=True)
        return
    try:
        _take(trainer, tensors, metadata)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is no checkpoint of this version of the code: delete it, and the run begins again") from error


def _take(trainer, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    part = lambda prefix: {name[len(prefix) :]: t.to(trainer.device) for name, t in tensors.items() if name.startswith(prefix)}  # noqa: E731
    trainer.model.load_state_dict(part("model/"))
    trainer.loss.load_state_dict(part("loss/"))
    for index, momentum in part("momentum/").items():
        parameter = trainer.parameters[int(index)]
        if momentum.shape != parameter.shape:
            raise ValueError(f"momentum {index} is {tuple(momentum.shape)}")
        trainer.momenta[int(index)] = torch.empty_like(parameter).copy_(momentum)  # in the layout of its parameter
    trainer.best, trainer.best_epoch = part("best/"), json.loads(metadata["best_epoch"])
    trainer.history = json.loads(metadata["history"])
    if [row["epoch"] for row in trainer.history] != list(range(1, len(trainer.history) + 1)):
        raise ValueError("the history has a hole")
    before = json.loads(metadata.get("environments", "[]"))  # older versions did not say
    trainer.environments = before + [here for here in trainer.environments if before[-1:] != [here]]
    trainer.on_disk = len(trainer.history)
