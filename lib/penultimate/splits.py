"""A data set in memory: images as uint8 tensors, in three splits."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images uint8 (N,C,H,W), labels int64 (N,), exact bool (N,): False for an image rebuilt from a lossy copy."""

    images: Tensor
    labels: Tensor
    exact: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows) -> "Split":
        return Split(self.images[rows], self.labels[rows], self.exact[rows])

    def sample(self, count: int) -> "Split":
        """At most so many images, of a fixed shuffle (files may be sorted by class); all of them, in order, where they are no more."""
        shuffled = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return self if len(self) <= count else self[shuffled[:count]]

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
