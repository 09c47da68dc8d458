import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings

from penultimate import data
from penultimate.runs import Config

# Two test processes share the cores: one thread each, for the kernels and commands that they start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
settings.register_profile("unit", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("unit")


@pytest.fixture(scope="session")
def digits():
    return data.load("digits")


@pytest.fixture(scope="session")
def tiny():
    """A configuration that trains in a tenth of a second: 128 digits in 2 steps an epoch, whatever the preset says."""
    small = dict(method="proposed", width=8, dim=16, epochs=3, images=128, batch=64, lr=0.05, schedule="cosine", sigma=0.3)
    small |= dict(pad=0, flip=False)

    def make(**fields):
        return Config(**small | fields)

    return make


@pytest.fixture(scope="session")
def random_batch():
    """Features, labels, centroids and a head in general position, float64; 5 classes of which the batch may lack some."""

    def make(seed, n=12, classes=5, dim=3):
        gen = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=gen)  # noqa: E731
        labels = torch.randint(0, classes - 1, (n,), generator=gen)  # the last class is always absent
        return SimpleNamespace(
            q=2 * draw(n, dim), noisy=2 * draw(n, dim), labels=labels, m=draw(classes, dim), weight=draw(classes, dim), bias=draw(classes),
            counts=torch.bincount(labels, minlength=classes).double(), classes=classes, dim=dim,
        )  # fmt: skip

    return make


@pytest.fixture
def keras_npz(tmp_path):
    """Writes an npz file in Keras layout; keyword arguments replace its arrays, None leaves one out."""

    def write(channels=3, train=60, test=12, classes=3, name="set.npz", **replaced):
        rng, size = np.random.default_rng(0), (5, 4) if channels == 1 else (5, 4, channels)
        arrays = {
            "x_train": rng.integers(0, 256, (train, *size), dtype=np.uint8), "y_train": np.arange(train) % classes,
            "x_test": rng.integers(0, 256, (test, *size), dtype=np.uint8), "y_test": np.arange(test) % classes,
        }  # fmt: skip
        arrays = {key: array for key, array in (arrays | replaced).items() if array is not None}
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name, arrays

    return write
