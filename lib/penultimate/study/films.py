"""Training as pictures: the centroid plane and the terms of the loss at the epochs whose features a run kept, as JSON."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from .. import InputError, data, geometry, losses, records
from ..centroids import class_means
from ..planes import Scene, scene
from ..runs import Run
from ..support import files
from ..train import KEPT_IMAGES, kept_epochs
from . import checks

# On digits the three classes that `normal` confuses most at the training noise (seeds 1 to 4); on CIFAR-10 cat, dog, deer.
CLASSES = {"digits": (1, 8, 9), "cifar10": (3, 5, 4)}
PER_CLASS = 30  # drawn of each class: a browser redraws mark by mark
DIGITS = {"weight": 6, "bias": 6, "stretch": 6}  # kept after the point; 3 of the features


def three(dataset: str, labels: torch.Tensor) -> tuple[int, ...]:
    """The classes whose plane is drawn: CLASSES of the data set, or the first three that occur; fewer where there are no three.

    >>> three("digits", torch.tensor([0])), three("my pictures", torch.tensor([2, 0, 2, 1, 3]))
    ((1, 8, 9), (0, 1, 2))
    """
    return CLASSES.get(dataset) or tuple(labels.unique()[:3].tolist())


def film(run: Run, classes=None, root=None) -> dict:
    """At each kept epoch the scene of three classes (default: CLASSES of the data set, or the first three) and the terms of the loss.

    The features are those of at most KEPT_IMAGES test images. terms: L_compact, L_noisy and L_margin, unweighted, for every method, whether
    its own loss has them or not, and the accuracies on the same images, clean and with the training noise. Raises InputError for classes
    that no test image has, and as `complete` does.

    >>> import tempfile
    >>> from penultimate.runs import Config, load_or_train
    >>> with tempfile.TemporaryDirectory() as store:
    ...     made = film(load_or_train(Config(method="normal", width=4, dim=8, images=64, epochs=1), store=Path(store)))
    >>> made["classes"], made["epochs"], len(made["frames"]), list(made["terms"])
    ([1, 8, 9], [0, 1], 2, ['compact', 'noisy', 'margin', 'accuracy', 'accuracy_noisy'])
    """
    config = run.config
    split = data.load(config.dataset, root, config.image_size).test.sample(KEPT_IMAGES)
    labels, classes = split.labels, classes or three(config.dataset, split.labels)
    if not set(classes) <= set(labels.tolist()):
        raise InputError(f"classes {tuple(classes)}: expected classes of the test images, 0 to {int(labels.max())}")
    features = complete(run)
    drawn = torch.cat([torch.nonzero(labels == c).flatten()[:PER_CLASS] for c in classes])
    scenes, rows = [], []
    for now in features.values():
        q, noisy, w, b = (now[name].float() for name in ("clean", "noisy", "weight", "bias"))
        means, counts = class_means(q, labels, len(w))
        scenes.append(scene(q[drawn], labels[drawn], w, b, classes, noisy[drawn], means[list(classes)]))
        rows.append(terms(now, labels, config))
    return {
        "name": run.config.name,
        "config": dataclasses.asdict(config),
        "classes": list(classes),
        "images": len(labels),
        "epochs": list(features),
        "terms": {name: [row[name] for row in rows] for name in rows[0]},
        "frames": [{name: np.round(part, DIGITS.get(name, 3)).tolist() for name, part in seen._asdict().items()} for seen in scenes],
    }


def terms(now: dict[str, torch.Tensor], labels: torch.Tensor, config) -> dict[str, float]:
    """L_compact, L_noisy, L_margin (unweighted) and the accuracies of features that a run kept at one epoch (`Run.kept`).

    >>> from penultimate.runs import Config
    >>> q = torch.tensor([[3.0], [5.0], [-3.0], [-5.0]])  # class means 4 and -4, each sample 1 from its own
    >>> now = {"clean": q, "noisy": q + 4, "weight": torch.tensor([[1.0], [-1.0]]), "bias": torch.zeros(2)}
    >>> terms(now, torch.tensor([0, 0, 1, 1]), Config(delta_v=0.5, delta_d=5.0))
    {'compact': 0.25, 'noisy': 13.25, 'margin': 1.0, 'accuracy': 1.0, 'accuracy_noisy': 0.75}
    """
    q, noisy, w, b = (now[name].float() for name in ("clean", "noisy", "weight", "bias"))
    means, counts = class_means(q, labels, len(w))
    found = {
        "compact": losses.compactness(q, labels, means, counts, config.delta_v),
        "noisy": losses.alignment(noisy, labels, means, counts, config.delta_v),
        "margin": losses.margin(means, counts, w, b, config.delta_d),
        "accuracy": ((q @ w.T + b).argmax(1) == labels).float().mean(),
        "accuracy_noisy": ((noisy @ w.T + b).argmax(1) == labels).float().mean(),
    }
    return {name: round(float(value), 5) for name, value in found.items()}


def _complete(run: Run) -> bool:
    return list(run.kept) == kept_epochs(run.config.epochs)


def complete(run: Run) -> dict[int, dict[str, torch.Tensor]]:
    """`Run.kept`, or InputError where it lacks an epoch.

    >>> from penultimate.runs import Config
    >>> complete(Run(Config(), Path("store"), {}))
    Traceback (most recent call last):
    penultimate.InputError: store lacks features of its training (an older version made it): delete it, and it is trained again
    """
    if not _complete(run):
        raise InputError(f"{run.folder} lacks features of its training (an older version made it): delete it, and it is trained again")
    return run.kept


def scenes(film: dict) -> list[Scene]:
    """The scenes of a film, one for each kept epoch.

    >>> reel = read(records.COMMITTED)["proposed"]
    >>> len(scenes(reel)) == len(reel["epochs"]), scenes(reel)[-1].centroids.shape
    (True, (3, 2))
    """
    return [Scene(**{name: np.asarray(part) for name, part in frame.items()}) for frame in film["frames"]]


def collect(runs: list[Run], folder: Path, root=None) -> None:
    """Write the films of the first seed's runs of `normal` and `proposed` under a folder, as films/<dataset>-<preset>/<name>.json; none
    where there are no test images of three classes.

    >>> import tempfile
    >>> from penultimate.runs import Config, load_or_train
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     collect([load_or_train(Config(method="normal", width=4, dim=8, images=64, epochs=1), store=Path(folder))], Path(folder))
    ...     list(read(Path(folder)))
    ['normal']
    """
    for run in runs:
        config = run.config
        if config.seed == 0 and config.method in ("normal", "proposed") and _complete(run) and _classes(config, root) > 2:
            group = f"{data.short(run.config.dataset)}-{run.config.preset}"
            files.write_json(folder / "films" / group / f"{run.config.name}.json", film(run, root=root))


def _classes(config, root) -> int:
    return len(data.load(config.dataset, root, config.image_size).test.sample(KEPT_IMAGES).labels.unique())


def read(folder: Path, dataset: str = "digits", preset: str = "digits") -> dict[str, dict]:
    """The films of a data set under a folder of records: method -> film; where there are several, of the run that changes nothing.

    >>> read(records.COMMITTED)["proposed"]["config"]["dataset"]
    'digits'
    """
    paths = sorted((folder / "films" / f"{data.short(dataset)}-{preset}").glob("*.json"))
    found = [checks.read(path, checks.film, "film") for path in paths]
    own = [one for one in found if one["config"]["dataset"] == dataset]  # two folders may share a name
    return {one["config"]["method"]: one for one in sorted(own, key=lambda one: not records.changed(one["config"]))}


def along(run: Run, root=None) -> dict[str, list[float]]:
    """The terms of the loss (margin is not L_margin but the geometry's), accuracies and geometry on the test images, at the epochs whose
    features the run kept. Raises InputError where it lacks some.

    >>> import tempfile
    >>> from penultimate.runs import Config, load_or_train
    >>> with tempfile.TemporaryDirectory() as store:
    ...     found = along(load_or_train(Config(width=4, dim=8, images=64, epochs=1), store=Path(store)))
    >>> found["epoch"], list(found)[1:]
    ([0, 1], ['compact', 'noisy', 'margin', 'accuracy', 'accuracy_noisy', 'radius', 'ratio', 'gap'])
    """
    labels = data.load(run.config.dataset, root, run.config.image_size).test.sample(KEPT_IMAGES).labels
    rows = []
    for epoch, now in complete(run).items():
        shape = geometry.describe(now["clean"], labels, now["weight"], now["bias"])
        rows.append({"epoch": epoch} | terms(now, labels, run.config) | {name: round(value, 4) for name, value in shape.items()})
    return {name: [one[name] for one in rows] for name in rows[0]}
