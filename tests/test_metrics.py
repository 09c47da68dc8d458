"""What a run is measured for: at full size at length, its trials briefly, the others as before; a record with a hole is refused."""

import json

import numpy as np
import pytest
import torch

from penultimate import InputError, metrics
from penultimate.configs import Config
from penultimate.curvature import input_curvature
from penultimate.data import to_unit
from penultimate.evaluate import correctness, unpack
from penultimate.runs import load_or_train
from penultimate.study import checks, curvature_records

FEW = dict(network="small", width=4, dim=8, images=64, batch=32, epochs=2, pad=0, flip=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")

    def make(preset, seed=0, **fields):
        return load_or_train(Config(preset=preset, method="proposed", seed=seed, **(FEW | fields)), store=store)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "CURVED", 60)
        runs = {"paper": make("paper"), "tuned": make("tuned"), "trial": make("tuned", metrics.TRIAL_SEED), "digits": make("digits")}
        return runs | {"both epochs": make("digits", best_on_test=True)}


def shapes(metric: dict) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(part["accuracy"]) for name, part in metric.items() if isinstance(part, dict) and "accuracy" in part}


AT_LENGTH = {"gaussian": (7, 10), "uniform": (2, 5), "occlusion": (2, 5), "low_resolution": (2, 1), "occlusion+gaussian": (2, 5)}


def test_full_size_is_measured_at_length_in_both_epochs(measured):
    paper, tuned = measured["paper"].record["metrics"], measured["tuned"].record["metrics"]
    assert shapes(paper["last"]) == shapes(paper["best_on_test"]) == shapes(tuned["last"]) == AT_LENGTH
    assert paper.keys() == {"last", "best_on_test"} and tuned.keys() == {"last"}
    assert [("curvature" in one) for one in (paper["last"], paper["best_on_test"], tuned["last"])] == [True, False, True]


@pytest.mark.parametrize("name, draws", [("trial", 1), ("digits", 5), ("both epochs", 5)])
def test_trials_and_small_scales_are_measured_briefly(measured, name, draws):
    for metric in measured[name].record["metrics"].values():
        assert shapes(metric)["gaussian"][1] == draws and shapes(metric).keys() == {"gaussian"} and "curvature" not in metric


def test_the_numbers_are_those_of_the_weights(measured, digits):
    run, test = measured["paper"], digits.test
    last = run.record["metrics"]["last"]
    for kind, levels in metrics.KINDS.items():
        found = correctness(run.model, test.images, test.labels, kind, levels, 5).mean(2)
        assert np.array(last[kind]["accuracy"]) == pytest.approx(found[:, : len(last[kind]["accuracy"][0])], abs=1e-6)
    correct, levels = unpack(last["gaussian"]["correct"]), last["gaussian"]["levels"]
    assert np.array_equal(correct, correctness(run.model, test.images, test.labels, "gaussian", levels, 10))


@pytest.mark.parametrize("preset", ["paper", "tuned"])
def test_curvature_is_that_of_the_last_epochs_weights_and_of_flatness(measured, digits, preset):
    run = measured[preset]
    curved = run.record["metrics"]["last"]["curvature"]
    chosen = torch.randperm(450, generator=torch.Generator().manual_seed(0))[:60].sort().values
    x, y = to_unit(digits.test.images[chosen]), digits.test.labels[chosen]
    assert curved["frobenius"] == pytest.approx(input_curvature(run.model, x, y, "exact").tolist(), rel=2e-3)
    second = input_curvature(run.model, x[50:], y[50:], generator=torch.Generator().manual_seed(1))  # eq. 21, the second part's probes
    assert curved["kappa"][50:] == pytest.approx(second.tolist(), rel=5e-3)
    beside = curvature_records.measure(run, images=60)["images"]
    assert (curved["kappa"], curved["frobenius"]) == (beside["kappa"], beside["frobenius"])


def _without_an_accuracy(last):
    last["uniform"]["accuracy"].pop()


def _a_word(last):
    last["occlusion"]["accuracy"][0][0] = "high"


def _another_level(last):
    last["occlusion+gaussian"]["levels"][0] = 0.5


def _an_image_less(last):
    last["curvature"]["kappa"].pop()


@pytest.mark.parametrize("damage", [_without_an_accuracy, _a_word, _another_level, _an_image_less])
def test_a_record_with_a_hole_is_refused(measured, tmp_path, damage):
    record = json.loads(json.dumps(measured["paper"].record))
    checks.run_record(record)
    damage(record["metrics"]["last"])
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="run.json is no record of a run"):
        checks.read(tmp_path / "run.json", checks.run_record, "record of a run")
