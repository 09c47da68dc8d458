"""Adversary records: measured on a tiny run, read back, and what `adversary_rules` says of made-up ones."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch

from penultimate import InputError, data, evaluate
from penultimate.evaluate import pack, unpack
from penultimate.model import predict
from penultimate.runs import Run, load_or_train
from penultimate.show import figures_adversary as draw
from penultimate.study import adversary, adversary_links, adversary_rules, adversary_tables, checks
from penultimate.support import files


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return load_or_train(tiny(method="normal", epochs=20), store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def record(run):
    return adversary.measure(run, {"itself": run}, images=30, checked=8, certified=4, n=60)


def test_a_record_holds_what_its_readers_rely_on(record):
    checks.adversary_record(json.loads(json.dumps(record)))
    broken = copy.deepcopy(record)
    broken["apgd"]["l2"] = pack(np.ones((5, 29), bool))
    with pytest.raises(ValueError, match="bits for every budget"):
        checks.adversary_record(broken)
    alone = record | {"checks": record["checks"] | {"by_steps": {"20": 0.5}}}  # whether more steps find more cannot be said
    with pytest.raises(ValueError, match="at least two numbers of steps"):
        checks.adversary_record(alone)


def test_clean_bits_are_the_models_and_attacks_only_take_away(run, record, digits):
    order = adversary.chosen(len(digits.test), 30)
    assert len(set(order)) == 30 and not (np.sort(order) == order).all()
    test = digits.test[torch.from_numpy(order)]
    clean = (predict(run.model, data.to_unit(test.images)) == test.labels).numpy()
    assert (unpack(record["clean"]) == clean).all() and 0 < clean.sum() < 30
    for norm in ("linf", "l2"):
        left = unpack(record["apgd"][norm])
        assert not (left & ~clean).any() and (np.diff(left.mean(1)) <= 0.05).all() and left[-1].sum() < clean.sum()
    assert record["checks"]["large"] <= 0.3 and abs(record["checks"]["transferred"]["itself"] - record["checks"]["direct"]) < 0.3
    assert [len(found["radius"]) for found in record["certified"].values()] == [4, 4]
    assert record["settings"]["sources"] == {"itself": run.config.name}


def made(seed, method, share, radius=0.35, autoattack=None, **changed):
    """A record of 20 made-up images: `share` of them survive all budgets but the largest, none that; all are certified within `radius`."""
    kept = np.arange(20) < round(20 * share)
    attacked = pack(np.stack([kept, kept, np.zeros(20, bool)]))
    settings = dict(
        steps=20, budgets={"linf": [0.05, 0.1, 0.15], "l2": [0.25, 0.5, 0.75]}, middle={"linf": 0.1, "l2": 0.5}, large=0.5,
        autoattack_images=10, checked_images=20, certified_images=5, n0=100, n=1000, alpha=0.001,
    )  # fmt: skip
    if autoattack is None:
        settings["autoattack_images"] = 0
    certificate = dict(right=pack(np.ones(5, bool)), abstains=pack(np.zeros(5, bool)), radius=[radius] * 5)
    checked = dict(large=0.0, direct=share, by_steps={"5": share, "10": share, "100": share}, transferred={"normal": share + 0.1})
    return {
        "name": f"digits-digits-{method}-s{seed}-{'ab' * 5}",
        "config": dict(dataset="digits", preset="digits", method=method, seed=seed, sigma=0.3, noise="gaussian"),
        "environment": dict(device="CPU (made up)", torch="2", threads=1),
        "data": dict(fingerprint="", provenance="made up", test_images=20, test_total=450),
        "settings": settings, "clean": pack(np.ones(20, bool)), "apgd": {"linf": attacked, "l2": attacked},
        "autoattack": {} if autoattack is None else {n: pack(np.arange(10) < autoattack) for n in ("linf", "l2")},
        "checks": checked | changed, "certified": {"0.15": certificate, "0.3": certificate}, "seconds": 1.0,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    shares = {"normal": (0.5, 0.4, 0.45), "both": (0.8, 0.8, 0.8), "proposed": (0.9, 0.7, 0.85)}
    for method, own in shares.items():
        for seed, share in enumerate(own):
            record = made(seed, method, share, radius={"normal": 0.2, "both": 0.35, "proposed": 0.35}[method])
            files.write_json(tmp_path / checks.place(record), record)
    return tmp_path


def test_accuracies_and_differences_by_hand(folder):
    rows = adversary_rules.read(folder)
    table = adversary_rules.accuracies(rows, "linf")
    assert sorted(table.level.unique()) == [0, 0.05, 0.1, 0.15] and (table[table.level == 0].accuracy == 1).all()
    mean, low, high, n = adversary_rules.against(table, "proposed", "normal", 0.1)
    expected = evaluate.seed_interval([0.4, 0.3, 0.4])
    assert (mean, low, high, n) == (*map(pytest.approx, expected), 3)
    certified = adversary_rules.certified(rows, 0.3, [0.1, 0.3])
    assert certified.groupby(["method", "level"]).accuracy.mean().loc["normal"].tolist() == [1, 0]
    assert adversary_rules.smoothed_at(rows) == 0.3 and adversary_rules.abstentions(rows, 0.3)["both"] == 0
    shown = adversary_tables.table(rows)
    assert shown.loc["normal", "certified at radius 0.3"].startswith("0.0 [") and shown.loc["normal", "L∞ 0.1"] == "45.0 [32.6, 57.4]"
    assert shown.loc["both", "L∞ 0.1"].startswith("80.0 [") and shown.loc["both", "L∞ 0.15"].startswith("0.0 [")


def test_claims_follow_from_the_records(folder):
    found = adversary_rules.claims(folder).set_index(["claim", "against", "measure"])
    better = found.loc["resists", "proposed − normal", "within L∞ 0.1"]
    assert better.low > 0 and better.n == 3
    beyond = found.loc["beyond", "proposed − normal", "within L∞ 0.15"]
    assert beyond["mean"] == 0 and beyond.low < 0 < beyond.high
    assert found.loc["certified", "proposed − normal", "smoothed at σ = 0.3, radius 0.3"]["mean"] == 1


MASKED = {
    "large": dict(large=0.06), "steps": dict(by_steps={"5": 0.5, "10": 0.4, "100": 0.43}),
    "transferred": dict(transferred={"normal": 0.47}), "autoattack": dict(autoattack=4), "none transferred": dict(transferred={}),
}  # fmt: skip


def test_on_the_bound_an_attack_is_trusted_however_its_shares_round(tmp_path):
    record = made(0, "normal", 0.5, by_steps={"10": 0.29, "20": 0.31}, transferred={"normal": 0.48})
    files.write_json(tmp_path / checks.place(record), record)
    (told,) = adversary_rules.checked(adversary_rules.read(tmp_path)).itertuples()
    assert told.gained > 0.02 and told.transferred == pytest.approx(-0.02) and told.unmasked  # 0.31 - 0.29 in floating point


@pytest.mark.parametrize("case", MASKED)
def test_each_sign_of_masked_gradients_is_seen(tmp_path, case):
    for seed, changed in enumerate((dict(autoattack=10), MASKED[case])):
        record = made(seed, "normal", 0.5, **changed)
        files.write_json(tmp_path / checks.place(record), record)
    found = adversary_rules.checked(adversary_rules.read(tmp_path))
    assert found.unmasked.tolist() == [True, False]
    of = 1 if case == "none transferred" else 2  # of a network that was not tried nothing is said
    assert adversary_tables.checks_table(adversary_rules.read(tmp_path)).unmasked.tolist() == [f"1 of {of}"]


def curvature_rows(order):
    """Curvature of the first 40 images of the shuffle, in the file's order; each number is the image's place in the file."""
    at = np.sort(order[:40]).astype(float)
    images = {name: at.copy() for name in ("kappa", "frobenius", "kappa_matched", "frobenius_matched", "slope")} | {"margin": at + 1}
    record = {"name": made(0, "normal", 0.5)["name"], "data": {"test_images": 40}}
    return pd.DataFrame([dict(method="normal", seed=0, noise="gaussian", network={}, images=images, record=record)])


def test_curvature_is_joined_to_the_image_that_it_belongs_to(tmp_path):
    record, order = made(0, "normal", 0.5), adversary.chosen(450, 450)
    files.write_json(tmp_path / checks.place(record), record)
    rows = adversary_rules.read(tmp_path)
    (one,) = adversary_links.joined(rows, curvature_rows(order)).itertuples()
    assert (one.images["kappa"] == order[:20]).all() and one.survived.tolist() == [2.0] * 10 + [0.0] * 10 and one.accuracy == 0.5
    (one,) = adversary_links.joined(rows, curvature_rows(order), 0.3).itertuples()
    assert len(one.images["kappa"]) == 5 and one.survived.tolist() == [0.35] * 5
    other = curvature_rows(order).assign(record=[{"name": "another run", "data": {"test_images": 40}}])
    with pytest.raises(InputError, match="was attacked, the curvature is of another run: measure both of one run"):
        adversary_links.joined(rows, other)
    again = curvature_rows(order)
    again.images[0]["margin"][np.sort(order[:40]) == order[3]] *= -1  # another training's network is wrong on one attacked image
    with pytest.raises(InputError, match=r"not right on the same clean images \(1 of 20 differ\): measure both of one training"):
        adversary_links.joined(rows, again)


def test_between_methods_by_hand():
    gains = pd.DataFrame(
        [("flat", m, s, x, 0.1 * x + 0.01 * s) for s in (0, 1) for m, x in zip("abc", (1.0, 2.0, 3.0), strict=True)],
        columns=["panel", "method", "seed", "decades", "gain"],
    )
    found = adversary_links.between(gains).set_index("what")
    assert found["mean"]["rho"] == 1 and found["mean"]["slope"] == pytest.approx((0.1 + 0.103) / 2) and found["mean"]["r²"] > 0.99
    assert not len(adversary_links.between(gains[gains.method != "c"]))  # three methods with `normal`: too few
    assert "+10.2" in adversary_tables.between_table(adversary_links.between(gains)).loc["flat", "points a decade"]


def test_figures_show_the_numbers(folder):
    table = adversary_rules.accuracies(adversary_rules.read(folder), "linf")
    figure = draw.curves({"one": draw.Panel(table, "budget", 255.0, 0.1)}, "t", "%")
    line = next(trace for trace in figure.data if trace.name == "normal")
    assert list(line.x) == pytest.approx([0, 12.75, 25.5, 38.25]) and list(line.y) == pytest.approx([100, 45, 45, 0])
    gains = pd.DataFrame([dict(panel="p", method="both", seed=0, decades=1.5, gain=0.2)])
    (mark,) = draw.bought(gains, "t", "points").data
    assert (mark.x[0], mark.y[0], mark.customdata[0]) == (1.5, 20, 0)


def test_a_difference_over_images_keeps_an_images_seeds_together():
    """Of a seed that one method alone has, nothing; an image counts by the mean of its seeds."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 50)) < 0.7, rng.random((2, 50)) < 0.5
    made = [("proposed", 0, ours[0]), ("proposed", 1, ours[1]), ("both", 1, theirs[1]), ("both", 0, theirs[0]), ("both", 2, ~theirs[0])]
    held = pd.DataFrame([dict(method=m, seed=seed, level=1 / 255, correct=right[None]) for m, seed, right in made])
    (found,) = adversary_rules.over_images(held, 1 / 255).itertuples(index=False)
    apart = np.append((ours.sum(0) - theirs.sum(0)) / 2, [1, -1])
    draws = apart[np.random.default_rng(1).integers(0, 52, (5000, 52))].mean(1)
    assert found.rival == "both" and found.mean == pytest.approx(apart.mean() * 52 / 50)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.015)


def test_autoattack_is_added_to_a_record_of_the_same_network_alone(run, record, tmp_path):
    """A run is found by its configuration: other code trains another network by that name."""
    for path in run.folder.rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(run.folder)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path.relative_to(run.folder)).write_bytes(path.read_bytes())
    other = Run(run.config, tmp_path, run.record)
    with torch.no_grad():
        other.model.head.bias += 100 * torch.arange(10)  # says 9 of every image
    with pytest.raises(InputError, match=f"the record of {run.config.name} is of another network"):
        adversary.with_autoattack(record, other, 2)


def test_a_record_tells_the_machine_that_added_autoattack(run, record, monkeypatch):
    """It may be another than the one that measured the rest."""
    monkeypatch.setattr(adversary, "environment", lambda device: {"device": f"another {device}"})
    monkeypatch.setattr(adversary.attacks, "adversarial_correct", lambda model, x, y, norm, budget, version: np.arange(len(y)) < 1)
    added = adversary.with_autoattack(record, run, 3)
    assert added["settings"]["autoattack_environment"] == {"device": "another cpu"} and added["environment"] == record["environment"]
    assert list(unpack(added["autoattack"]["l2"])) == [True, False, False]
    checks.adversary_record(json.loads(json.dumps(added)))
