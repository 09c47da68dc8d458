"""Devices: whether one can be used, whether PyTorch compiles for it and what it keeps of that, and how a model lies on it."""

import functools
import sys

import torch
from torch import nn

from .. import InputError


def usable(device: str) -> torch.device:
    """The device of that name, or InputError where this machine or this build of PyTorch has none.

    >>> usable("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used here ({told}): choose cpu, or install a build of PyTorch for it") from error
    return found


@functools.cache
def compiles(device: torch.device) -> bool:
    """Whether PyTorch's compiler works for this device (for a GPU it needs a C compiler as well); where not, a line says so."""
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        print(f"nothing is compiled, which makes training slower: {' '.join(str(error).split())[:200]}", file=sys.stderr, flush=True)
        return False
    return True


@functools.lru_cache(maxsize=1)
def graphs_of(*sizes) -> None:
    """Drop what was compiled for other sizes: PyTorch keeps eight graphs of a function. Runs of one size go on with those there are, which
    a process compiles once: two of the backbone, for one and for two views, or four where the last batch is smaller."""
    torch.compiler.reset()


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on a device; on a GPU channels-last, the layout in which its convolutions are fast.

    On the CPU that would be faster too, but PyTorch 2.13 then corrupts memory at width 4.

    >>> placed(nn.Conv2d(3, 4, 3), torch.device("cpu")).weight.is_contiguous()
    True
    """
    return model.to(device, memory_format=torch.channels_last if device.type == "cuda" else torch.preserve_format)
