"""The published comparison: its steps, the choice of the rates, the table beside the printed one; and the command, on small networks."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from penultimate import cli, published, records, replication, runs
from penultimate.evaluate import pack
from penultimate.runs import Config

LEVEL = 8 / 255


def record(config: Config, right: dict[str, float], exact: float = 0.0, images: int = 200) -> dict:
    """A record whose accuracy at 8/255 is `right` for each checkpoint (by `exact` more on the byte-exact images), one draw."""

    def measured(share: float) -> dict:
        correct = np.zeros((2, 1, images), bool)
        correct[:, :, : round(share * images)] = True
        levels = {"levels": [0.0, round(LEVEL, 6)], "accuracy": correct.mean(2).tolist(), "correct": pack(correct)}
        shifted = {"accuracy_exact": (correct.mean(2) + exact).tolist()}
        return {"gaussian": levels | shifted, "geometry": dict.fromkeys(("radius", "margin", "ratio", "gap"), 1.0)}

    sizes = {"train": 10, "validation": 5, "test": images}
    return {
        "name": config.name, "config": dataclasses.asdict(config),
        "environment": {"device": "CPU", "threads": 1, "torch": "2", "code": "c"},
        "data": {"provenance": "made up", "images": sizes, "exact_test": images, "fingerprint": "f"}, "seconds": {"training": 1.0},
        "metrics": {name: measured(share) for name, share in right.items()}, "history": [{"epoch": 1, "seconds": 1.0}],
    }  # fmt: skip


def config(preset: str, method: str, seed: int, **fields) -> Config:
    return Config(dataset="cifar10", preset=preset, method=method, seed=seed, **fields)


@pytest.fixture
def folder(tmp_path):
    """paper: one seed, both epochs; tuned: three seeds at rates of their own, and a switch; small: nothing of `proposed`."""
    gained = (0.02, 0.03, 0.07)
    made = [record(config("paper", m, 0), {"last": last, "best_on_test": last + 0.1}) for m, last in (("normal", 0.5), ("proposed", 0.6))]
    for seed, gain in enumerate(gained):
        made.append(record(config("tuned", "normal", seed, lr=0.03), {"last": 0.5}))
        made.append(record(config("tuned", "proposed", seed, lr=0.2), {"last": 0.5 + gain}, exact=0.01))
        made.append(record(config("tuned", "proposed", seed, lr=0.2, bn="clean"), {"last": 0.4 + gain}))
    made.append(record(config("small", "normal", 0), {"last": 0.3}))
    records.collect(made, tmp_path)
    return tmp_path


def test_the_table_stands_beside_the_printed_one(folder):
    table = published.beside(LEVEL, folder=folder)
    assert table.loc["normal", "published"] == "90.06" and table.loc["proposed", "published"] == "91.15"
    assert table.loc["noisy"].tolist() == ["", *["not run"] * 4]  # an empty cell is better than a guess
    assert table.loc["normal", "paper, last epoch"].startswith("50.0 [") and table.loc["normal", "paper, last epoch"].endswith("n=1")
    assert table.loc["proposed", "paper, best on test"].startswith("70.0 [")
    low, high = stats.t.interval(0.95, 2, np.mean([52, 53, 57]), stats.sem([52, 53, 57]))
    assert table.loc["proposed", "tuned, last epoch"] == f"54.0 [{low:.1f}, {high:.1f}], n=3"  # without the switched runs
    assert table.loc["proposed", "small, last epoch"] == "not run"


def test_gains_are_paired_and_judged_by_the_rule(folder):
    gains = published.gains(LEVEL, folder=folder).set_index("what")
    assert list(gains.index) == ["paper, last epoch", "paper, best on test", "tuned, last epoch"]  # small has no `proposed`
    interval = stats.ttest_1samp([2, 3, 7], 0).confidence_interval(0.95)
    tuned = gains.loc["tuned, last epoch"]
    assert (tuned["mean"], tuned.low, tuned.high) == pytest.approx((4, interval.low, interval.high)) and tuned.n == 3
    assert tuned.verdict == "undecided" and tuned.exact == pytest.approx(5)  # a point more on the byte-exact images
    paper = gains.loc["paper, last epoch"]
    assert paper.n == 1 and paper.low < paper["mean"] == pytest.approx(10) and paper.verdict == "holds"  # over images


def test_a_switch_is_compared_with_the_same_seed_without_it(folder):
    (row,) = published.switched(folder=folder).itertuples()
    assert row.arm == "proposed, bn=clean" and row.n == 3 and row.mean == pytest.approx(-10) and row.high == pytest.approx(-10)


def test_rates_are_chosen_by_noisy_then_clean_validation_accuracy():
    def looked(method: str, lr: float, noisy: float, clean: float) -> dict:
        return {"config": {"method": method, "lr": lr}, "history": [{}, {"validation_noisy": noisy, "validation": clean}]}

    found = [looked("both", lr, *row) for lr, row in zip(replication.RATES, ((0.5, 0.9), (0.6, 0.7), (0.6, 0.8), (0.1, 1.0)), strict=True)]
    unfinished = [looked("normal", lr, 0.5, 0.5) for lr in replication.RATES[:-1]]
    assert replication.chosen(found + unfinished) == {"both": 0.1}


def test_the_steps_hold_what_is_compared_and_no_run_twice():
    steps = replication.steps({"proposed": 0.2, "normal": 0.01})
    configs = [one for step in steps for one in step.configs]
    assert len({one.hash for one in configs}) == len(configs)
    by_name = {step.name: step.configs for step in steps}
    paper = {(c.epochs, c.lr, c.batch, c.width, c.best_on_test, c.crops) for c in by_name["paper: normal, proposed"]}
    assert paper == {(200, 0.001, 64, 64, True, "independent")}
    tuned = by_name["tuned: five methods, three seeds"]
    assert len(tuned) == 15 and {c.lr for c in tuned if c.method == "proposed"} == {0.2} and not any(c.train_on_all for c in tuned)
    (matched,) = {(c.epochs, c.lr) for c in by_name["tuned: normal, twice the epochs"]}
    assert matched == (2 * tuned[0].epochs, 0.01)
    assert {c.seed for c in by_name["learning rates"]}.isdisjoint({c.seed for c in configs if c.preset == "tuned" and c.epochs > 10})


def test_the_committed_records_are_counted_by_step(folder):
    rates = {"normal": 0.03, "proposed": 0.2}
    looked = [
        record(config("tuned", m, replication.SEARCH_SEED, lr=lr, epochs=replication.SEARCH_EPOCHS), {"last": 0.5})
        for m in rates
        for lr in replication.RATES
    ]
    for one in looked:
        best = one["config"]["lr"] == rates[one["config"]["method"]]
        one["history"][-1] |= {"validation_noisy": float(best), "validation": 0.5}
    records.collect(looked, folder / "search")
    finished = published.progress(folder=folder).set_index("step").finished
    assert finished["learning rates"] == 8 and finished["tuned: five methods, three seeds"] == 6
    assert finished["paper: normal, proposed"] == 2 and finished["tuned: proposed, bn clean"] == 3 and finished["paper: five seeds"] == 0


def test_the_command_takes_every_step_and_goes_on(monkeypatch, tmp_path):
    """All steps on two methods and narrow networks: a budget of nothing, then all of it, then from the store."""
    monkeypatch.setattr(replication, "COMPARED", ("normal", "proposed"))
    monkeypatch.setattr(replication, "ALL", ("normal", "proposed"))
    monkeypatch.setattr(replication, "RATES", (0.01, 0.03))
    for few in ("runs.DRAWS", "flatness.DRAWS", "flatness.PROBES", "flatness.CHAIN_DRAWS"):
        monkeypatch.setattr(f"penultimate.{few}", 1)
    monkeypatch.setitem(runs.LEVELS, "digits", (0.0,))
    monkeypatch.setattr("penultimate.jobs.STORE", tmp_path / "runs")
    trial = dict(network="small", width=4, dim=8, images=64, batch=32, epochs=1)
    call = ["replicate", "--dataset", "digits", "--curvature-images", "4", "--records", str(tmp_path / "records")]
    call += [word for name, value in trial.items() for word in (f"--{name}", str(value))]
    stopped = CliRunner().invoke(cli.app, [*call, "--budget", "0s"])
    assert stopped.exit_code == 0 and "0 of 2 runs of this step are finished; call again to go on" in stopped.output, stopped.output
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 0 and "every step is done" in done.output, done.output
    again = CliRunner().invoke(cli.app, call)
    assert again.exit_code == 0 and "trained" not in again.output and "every step is done" in again.output, again.output
    wanted = {c.name for step in replication.steps({}, "digits", **trial) for c in step.configs if c.preset == "paper"}
    kept = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "records" / "digits-paper").glob("*.json")}
    assert set(kept) == wanted
    for one in kept.values():  # both epochs, under every kind of perturbation
        last, best = one["metrics"]["last"], one["metrics"]["best_on_test"]
        assert (
            last.keys()
            == best.keys() - {"epoch"}
            == {"gaussian", "uniform", "occlusion", "low_resolution", "occlusion+gaussian", "geometry"}
        )
    measured = {path.stem for path in (tmp_path / "records" / "curvature" / "digits-paper").glob("*.json")}
    assert measured == wanted and len(list((tmp_path / "records" / "search").glob("*/*.json"))) == 2 * 2
    (rates,) = {line for line in done.output.splitlines() if line.startswith("learning rates: {")}
    tuned = [json.loads(path.read_text())["config"] for path in (tmp_path / "records" / "digits-tuned").glob("*.json")]
    assert {(c["method"], c["lr"]) for c in tuned if c["method"] in replication.ALL} == {
        (method, float(lr)) for method, lr in json.loads(rates.partition(": ")[2].replace("'", '"')).items()
    }
