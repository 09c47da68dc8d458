"""The grids of the experiments, the small records of their runs, and the numbers made of them, against slow hand computations."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from penultimate import InputError, losses, records
from penultimate.commands import cli
from penultimate.data import to_unit
from penultimate.figures import STYLE
from penultimate.metrics import levels_of
from penultimate.model import predict
from penultimate.runs import Config, Run, load_or_train
from penultimate.show import figures_experiments
from penultimate.study import centroid_trace, experiments, films, grids
from penultimate.train import Trainer, kept_epochs, train

ARMS = {"proposed": dict(method="proposed"), "margin": dict(method="discriminative", compact=0.0)}


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    """Two arms, two seeds, trained in a second."""
    store = tmp_path_factory.mktemp("store")
    made = itertools.product(ARMS.items(), (0, 1))
    return {(arm, seed): load_or_train(tiny(seed=seed, **fields), store=store) for (arm, fields), seed in made}


@pytest.mark.parametrize("name", grids.EXPERIMENTS)
def test_an_arm_changes_what_its_grid_says_and_nothing_else(name):
    for (arm, seed), config in grids.arms(name, [3]).items():
        fields = grids.EXPERIMENTS[name][arm] | ({"epochs": 48} if arm == grids.TWICE else {})
        plain = Config(method=fields["method"], seed=3)
        differing = {f.name for f in dataclasses.fields(Config) if getattr(config, f.name) != getattr(plain, f.name)}
        assert seed == 3 and differing <= set(fields) - {"method"}
        assert {key: getattr(config, key) for key in fields} == fields


def test_the_ablation_takes_every_combination_of_terms_away():
    """Compactness and margin on or off, each with and without alignment of noisy features; `discriminative` sees no noisy view."""
    found = {
        (c.compact > 0, c.margin > 0, c.method == "proposed" and c.noisy > 0)
        for c in grids.arms("ablation", [0]).values()
        if c.method in ("proposed", "discriminative") and not c.ce_noisy
    }
    assert found == set(itertools.product([False, True], repeat=3))


def test_every_switch_has_a_partner_that_differs_in_one_field():
    arms = {arm: config for (arm, _), config in grids.arms("switches", [0]).items()}
    for arm, against in grids.AGAINST.items():
        differing = [f.name for f in dataclasses.fields(Config) if getattr(arms[arm], f.name) != getattr(arms[against], f.name)]
        assert len(differing) == 1, (arm, against, differing)


def test_the_grid_of_radii_lies_on_both_sides_of_the_papers_rule():
    sides = [v < d / 2 for d in grids.DELTA_D for v in grids.DELTA_V]
    assert min(sum(sides), len(sides) - sum(sides)) >= 5


def test_momentum_zero_is_the_naive_tracking(tiny, digits):
    """Why the grid has no arm with mu = 0: both kinds of momentum are then the batch mean."""
    naive, *others = (
        train(tiny(tracking=kind, mu=mu), digits).model.state_dict() for kind, mu in (("naive", 0.9), ("momentum", 0.0), ("partial", 0.0))
    )
    for other in others:
        for name, tensor in naive.items():
            torch.testing.assert_close(other[name], tensor, atol=1e-3, rtol=1e-3)  # the order of float32 sums differs


def test_records_go_to_disk_and_come_back_as_a_table(runs, tmp_path, digits):
    path = experiments.collect("tiny", runs, tmp_path)
    assert path == tmp_path / "digits-digits" / "tiny.json"
    rows = experiments.table(experiments.read("tiny", folder=tmp_path))
    assert len(rows) == 4 and set(rows.arm) == set(ARMS)
    for (arm, seed), run in runs.items():
        own = rows[(rows.arm == arm) & (rows.seed == seed)].iloc[0]
        clean = float((predict(run.model, to_unit(digits.test.images)) == digits.test.labels).float().mean())
        assert own.clean == pytest.approx(clean, abs=1e-6) and own.at_0 == own.clean
        measured = run.record["metrics"]["last"]["gaussian"]
        assert own.noisy == pytest.approx(np.mean(measured["accuracy"][measured["levels"].index(0.3)]), abs=1e-6) == own["at_0.3"]
        assert own.validation == run.history[-1]["validation"] and own.radius == run.record["metrics"]["last"]["geometry"]["radius"]


def test_a_level_is_found_by_its_value_not_by_its_digits():
    """12/255 is 0.047059 in records."""
    one = dict(arm="a", seed=0, method="both", validation=0.9, validation_noisy=0.8, changes={}, geometry={}, name="n")
    found = experiments.table({"sigma": 12 / 255, "rows": [one | {"accuracy": {"0": 0.9, "0.047059": 0.7, "0.06": 0.6}}]})
    assert found.noisy.tolist() == [0.7]


def test_runs_at_other_noise_are_measured_at_the_presets_too():
    for config in grids.arms("fronts", [0], "cifar10", "small").values():
        assert 0.06 in levels_of(config)


def test_twice_the_epochs_are_twice_the_presets():
    for dataset, preset, epochs in (("digits", "digits", 48), ("cifar10", "small", 24), ("cifar10", "brief", 20)):
        assert grids.arms("switches", [0], dataset, preset)[grids.TWICE, 0].epochs == epochs
    with pytest.raises(InputError, match="preset paper trains on the validation images too"):
        grids.arms("switches", [0], "cifar10", "paper")


def test_an_arm_measured_twice_or_a_missing_experiment_is_refused(runs, tmp_path):
    key, run = next(iter(runs.items()))
    path = experiments.collect("tiny", {key: run}, tmp_path)
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"rows": 2 * found["rows"]}))
    with pytest.raises(InputError, match="holds an arm and seed twice: delete it and make it again"):
        experiments.read("tiny", folder=tmp_path)
    with pytest.raises(InputError, match="is missing: make it with python -m penultimate experiments --names other"):
        experiments.read("other", folder=tmp_path)
    with pytest.raises(InputError, match="unknown experiment 'other': choose one of ablation, centroids"):
        grids.arms("other", [0])


def test_differences_are_paired_by_seed():
    """Against SciPy's paired t test, with the seeds in another order and one seed that only one arm has."""
    rng = np.random.default_rng(0)
    a, b = rng.random(5), rng.random(5)
    rows = pd.DataFrame({"arm": ["a"] * 5 + ["b"] * 5, "seed": [0, 1, 2, 3, 4, 4, 3, 2, 1, 9], "noisy": [*a, *b]})
    mean, low, high, n = experiments.difference(rows, "a", "b")
    expected = stats.ttest_rel(a[1:], b[:4][::-1]).confidence_interval(0.95)
    assert n == 4 and mean == pytest.approx((a[1:] - b[:4][::-1]).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(InputError, match="'a' and 'c' share no seed: known arms are a, b"):
        experiments.difference(rows, "a", "c")
    effects = experiments.effects(rows, {"a": "b"}, ["noisy"])
    assert effects.iloc[0, :2].tolist() == ["noisy", "a"] and effects.n[0] == 4
    assert effects.iloc[0, 2:5].tolist() == pytest.approx([100 * mean, 100 * low, 100 * high])


def test_along_ends_where_the_record_stands(runs):
    """The features kept at the last epoch are those of all 450 test images, in half precision."""
    for run in runs.values():
        found, shape = films.along(run), run.record["metrics"]["last"]["geometry"]
        assert found["epoch"] == kept_epochs(3) and {len(values) for values in found.values()} == {len(found["epoch"])}
        assert {name: found[name][-1] for name in shape} == pytest.approx(shape, rel=2e-3)
        assert found["accuracy"][-1] == pytest.approx(run.record["metrics"]["last"]["gaussian"]["accuracy"][0][0], abs=1e-3)


@pytest.mark.parametrize("tracking", ["naive", "momentum", "partial"])
def test_drift_and_gradient_against_loops(tiny, digits, tracking):
    trainer = Trainer(tiny(tracking=tracking, mu=0.9, delta_d=50.0), digits, "cpu")
    trainer.epoch(0)
    before = {name: tensor.clone() for name, tensor in trainer.loss.state_dict().items()}
    found = centroid_trace._centroids_now(trainer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.loss.state_dict().items())  # only looked at
    model, images, labels = trainer.model.eval(), to_unit(trainer.train.images), trainer.train.labels
    with torch.no_grad():
        q = model.features(images)
    means = torch.stack([q[labels == c].mean(0) for c in range(10)])
    radius = torch.stack([(q[i] - means[labels[i]]).norm() for i in range(len(q))]).mean()
    order, drifts, shares = torch.randperm(len(q), generator=torch.Generator().manual_seed(0)), [], []
    for rows in (order[:64], order[64:]):
        batch, own = q[rows].clone().requires_grad_(), labels[rows]
        anchors, seen = [], []
        for c in own.unique():
            mean = batch[own == c].mean(0)
            anchors.append(mean if tracking == "naive" else 0.1 * mean + 0.9 * before["tracker.centroids"][c])
            seen.append(c)
        drifts.append(torch.stack([(a - means[c]).norm() for a, c in zip(anchors, seen, strict=True)]).mean().detach() / radius)
        serving = anchors if tracking == "momentum" else [batch[own == c].mean(0) for c in seen]
        full, counts = torch.zeros(10, 16), torch.bincount(own, minlength=10)
        full = full.index_put((torch.stack(seen),), torch.stack(serving))
        apart = losses.margin(full, counts, model.head.weight, model.head.bias, 50.0)
        ce = torch.nn.functional.cross_entropy(model.head(batch), own)
        grads = [torch.autograd.grad(term, batch, retain_graph=True)[0].norm() for term in (apart, ce)]
        shares.append(grads[0] / grads[1])
    assert found["drift"] == pytest.approx(float(torch.stack(drifts).mean()), rel=1e-3)
    assert found["gradient"] == pytest.approx(float(torch.stack(shares).mean()), rel=1e-3)


def test_trace_follows_training_at_the_kept_epochs(tiny):
    found = centroid_trace.trace_centroids(tiny(tracking="partial"))
    assert found["epoch"] == kept_epochs(3)[1:] and min(found["drift"]) > 0 and min(found["gradient"]) >= 0


def test_followed_is_long_and_keeps_the_order_of_the_arms():
    rows = [{"arm": arm, "seed": seed, "along": {"epoch": [0, 1], "radius": [seed, 10 + seed]}} for arm in "ab" for seed in (0, 1)]
    found = experiments.followed({"rows": rows}, "along", "radius", ["b"])
    assert found.to_numpy().tolist() == [["b", 0, 0, 0], ["b", 0, 1, 10], ["b", 1, 0, 1], ["b", 1, 1, 11]]


def test_summary_shows_accuracies_in_per_cent_and_geometry_in_its_own_units():
    rows = pd.DataFrame({"arm": ["a", "a"], "seed": [0, 1], "clean": [0.9, 0.9], "radius": [0.5, 0.5]})
    assert experiments.summary(rows, ["clean", "radius"]).loc["a"].tolist() == ["90.0 [90.0, 90.0]", "0.50 [0.50, 0.50]"]


def test_pictures_show_the_numbers():
    grid = pd.DataFrame(
        [(v, d, s, v + d + s) for v in (1.0, 2.0) for d in (3.0, 5.0) for s in (0, 1)], columns=["delta_v", "delta_d", "s", "acc"]
    )
    heat = figures_experiments.heat(grid, {"acc": "accuracy"}, "title")
    assert np.allclose(heat.data[0].z, 100 * np.array([[4.5, 5.5], [6.5, 7.5]]))  # rows: delta_d; columns: delta_v; mean over s
    assert list(heat.data[1].y) == [-0.5, -0.5, 0.5, 0.5]  # 3 > 2*1; 3 < 2*2 < 5
    front = pd.DataFrame({"front": "both, σ", "method": "both", "value": [0.1, 0.1, 0.3, 0.4], "clean": [0.9, 0.7, 0.6, 0.5]}).assign(
        noisy=0.5
    )
    weight = pd.DataFrame({"front": "proposed, λ", "method": "proposed", "value": [0.1], "clean": [0.3], "noisy": [0.4]})
    point = pd.DataFrame({"method": ["normal"], "clean": [1.0], "noisy": [0.2]})
    drawn = figures_experiments.fronts(pd.concat([front, weight]), point, "title", "0.3")
    assert [(trace.name, trace.xaxis) for trace in drawn.data] == [("proposed", "x"), ("normal", "x"), ("both", "x2"), ("normal", "x2")]
    both = drawn.data[2]  # means over seeds, in order of the value; numbers at both ends alone
    assert np.allclose(both.x, [80, 60, 50]) and np.allclose(both.y, 50) and list(both.text) == ["0.1", "", "0.4"]
    assert drawn.data[0].x[0] == pytest.approx(30) and [t.showlegend for t in drawn.data if t.name == "normal"] == [True, False]
    table = pd.DataFrame({"arm": ["a"] * 4, "seed": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "value": [1.0, 2.0, 3.0, 6.0]})
    lines = figures_experiments.along({"radius": table}, "title", log=("radius",))
    assert list(lines.data[1].y) == [2, 4] and list(lines.data[0].y) == [3, 6, 2, 1] and lines.layout.yaxis.type == "log"


def test_the_command_trains_collects_and_goes_on(monkeypatch, tmp_path):
    """The real command on a grid of two one-epoch arms: a budget of nothing, then all of it, then from the store."""
    fields = dict(epochs=1, width=4, dim=8, images=128)
    monkeypatch.setitem(grids.EXPERIMENTS, "tiny", {arm: own | fields for arm, own in ARMS.items()})
    monkeypatch.setattr("penultimate.jobs.STORE", tmp_path / "runs")
    call = ["experiments", "--names", "tiny", "--seeds", "0", "--records", str(tmp_path / "records")]
    stopped = CliRunner().invoke(cli.app, [*call, "--budget", "0s"])
    assert stopped.exit_code == 0 and "tiny: 0 of 2 runs finished; call again to go on" in stopped.output, stopped.output
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 0 and "(2 runs)" in done.output, done.output
    rows = experiments.table(experiments.read("tiny", folder=tmp_path / "records"))
    assert set(rows.arm) == set(ARMS) and "2 of 2 runs loaded from the store" in CliRunner().invoke(cli.app, call).output


def test_an_arm_that_breaks_is_recorded_and_the_others_are_kept(monkeypatch, tmp_path):
    """A rate at which the loss overflows at once."""
    fields = dict(epochs=1, width=4, dim=8, images=128)
    monkeypatch.setitem(grids.EXPERIMENTS, "tiny", {"good": ARMS["proposed"] | fields, "bad": ARMS["proposed"] | fields | dict(lr=1e30)})
    monkeypatch.setattr("penultimate.jobs.STORE", tmp_path / "runs")
    done = CliRunner().invoke(cli.app, ["experiments", "--names", "tiny", "--seeds", "0", "--records", str(tmp_path)])
    assert done.exit_code == 0 and "(1 runs, 1 failed)" in done.output, done.output
    found = experiments.read("tiny", folder=tmp_path)
    assert [one["arm"] for one in found["rows"]] == ["good"] and [one["arm"] for one in found["failed"]] == ["bad"]
    assert "not finite" in found["failed"][0]["reason"] and "bad (1 seeds)" in experiments.caption(found)


@pytest.mark.parametrize("name", grids.DEFAULT)
def test_the_committed_records_hold_every_arm_on_five_seeds(name):
    found = experiments.read(name)
    expected = {key: config.name for key, config in grids.arms(name, range(5)).items()}
    lost = {(one["arm"], one["seed"]) for one in found["failed"]}
    assert lost == set() or name in ("fronts", "rates")  # there, weights and rates are turned up until training breaks
    held = {(one["arm"], one["seed"]): one["name"] for one in found["rows"]}
    assert held == {key: run for key, run in expected.items() if key not in lost}


def test_what_is_added_to_both_on_real_images_is_there_on_five_seeds_and_its_both_is_the_committed_one():
    found = experiments.read("added", "cifar10", "small")
    held = {(one["arm"], one["seed"]): one["name"] for one in found["rows"]}
    assert held == {key: config.name for key, config in grids.arms("added", range(5), "cifar10", "small").items()} and not found["failed"]
    committed = {
        record["name"]: experiments.row("both", Run(Config(**record["config"]), None, record)) for record in records.read(None, "cifar10")
    }
    assert [one == committed[one["name"]] for one in found["rows"] if one["arm"] == "both"] == [True] * 5


def test_what_is_added_to_both_is_told_by_the_records_own_numbers():
    """The table of RESULTS against differences of the rows, one by one."""
    told = {line.split(" | ")[0].strip("| "): line for line in experiments.added().splitlines()}
    for dataset, preset, seeds, level in (("digits", "digits", 5, "0.3"), ("cifar10", "small", 5, "0.06")):
        own = {(one["arm"], one["seed"]): one["accuracy"][level] for one in experiments.read("added", dataset, preset)["rows"]}
        for arm in ("the loss", "alignment", "a fifth of the loss"):
            apart = [100 * (own[f"both + {arm}", seed] - own["both", seed]) for seed in range(seeds)]
            half = stats.t.ppf(0.975, seeds - 1) * np.std(apart, ddof=1) / np.sqrt(seeds)
            line = told[f"{dataset}: {arm}"]
            assert f"{np.mean(apart):+.1f} [{np.mean(apart) - half:+.1f}, {np.mean(apart) + half:+.1f}]" in line and f" {seeds} |" in line


def test_arms_that_are_no_method_have_colours_of_their_own():
    table = pd.DataFrame({"arm": ["proposed", "margin", "alignment"], "seed": 0, "epoch": 1, "value": 1.0})
    drawn = {trace.name: trace.line.color for trace in figures_experiments.along({"radius": table}, "title").data if trace.name}
    taken = {colour for colour, *_ in STYLE.values()}
    assert drawn["proposed"] == STYLE["proposed"][0] and not {drawn["margin"], drawn["alignment"]} & taken
    assert drawn["margin"] != drawn["alignment"]


def test_what_lies_beyond_the_axis_stands_at_its_own_edge():
    """And an interval that goes on beyond it has an arrow; a bound that is not zero has a tick."""
    named = {"far": (60, 1, 0), "near": (5, 1, 0), "behind": (-20, 1, 0), "wide": (20, 7, 0), "bound": (0, 1, -0.5)}
    rows = [("a claim", what, mean, mean - by, mean + by, bound, "holds") for what, (mean, by, bound) in named.items()]
    figure = figures_experiments.evidence(pd.DataFrame(rows, columns=["claim", "evidence", "mean", "low", "high", "bound", "holds"]), "t")
    told = {note.text.split(">")[1].split("<")[0]: (note.x, note.xanchor) for note in figure.layout.annotations if "span" in note.text}
    assert {name.strip(): at for name, at in told.items()} == {
        "+60 [+59, +61] ▸": (1, "right"), "◂ -20 [-21, -19]": (0, "left"), "▸": (1, "right")
    }  # fmt: skip
    assert [trace.x[0] for trace in figure.data] == [5, 20, -0.5, 0]


def test_an_arm_that_broke_off_on_some_seeds_is_not_chosen_by_those_that_lived():
    rows = pd.DataFrame({"method": "m", "arm": list("aab"), "seed": [0, 1, 0], "validation_noisy": [0.5, 0.6, 0.9], "validation": 1.0})
    assert experiments.chosen(rows) == {"m": "a"} and experiments.chosen(rows[rows.seed == 0]) == {"m": "b"}
