"""Perturbations of images in [0,1]. One signature: (images (N,C,H,W), level, generator) -> images, not yet clamped.

`apply` looks a perturbation up by name, checks its input and clamps to [0,1]. Levels are in pixel units of [0,1]:
a level of n/255 is n grey levels.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

from . import InputError, one_of
from .data import to_unit
from .support.corruptions import blur, contrast, jpeg

OCCLUDING_PATCHES = 4
MOST = 2**62  # any level beyond it is a mistake, and no longer fits an integer tensor


def gaussian(images: Tensor, level: float, generator=None) -> Tensor:
    """x + eps, eps ~ N(0, level^2 I): level is the standard deviation before clamping (the paper's sigma).

    >>> round(float(gaussian(torch.zeros(1, 1, 200, 200), 0.1, torch.Generator().manual_seed(0)).std()), 2)
    0.1
    """
    drawn = torch.randn(images.shape, device=images.device, dtype=images.dtype, generator=generator)
    return drawn.mul_(level).add_(images)  # in place: a third less memory to go through


def uniform(images: Tensor, level: float, generator=None) -> Tensor:
    """x + eps, eps ~ U[-e, e] with e = sqrt(3) level, so that level is the standard deviation.

    >>> found = uniform(torch.zeros(1, 1, 200, 200), 0.1, torch.Generator().manual_seed(0))
    >>> round(float(found.std()), 2), round(float(found.max()), 2)
    (0.1, 0.17)
    """
    drawn = torch.rand(images.shape, device=images.device, dtype=images.dtype, generator=generator)
    return images + level * math.sqrt(3) * (2 * drawn - 1)


def laplace(images: Tensor, level: float, generator=None) -> Tensor:
    """x + eps, eps Laplace of standard deviation level: the difference of two exponentials, scaled by level / sqrt(2).

    >>> round(float(laplace(torch.zeros(1, 1, 200, 200), 0.1, torch.Generator().manual_seed(0)).std()), 2)
    0.1
    """
    drawn = torch.empty((2, *images.shape), device=images.device, dtype=images.dtype).exponential_(generator=generator)
    return images + level / math.sqrt(2) * (drawn[0] - drawn[1])


def coin_flip(images: Tensor, level: float, generator=None) -> Tensor:
    """x + eps, eps = level or -level, equally likely: the least kurtosis, 1, that a symmetric noise can have.

    >>> coin_flip(torch.zeros(1, 1, 200, 200), 0.1, torch.Generator().manual_seed(0)).unique()
    tensor([-0.1000,  0.1000])
    """
    drawn = torch.rand(images.shape, device=images.device, dtype=images.dtype, generator=generator)
    return images + level * torch.where(drawn < 0.5, -1.0, 1.0).to(images.dtype)


def salt_pepper(images: Tensor, level: float, generator=None) -> Tensor:
    """Each pixel, all its channels together, becomes 0 or 1 (equally likely) with probability level.

    >>> found = salt_pepper(torch.full((1, 1, 200, 200), 0.5), 0.2, torch.Generator().manual_seed(0))
    >>> [round(float((found == value).float().mean()), 2) for value in (0.0, 0.5, 1.0)]
    [0.1, 0.8, 0.1]
    """
    if not 0 <= level <= 1:
        raise InputError(f"salt_pepper level {level} is not a share of pixels: choose from 0 to 1")
    drawn = torch.rand((len(images), 1, *images.shape[2:]), device=images.device, dtype=images.dtype, generator=generator)
    return torch.where(drawn < level, (drawn < level / 2).to(images.dtype), images)


def occlusion(images: Tensor, level: float, generator=None) -> Tensor:
    """Four square patches per image, wholly inside it, set to 0; level is their side as a share of the shorter image side.

    The paper has 20 patches of 70 px on larger images, which leave a 32 px image untouched; here a patch that does not fit is an error.

    >>> kept = occlusion(torch.ones(1, 1, 32, 32), 0.25, torch.Generator().manual_seed(0))  # four of 8x8 px, which may overlap
    >>> 8 * 8 <= int((kept == 0).sum()) <= 4 * 8 * 8
    True
    """
    height, width = images.shape[2:]
    side = round(level * min(height, width))
    if level and not 1 <= side < min(height, width):
        raise InputError(
            f"occlusion level {level} makes patches of {side} px in a {height}x{width} image: it must be 1 to {min(height, width) - 1} px"
        )
    covered = torch.zeros(len(images), 1, height, width, dtype=torch.bool, device=images.device)
    for _ in range(OCCLUDING_PATCHES):
        inside = [
            (at >= start) & (at < start + side)
            for at, start in (
                (
                    torch.arange(size, device=images.device),
                    torch.randint(0, size - side + 1, (len(images), 1), device=images.device, generator=generator),
                )
                for size in (height, width)
            )
        ]
        covered |= (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return images.masked_fill(covered, 0)


def low_resolution(images: Tensor, level: float, generator=None) -> Tensor:
    """Bilinear down by the factor level and up again; level 1 leaves the image, 2 halves its resolution (paper: 2 and 3).

    Down with an antialiasing filter, as a camera's lens has one; whether the authors' has is not said.

    >>> board = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2.0)[None, None]  # of single pixels: grey at half
    >>> low_resolution(board, 2).aminmax()[1].round(decimals=1), low_resolution(board, 1).aminmax()[1]
    (tensor(0.5000), tensor(1.))
    """
    height, width = images.shape[2:]
    if not 1 <= level <= min(height, width):
        raise InputError(f"low_resolution level {level} is not a factor from 1 to {min(height, width)} for a {height}x{width} image")
    small = round(height / level), round(width / level)
    shrunk = F.interpolate(images, size=small, mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(shrunk, size=(height, width), mode="bilinear", align_corners=False)


NOISES = {f.__name__: f for f in (gaussian, uniform, laplace, salt_pepper, occlusion, low_resolution, coin_flip, blur, contrast, jpeg)}
FIXED = ("low_resolution", "blur", "contrast", "jpeg")  # draw no random numbers: one draw says it all


def check(name: str, images: Tensor) -> None:
    """Raise InputError unless the name is known and the images are floats in [0,1] of shape (N,C,H,W).

    >>> check("gaussian", torch.full((1, 1, 2, 2), 255.0))
    Traceback (most recent call last):
    penultimate.InputError: images run from 255 to 255: expected finite values in [0,1]
    """
    for one in name.split("+") if isinstance(name, str) else [name]:
        one_of("noise", one, NOISES)
    if not images.is_floating_point() or images.ndim != 4:
        raise InputError(f"images are {images.dtype} of shape {tuple(images.shape)}: expected floats in [0,1] of shape (N,C,H,W)")
    if len(images) and not ((images >= 0) & (images <= 1)).all():  # also False for NaN
        raise InputError(f"images run from {float(images.min()):g} to {float(images.max()):g}: expected finite values in [0,1]")


def checked(name: str, images: Tensor) -> Tensor:
    """Images as floats in [0,1], uint8 ones divided by 255. Raises InputError where `check` does.

    >>> checked("gaussian", torch.full((1, 1, 1, 1), 51, dtype=torch.uint8)).item()
    0.2...
    """
    pixels = to_unit(images) if images.dtype == torch.uint8 else images
    check(name, pixels)
    return pixels


def apply(name: str, images: Tensor, level, generator: torch.Generator | None = None) -> Tensor:
    """Perturb images in [0,1] by name and clamp to [0,1].

    name: one of NOISES, or several joined by '+' and applied in turn, then level is a tuple ('occlusion+gaussian', (0.3, 0.1)).
    level of gaussian, uniform, laplace, coin_flip: standard deviation before clamping; of the others: as their docstring states.
    Raises InputError for an unknown name, images outside [0,1] or not finite, and a level that cannot apply.

    >>> grey = torch.full((1, 1, 2, 2), 0.5)
    >>> apply("gaussian", grey, 8 / 255, torch.Generator().manual_seed(0)).flatten()
    tensor([0.5483, 0.4908, 0.4316, 0.5178])
    """
    check(name, images)
    names, levels = name.split("+"), level if isinstance(level, (tuple, list)) else (level,)
    if len(names) != len(levels):
        raise InputError(f"noise {name!r} needs {len(names)} levels, got {len(levels)}")
    for one, its_level in zip(names, levels, strict=True):
        if not isinstance(its_level, numbers.Real) or not 0 <= its_level < MOST:
            raise InputError(f"{one} level {its_level!r} is not a number from 0 to below 2^62")
        images = NOISES[one](images, its_level, generator).clamp(0, 1)
    return images


def must_touch(name: str, images: Tensor, level) -> None:
    """Raise InputError where a perturbation at this level leaves every image as it is: a test of nothing would pass unseen.

    >>> must_touch("blur", torch.eye(8)[None, None], 0.1)
    Traceback (most recent call last):
    penultimate.InputError: blur level 0.1 leaves all 1 images as they are: choose a stronger one
    """
    if torch.equal(apply(name, images, level, torch.Generator(images.device).manual_seed(0)), images):
        raise InputError(f"{name} level {level} leaves all {len(images)} images as they are: choose a stronger one")
