"""The published comparison: its steps, the choice of the rates, the table beside the printed one; and the command, on small networks."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from penultimate import InputError, cli, metrics, published, records, replication
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
    made = [
        record(config("paper", m, 0), {"last": last, "best_on_test": last + 0.1}, exact)
        for m, last, exact in (("normal", 0.5, 0.0), ("proposed", 0.6, 0.05))
    ]
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
    assert paper.n == 1 and paper.low < paper["mean"] == pytest.approx(10) and paper.exact == pytest.approx(15)
    assert paper.verdict == "one seed"  # an interval over images says nothing of other seeds


def test_a_seed_without_its_pair_is_no_row(folder):
    records.collect([record(config("small", "proposed", 1), {"last": 0.4})], folder)  # `normal` has seed 0 alone
    assert "small, last epoch" not in set(published.gains(LEVEL, folder=folder).what)


def test_a_trial_at_another_rate_is_no_result_and_two_rates_of_a_seed_are_refused(folder):
    records.collect([record(config("paper", "proposed", 1, lr=0.5), {"last": 0.9})], folder)
    assert published.beside(LEVEL, folder=folder).loc["proposed", "paper, last epoch"].endswith("n=1")
    records.collect([record(config("tuned", "proposed", 0, lr=0.01), {"last": 0.9})], folder)
    for ask in (lambda: published.gains(LEVEL, folder=folder), lambda: published.switched(folder=folder)):
        with pytest.raises(InputError, match="cifar10-tuned-proposed-s0-.* are the same arm and seed at two learning rates"):
            ask()


def test_a_switch_is_compared_with_the_same_seed_without_it(folder):
    twice = 2 * Config(dataset="cifar10", preset="tuned").epochs
    records.collect([record(config("tuned", "normal", 1, lr=0.03, epochs=twice), {"last": 0.55})], folder)
    found = published.switched(folder=folder).set_index("what")
    switch = found.loc["proposed, bn=clean − proposed"]
    assert switch.n == 3 and switch["mean"] == pytest.approx(-10) and switch.high == pytest.approx(-10)
    assert found.loc[f"normal, epochs={twice} − normal", "mean"] == pytest.approx(5)
    assert found.loc[f"proposed − normal, epochs={twice}", "mean"] == pytest.approx(-2)  # at matched compute


def test_rates_are_chosen_by_noisy_then_clean_validation_accuracy():
    def looked(method: str, lr: float, noisy: float, clean: float) -> dict:
        return {"config": {"method": method, "lr": lr}, "history": [{}, {"validation_noisy": noisy, "validation": clean}]}

    found = [looked("both", lr, *row) for lr, row in zip(replication.RATES, ((0.5, 0.9), (0.6, 0.7), (0.6, 0.8), (0.1, 1.0)), strict=True)]
    broken = [looked("normal", lr, 0.5, 0.5 + lr) for lr in replication.RATES[:-1]]  # at the highest its run broke
    assert replication.chosen(found + broken) == {"both": 0.1, "normal": 0.1}


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
    monkeypatch.setattr(replication, "RATES", (0.01, 1e30))  # at the second the loss overflows
    for few in ("metrics.DRAWS", "metrics.FULL_DRAWS", "metrics.PROBES"):
        monkeypatch.setattr(f"penultimate.{few}", 1)
    monkeypatch.setattr("penultimate.metrics.CURVED", 4)
    monkeypatch.setitem(metrics.LEVELS, "digits", (0.0,))
    monkeypatch.setattr("penultimate.jobs.STORE", tmp_path / "runs")
    trial = dict(network="small", width=4, dim=8, images=64, batch=32, epochs=1)
    call = ["replicate", "--dataset", "digits", "--attacked", "4", "--records", str(tmp_path / "records")]
    call += [word for name, value in trial.items() for word in (f"--{name}", str(value))]
    stopped = CliRunner().invoke(cli.app, [*call, "--budget", "0s"])
    assert stopped.exit_code == 0 and "2 of 2 runs of this step are left; call again to go on" in stopped.output, stopped.output
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 0 and "every step is done; 2 runs broke" in done.output, done.output
    again = CliRunner().invoke(cli.app, call)
    assert again.exit_code == 0 and "trained" not in again.output and "every step is done" in again.output, again.output
    kept = tmp_path / "records" / "trial"  # where no table looks
    assert not list((tmp_path / "records").glob("*/*.json"))
    wanted = {c for step in replication.steps({}, "digits", **trial) for c in step.configs if c.preset == "paper" and not step.folder}
    found = {path.stem: json.loads(path.read_text()) for path in (kept / "digits-paper").glob("*.json")}
    assert set(found) == {c.name for c in wanted}
    for one in found.values():  # both epochs, under every kind of perturbation
        last, best = one["metrics"]["last"], one["metrics"]["best_on_test"]
        assert last.keys() - {"curvature"} == best.keys() - {"epoch"} == {"gaussian", "geometry", *metrics.KINDS}
        assert len(last["curvature"]["kappa"]) == len(last["curvature"]["frobenius"]) == 4
    attacked = {path.stem for path in (kept / "adversary" / "digits-paper").glob("*.json")}
    assert attacked == set(found)
    assert len(list((kept / "search").glob("*/*.json"))) == 2
    tuned = [json.loads(path.read_text())["config"] for path in (kept / "digits-tuned").glob("*.json")]
    assert {c["lr"] for c in tuned if c["method"] in replication.ALL} == {0.01}
