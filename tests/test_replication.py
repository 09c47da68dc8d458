"""The published comparison: its steps, the choice of the rates, the table beside the printed one; and the command, on small networks."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from penultimate import InputError, figures, metrics, records
from penultimate.commands import cli
from penultimate.data import HOME
from penultimate.evaluate import pack
from penultimate.methods import METHODS
from penultimate.runs import Config
from penultimate.show import figures_published
from penultimate.study import adversary, published, published_beyond, rates, replicated, replication, switches

LEVEL = 8 / 255
RATES = replication.SEARCHES["tuned"][0]


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
        "metrics": {name: measured(share) for name, share in right.items()},
        "history": [{"epoch": 1, "seconds": 1.0, "validation": 0.5, "validation_noisy": 0.5}],
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
    assert table.loc["noisy"].tolist() == ["", *["not run"] * 5]  # an empty cell is better than a guess
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
    assert tuned.printed == paper.printed == 1.09 and (tuned.lies, paper.lies) == ("inside", "one seed")


def test_the_printed_gain_stands_beside_full_size_and_normal_alone(tmp_path):
    for seed, gain in enumerate((0.02, 0.03, 0.025)):
        for preset in ("paper", "small"):
            shares = {"normal": 0.5, "noisy": 0.4, "proposed": 0.5 + gain}
            records.collect([record(config(preset, m, seed), {"last": share}) for m, share in shares.items()], tmp_path)
    normal, noisy = (published.gains(LEVEL, rival, folder=tmp_path).set_index("what") for rival in ("normal", "noisy"))
    low, _ = stats.ttest_1samp([2, 3, 2.5], 0).confidence_interval(0.95)
    assert low > 1.09 and normal.lies.tolist() == ["below", ""] and normal.printed.isna().tolist() == [False, True]
    assert noisy.lies.tolist() == ["", ""] and noisy.printed.isna().all() and noisy.verdict.tolist() == ["holds", "holds"]
    elsewhere = published.gains(0.0, folder=tmp_path)
    assert elsewhere.printed.isna().all() and set(elsewhere.lies) == {""}


def test_every_level_has_n_and_a_verdict(folder):
    table, apart = published.by_level(folder=folder), published.by_level("normal", folder=folder)
    assert list(table) == list(apart) == ["clean", "8/255"]
    assert table.loc[("printed, best on test", "proposed")].tolist() == ["", "91.15"]
    assert (
        table.loc[("tuned, last epoch", "proposed"), "8/255"] == published.beside(LEVEL, folder=folder).loc["proposed", "tuned, last epoch"]
    )
    low, high = stats.ttest_1samp([2, 3, 7], 0).confidence_interval(0.95)
    assert apart.loc[("tuned, last epoch", "proposed"), "8/255"] == f"+4.0 [{low:+.1f}, {high:+.1f}], n=3: undecided"
    assert apart.loc[("paper, best on test", "proposed"), "clean"].endswith("n=1: one seed")
    assert list(apart.index.get_level_values("method").unique()) == ["proposed"]  # small has `normal` alone


def test_on_clean_images_half_a_point_may_be_lost(tmp_path):
    for seed, lost in enumerate((0.001, 0.002, 0.0015)):
        shares = {"normal": 0.5, "proposed": 0.5 - lost, "both": 0.5 - 10 * lost}
        records.collect([record(config("paper", m, seed), {"last": share}, images=4000) for m, share in shares.items()], tmp_path)
    apart = published.by_level("normal", folder=tmp_path).loc["paper, last epoch"]
    kept, lost = (apart.loc[method].str.rpartition(": ")[2].tolist() for method in ("proposed", "both"))
    assert kept == ["holds", "does not hold"] and lost == ["undecided", "does not hold"]  # -1.5 [-2.7, -0.3] contains the half point
    assert [published.gains(level, folder=tmp_path).verdict[0] for level in (0.0, LEVEL)] == kept


def page(folder, findings) -> list:
    """The code of page 08 on a folder of records: the findings that it writes, the figures and the tables that it shows."""
    cells = json.loads((HOME / "notebooks" / "08_paper_vs_ours.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "show", lambda *drawn: shown.extend(drawn))
        scope = {"display": shown.append}
        for cell in (cell for cell in cells if cell["cell_type"] == "code"):
            exec("".join(cell["source"]), scope)
            if "parameters" in cell["metadata"].get("tags", []):
                scope |= {"records_folder": str(folder), "findings_folder": str(findings)}
    return [json.loads((findings / "08_paper_vs_ours.json").read_text()), *shown]


def test_the_page_works_on_every_partial_set_of_records(folder, tmp_path, capsys):
    findings, *shown = page(folder, tmp_path / "findings")
    assert [one["n"] for one in findings["gains"]] == [1, 1, 3] and findings["gains"][2]["lies"] == "inside"
    assert "SVHN: not run: no data here" in capsys.readouterr().out and len(shown) == 11  # also tables, rates, the layer, switches
    (tmp_path / "none").mkdir()
    alone = tmp_path / "alone"
    records.collect([record(config("tuned", "noisy", 0), {"last": 0.5})], alone)  # no `normal` to be paired with
    smoke = record(config("paper", "proposed", metrics.TRIAL_SEED, images=2560, epochs=1), {"last": 0.5})
    records.collect([smoke], tmp_path / "smoke" / "rehearsal")
    records.collect([record(config("paper", "proposed", 0), {"last": 0.5})], tmp_path / "unpaired")
    records.collect([record(config("paper", "normal", 1), {"last": 0.5})], tmp_path / "unpaired")
    for name, drawn in (("none", 2), ("alone", 4), ("smoke", 2), ("unpaired", 4)):
        findings, *shown = page(tmp_path / name, tmp_path / "findings")
        assert findings["gains"] == [] and len(shown) == drawn, name
        said = capsys.readouterr().out
        assert "no method has a seed in common with normal" in said and "other perturbations at full size: not run" in said
        assert "trials: none in this folder" in said and "films of brief: not run" in said
        assert "decades between methods at full size: not run" in said


def test_pictures_say_n_and_the_printed_gain(folder):
    table = published.gains(LEVEL, folder=folder).assign(rival="normal")
    figure = figures_published.gains(table, "t")
    assert [note.text for note in figure.layout.annotations if note.text.startswith("n = ")] == ["n = 1", "n = 1", "n = 3"]
    assert [line.x[0] for line in figure.data if line.name == "printed"] == [1.09] * 3
    assert "printed" not in figures_published.gains(table.assign(printed=np.nan), "t").layout.title.text
    rows = records.table(published.found("tuned", folder=folder))
    normal, proposed = figures_published.accuracies(rows, "t").data
    assert (normal.name, proposed.name) == ("normal, n = 3", "proposed, n = 3")
    assert list(proposed.y) == pytest.approx([54, 54]) and max(normal.x) < 1.5 and normal.x[0] < 0 < proposed.x[0]  # side by side
    low, high = stats.t.interval(0.95, 2, 54, stats.sem([52, 53, 57]))
    assert (proposed.y[1] - proposed.error_y.arrayminus[1], proposed.y[1] + proposed.error_y.array[1]) == pytest.approx((low, high))


def test_presets_are_told_by_the_fields_in_which_any_of_them_differs():
    differing = published.differing()
    assert list(differing.columns) == ["meaning", "paper", "tuned", "brief"]
    presets = {preset: dataclasses.asdict(config(preset, "proposed", 0)) for preset in differing.columns[1:]}
    fields = {name for name in presets["paper"] if len({str(own[name]) for own in presets.values()}) > 1} - {"preset"}
    assert set(differing.index) == fields and list(differing.loc["batch"])[1:] == ["64", "256", "250"]


def test_smoke_runs_are_no_trials(tmp_path):
    trial = config("paper", "normal", 0, images=640, epochs=1)
    made = [record(c, {"last": 0.1}) for c in (trial, dataclasses.replace(trial, seed=metrics.TRIAL_SEED, images=2560))]
    for one in made:
        one["history"], one["data"]["images"]["train"] = [{"epoch": 1, "total": 2.0, "seconds": 20.0}], one["config"]["images"]
    records.collect(made, tmp_path / "rehearsal")
    table = replicated.rehearsed(folder=tmp_path)
    assert len(table) == 1 and table.loc["normal", "steps"] == 10 and table.loc["normal", "seconds a step"] == 2


def test_a_seed_without_its_pair_is_no_row(folder):
    records.collect([record(config("small", "proposed", 1), {"last": 0.4})], folder)  # `normal` has seed 0 alone
    assert "small, last epoch" not in set(published.gains(LEVEL, folder=folder).what)


@pytest.mark.parametrize("seed", [2, 3])  # once more, and one that no other rate has: means over seeds would mix the rates
def test_a_trial_at_another_rate_is_no_result_and_two_rates_of_an_arm_are_refused(folder, seed):
    records.collect([record(config("paper", "proposed", 1, lr=0.5), {"last": 0.9})], folder)
    assert published.beside(LEVEL, folder=folder).loc["proposed", "paper, last epoch"].endswith("n=1")
    records.collect([record(config("tuned", "proposed", seed, lr=0.01), {"last": 0.9})], folder)
    for ask in (lambda: published.gains(LEVEL, folder=folder), lambda: switches.switched(folder=folder)):
        with pytest.raises(
            InputError, match=rf"^cifar10-tuned-proposed-s\d-\w+ and cifar10-tuned-proposed-s{seed}-\w+ are the .*0\.2 and 0\.01:"
        ):
            ask()


def test_a_switch_is_compared_with_the_same_seed_without_it(folder):
    twice = 2 * Config(dataset="cifar10", preset="tuned").epochs
    records.collect([record(config("tuned", "normal", 1, lr=0.03, epochs=twice), {"last": 0.55})], folder)
    found = switches.switched(folder=folder).set_index("what")
    switch = found.loc["proposed, bn=clean − proposed"]
    assert switch.n == 3 and switch["mean"] == pytest.approx(-10) and switch.high == pytest.approx(-10)
    assert found.loc[f"normal, epochs={twice} − normal", "mean"] == pytest.approx(5)
    assert found.loc[f"proposed − normal, epochs={twice}", "mean"] == pytest.approx(-2)  # at matched compute


def test_switches_of_the_small_scale(folder):
    """A run at another learning rate is a switch there."""
    shares = {"proposed": (0.50, 0.52), "both": (0.60, 0.64)}
    for seed in (0, 1):
        for method, (plain, turned) in shares.items():
            fields = dict(lr=0.1) if method == "both" else dict(bn="clean")
            made = [config("small", method, seed), config("small", method, seed, **fields)]
            records.collect([record(one, {"last": share}) for one, share in zip(made, (plain, turned), strict=True)], folder)
        records.collect([record(config("small", "normal", seed, epochs=24), {"last": 0.45 + 0.02 * seed})], folder)
    found = switches.switched("small", LEVEL, folder=folder).set_index("what")["mean"].to_dict()
    assert found == pytest.approx(
        {"both, lr=0.1 − both": 4, "proposed, bn=clean − proposed": 2, "normal, epochs=24 − normal": 15, "proposed − normal, epochs=24": 4}
    )


def test_methods_with_the_same_epochs_or_batchnorm_are_held_to_each_other(folder):
    """Each with those before it in METHODS; not with another number of epochs, another way of BatchNorm, nor with a second switch."""
    shares = {("normal", 24): 0.50, ("both", 24): 0.60, ("proposed", 24): 0.57, ("proposed", 36): 0.70}
    for (method, epochs), share in shares.items():
        records.collect([record(config("small", method, 0, epochs=epochs), {"last": share})], folder)
    records.collect([record(config("small", "both", 0, epochs=36, lr=0.2), {"last": 0.1})], folder)
    passes = {("both", "separate"): 0.55, ("proposed", "separate"): 0.53, ("stability", "clean"): 0.2}
    for (method, bn), share in passes.items():
        records.collect([record(config("small", method, 0, bn=bn), {"last": share})], folder)
    found = switches.switched("small", LEVEL, folder=folder).set_index("what")["mean"].to_dict()
    assert found == pytest.approx({
        "normal, epochs=24 − normal": 20, "both, epochs=24 − normal, epochs=24": 10,
        "proposed, epochs=24 − normal, epochs=24": 7, "proposed, epochs=24 − both, epochs=24": -3,
        "proposed, bn=separate − both, bn=separate": -2,
    })  # fmt: skip


def test_cross_entropy_on_noisy_logits_is_held_to_both(folder):
    """`proposed` with it is `both` and the paper's loss: the two differ by that alone, at each learning rate. Two switches are not one."""
    runs = {("proposed", 0.0, 0.05): 0.50, ("proposed", 0.5, 0.05): 0.54, ("both", 0.0, 0.05): 0.60}
    runs |= {("proposed", 0.5, 0.2): 0.66, ("both", 0.0, 0.2): 0.63}
    for (method, share, lr), found in runs.items():
        for seed in (0, 1):
            records.collect([record(config("small", method, seed, ce_noisy=share, lr=lr), {"last": found + 0.01 * seed})], folder)
    found = switches.switched("small", LEVEL, folder=folder).set_index("what")["mean"].to_dict()
    assert found == pytest.approx({
        "proposed, ce_noisy=0.5 − proposed": 4, "proposed, ce_noisy=0.5 − both": -6,
        "proposed, lr=0.2, ce_noisy=0.5 − both, lr=0.2": 3, "both, lr=0.2 − both": 3,
    })  # fmt: skip


def test_a_switch_is_compared_with_a_training_by_the_same_code(folder):
    """Where a run was trained again by another version, the switched runs of that version are held to it; and the two to each other."""

    def keep(share: float, code: str, **fields) -> None:
        run = record(config("small", "both", **fields), {"last": share})
        run["environment"]["code"] = code
        records.collect([run], folder)

    for seed, moved in enumerate((0.01, 0.03)):
        keep(0.60, "old", seed=seed)
        keep(0.60 + moved, "new", seed=seed, best_on_test=True)
        keep(0.70, "new", seed=seed, bn="separate")
        keep(0.50, "new", seed=seed, bn="clean")
        keep(0.80, "old", seed=seed, lr=0.1)
        keep(0.90, "third", seed=seed, lr=0.2)
    keep(0.50, "old", seed=2)
    keep(0.60, "new", seed=2, bn="separate")  # not trained again: with what there is
    found = switches.switched("small", LEVEL, folder=folder).set_index("what")[["mean", "n"]].T.to_dict("list")
    expected = {
        "both trained again − both": [2, 2], "both, bn=separate − both": [(9 + 7 + 10) / 3, 3], "both, bn=clean − both": [-12, 2],
        "both, bn=clean − both, bn=separate": [-20, 2], "both, lr=0.1 − both": [20, 2], "both, lr=0.2 − both": [30, 2],
    }  # fmt: skip
    assert found.keys() == expected.keys() and all(found[what] == pytest.approx(expected[what]) for what in expected)


def test_what_choosing_the_epoch_on_test_adds(folder):
    """Of runs with nothing else changed, last and best epoch of the same run."""
    made = [(config("small", "both", seed, best_on_test=True), {"last": 0.6, "best_on_test": 0.6 + seed / 50}) for seed in range(3)]
    made.append((config("small", "both", 0, best_on_test=True, bn="clean"), {"last": 0.1, "best_on_test": 0.9}))
    made += [(config("small", "both", seed), {"last": 0.6}) for seed in range(3)]
    records.collect([record(one, shares) for one, shares in made], folder)
    (row,) = switches.selected("small", LEVEL, folder=folder).itertuples()
    low, high = stats.t.interval(0.95, 2, 2, stats.sem([0, 2, 4]))
    assert row.what == "both, best epoch on test − last" and (row.mean, row.low, row.high) == pytest.approx((2, low, high)) and row.n == 3
    paper = switches.selected("paper", LEVEL, folder=folder).set_index("what")["mean"]
    assert paper.to_dict() == pytest.approx({f"{m}, best epoch on test − last": 10 for m in ("normal", "proposed")})


def test_validation_alone_chooses_a_rate(tmp_path):
    """Of the one seed that is searched, with nothing else changed; test accuracies say the contrary here."""

    def keep(reached: float, method: str, seed: int, **fields) -> None:
        run = record(config("small", method, seed, **fields), {"last": 0.9 - reached})
        run["history"][-1] |= {"validation_noisy": reached, "validation": 0.5}
        records.collect([run], tmp_path)

    for lr, reached in ((0.05, 0.7), (0.1, 0.8), (0.02, 0.6)):
        for method, better in (("both", reached), ("proposed", 1 - reached)):
            keep(better, method, 0, lr=lr)
            keep(1 - better, method, 1, lr=lr)
    keep(0.9, "both", 0, lr=0.1, bn="clean")
    keep(0.9, "both", 0, bn="clean")
    keep(0.3, "normal", 0)
    table = rates.tried(folder=tmp_path)
    assert rates.own(table) == {"both": 0.1, "proposed": 0.02}  # of `normal` one rate was tried, so none was chosen
    stars = {method: [lr for lr, told in row["noisy"].items() if told.endswith("*")] for method, row in rates.starred(table).iterrows()}
    assert (
        stars == {method: [lr] for method, lr in rates.best(table).items()} and rates.starred(table).loc["both", ("noisy", 0.1)] == "80.0 *"
    )
    assert not len(rates.tried("tuned", folder=tmp_path)) and not len(switches.at_own_rates("tuned", folder=tmp_path))
    compared = switches.at_own_rates(level=LEVEL, folder=tmp_path)  # on test, where `keep` makes the worse rates the better ones
    assert compared.what.tolist() == ["proposed, 0.02 − both, 0.1"] and compared.n.tolist() == [2]
    assert compared["mean"].item() == pytest.approx(100 * np.mean([(0.9 - 0.4) - (0.9 - 0.8), (0.9 - 0.6) - (0.9 - 0.2)]))
    assert list(table.index) == ["normal", "both", "proposed"] and list(table["noisy"]) == [0.02, 0.05, 0.1]
    assert table.loc["proposed", ("noisy", 0.02)] == pytest.approx(0.4) and np.isnan(table.loc["normal", ("clean", 0.1)])


def under_others(record: dict, shares: dict[str, float]) -> dict:
    """The record, with accuracies of two draws around a share under every other perturbation; the second level's are 0.1 lower."""
    for checkpoint, share in shares.items():
        for kind, levels in metrics.KINDS.items():
            accuracy = [[share - 0.01, share + 0.01], [share - 0.11, share - 0.09]]
            record["metrics"][checkpoint][kind] = {"levels": json.loads(json.dumps(levels)), "accuracy": accuracy}
    return record


def test_other_perturbations_stand_by_method_epoch_and_level(tmp_path):
    both = {"last": 0.5, "best_on_test": 0.6}
    made = [under_others(record(config("paper", "both", 0), both), {"last": 0.7, "best_on_test": 0.8})]
    made += [under_others(record(config("tuned", "normal", s, lr=0.03), {"last": 0.5}), {"last": 0.5 + s / 10}) for s in range(3)]
    made.append(under_others(record(config("tuned", "normal", 0, bn="clean"), {"last": 0.5}), {"last": 0.0}))  # an arm of its own
    made.append(record(config("tuned", "noisy", 0), {"last": 0.5}))  # an older version measured less
    records.collect(made, tmp_path)
    table = published_beyond.perturbed(folder=tmp_path)
    assert len(table) == 3 * 8 and list(table) == list(METHODS)
    assert table.loc[("paper, last epoch", "occlusion", "0.25"), "both"] == "60.0, n=1"
    assert table.loc[("paper, best on test", "low resolution", "1/3"), "both"] == "70.0, n=1"
    low, high = stats.t.interval(0.95, 2, 60, stats.sem([50, 60, 70]))
    assert table.loc[("tuned, last epoch", "uniform", "8/255"), "normal"] == f"60.0 [{low:.1f}, {high:.1f}], n=3"
    assert table.loc[("tuned, last epoch", "occlusion+gaussian", "0.25 + 16/255"), "normal"].startswith("50.0 [")
    assert set(table.xs("tuned, last epoch").noisy) == {"not run"} == set(table.xs("paper, last epoch").normal)
    alone = published_beyond.carried(folder=tmp_path)
    assert list(alone) == [method for method in METHODS if method != "proposed"] and set(alone.to_numpy().flat) == {"no seed in common"}
    shares = zip(("proposed", "proposed", "proposed", "both"), (0, 1, 2, 0), (0.62, 0.7, 0.86, 0.5), strict=True)
    made = [under_others(record(config("tuned", m, seed, lr=0.03), {"last": 0.5}), {"last": share}) for m, seed, share in shares]
    records.collect(made, tmp_path)
    apart = published_beyond.carried(folder=tmp_path).loc[("tuned, last epoch", "occlusion", "0.25")]
    low, high = stats.t.interval(0.95, 2, 38 / 3, stats.sem([12, 10, 16]))  # 62, 70, 86 minus 50, 60, 70
    assert apart.normal == f"+12.7 [{low:+.1f}, {high:+.1f}], n=3: holds"
    assert apart.both == "+12.0, n=1: one seed" and apart.noisy == "no seed in common"
    shutil.rmtree(tmp_path / "cifar10-paper")
    assert set(published_beyond.perturbed(folder=tmp_path).index.get_level_values("what")) == {"tuned, last epoch"}  # no row of nothing


def test_flatness_and_resistance_are_means_over_seeds(tmp_path):
    made = [record(config("tuned", "both", seed, lr=0.03), {"last": 0.5}) for seed in range(2)]
    made.append(record(config("paper", "noisy", 0), {"last": 0.5}))
    for one, power in zip(made, (-2, -4, -1), strict=True):
        kappa = [10.0**power, 10.0**power, 1e9]  # a median, not a mean
        one["metrics"]["last"]["curvature"] = {"images": 3, "kappa": kappa, "frobenius": [10 * value for value in kappa]}
    records.collect(made, tmp_path)
    right = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)  # within two budgets, the second the middle one
    certified = {"0.06": {"right": pack(np.array([True, False])), "abstains": pack(np.zeros(2, bool)), "radius": [0.1, 0.5]}}
    for one in made[:2]:
        settings = {"budgets": {"linf": [0.1, 0.2], "l2": [0.3, 0.4]}, "middle": {"linf": 0.2, "l2": 0.3}, "certified_images": 2}
        settings |= {"autoattack_images": 0, "n0": 1, "n": 1, "alpha": 0.1}
        attacked = {key: one[key] for key in ("name", "config", "environment")} | {
            "data": {"provenance": "made up", "test_images": 4, "test_total": 4}, "settings": settings, "clean": pack(right[0]),
            "apgd": {"linf": pack(right), "l2": pack(right)}, "autoattack": {}, "certified": certified,
            "checks": {"large": 0.0, "direct": 0.0, "by_steps": {"5": 0.0, "20": 0.0}, "transferred": {}},
        }  # fmt: skip
        records.collect([attacked], tmp_path / "adversary")
    table = published_beyond.further(folder=tmp_path)
    assert list(table.index) == [("paper", "noisy"), ("tuned", "both")]
    low, high = stats.t.interval(0.95, 1, -3, stats.sem([-2, -4]))
    both = table.loc[("tuned", "both")]
    assert both["eq. 21 (log10)"] == f"-3.00 [{low:.2f}, {high:.2f}], n=2" and both["‖H‖² (log10)"].startswith("-2.00 [")
    assert both["APGD L∞ 0.2"].startswith("25.00 [") and both["APGD L2 0.3"].startswith("100.00 [")
    assert both["radius at 0.06"].startswith("0.05 [")  # none where the smoothed classifier is wrong
    assert table.loc[("paper", "noisy")].tolist() == ["-1.00, n=1", "0.00, n=1", "not run", "not run", "not run"]


def test_the_layer_and_the_decades_between_methods_are_means_over_seeds(tmp_path):
    made = [record(config("tuned", method, seed, lr=0.03), {"last": 0.5}) for method in ("proposed", "both") for seed in range(2)]
    made.append(record(config("tuned", "normal", 0, lr=0.03), {"last": 0.5}))  # one seed in common: not judged
    made.append(record(config("tuned", "noisy", 2, lr=0.03), {"last": 0.5}))  # none
    powers = ((0, 1, 2), (1, 1, 1), (2, 4, 3), (3, 5, 4), (1, 3, 0), (5, 5, 5))  # of three images
    for one, own, radius in zip(made, powers, (1.0, 2.0, 5.0, 5.0, 4.0, 4.0), strict=True):
        last = one["metrics"]["last"]
        last["geometry"] = {"radius": radius, "margin": 3.0, "ratio": 3 / radius, "gap": 1.0}
        kappa = [10.0**power for power in own]
        last["curvature"] = {"images": 3, "kappa": kappa, "frobenius": [value**2 for value in kappa]}
    records.collect(made, tmp_path)
    layer, apart = published_beyond.layer(folder=tmp_path), published_beyond.flatter(folder=tmp_path)
    low, high = stats.t.interval(0.95, 1, 1.5, stats.sem([1, 2]))
    assert layer.loc[("tuned", "proposed"), "radius"] == f"1.50 [{low:.2f}, {high:.2f}], n=2"
    assert layer.loc[("tuned", "normal")].tolist() == ["4.00, n=1", "3.00, n=1", "0.75, n=1"] and list(layer) == [
        "radius",
        "margin",
        "ratio",
    ]
    assert list(apart.index) == [("tuned", "normal"), ("tuned", "both")]
    low, high = stats.t.interval(0.95, 1, 2.5, stats.sem([2, 3]))  # image by image 2, 3, 1 and 2, 4, 3: medians 2 and 3
    assert apart.loc[("tuned", "both"), "eq. 21"] == f"+2.50 [{low:+.2f}, {high:+.2f}], n=2: undecided"
    assert apart.loc[("tuned", "both"), "‖H‖²"].startswith("+5.00 [") and apart.loc[("tuned", "normal"), "eq. 21"].endswith("one seed")
    means = np.log10(11_100 / 111), np.log10(111_000 / 30)  # over images, of each seed
    low, high = stats.t.interval(0.95, 1, np.mean(means), stats.sem(means))
    assert apart.loc[("tuned", "both"), "eq. 21, means"] == f"{np.mean(means):+.2f} [{low:+.2f}, {high:+.2f}], n=2: undecided"
    assert len(published_beyond.flatter("svhn", tmp_path)) == 0 == len(published_beyond.layer("svhn", tmp_path))


def test_rates_are_chosen_by_noisy_then_clean_validation_accuracy():
    def looked(method: str, lr: float, noisy: float, clean: float) -> dict:
        last = {"validation_noisy": noisy, "validation": clean}
        return {"config": {"preset": "tuned", "method": method, "lr": lr}, "history": [{}, last]}

    found = [looked("both", lr, *row) for lr, row in zip(RATES, ((0.5, 0.9), (0.6, 0.7), (0.6, 0.8), (0.1, 1.0)), strict=True)]
    broken = [looked("normal", lr, 0.5, 0.5 + lr) for lr in RATES[:-1]]  # at the highest its run broke
    assert replication.chosen(found + broken) == {"both": 0.1, "normal": 0.1}


def test_a_method_of_which_every_rate_broke_off_is_left_out(tmp_path):
    for config in replication.search():
        if config.method == "proposed" or config.lr == 0.2:
            replication.break_off(config, "the loss is not finite", tmp_path)
    assert replication.broken_off(tmp_path, "svhn") == []
    for config in replication.search(width=4):  # a trial of other fields in the same folder has no say
        if config.method == "both":
            replication.break_off(config, "the loss is not finite", tmp_path)
    rates = replication.rates(tmp_path)
    assert rates == {"brief": {}, "tuned": {"proposed": None}}
    kept = {"config": {"preset": "tuned", "method": "proposed", "lr": 0.01}, "history": [{"validation_noisy": 0.5, "validation": 0.5}]}
    assert replication.chosen([kept], 2 * replication.broken_off(tmp_path, "cifar10")) == {"proposed": 0.01}
    by_name = {step.name: {c.method for c in step.configs} for step in replication.steps(rates)}
    assert by_name["tuned: five methods, three seeds"] == {"normal", "noisy", "both", "stability"}
    assert by_name["brief: five methods, three seeds"] == set(replication.COMPARED)
    assert by_name["tuned: proposed, bn clean"] == set() and "proposed" in by_name["paper: normal, proposed"]


def test_the_steps_hold_what_is_compared_and_no_run_twice():
    steps = replication.steps({"tuned": {"proposed": 0.2, "normal": 0.01}, "brief": {"proposed": 0.03}})
    configs = [one for step in steps for one in step.configs]
    assert len({one.hash for one in configs}) == len(configs)
    by_name = {step.name: step.configs for step in steps}
    paper = {(c.epochs, c.lr, c.batch, c.width, c.best_on_test, c.crops) for c in by_name["paper: normal, proposed"]}
    assert paper == {(200, 0.001, 64, 64, True, "independent")}
    tuned = by_name["tuned: five methods, three seeds"]
    assert len(tuned) == 15 and {c.lr for c in tuned if c.method == "proposed"} == {0.2} and not any(c.train_on_all for c in tuned)
    (matched,) = {(c.epochs, c.lr) for c in by_name["tuned: normal, twice the epochs"]}
    assert matched == (2 * tuned[0].epochs, 0.01)
    brief = by_name["brief: five methods, three seeds"]
    assert len(brief) == 15 and {c.lr for c in brief if c.method == "proposed"} == {0.03} and {c.epochs for c in brief} == {10}
    for preset, (_, epochs) in replication.SEARCHES.items():
        assert {(c.seed, c.epochs) for c in by_name[f"{preset}: learning rates"]} == {(metrics.TRIAL_SEED, epochs)}
        assert max(c.seed for c in configs if c.preset == preset and c not in by_name[f"{preset}: learning rates"]) < metrics.TRIAL_SEED
    for step in steps:  # results at length, trials briefly
        assert {metrics.at_length(c) for c in step.configs} == {not step.folder}


def test_a_rate_that_wins_late_leaves_the_runs_at_the_old_one_out_of_the_tables(tmp_path):
    own = [record(config("brief", "both", 0, lr=lr), {"last": right}) for lr, right in ((0.03, 0.5), (0.01, 0.7))]
    own.append(record(config("brief", "both", 0, lr=0.03, epochs=20), {"last": 0.6}))  # another arm of the method
    records.collect(own, tmp_path)
    with pytest.raises(InputError, match="are the same arm .both. at the learning rates"):
        published.found("brief", folder=tmp_path)
    for lr, noisy in ((0.03, 0.5), (0.1, 0.4), (0.01, 0.6)):  # one after the other
        looked = record(config("brief", "both", replication.SEARCH_SEED, lr=lr, epochs=replication.SEARCHES["brief"][1]), {"last": 0.5})
        looked["history"][-1]["validation_noisy"] = noisy
        records.collect([looked], tmp_path / "search")
        rate, right = (0.01, 0.7) if lr == 0.01 else (0.03, 0.5)
        (kept,) = published.found("brief", folder=tmp_path)
        assert kept["config"]["lr"] == rate
        runs = switches.measured("brief", LEVEL, folder=tmp_path).set_index("arm").accuracy.to_dict()
        assert runs == {"both": right} | ({"both, epochs=20": 0.6} if rate == 0.03 else {})
    counted = replicated.progress(folder=tmp_path).set_index("step").finished
    assert counted["brief: five methods, three seeds"] == 1


def test_the_readme_names_the_steps_by_their_numbers():
    names = [step.name for step in replication.steps({})]
    text = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
    number = {name: 1 + names.index(name) for name in names}
    last = number["brief: proposed, bn clean"]
    assert [name.startswith("brief") for name in names] == [2 <= number[name] <= last for name in names]
    assert f"one command of {len(names)} steps" in text and f"- steps 2 to {last}:" in text and f"`--steps 2-{last}`" in text
    assert f"then five ({number['brief: five seeds']}), and BatchNorm's two other ways ({last - 1}, {last})" in text
    assert f"(2 to {number['brief: discriminative']}; of step {number['brief: learning rates']} the lowest rate, 0.01, is left)" in text
    counted = replicated.progress().set_index("step")
    part = {number[name] for name, row in counted.iterrows() if 0 < row.finished + row["broke off"] < row.runs}
    whole = {number[name] for name, row in counted.iterrows() if row.finished + row["broke off"] == row.runs}
    assert part == {2, 6} and whole == {3, 4, 5}
    told = "steps 2 to 5, in step 2 without the learning rate 0.01, and of step 6 the fourth seed of"
    assert f"{told} `normal`, `both` and `proposed`" in text
    fourth = {r["config"]["method"] for r in published.found("brief") if r["config"]["seed"] == 3}
    assert fourth == {"normal", "both", "proposed"}
    assert f"- step {number['paper: normal, proposed']}: `normal` and `proposed`" in text
    assert f"the other methods ({number['paper: the other methods']}), then four more seeds ({number['paper: five seeds']})" in text


def test_the_committed_records_are_counted_by_step(folder):
    rates = {"normal": 0.03, "proposed": 0.2}
    looked = [
        record(config("tuned", m, replication.SEARCH_SEED, lr=lr, epochs=replication.SEARCHES["tuned"][1]), {"last": 0.5})
        for m in rates
        for lr in RATES
    ]
    for one in looked:
        best = one["config"]["lr"] == rates[one["config"]["method"]]
        one["history"][-1] |= {"validation_noisy": float(best), "validation": 0.5}
    records.collect(looked, folder / "search")
    lost = replication.search()[-1]
    replication.break_off(lost, "the loss is not finite", folder)
    counted = replicated.progress(folder=folder).set_index("step")
    finished = counted.finished
    assert counted["broke off"].to_dict() == {step: int(step == "tuned: learning rates") for step in counted.index}
    assert finished["tuned: learning rates"] == 8 and finished["tuned: five methods, three seeds"] == 6
    assert finished["paper: normal, proposed"] == 2 and finished["tuned: proposed, bn clean"] == 3 and finished["paper: five seeds"] == 0


def test_the_command_takes_every_step_and_goes_on(monkeypatch, tmp_path):
    """All steps on two methods and narrow networks: a budget of nothing, then all of it, then from the store."""
    monkeypatch.setattr(replication, "COMPARED", ("normal", "proposed"))
    monkeypatch.setattr(replication, "ALL", ("normal", "proposed"))
    for preset in replication.SEARCHES:
        monkeypatch.setitem(replication.SEARCHES, preset, ((0.01, 1e30), 1))  # at the second the loss overflows
    for few in ("metrics.DRAWS", "metrics.FULL_DRAWS", "metrics.PROBES"):
        monkeypatch.setattr(f"penultimate.{few}", 1)
    monkeypatch.setattr("penultimate.metrics.CURVED", 4)
    monkeypatch.setattr("penultimate.attacks.CHECKED_STEPS", (20,))
    monkeypatch.setitem(adversary.BUDGETS, "digits", {"linf": (0.1,), "l2": (0.5,)})
    monkeypatch.setitem(metrics.LEVELS, "digits", (0.0,))
    monkeypatch.setattr("penultimate.jobs.STORE", tmp_path / "runs")
    trial = dict(network="small", width=4, dim=8, images=64, batch=32, epochs=1)
    call = ["replicate", "--dataset", "digits", "--attacked", "4", "--records", str(tmp_path / "records")]
    call += [word for name, value in trial.items() for word in (f"--{name}", str(value))]
    run = lambda *more: CliRunner().invoke(cli.app, [*call, *more])  # noqa: E731
    with pytest.raises(InputError, match="^dataset 'digits' is not the paper's: choose cifar10 or svhn, or try it with a field"):
        CliRunner().invoke(cli.app, call[:5], catch_exceptions=False)
    assert str(run("--steps", "9-19").exception) == "steps '9-19': give numbers from 1 to 18"
    for asked, first in (("3", 2), ("11-12", 10)):
        assert str(run("--steps", asked).exception).endswith(f"take it first (--steps {first})") and not (tmp_path / "runs").exists()
    assert "paper: five seeds" in run("--steps", "17", "--budget", "0s").output  # which no search has a say in
    with monkeypatch.context() as patched:
        patched.setattr("penultimate.train.Trainer.epoch", lambda self, epoch: 1 / torch.zeros(2).view(3))  # no fault of the rate
        failed = run("--steps", "1")
    assert failed.exit_code == 1 and "2 of 2 runs of these steps are left" in failed.output
    stopped = run("--budget", "0s")
    assert stopped.exit_code == 0 and "2 of 2 runs of these steps are left; call again to go on" in stopped.output, stopped.output
    done = run()
    assert done.exit_code == 0 and "every step is done; 4 runs broke off" in done.output, done.output
    turns = ("[1/18] smoke run: 0 of 2", "[2/18] brief: learning rates: 0 of 4", "[3/18] brief: five")
    turns += ("[9/18] paper: normal, proposed: 0 of 2", "[10/18] tuned: learning rates: 0 of 4", "[11/18] tuned")
    assert [done.output.count(line) for line in turns] == [1] * 6
    again = run()  # nothing is trained, broken runs neither
    assert again.exit_code == 0 and "trained" not in again.output and "every step is done; 4 runs" in again.output, again.output
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
    path = next((kept / "digits-paper").glob("*.json"))
    whole = path.read_text()
    path.write_text(whole.replace(json.loads(whole)["data"]["fingerprint"], "0" * 64))
    assert "trial holds 1 record of other images than digits has now" in str(run().exception)
    path.write_text(whole)
    assert len(list((kept / "search").glob("*/*.json"))) == 4
    for preset, folder in ((preset, kept / f"digits-{preset}") for preset in replication.SEARCHES):
        own = [json.loads(path.read_text())["config"] for path in folder.glob("*.json")]
        assert {c["lr"] for c in own if c["method"] in replication.ALL} == {0.01}, preset
    shutil.rmtree(kept / "adversary")
    monkeypatch.setattr("penultimate.commands.cli_replicate.find_spec", lambda name: None)
    bare = run()
    assert bare.output.count("pyautoattack is not installed here: no run is attacked") == 1 and "every step is done" in bare.output
    assert not (kept / "adversary").exists()


def test_a_level_that_was_not_measured_is_not_taken_for_a_run_that_is_missing():
    """At 12/255 nothing was measured of the runs of `brief` and `small`; of `paper` there are none."""
    shown = published.beside(12 / 255)
    assert set(shown["brief, last epoch"]) == {"not measured"} and set(shown["paper, last epoch"]) == {"not run"}
