"""The claims table: every verdict follows from its evidence, and the evidence from the records."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from penultimate import InputError, evaluate, records
from penultimate.data import HOME
from penultimate.study import claims, claims_tables, evidence, measured, verdicts
from penultimate.support import files


@pytest.fixture(scope="module")
def table():
    return claims_tables.table()


def test_the_first_number_by_hand(table):
    """`proposed` minus `normal` on digits at noise 0.3, from the JSON files with nothing of the library."""
    found = {"normal": {}, "proposed": {}}
    for path in (HOME / "data" / "records" / "digits-digits").glob("*.json"):
        record = json.loads(path.read_text())
        measured = record["metrics"]["last"]["gaussian"]
        if record["config"]["method"] in found:
            found[record["config"]["method"]][record["config"]["seed"]] = np.mean(measured["accuracy"][measured["levels"].index(0.3)])
    apart = [found["proposed"][seed] - found["normal"][seed] for seed in range(5)]
    interval = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
    expected = f"{100 * np.mean(apart):+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}] points"
    row = table[table.evidence.str.startswith("digits") & table.evidence.str.endswith("proposed − normal")].iloc[0]
    assert row.number == expected and row.n == 5 and row.holds == "holds" and row.by == "paper"


def test_a_claim_has_one_verdict_and_it_follows_from_its_lines(table):
    for _, own in table.groupby("claim"):
        lines = set(own.holds) - {""}
        expected = (
            "not tested" if not lines else "holds" if lines == {"holds"} else "mixed" if {"holds", "does not hold"} <= lines
            else "holds partly" if "holds" in lines else "does not hold here" if "does not hold" in lines else "undecided"
        )  # fmt: skip
        assert set(own.verdict) == {expected}


def test_every_claim_stands_in_the_table_once_and_names_a_notebook_that_exists(table):
    assert list(dict.fromkeys(table.claim)) == [claim.text for claim in claims.CLAIMS]
    assert {claim.by for claim in claims.CLAIMS} == {"paper", "summary", "study"}
    for claim in claims.CLAIMS:
        assert (HOME / "notebooks" / f"{claim.notebook}.ipynb").exists()
    narrow = table[table.evidence.str.startswith("cifar10")]  # 05 shows digits alone but for the arms of "decisive"
    by_switch = narrow[narrow.evidence.str.contains("epochs=|bn=|lr=|best epoch|full width")]
    assert len(by_switch) > 10 and set(by_switch.notebook) == {"08_paper_vs_ours"} and "03_penultimate_layer" not in set(narrow.notebook)


def test_an_interval_decides_where_its_p_is_below_one_in_twenty(table):
    """And a p is what SciPy says of the differences themselves."""
    told = table[table.p.notna()]
    assert ((told.p < 0.05) == (told.holds != "undecided")).all() and len(told) > 100
    apart = [0.01, 0.03, 0.02, -0.01]
    one = evidence.Evidence("", *evaluate.seed_interval(apart), len(apart), bound=-0.005)
    assert claims_tables.p_value(one) == pytest.approx(stats.ttest_1samp(apart, -0.005).pvalue)
    assert np.isnan(claims_tables.p_value(evidence.Evidence("", 0.0, 0.0, 0.0, 3)))


def test_a_correction_for_their_number_takes_decisions_away_and_never_makes_one(table):
    """By hand: Benjamini and Hochberg's steps; verdicts that it names differ, the others are those of the table."""
    p = np.sort(table.p.dropna())
    kept = max(np.flatnonzero(p <= 0.05 * np.arange(1, len(p) + 1) / len(p)) + 1)
    told = claims_tables.corrected(table)
    assert told.startswith(f"{(p < 0.05).sum()} of {len(p)} intervals decide; {kept} where at most")
    decides = table.p <= p[kept - 1]
    for claim, own in table[table.n > 0].groupby("claim"):
        left = set(own.holds.where(decides[own.index] | own.p.isna(), "undecided"))
        changes = verdicts.by_outcomes(left) != own.verdict.iloc[0]
        assert (f"{claim} ({own.verdict.iloc[0]}, then " in told) == changes


def test_the_short_table_has_the_number_and_an_example_of_every_outcome(table):
    *lines, _, correction = claims_tables.markdown().splitlines()[2:]
    assert correction == f"*{claims_tables.corrected(table)}.*"
    claimed, sources = dict(list(table.groupby("claim"))), [line.split(" | ")[1] for line in lines]
    assert len(lines) == len(claimed) and sources == sorted(sources, key=["paper", "summary", "study"].index)  # the paper's first
    for line in lines:
        claim = line.split(" | ")[0].removeprefix("| ")
        own = claimed[claim]
        found = re.findall(r"(holds|does not hold|undecided), (\d+) of (\d+): (.*?), n = ", line)
        expected = own[own.n > 0].holds.value_counts()
        assert f"| {claim} |" in line and {holds: int(count) for holds, count, _, _ in found} == expected.to_dict()
        for holds, _, of, told in found:
            assert int(of) == len(own) and told in {f"{one.evidence}: {one.number}" for one in own[own.holds == holds].itertuples()}


def deltas(better: float):
    """A grid of two cells on each side of the rule; `better`: how much more test accuracy the best that keeps it has."""
    cells = {"0.5, 5": (0.9, 0.8 + better), "0.5, 2": (0.7, 0.99), "4, 5": (0.8, 0.8), "8, 5": (0.6, 0.99)}
    rows = [(arm, seed, valid, test + 0.001 * seed * (arm == "0.5, 5")) for arm, (valid, test) in cells.items() for seed in range(3)]
    return pd.DataFrame(rows, columns=["arm", "seed", "validation_noisy", "noisy"])


@pytest.mark.parametrize("better, expected", [(0.05, "holds"), (-0.05, "does not hold here")])
def test_the_rule_of_radii_chooses_on_validation_and_compares_on_test(monkeypatch, better, expected):
    monkeypatch.setattr(evidence, "_experiment", lambda name, dataset, preset: deltas(better))
    (one,) = evidence.crossing()
    assert "(0.5, 5)" in one.what and "(4, 5)" in one.what  # not the cells that are best on test
    assert one.mean == pytest.approx(better + 0.001) and verdicts.judge([one]) == expected


def test_a_low_rate_flatters_by_the_difference_of_two_gains(monkeypatch):
    noisy = {"proposed": 0.93, "normal": 0.86, "both": 0.92, "proposed, low rate": 0.80, "normal, low rate": 0.60, "both, low rate": 0.75}
    rows = pd.DataFrame(
        [(arm, seed, value + 0.01 * seed * ("low" in arm) * ("prop" in arm)) for arm, value in noisy.items() for seed in (0, 1)]
    )
    monkeypatch.setattr(evidence, "_experiment", lambda *which: rows.set_axis(["arm", "seed", "noisy"], axis=1))
    over_normal, over_both = evidence.low_rate()
    assert over_normal.mean == pytest.approx(0.2 - 0.07 + 0.005) and over_normal.n == 2
    assert over_both.mean == pytest.approx(0.05 - 0.01 + 0.005) and "over both" in over_both.what


def test_each_method_is_compared_at_the_rate_that_its_validation_chose(monkeypatch):
    """Not at the one that is best on test; of two that validate alike under noise, the better on clean images."""
    arms = {
        "proposed, 0.1": (0.9, 0.9, 0.95), "proposed, 0.2": (0.8, 1.0, 0.99),
        "normal, 0.1": (0.7, 0.8, 0.99), "normal, 0.2": (0.7, 0.9, 0.85),
        "noisy, 0.1": (0.9, 0.9, 0.93), "both, 0.1": (0.9, 0.9, 0.94), "stability, 0.1": (0.9, 0.9, 0.96),
    }  # fmt: skip
    columns = ["method", "arm", "seed", "validation_noisy", "validation", "noisy"]
    rows = [(arm.split(",")[0], arm, seed, *values[:2], values[2] + 0.001 * seed) for arm, values in arms.items() for seed in (0, 1)]
    monkeypatch.setattr(evidence, "_experiment", lambda *which: pd.DataFrame(rows, columns=columns))
    ours = pd.DataFrame([("proposed, 0.1 − both, 0.2", -8.0, -9.0, -7.0, 3), ("alone", 1.0, 1.0, 1.0, 1)])
    monkeypatch.setattr(evidence.switches, "at_own_rates", lambda *which: ours.set_axis(["what", "mean", "low", "high", "n"], axis=1))
    *digits, small = evidence.own_rates()  # of one seed alone no interval over seeds
    assert small == ("cifar10, training noise: proposed, 0.1 − both, 0.2", -0.08, -0.09, -0.07, 3, "points", 0.0, "08_paper_vs_ours")
    found = {one.what.split(": ")[1]: one.mean for one in digits}
    wanted = {"normal, 0.2": 0.1, "noisy, 0.1": 0.02, "both, 0.1": 0.01, "stability, 0.1": -0.01}
    assert found == pytest.approx({f"proposed, 0.1 − {rival}": apart for rival, apart in wanted.items()})


def test_a_switch_of_the_small_scale_is_judged_at_the_level_that_is_asked_for(monkeypatch):
    trained = [("a", 0, 0.7), ("a", 1, 0.8), ("a", 2, 0.9), ("b", 0, 0.6), ("b", 2, 0.9), ("b", 3, 0.0)]
    printed = [("a", 0, 0.7), ("a", 1, 0.8), ("b", 1, 0.5), ("b", 0, 0.5)]
    runs = {0.06: trained, 8 / 255: printed}
    columns = ["arm", "seed", "accuracy"]
    measured = lambda preset, level: pd.DataFrame(runs[level] if preset == "small" else trained, columns=columns).assign(code="one")  # noqa: E731
    monkeypatch.setattr(evidence, "_switched", measured)
    (wide,) = evidence.switch("a", "b", 0.0, -0.005, "brief")
    assert wide.what == "cifar10, full width, clean: a − b" and wide.mean == pytest.approx(0.05) and wide.bound == -0.005
    (trained,), (printed,) = evidence.switch("a", "b"), evidence.switch("a", "b", 8 / 255)
    assert trained.what == "cifar10, training noise: a − b" and (trained.mean, trained.n) == (pytest.approx(0.05), 2)
    assert printed.what == "cifar10, 8/255: a − b" and (printed.mean, printed.n) == (pytest.approx(0.25), 2)


def test_what_the_records_lack_is_no_evidence(monkeypatch):
    monkeypatch.setattr(evidence, "_experiment", lambda *which: None)
    makers = [getattr(evidence, name) for name in ("crossing", "low_rate", "own_rates", "selection")]
    for name in ("at_own_rates", "selected"):
        monkeypatch.setattr(evidence.switches, name, lambda *which: pd.DataFrame(columns=["mean", "low", "high", "n"]))
    makers.append(lambda: evidence.arm("ablation", "proposed", "margin"))
    makers.append(lambda: evidence.switch("proposed", "no such arm"))
    assert [list(make()) for make in makers] == [[]] * len(makers)


def test_clean_accuracy_is_maintained_only_above_minus_half_a_point():
    (claim,) = (one for one in claims.CLAIMS if "clean accuracy (less than half a point)" in one.text)
    assert {one.bound for one in claim.evidence()} == {-records.CLEAN_TOLERANCE}
    inside, below = (evidence.Evidence("", mean, mean - 0.002, mean + 0.002, 5, bound=-0.005) for mean in (-0.002, -0.01))
    assert (verdicts.judge([inside]), verdicts.judge([below])) == ("holds", "does not hold here")


@pytest.mark.parametrize("kind", ["curvature", "transfer", "adversary"])
def test_a_damaged_record_is_an_error_and_not_a_claim_without_evidence(tmp_path, monkeypatch, kind):
    """What is not there is not tested; what is there and cannot be read must not pass for that."""
    source = next(path for path in sorted((records.COMMITTED / kind / "digits-digits").glob("*-s0-*.json")))
    monkeypatch.setattr(measured, "COMMITTED", tmp_path)
    monkeypatch.setattr(records, "COMMITTED", tmp_path)
    assert not len(evidence._explained.__wrapped__())
    files.write(tmp_path / kind / "digits-digits" / source.name, source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(InputError, match=source.stem):
        evidence._explained.__wrapped__()


def test_a_low_rates_seed_without_a_partner_is_left_out(monkeypatch):
    arms = ("normal", "proposed", "both", "normal, low rate", "proposed, low rate", "both, low rate")
    rows = [(arm, seed, 0.5 + 0.01 * seed * i) for i, arm in enumerate(arms) for seed in range(5) if (arm, seed) != ("normal, low rate", 4)]
    monkeypatch.setattr(evidence, "_experiment", lambda *which: pd.DataFrame(rows, columns=["arm", "seed", "noisy"]))
    over_normal, over_both = evidence.low_rate()
    assert (over_normal.n, over_both.n) == (4, 5) and np.isfinite(over_normal[1:4]).all()
