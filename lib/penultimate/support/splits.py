"""A data set in memory: images as uint8 tensors, in three splits."""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

VALIDATION_SHARE, SPLIT_SEED = 0.1, 0  # of what there is to train on; the same for everyone


def shuffled(count: int) -> Tensor:
    """0 ... count - 1 in an order that looks random and is always the same: files may be sorted by class.

    >>> shuffled(5)
    tensor([4, 0, 1, 3, 2])
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Split:
    """Images uint8 (N,C,H,W), labels int64 (N,), exact bool (N,): False for an image rebuilt from a lossy copy.

    >>> split = Split(torch.zeros(3, 1, 8, 8).byte(), torch.tensor([4, 7, 9]), torch.ones(3).bool())
    >>> len(split), split[1:].labels, len(split.sample(2))
    (3, tensor([7, 9]), 2)
    """

    images: Tensor
    labels: Tensor
    exact: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows) -> "Split":
        return Split(self.images[rows], self.labels[rows], self.exact[rows])

    def sample(self, count: int) -> "Split":
        """At most so many images, the first of `shuffled`; all of them, in order, where they are no more."""
        return self if len(self) <= count else self[shuffled(len(self))[:count]]

    def to(self, device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device), self.exact.to(device))


@dataclass(frozen=True)
class Splits:
    """A data set: train, validation and test `Split`s, the classes' names, and where the images come from."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    provenance: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return tuple(self.train.images.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the shapes, images and labels of the three splits."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows kept and rows held out, ceil(share N) of them, each class in its proportion: both in ascending order.

    The rows that scikit-learn's train_test_split(stratify=labels, random_state=seed) chooses, without the second that its import takes.

    >>> [part.tolist() for part in stratified(np.array([0, 1, 0, 1, 0, 0]), 0.5, seed=0)]
    [[1, 4, 5], [0, 2, 3]]
    """
    rng, classes = np.random.RandomState(seed), [np.flatnonzero(labels == c) for c in np.unique(labels)]
    sizes, held = np.array([len(rows) for rows in classes]), math.ceil(share * len(labels))
    kept = _apportioned(sizes, len(labels) - held, rng)
    held_out = _apportioned(sizes - kept, held, rng)
    shuffled = [rows[rng.permutation(len(rows))] for rows in classes]
    first = [rows[:k] for rows, k in zip(shuffled, kept, strict=True)]
    second = [rows[k : k + h] for rows, k, h in zip(shuffled, kept, held_out, strict=True)]
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def _apportioned(sizes: np.ndarray, total: int, rng: np.random.RandomState) -> np.ndarray:
    """How many of each class make `total`, in proportion to sizes (C,): rounded down, the rest to the largest remainders, ties by lot."""
    exact = sizes / sizes.sum() * total
    counts = np.floor(exact)
    remainders = exact - counts
    for remainder in np.unique(remainders)[::-1]:
        equal, missing = np.flatnonzero(remainders == remainder), int(total - counts.sum())
        if not missing:
            break
        counts[rng.choice(equal, size=min(len(equal), missing), replace=False)] += 1
    return counts.astype(int)
