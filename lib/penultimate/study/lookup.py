"""What widgets look up instead of computing: features, predictions and confidences at every level, kept beside the run."""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import data, geometry, one_of
from ..centroids import class_means
from ..jobs import one_thread
from ..model import penultimate_features
from ..noise import apply
from ..progress import no_bars
from ..runs import Run
from ..support import files
from ..train import KEPT_IMAGES

# Slider positions; the Gaussian ones of other data sets are in grey levels.
LEVELS = {
    "gaussian": {"digits": tuple(round(0.05 * k, 2) for k in range(11)), "default": tuple(4 * k / 255 for k in range(9))},
    "uniform": {"digits": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), "default": tuple(8 * k / 255 for k in range(5))},
    "laplace": {"digits": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), "default": tuple(8 * k / 255 for k in range(5))},
    "salt_pepper": {"default": (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)},
    "occlusion": {"default": (0.0, 0.125, 0.25, 0.375, 0.5)},
    "low_resolution": {"default": (1.0, 1.5, 2.0, 3.0, 4.0)},
}


class Lookup(NamedTuple):
    """Of one network, by level (L) and image (N): features (L,N,d) float16, predicted class and its probability (L,N)."""

    features: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


def levels(perturbation: str, dataset: str) -> tuple[float, ...]:
    """The slider positions of a perturbation. Raises InputError for one that has none.

    >>> levels("gaussian", "digits")[:3], levels("occlusion", "cifar10")[1]
    ((0.0, 0.05, 0.1), 0.125)
    """
    one_of("perturbation with a slider", perturbation, LEVELS)
    settled = data.settings(dataset).get("levels")
    if settled and perturbation in ("gaussian", "uniform", "laplace"):  # twice as fine as a run is measured
        return tuple(settled[-1] * k / 8 for k in range(9))
    return LEVELS[perturbation].get(dataset, LEVELS[perturbation]["default"])


def perturbed(images: Tensor, perturbation: str, at: tuple[float, ...]) -> Tensor:
    """uint8 images (N,C,H,W) -> (L,N,C,H,W) in [0,1]: at each level with the same random numbers, so that a slider moves smoothly.

    Drawn on the CPU whatever the network runs on: what is shown is what the network saw.

    >>> grey = torch.full((1, 1, 4, 4), 128, dtype=torch.uint8)
    >>> clean, weak, strong = perturbed(grey, "gaussian", (0.0, 0.05, 0.1))
    >>> clean.shape, torch.allclose(strong - clean, 2 * (weak - clean), atol=1e-6)  # the same noise, twice as strong
    (torch.Size([1, 1, 4, 4]), True)
    """
    draw, clean = lambda: torch.Generator().manual_seed(0), data.to_unit(images.cpu())
    return torch.stack([apply(perturbation, clean, level, draw()) if level else clean for level in at])


def look_up(run: Run, images: Tensor, perturbation: str = "gaussian", device: str = "cpu") -> Lookup:
    """The lookup of a run for these test images, uint8 (N,C,H,W), from beside the run where it is kept, else made and kept there.

    >>> import pathlib, tempfile
    >>> from penultimate.runs import Config, load_or_train
    >>> with tempfile.TemporaryDirectory() as store:
    ...     run = load_or_train(Config(width=4, dim=8, images=64, epochs=1), store=pathlib.Path(store))
    ...     seen = look_up(run, looked_at("digits").images[:3])
    ...     again = look_up(run, looked_at("digits").images[:3])  # read, not computed
    >>> seen.features.shape, seen.predicted.shape, bool((again.confidence == seen.confidence).all())
    ((11, 3, 8), (11, 3), True)
    """
    at = levels(perturbation, run.config.dataset)
    path, named = run.folder / "lookup" / f"{perturbation}.safetensors", {"levels": json.dumps(at), "images": files.digest(images)}
    shape = len(at), len(images)
    if kept := files.kept(path, named, {"features": (*shape, run.config.dim), "predicted": shape, "confidence": shape}):
        return Lookup(**{name: tensor.numpy() for name, tensor in kept.items()})
    from tqdm.auto import tqdm

    model = run.model.to(device)
    found = {"features": [], "predicted": [], "confidence": []}
    views = perturbed(images, perturbation, at)
    with one_thread(), torch.inference_mode():  # not the reading of the model, whose weights must bear gradients later
        for view in tqdm(views, desc=f"{run.config.method}: {perturbation}", unit="level", leave=False, disable=no_bars()):
            q = penultimate_features(model, view.to(device))
            confidence, predicted = model.head(q).softmax(1).max(1)
            for name, part in (("features", q.half()), ("predicted", predicted.int()), ("confidence", confidence)):
                found[name].append(part.cpu())
    run.model.to("cpu")
    tensors = {name: torch.stack(parts) for name, parts in found.items()}
    files.keep(path, tensors, named)
    return Lookup(**{name: tensor.numpy() for name, tensor in tensors.items()})


def numbers(run: Run, seen: Lookup, labels: np.ndarray) -> pd.DataFrame:
    """Per level, in all d dimensions, labels (N,): radius and margin (see `geometry.describe`), mean distance to the own class's clean
    centroid, silhouette (mean over images of (b - a) / max(a, b): a the mean distance within the class, b to the nearest other one).

    >>> from types import SimpleNamespace as made
    >>> head = torch.nn.Linear(1, 2)
    >>> head.weight.data, head.bias.data = torch.tensor([[-1.0], [1.0]]), torch.tensor([11.0, 0.0])  # classes meet at q = 5.5
    >>> seen = Lookup(np.tile(np.float16([[0], [1], [10], [11]]), (11, 1, 1)), None, None)
    >>> run = made(model=made(head=head), config=made(dataset="digits"))
    >>> numbers(run, seen, np.array([0, 0, 1, 1])).loc[0.0].round(2).to_dict()
    {'radius': 0.5, 'margin': 5.0, 'to clean centroid': 0.5, 'silhouette': 0.9}
    """
    from sklearn.metrics import silhouette_score

    head, truth, rows = run.model.head, torch.as_tensor(labels), []
    clean = torch.from_numpy(seen.features[0]).double()
    centroids, _ = class_means(clean, truth, len(head.bias))
    for q in torch.from_numpy(seen.features).double():
        shape = geometry.describe(q, truth, head.weight, head.bias)
        away = torch.linalg.vector_norm(q - centroids[truth], dim=1).mean()
        known = 1 < len(set(labels.tolist())) < len(labels)  # else there is no silhouette
        rows.append((shape["radius"], shape["margin"], float(away), float(silhouette_score(q.numpy(), labels)) if known else np.nan))
    columns = ["radius", "margin", "to clean centroid", "silhouette"]
    return pd.DataFrame(rows, columns=columns, index=pd.Index(levels("gaussian", run.config.dataset), name="level"))


def looked_at(dataset: str, root=None) -> data.Split:
    """Test images, the same ones and at most as many as features are kept of while training.

    >>> looked_at("digits").images.shape  # all of them
    torch.Size([450, 1, 8, 8])
    """
    return data.load(dataset, root).test.sample(KEPT_IMAGES)
