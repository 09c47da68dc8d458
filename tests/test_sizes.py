"""What the whole published comparison would write is under 8 MB, in files of the size that the code makes, full of real answers."""

import copy
import dataclasses

import numpy as np
import pytest

from penultimate import metrics
from penultimate.evaluate import pack, unpack
from penultimate.methods import METHODS
from penultimate.records import COMMITTED
from penultimate.runs import Config, load_or_train
from penultimate.study import curvature_rules, published, replication
from penultimate.study.films import film
from penultimate.support import files
from penultimate.train import kept_epochs

LIMIT = 8_000_000  # bytes
TINY = dict(network="small", width=4, dim=8, images=64, batch=32, epochs=3, pad=0, flip=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of each method a run of `paper` as the code makes it, on small digits."""
    store = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "CURVED", 5)
        patched.setattr(metrics, "FULL_DRAWS", 1)
        return {method: load_or_train(Config(preset="paper", method=method, **TINY), store=store) for method in METHODS}


@pytest.fixture(scope="module")
def answers():
    """Method -> correctness (6 levels, 10 draws, 10,000 images) of networks of full width on CIFAR-10, from the records of `brief`.

    Five draws are of another seed's network, less alike than ten of one; and a network trained for longer than ten epochs leaves less to be
    told of its answers.
    """
    found = {(r["config"]["method"], r["config"]["seed"]): r for r in published.found("brief")}
    bits = lambda method, seed: unpack(found[method, seed]["metrics"]["last"]["gaussian"]["correct"])  # noqa: E731
    return {method: np.concatenate([bits(method, 0), bits(method, 1)], axis=1) for method in METHODS}


@pytest.fixture(scope="module")
def curved():
    """A thousand images' kappa and frobenius on CIFAR-10, from a committed record."""
    images = curvature_rules.read(None, "cifar10", "small").record.iloc[0]["images"]
    return {name: images[name] for name in ("kappa", "frobenius")}


def full_size(run, config: Config, correct: np.ndarray, curved: dict) -> dict:
    """The record of a tiny run as that of a configuration of full size: as many rows, draws, images, epochs measured and digits."""
    record, long = copy.deepcopy(run.record), metrics.at_length(config)
    digits = lambda value: value if isinstance(value, int) else float(f"{value + np.pi:.6g}")  # noqa: E731
    rows = [{name.replace("test", "validation"): digits(value) for name, value in row.items()} for row in record["history"]]
    correct = correct[:, : metrics.draws(config)]
    accuracy = correct.mean(2).round(6).tolist()
    gaussian = {"levels": [0.031373] * len(correct), "accuracy": accuracy, "accuracy_exact": accuracy, "correct": pack(correct)}
    measured = {
        name: metric | {"gaussian": gaussian} for name, metric in record["metrics"].items() if name == "last" or config.best_on_test
    }
    if long:
        measured["last"]["curvature"] |= {name: values[: metrics.curved(config)] for name, values in curved.items()}
    else:
        measured = {name: {part: metric[part] for part in ("gaussian", "geometry")} for name, metric in measured.items()}
    history = [rows[epoch % len(rows)] | {"epoch": epoch + 1} for epoch in range(config.epochs)]
    return record | {"name": config.name, "config": dataclasses.asdict(config), "metrics": measured, "history": history}


def test_all_records_of_the_comparison_take_less_than_8_mb(made, answers, curved):
    steps = replication.steps(dict.fromkeys(replication.SEARCHES, dict(zip(METHODS, (0.1, 0.03, 0.1, 0.03, 0.2, 0.1), strict=True))))
    sizes = dict.fromkeys(("results", "trials", "films", "adversary"), 0)
    for step in steps:
        for config in step.configs:
            written = len(files.as_json(full_size(made[config.method], config, answers[config.method], curved)))
            sizes["trials" if step.folder else "results"] += written
    results = [config for step in steps if not step.folder for config in step.configs]
    for config in results:
        if config.seed == 0 and config.method in ("normal", "proposed") and replication.arm(config) == config.method:
            drawn = film(made[config.method])
            sizes["films"] += len(files.as_json(drawn)) * len(kept_epochs(config.epochs)) / len(drawn["epochs"])
    attacked = (COMMITTED / "adversary" / "digits-digits").glob("*.json")  # of as many images, attacks and certificates
    sizes["adversary"] = len(results) * max(path.stat().st_size for path in attacked)
    assert len(results) == 102 and all(sizes.values()) and sum(sizes.values()) < LIMIT, (sizes, sum(sizes.values()))
