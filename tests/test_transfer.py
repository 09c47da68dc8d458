"""Severities, transfer records and what is read from them, against slow loops and hand-made records."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from penultimate import InputError, data, evaluate, jobs, noise, runs
from penultimate.commands import cli
from penultimate.figures import STYLE
from penultimate.show import figures_transfer as draw
from penultimate.study import checks, transfer, transfer_rules, transfer_tables

FEW = ("gaussian", "occlusion", "jpeg")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return runs.load_or_train(tiny(method="normal", epochs=8), store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def chosen(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "PERTURBATIONS", FEW)
        return json.loads(json.dumps(transfer.severities([run], draws=1)))


@pytest.fixture(scope="module")
def record(run, chosen):
    return json.loads(json.dumps(transfer.measure(run, chosen, images=40, draws=2)))


@pytest.mark.parametrize("name", transfer.PERTURBATIONS)
@pytest.mark.parametrize("side", [8, 32])
def test_every_step_of_a_ladder_applies_and_the_strongest_does_harm(name, side):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    levels = transfer.ladder(name, side)
    moved = [float((noise.apply(name, images, level, torch.Generator().manual_seed(0)) - images).abs().mean()) for level in levels]
    assert levels == sorted(set(levels)) and moved[-1] > 0.03 and moved[-1] > moved[0]


@pytest.mark.parametrize("target", [0.95, 0.6, 0.31, 0.0])
def test_nearest_is_found_by_trying_every_level(target):
    rng = np.random.default_rng(0)
    levels, shares = list(range(30)), np.sort(rng.uniform(0.1, 1, 30))[::-1]
    level, share = transfer.nearest(levels, lambda at: shares[at], target)
    assert abs(share - target) == np.abs(shares - target).min() and shares[level] == share


def test_severities_are_those_of_a_slow_loop_over_the_ladder(run, chosen, digits):
    validation = digits.validation
    with torch.no_grad():
        clean = (run.model(data.to_unit(validation.images)).argmax(1) == validation.labels).double().mean().item()
    assert chosen["clean"] == pytest.approx(clean, abs=1e-5) and chosen["images"] == 135
    for name in FEW[1:]:
        table = evaluate.sweep(run.model, validation.images, validation.labels, name, transfer.ladder(name, 8), draws=1)
        levels, shares = table.level.tolist(), (table.accuracy / clean).to_numpy()
        for row in chosen["perturbations"][name]:
            at = levels.index(row["level"])
            assert row["share"] == pytest.approx(shares[at], abs=1e-4)
            neighbours = np.abs(shares[max(at - 1, 0) : at + 2] - row["target"])
            assert abs(row["share"] - row["target"]) <= neighbours.min() + 1e-4


def test_a_record_holds_what_the_sweep_measures(run, chosen, record, digits):
    checks.transfer_record(record)
    test = digits.test.sample(40)
    for name, levels in transfer.levels_of(chosen).items():
        draws = 1 if name == "jpeg" else 2
        expected = evaluate.correctness(run.model, test.images, test.labels, name, levels, draws)
        assert np.array_equal(evaluate.unpack(record["perturbations"][name]["correct"]), expected)
        np.testing.assert_allclose(record["perturbations"][name]["accuracy"], expected.mean(2), atol=1e-6)
    clean = evaluate.unpack(record["clean"])
    assert len(record["calibration"]["clean"]["count"]) == 15 and sum(record["calibration"]["clean"]["correct"]) == clean.sum()
    assert [sum(record["calibration"][name]["count"]) for name in ("clean", "noisy")] == [40, 80]


@pytest.mark.parametrize("name, level, message", [("jpeg", 120, "is not 100 minus a quality"), ("gaussian", 0.0, "leaves all 40 images")])
def test_a_severity_that_cannot_be_is_refused(run, chosen, name, level, message):
    wrong = copy.deepcopy(chosen)
    wrong["perturbations"][name][0]["level"] = level
    with pytest.raises(InputError, match=message):
        transfer.measure(run, wrong, images=40, draws=1)


def test_salt_and_pepper_is_matched_by_the_harm_it_does(chosen):
    configs = transfer.matrix_configs(chosen, [0, 3])
    assert len(configs) == 2 * 2 * 3 and len({config.hash for config in configs}) == 12
    assert {c.noise: c.sigma for c in configs} == {"uniform": 0.3, "laplace": 0.3, "salt_pepper": chosen["matched"]["salt_pepper"]}


def test_the_command_leaves_what_exists(run, chosen, tmp_path, monkeypatch, capsys):
    asked = []

    def trained(configs, *args, **options):
        asked.append(len(configs))
        found = [runs.Run(config, run.folder, run.record) for config in configs]
        for one in found:
            one.__dict__["model"] = run.model
        return found

    monkeypatch.setattr(jobs, "train_all", trained)
    for module in (transfer, transfer_rules):
        monkeypatch.setattr(module, "PERTURBATIONS", FEW)
    words = ["transfer", "--methods", "normal", "--test-images", "40", "--draws", "1", "--records", str(tmp_path)]
    for seeds in ("0", "0-1"):
        assert cli.app([*words, "--seeds", seeds], standalone_mode=False) is None
    assert asked == [1, 1, 1] and "1 of 2 records exist" in capsys.readouterr().out  # severities, seed 0, then seed 1 alone
    found = transfer_rules.read(tmp_path)
    assert sorted(found.table.seed.unique()) == [0, 1] and set(found.table.perturbation) == {"clean", *FEW}
    (one,) = (path for path in tmp_path.glob("*/*-s1-*.json"))
    other = json.loads(one.read_text())
    other["perturbations"]["jpeg"]["levels"][0] += 1
    one.write_text(json.dumps(other))
    with pytest.raises(InputError, match="measured at other severities of jpeg"):
        transfer_rules.read(tmp_path)
    monkeypatch.undo()  # all the perturbations that this version knows
    with pytest.raises(InputError, match=r"has no severities of uniform, .*: delete the folder, and make its records again"):
        transfer_rules.read(tmp_path)


@pytest.mark.parametrize(
    "change", [{"fingerprint": "0" * 64}, {"matched": {"sigma": 0.1, "gaussian": 0.9, "salt_pepper": 0.1, "share": 0.9}}]
)
def test_severities_of_other_images_or_another_noise_are_refused(chosen, tmp_path, change):
    path = tmp_path / "digits-digits" / "severities.json"
    path.parent.mkdir()
    path.write_text(json.dumps(chosen | change))
    with pytest.raises(InputError, match="was chosen for other images or another noise than digits has now: delete its folder"):
        cli.app(["transfer", "--methods", "normal", "--records", str(tmp_path)], standalone_mode=False)


def test_bad_input_to_the_command_is_one_line(tmp_path):
    with pytest.raises(InputError, match="test_images = 0, draws = 5: both must be positive"):
        cli.app(["transfer", "--test-images", "0", "--records", str(tmp_path)], standalone_mode=False)


ACCURACY = {  # (method, trained with, test noise) -> accuracy at the two severities of seed 0; seed s has s points more
    ("both", "gaussian", "gaussian"): (0.9, 0.8), ("both", "uniform", "gaussian"): (0.8, 0.7), ("both", "laplace", "gaussian"): (0.7, 0.6),
    ("both", "salt_pepper", "gaussian"): (0.6, 0.5), ("normal", "gaussian", "gaussian"): (0.5, 0.3),
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    rows = []
    for (method, trained, _), accuracies in ACCURACY.items():
        for test in transfer.PERTURBATIONS:
            for seed in range(3):
                for level, accuracy in zip((0.9, 0.5), accuracies, strict=True):
                    value = accuracy + 0.01 * seed * (1 + (method == "both"))
                    correct = np.arange(100)[None] < round(100 * value)
                    rows.append((method, trained, seed, test, level, level, correct.mean(), correct))
    return pd.DataFrame(rows, columns=["method", "noise", "seed", "perturbation", "level", "severity", "accuracy", "correct"])


def test_gains_and_their_averages_are_paired_by_seed(table):
    apart = np.array([0.4, 0.41, 0.42]), np.array([0.5, 0.51, 0.52])  # at the two severities, by seed
    found = transfer_rules.gains(table).query("perturbation == 'blur'").set_index("level")
    for level, values in zip((0.9, 0.5), apart, strict=True):
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert tuple(found.loc[level, ["mean", "low", "high", "n"]]) == pytest.approx((values.mean(), *interval, 3))
    for one in transfer_rules.averages(table).itertuples():
        assert (one.mean, one.n) == (pytest.approx(0.46), 3)
    assert len(transfer_rules.averages(table)) == len(transfer.PERTURBATIONS) + 1


def test_the_matrix_and_its_rules_by_hand(table):
    found = transfer_rules.matrix(table, "both").set_index(["trained", "perturbation"])
    assert len(found) == 5 * 4 and found.loc[("none", "gaussian"), "mean"] == pytest.approx(0.4 + 0.01)
    assert found.loc[("laplace", "salt_pepper"), "mean"] == pytest.approx(0.65 + 0.02)
    rules = transfer_rules.specific(table, "both").set_index(["rule", "perturbation"])
    assert rules.loc[("specific", "gaussian"), "mean"] == pytest.approx(0.85 - 0.65)
    assert rules.loc[("specific", "salt_pepper"), "mean"] == pytest.approx(0.55 - 0.75)
    assert rules.loc[("protects", "gaussian"), "mean"] == pytest.approx(0.65 - 0.4 + 0.01)
    for rule in (transfer_rules.specific, transfer_rules.matrix):
        assert not len(rule(table[table.noise != "laplace"], "both"))


def reliable(correct, noise="gaussian", method="both", seed=0):
    bins = {"count": [0, 100], "confidence": [0.0, 90.0], "correct": [0, correct]}
    return {"config": dict(method=method, seed=seed, noise=noise), "calibration": {"clean": bins, "noisy": bins}}


def test_calibration_is_compared_by_seed():
    records = [
        reliable(right, method=m, seed=s)
        for m, rights in {"normal": (80, 78), "proposed": (88, 91)}.items()
        for s, right in enumerate(rights)
    ]
    found = transfer_rules.Transfer([*records, reliable(10, "uniform", "proposed")], {}, None)
    (one,) = transfer_rules.better_calibrated(found, "clean").itertuples()
    assert (one.rival, one.n, one.mean) == ("normal", 2, pytest.approx(np.mean([0.10 - 0.02, 0.12 - 0.01])))
    curve = transfer_tables.reliabilities(found).set_index(["condition", "method"])
    assert (
        curve.loc[("noisy", "normal"), "accuracy"] == pytest.approx(0.79) and (curve.share == 1).all() and (curve.confidence == 0.9).all()
    )


def test_a_heat_map_shows_what_it_is_given():
    rows = [
        ("one", "blur", "both", 3.0, 1.0, 5.0, 5),
        ("one", "blur", "noisy", 1.0, -1.0, 3.0, 5),
        ("two", "jpeg", "both", -2.0, -3.0, -1.0, 5),
    ]
    table = pd.DataFrame(rows, columns=["panel", "row", "column", "mean", "low", "high", "n"])
    one, two = draw.heat(table, "t").data
    assert (list(one.x), list(one.y)) == (["both", "noisy"], ["blur", "jpeg"]) and (one.zmin, one.zmax) == (-3, 3)
    assert [list(row) for row in one.text] == [["+3.0", "(+1.0)"], ["", ""]] and two.z[1][0] == -2 and two.text[1][0] == "-2.0"
    assert list(one.customdata[0][0]) == [1, 5, 5] and "customdata[0]" in one.hovertemplate


def test_reliability_and_strip_show_what_they_are_given():
    table = pd.DataFrame([dict(method="both", confidence=0.9, accuracy=0.8, low=0.7, high=0.85, share=1.0)])
    diagonal, line = draw.reliability({"clean": table}, "t").data
    assert list(diagonal.x) == list(diagonal.y) and (line.x[0], line.y[0], line.marker.color or line.line.color) == (
        90,
        80,
        STYLE["both"][0],
    )
    assert line.error_y.array[0] == pytest.approx(5) and line.error_y.arrayminus[0] == pytest.approx(10)
    image, none = np.eye(3), np.full((3, 3), np.nan)
    (drawn,) = draw.strip({"blur": [(image, "1"), (none, "")]}, ["clean", "90 %"], "t").data
    assert np.array_equal(drawn.z, image)


def test_every_claim_about_transfer_finds_its_evidence():
    """The names by which claims ask for the committed findings are those that the findings have."""
    from penultimate.study import claims

    found = transfer_rules.claims()
    assert set(found.claim) == {"carries over", "specific", "protects", "calibrated"}
    for claim in (one for one in claims.CLAIMS if one.notebook == "06_transfer"):
        assert list(claim.evidence()), claim.text
    (specific,) = (one for one in claims.CLAIMS if one.text == "Robustness is specific to the noise trained with")
    assert len(list(specific.evidence())) == 2 * 4
