"""What happens to a picture on its way, through torchvision's own transforms: blur, loss of contrast, JPEG.

Same signature as in `noise`, where they are registered: (images (N,C,H,W) in [0,1], level, generator) -> images. Nothing in them is
random. They act on images in 8 bits, as a file holds them, so that what is lost is lost. Level 0 leaves images as they are.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import InputError
from .vision import imported


def in_eight_bits(change: Callable[[Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """A perturbation of images in [0,1] from a change of uint8 images (N,C,H,W).

    >>> darker = in_eight_bits(lambda images, level: images // level)
    >>> darker(torch.tensor([0.5, 1.0]), 2).mul(255)
    tensor([ 64., 127.])
    """

    @functools.wraps(change)
    def perturb(images: Tensor, level: float, generator=None) -> Tensor:
        return images if level == 0 else change((images * 255).round().to(torch.uint8), level).to(images.dtype) / 255

    return perturb


def _grey_or_colour(kind: str, images: Tensor) -> None:
    if images.shape[1] not in (1, 3):
        raise InputError(f"{kind} needs images of 1 or 3 channels, these have {images.shape[1]}: leave it out")


@in_eight_bits
def blur(images: Tensor, level: float) -> Tensor:
    """Gaussian blur; level is the standard deviation of its kernel in px (cut off at three of them), edges reflected.

    >>> line = torch.zeros(1, 1, 5, 5).index_fill(3, torch.tensor(2), 1.0)
    >>> (255 * blur(line, 0.5))[0, 0, 0].tolist()
    [0.0, 27.0, 201.0, 27.0, 0.0]
    """
    height, width = images.shape[2:]
    widest = (min(height, width) - 1) / 3  # beyond, the kernel would reach past the reflection
    if not 0 < level <= widest:
        raise InputError(f"blur level {level} is no kernel for a {height}x{width} image: choose from 0 to {widest:.3g} px")
    side = 2 * math.ceil(3 * level) + 1
    return imported("torchvision.transforms.v2.functional").gaussian_blur(images, [side, side], [level, level])


@in_eight_bits
def contrast(images: Tensor, level: float) -> Tensor:
    """(1 - level) x + level * mean grey of the image: level is the share of the contrast that is taken away, 1 leaves plain grey.

    >>> contrast(torch.tensor([[[[0.2, 0.6]]]]), 1)
    tensor([[[[0.4000, 0.4000]]]])
    """
    if not 0 < level <= 1:
        raise InputError(f"contrast level {level} is not a share of contrast: choose from 0 to 1")
    _grey_or_colour("contrast", images)
    return imported("torchvision.transforms.v2.functional").adjust_contrast(images, 1 - level)


@in_eight_bits
def jpeg(images: Tensor, level: float) -> Tensor:
    """JPEG and back; level is 100 minus the quality, a whole number up to 99.

    >>> ramp = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    >>> [bool((jpeg(ramp, level) - ramp).abs().max() < 0.02) for level in (5, 95)]
    [True, False]
    """
    if not 0 < level <= 99 or level % 1:
        raise InputError(f"jpeg level {level} is not 100 minus a quality: choose a whole number from 0 to 99")
    _grey_or_colour("jpeg", images)
    transforms = imported("torchvision.transforms.v2.functional")
    # One picture at a time through Pillow, as torchvision's path for tensors needs compiled code that a CPU build may lack.
    pictures = [transforms.jpeg(transforms.to_pil_image(image), int(100 - level)) for image in images.cpu()]
    return torch.stack([transforms.pil_to_tensor(picture) for picture in pictures]).to(images.device) if pictures else images
