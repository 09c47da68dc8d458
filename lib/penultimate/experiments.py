"""Which part of the method does the work: ablation, sensitivity, centroids, switches. The grids, and a small record of every run."""

import copy
import dataclasses
import json
from pathlib import Path

import pandas as pd
import torch

from . import InputError, data, files, geometry, losses, one_of
from .centroids import class_means
from .evaluate import seed_interval
from .films import terms
from .model import penultimate_features
from .records import COMMITTED
from .runs import Config, Run
from .train import KEPT_IMAGES, Trainer

ABLATION = {
    "neither": dict(method="discriminative", compact=0.0, margin=0.0),
    "compactness": dict(method="discriminative", margin=0.0),
    "margin": dict(method="discriminative", compact=0.0),
    "compactness + margin": dict(method="discriminative"),
    "alignment": dict(method="proposed", compact=0.0, margin=0.0),
    "compactness + alignment": dict(method="proposed", margin=0.0),
    "margin + alignment": dict(method="proposed", compact=0.0),
    "proposed": dict(method="proposed"),
    "proposed + noisy CE": dict(method="proposed", ce_noisy=0.5),
}
DELTA_V, DELTA_D = (0.1, 0.5, 1.5, 4.0, 8.0), (1.0, 2.0, 5.0, 15.0)
DELTAS = {f"{v:g}, {d:g}": dict(method="proposed", delta_v=v, delta_d=d) for d in DELTA_D for v in DELTA_V}
# What moves each method along its front of clean against noisy accuracy: one field, several values.
FRONTS = {
    "proposed, λ": ("proposed", "noisy", (0.1, 0.5, 2.0, 8.0, 32.0)),
    "stability, weight": ("stability", "stability", (0.1, 0.3, 1.0, 3.0, 10.0)),
    **{f"{method}, σ": (method, "sigma", (0.1, 0.3, 0.45)) for method in ("noisy", "both", "stability", "proposed")},
}
FRONT = {f"{front} = {value:g}": {"method": method, field: value} for front, (method, field, values) in FRONTS.items() for value in values}
CENTROIDS = {
    "naive": dict(method="proposed", tracking="naive"),
    **{f"momentum, μ = {mu:g}": dict(method="proposed", tracking="momentum", mu=mu) for mu in (0.9, 0.99, 0.999)},
    **{f"partial, μ = {mu:g}": dict(method="proposed", tracking="partial", mu=mu) for mu in (0.9, 0.99, 0.999)},
}
SWITCHES = {
    **{f"{method}, best on test": dict(method=method, best_on_test=True) for method in ("normal", "both", "proposed")},
    **{
        f"{method}, {crops} crops": dict(method=method, pad=1, crops=crops)
        for method in ("stability", "proposed")
        for crops in ("shared", "independent")
    },
    **{f"{method}, bn {bn}": dict(method=method, bn=bn) for method in ("both", "stability", "proposed") for bn in ("separate", "clean")},
    **{f"{method}, low rate": dict(method=method, lr=0.002) for method in ("normal", "both", "proposed")},
    "normal, twice the epochs": dict(method="normal", epochs=48),  # matched compute: two views cost double
}
BASELINES = {method: dict(method=method) for method in ("normal", "noisy", "both", "stability", "discriminative", "proposed")}
# The rows that the others hang on, few enough for real images on a CPU.
DECISIVE = BASELINES | {
    "proposed + noisy CE": ABLATION["proposed + noisy CE"],
    "proposed, bn clean": SWITCHES["proposed, bn clean"],
}
EXPERIMENTS = {
    "ablation": ABLATION | {name: BASELINES[name] for name in ("normal", "both")},
    "centroids": CENTROIDS,
    "switches": SWITCHES | BASELINES,
    "deltas": DELTAS,
    "fronts": FRONT | BASELINES,
    "decisive": DECISIVE,
}


ALONG = ("ablation",)  # experiments whose records also follow each run through its training


def arms(experiment: str, seeds, dataset: str = "digits", preset: str | None = None) -> dict[tuple[str, int], Config]:
    """(arm, seed) -> configuration, seeds outermost, so that every arm has a first seed early. The values suit the preset digits.

    Raises InputError for an unknown experiment.

    >>> list(arms("centroids", [0, 1]))[6:8]
    [('partial, μ = 0.999', 0), ('naive', 1)]
    """
    one_of("experiment", experiment, EXPERIMENTS)
    return {
        (arm, seed): Config(dataset=dataset, preset=preset, seed=seed, **fields)
        for seed in dict.fromkeys(seeds)
        for arm, fields in EXPERIMENTS[experiment].items()
    }


def row(arm: str, run: Run, root=None, along: bool = False) -> dict:
    """What tables and pictures need of a run: what it changes, accuracies (mean over draws) and geometry of the last epoch, validation.

    along: also the terms of the loss, accuracies and geometry on the test images at the epochs whose features the run kept.
    """
    config, metrics, last = run.config, run.record["metrics"], run.history[-1]
    plain = Config(dataset=config.dataset, preset=config.preset, method=config.method, seed=config.seed)
    changes = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(plain, f.name)}
    found = {"arm": arm, "seed": config.seed, "name": config.name, "method": config.method, "changes": changes}
    found |= {"accuracy": _means(metrics["last"]), "geometry": metrics["last"]["geometry"], "seconds": run.record["seconds"]["training"]}
    found |= {name: last[name] for name in ("validation", "validation_noisy")}
    if "best_on_test" in metrics:
        found["best_on_test"] = {"epoch": metrics["best_on_test"]["epoch"], "accuracy": _means(metrics["best_on_test"])}
    return found | ({"along": _along(run, root)} if along else {})


def _means(measured: dict) -> dict[str, float]:
    """Level -> mean accuracy over the draws."""
    pairs = zip(measured["gaussian"]["levels"], measured["gaussian"]["accuracy"], strict=True)
    return {f"{level:g}": round(sum(draws) / len(draws), 6) for level, draws in pairs}


def _along(run: Run, root) -> dict[str, list[float]]:
    labels = data.load(run.config.dataset, root).test.sample(KEPT_IMAGES).labels
    rows = []
    for epoch, now in run.kept.items():
        shape = geometry.describe(now["clean"], labels, now["weight"], now["bias"])
        rows.append({"epoch": epoch} | terms(now, labels, run.config) | {name: round(value, 4) for name, value in shape.items()})
    return {name: [one[name] for one in rows] for name in rows[0]}


def collect(experiment: str, runs: dict[tuple[str, int], Run], folder: Path, root=None) -> Path:
    """Write the rows of an experiment as <folder>/<dataset>-<preset>/<experiment>.json and return the path."""
    rows = [row(arm, run, root, experiment in ALONG) for (arm, _), run in runs.items()]
    first = next(iter(runs.values()))
    environments = {json.dumps(run.record["environment"], sort_keys=True) for run in runs.values()}
    path = folder / f"{first.config.dataset}-{first.config.preset}" / f"{experiment}.json"
    sigma = Config(dataset=first.config.dataset, preset=first.config.preset).sigma
    content = {"experiment": experiment, "sigma": sigma, "data": first.record["data"]}
    files.write_json(path, content | {"environments": [json.loads(one) for one in sorted(environments)], "rows": rows})
    return path


def read(experiment: str, dataset: str = "digits", preset: str = "digits", folder: Path | None = None) -> dict:
    """What `collect` wrote (default: the committed records). Raises InputError where there is none, or where an arm has a seed twice."""
    path = (folder or COMMITTED / "experiments") / f"{dataset}-{preset}" / f"{experiment}.json"
    if not path.exists():
        raise InputError(f"{path} is missing: make it with python -m penultimate experiments --names {experiment} --dataset {dataset}")
    found = files.read_json(path)
    named = [(one["arm"], one["seed"]) for one in found["rows"]]
    if len(set(named)) < len(named):
        raise InputError(f"{path} holds an arm and seed twice: delete it and make it again")
    return found


def table(found: dict) -> pd.DataFrame:
    """One row per run: arm, seed, method, the changed fields, clean and noisy accuracy (at the experiment's sigma), every level as
    `at_<level>`, validation and validation_noisy, radius, margin, ratio, gap."""
    rows = []
    for one in found["rows"]:
        levels = {f"at_{level}": value for level, value in one["accuracy"].items()}
        named = {"clean": levels["at_0"], "noisy": levels[f"at_{found['sigma']:g}"]}
        run = {key: one[key] for key in ("arm", "seed", "method", "validation", "validation_noisy")}
        rows.append(run | one["changes"] | one["geometry"] | levels | named)
    return pd.DataFrame(rows)


def difference(rows: pd.DataFrame, arm: str, against: str, column: str = "noisy") -> tuple[float, float, float, int]:
    """One arm minus another, paired by seed: mean, 95 % t interval, n seeds. Raises InputError where they share no seed.

    >>> rows = pd.DataFrame({"arm": list("aabb"), "seed": [0, 1, 0, 1], "noisy": [0.8, 0.9, 0.7, 0.8]})
    >>> [round(v, 3) for v in difference(rows, "a", "b")]
    [0.1, 0.1, 0.1, 2]
    """
    left, right = (rows[rows.arm == name].set_index("seed")[column] for name in (arm, against))
    apart = (left - right).dropna()
    if not len(apart):
        raise InputError(f"{arm!r} and {against!r} share no seed: known arms are {', '.join(dict.fromkeys(rows.arm))}")
    return *seed_interval(apart), len(apart)


def trace_centroids(config: Config, root=None) -> list[dict[str, float]]:
    """Train once more, and after each epoch measure what the tracking of the centroids does, over the batches of one epoch.

    drift: mean over batches and classes of ||m_c - mean of q over the training images of c||, m_c as L_compact would see it; in units of
    the class radius. gradient: mean ||dL_margin / dq|| over ||dCE / dq||. Features in evaluation mode.
    """
    splits = data.load(config.dataset, root)
    trainer, rows = Trainer(config, splits, "cpu"), []
    for epoch in range(config.epochs):
        trainer.epoch(epoch)
        rows.append({"epoch": epoch + 1} | _centroids_now(trainer))
    return rows


def _centroids_now(trainer: Trainer) -> dict[str, float]:
    labels, head = trainer.train.labels, trainer.model.head
    q = penultimate_features(trainer.model, data.to_unit(trainer.train.images))
    means, counts = class_means(q, labels, len(head.bias))
    radius = torch.linalg.vector_norm(q - means[labels], dim=1).mean()
    drifts, shares = [], []
    for rows in torch.randperm(len(q), generator=torch.Generator().manual_seed(0)).split(trainer.config.batch)[: trainer.batches]:
        batch = q[rows].clone().requires_grad_()
        tracker = copy.deepcopy(trainer.loss.tracker)  # the look must not move what the training goes on with
        anchor, mean, present = tracker(batch, labels[rows])
        apart = losses.margin(mean, present, head.weight, head.bias, trainer.config.delta_d)
        ce = torch.nn.functional.cross_entropy(head(batch), labels[rows])
        slopes = [torch.autograd.grad(term, batch, retain_graph=True)[0].norm() for term in (apart, ce)]
        shares.append(slopes[0] / slopes[1])
        drifts.append(torch.linalg.vector_norm(anchor.detach() - means, dim=1)[present > 0].mean() / radius)
    return {"drift": round(float(torch.stack(drifts).mean()), 5), "gradient": round(float(torch.stack(shares).mean()), 6)}
