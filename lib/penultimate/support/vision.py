"""Importing torchvision, and what builds on it, also where its compiled operators do not load."""

import importlib
import re
from types import ModuleType

import torch


def imported(name: str) -> ModuleType:
    """The module of that name, also where PyTorch is a CPU build and torchvision's compiled operators do not load.

    Such an import stops at the first missing operator (nms and its like, unused here). Declaring it lets the import go on.
    Call it before any `import timm` of your own. Raises ImportError where the module is not installed.

    >>> imported("torchvision.datasets").CIFAR10.__name__
    'CIFAR10'
    """
    while True:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            missing = re.match(r"operator (torchvision::\w+) does not exist", str(error))
            if not missing:
                raise
            torch.library.define(missing[1], "() -> ()")
