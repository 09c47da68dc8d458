"""Two augmented views of CIFAR-10's shapes: in batches from uint8 tensors, against torchvision's PIL transforms in a DataLoader."""

import torch
from torch.utils.data import DataLoader, Dataset

from ..batches import stream, views
from ..support.vision import imported
from .compare import Row, alone, in_turn
from .step import config, random_images

IMAGES, BATCH, WORKERS, FASTER, ROUNDS = 50_000, 64, 2, 10, 3
WHAT = f"two augmented views, {IMAGES:,} images, {WORKERS} threads"


class TwoViews(Dataset):
    """Crop, flip, tensor, noise for one PIL image at a time, as common code has it."""

    def __init__(self, images: torch.Tensor, sigma: float):
        t = imported("torchvision.transforms")  # on PIL pictures half again as fast as its v2
        self.images, self.sigma = [t.functional.to_pil_image(image) for image in images], sigma
        self.augment = t.Compose([t.RandomCrop(32, padding=4), t.RandomHorizontalFlip(), t.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        clean = self.augment(self.images[index])
        return clean, (clean + self.sigma * torch.randn_like(clean)).clamp(0, 1)


def measure() -> list[Row]:
    """With as many threads here as workers there."""
    images, settings = random_images(IMAGES).train.images, config(8, BATCH)
    loader = DataLoader(TwoViews(images, settings.sigma), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)

    def ours():
        order, cropping, noise = (stream(0, name, 0) for name in ("order", "crop", "noise"))
        for rows in torch.randperm(IMAGES, generator=order).split(BATCH):
            views(settings, images[rows], cropping, noise)

    threads = torch.get_num_threads()
    torch.set_num_threads(WORKERS)
    try:
        a, b, ratio = in_turn(ours, lambda: [None for _ in loader], ROUNDS)
    finally:
        torch.set_num_threads(threads)
    against = f"PIL transforms, DataLoader, {WORKERS} workers"
    return [Row(WHAT, against, "images/s", IMAGES / a, IMAGES / b, ratio, f"{FASTER}x as fast", ratio >= FASTER)]


def reasons() -> dict[str, tuple[str, float]]:
    """The Gaussian noise of every image, drawn by PyTorch: no way of making views is without it."""
    drawn, gen = torch.empty(BATCH, 3, 32, 32), torch.Generator().manual_seed(0)
    return {WHAT: ("drawing its Gaussian noise alone", BATCH / alone(lambda: drawn.normal_(generator=gen)) * 1e3)}
