"""What the committed records say, and that README and RESULTS say the same."""

import itertools
import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from penultimate import InputError, data, evaluate, figures, records
from penultimate.commands import execution, report
from penultimate.comparison import CLEAN_TOLERANCE
from penultimate.methods import METHODS
from penultimate.runs import Config
from penultimate.study import (
    adversary_rules,
    claims_tables,
    curvature_rules,
    curvature_tables,
    experiments,
    films,
    published,
    published_beyond,
    rates,
    replicated,
    replication,
    switches,
    transfer_rules,
)
from penultimate.study.evidence import Evidence
from penultimate.support import files

DIGITS = records.headline(None, "digits", "digits")
FULL = records.headline(None, "cifar10", "brief")


def test_committed_records_hold_all_that_a_number_needs():
    for record in records.read():
        assert {"config", "environment", "data", "metrics", "history", "seconds"} <= set(record)
        assert Config(**record["config"]).name == record["name"]
        correct = evaluate.unpack(record["metrics"]["last"]["gaussian"]["correct"])
        assert correct.mean(2).round(6).tolist() == record["metrics"]["last"]["gaussian"]["accuracy"]


def test_digits_records_are_of_the_data_that_load_gives():
    fingerprint = data.load("digits").fingerprint
    assert {record["data"]["fingerprint"] for record in records.read(None, "digits")} == {fingerprint}


@pytest.mark.parametrize("method", ["both", "proposed"])
def test_on_digits_both_and_proposed_beat_normal_at_the_training_noise(method):
    gained = records.differences(DIGITS).set_index(["method", "level"]).loc[(method, 0.3)]
    assert gained.n >= 5 and gained.low > 0


def test_differences_are_paired_by_seed():
    own, base = (
        DIGITS[(DIGITS.method == m) & (DIGITS.level == 0.3)].sort_values("seed").accuracy.to_numpy() for m in ("proposed", "normal")
    )
    low = np.mean(own - base) - 2.7764451 * np.std(own - base, ddof=1) / np.sqrt(5)  # t quantile, 4 degrees of freedom
    assert records.differences(DIGITS).set_index(["method", "level"]).loc[("proposed", 0.3)].low == pytest.approx(low)


def test_with_one_seed_the_interval_is_over_images():
    one = DIGITS[DIGITS.seed == 0]
    reduced = records.differences(one).set_index(["method", "level"]).loc[("proposed", 0.3)]
    both = [one[(one.method == m) & (one.level == 0.3)].correct.iloc[0] for m in ("proposed", "normal")]
    assert (reduced["mean"], reduced.low, reduced.high) == pytest.approx(evaluate.image_interval(*both))


def test_seeds_that_agree_to_the_image_do_not_make_a_certainty():
    """Then the interval is over images, each a cluster of all seeds and draws: with 450 of them within a point, but not within nothing."""
    same = pd.concat(
        [DIGITS[(DIGITS.method == "normal") & (DIGITS.seed == 0)].assign(method=m, seed=s) for m in ("normal", "both") for s in (0, 1)]
    )
    found = records.differences(same)
    assert (found["mean"] == 0).all() and (found.n == 2).all() and (found.low < -0.002).all() and (found.high < 0.01).all()
    seed = same[(same.method == "both") & (same.seed == 0)].set_index("level").correct
    level = records.summary(same).set_index(["method", "level"]).loc[("both", 0.3)]
    assert (level.low, level.high) == pytest.approx(evaluate.image_interval(seed[0.3])[1:])


def test_records_that_are_not_there_are_said_to_be_missing(tmp_path):
    with pytest.raises(InputError, match="no records of digits with preset digits"):
        records.headline(tmp_path)


def test_the_pages_show_the_committed_numbers():
    pages = [page.read_text(encoding="utf-8") for page in (report.README, report.RESULTS)]
    assert [report.renew(text) for text in pages] == pages
    markers = re.findall(r"<!-- (\w+): generated -->", "".join(pages))
    assert sorted(markers) == sorted(report.MAKERS) and "".join(pages).count("generated -->\n\n") == 0
    assert all(f"<!-- {marker}: generated -->" in pages[0] for marker in (*report.SHOWN, "published", "short"))


def test_a_table_is_made_between_its_markers_and_nothing_else_is_touched():
    empty = "before\n<!-- short: generated -->\n<!-- end -->\nafter\n<!-- other: generated -->\nkept\n<!-- end -->\n"
    before, found, after = report.renew(empty).partition(report.in_short())
    assert found and before == "before\n<!-- short: generated -->\n" and after == empty.partition("generated -->")[2]


def test_readme_pictures_exist():
    for picture in re.findall(r"\]\((figures/[^)]+)\)", report.README.read_text(encoding="utf-8")):
        assert (data.HOME / picture).read_bytes()[:4] == {".png": b"\x89PNG", ".gif": b"GIF8"}[picture[-4:]]


def test_the_caption_of_the_first_picture_tells_its_seeds_and_images(pages):
    number, seeds = {3: "three", 4: "four", 5: "five"}, FULL.groupby("method", sort=False).seed.nunique()
    fewer = [method for method, n in seeds.items() if n < seeds.max()]
    told = f"over {number[seeds.max()]} seeds ({', '.join(f'`{method}`' for method in fewer)}: {number[seeds.min()]}); one H200."
    assert {one.shape[-1] for one in FULL.correct} == {10_000}
    assert f"{told}*" in pages["README.md"] and seeds[fewer].nunique() == 1
    assert {r["environment"]["device"] for r in published.found("brief")} == {"NVIDIA H200"}
    assert "10 epochs" in report.full_width()["full-width-accuracy"].layout.title.text


def test_titles_of_pictures_say_the_preset_where_the_data_set_has_another():
    titles = {name: figure.layout.title.text for name, figure in report.pictures(None, "cifar10", "small").items()}
    assert len(titles) >= 4 and all("cifar10, preset small, width 8, " in title for title in titles.values())
    assert "(digits, n = 5" in report.pictures(None, "digits", "digits")["digits-accuracy"].layout.title.text


def test_figures_holds_only_what_readme_shows():
    shown = set(re.findall(r"\]\(figures/([^)]+)\)", report.README.read_text(encoding="utf-8")))
    assert {path.name for path in (data.HOME / "figures").iterdir()} == shown


def test_readmes_findings_follow_from_the_records():
    """The numbers and verdicts in its bullets, made again from the records and looked for in its text."""
    text = " ".join(report.README.read_text(encoding="utf-8").split())
    cifar, shape = records.headline(None, "cifar10", "small"), records.geometry(records.read(None, "digits", "digits"))
    over_normal = records.differences(DIGITS).set_index(["method", "level"])["mean"].xs(0.3, level="level")
    assert over_normal["discriminative"] < over_normal["both"] / 2  # 'helps little on digits'
    level, ahead = records.against(DIGITS, 0.3).loc["both"], records.against(cifar, 0.06).loc["both"]
    wide = records.against(FULL, 0.06).loc["both"]
    assert level.low < 0 < level.high and ahead.high < 0 and wide.high < 0  # 'level on digits, ahead on CIFAR-10 at both widths'
    costs = [records.against(rows, 0.0).loc["normal"] for rows in (DIGITS, cifar, FULL)]
    assert all(cost.low < -0.005 < cost.high and cost["mean"] < -0.0005 for cost in costs)
    assert [cost.high < 0 for cost in costs] == [True, False, True]  # 'at two of three by an interval that just leaves zero out'
    assert "the three intervals against `normal` contain -0.5" in text
    gains = [100 * records.against(rows, sigma).loc["normal", "mean"] for rows, sigma in ((DIGITS, 0.3), (cifar, 0.06), (FULL, 0.06))]
    assert f"{min(gains):.0f} to {max(gains):.0f} points better than `normal`, cross-entropy on clean images" in text
    strongest = [records.summary(rows[rows.level == rows.level.max()]).set_index("method")["mean"] for rows in (DIGITS, cifar, FULL)]
    assert all(means.idxmax() == "stability" for means in strongest)  # 'the best mean under the strongest noise at all three scales'
    means = shape.groupby("method")[["radius", "margin", "ratio"]].mean()
    ours, plain = means.loc["proposed"], means.loc["normal"]
    assert f"class radius is {ours.radius:.2f} against {plain.radius:.2f} of `normal`" in text
    assert f"({ours.ratio:.1f} times it against {plain.ratio:.1f})" in text
    assert f"({ours.margin:.1f} against {plain.margin:.1f})" in text
    costs = [-100 * records.against(rows, 0.0, "stability").loc["normal", "mean"] for rows in (cifar, FULL)]
    assert f"and costs {costs[0]:.1f} clean points at width 8" in text and f"and {costs[1]:.1f} at full width." in text
    ahead = [-100 * records.against(rows, 0.06).loc["both", "mean"] for rows in (cifar, FULL)]
    assert "and {:.0f} and {:.0f} points ahead on CIFAR-10 at widths 8 and 64".format(*ahead) in text


def test_as_many_bold_intervals_of_the_first_table_as_said_would_not_stand_corrected_for_their_number():
    """The t tests that the intervals stand for, with the false discovery rate held to 5 % over the whole table."""
    text, found = " ".join(report.README.read_text(encoding="utf-8").split()), []
    scales = (
        (DIGITS, (0.0, 0.3, 0.5)),
        *((rows, (0.0, 8 / 255, 0.06, STRONGEST)) for rows in (records.headline(None, "cifar10", "small"), FULL)),
    )
    for (rows, levels), rival in itertools.product(scales, ("normal", "both")):
        for apart in (records.against(rows, min(rows.level, key=lambda own, at=at: abs(own - at))).loc[rival] for at in levels):
            found.append((100 * apart["mean"], claims_tables.p_value(Evidence("", apart["mean"], apart.low, apart.high, int(apart.n)))))
    means, p = zip(*found, strict=True)
    kept = stats.false_discovery_control(p) < 0.05
    lost = [mean for mean, one, stands in zip(means, p, kept, strict=True) if one < 0.05 and not stands]
    named = re.findall(r"-?\d\.\d", text.partition(f"over the {len(found)} here, four would not be bold:")[2].partition(".*")[0])
    assert len(found) == 22 and sorted(named) == sorted(f"{mean:.1f}" for mean in lost) and len(lost) == 4


def test_the_first_page_tells_how_far_both_is_ahead(pages):
    ahead = [switches.apart(switches.measured(preset, 0.06), "both", "proposed") for preset in ("small", "brief")]
    told = " and ".join(f"{100 * np.mean(points):.1f}" for points in ahead)
    assert f"{told} points ahead of it on CIFAR-10" in pages["00"] and all(evaluate.seed_interval(points)[1] > 0 for points in ahead)
    level = records.against(DIGITS, 0.3).loc["both"]
    assert level.low < 0 < level.high  # 'not told apart'


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The prose of README, RESULTS and some pages, with one kind of minus, without signs of plus."""
    told = {path.name: path.read_text(encoding="utf-8") for path in (report.README, report.RESULTS)}
    for name in ("00_start_here", "03_penultimate_layer", "04_noise_sweep", "05_ablation", "08_paper_vs_ours", "12_adversary"):
        cells = json.loads((data.HOME / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        told[name[:2]] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {name: " ".join(text.replace("−", "-").replace("+", "").split()) for name, text in told.items()}


def interval(mean: float, low: float, high: float, sign: int = 1) -> str:
    """'mean [low, high]' of a difference in points, or of its opposite."""
    low, high = sorted((sign * low, sign * high))
    return f"{sign * mean:.1f} [{low:.1f}, {high:.1f}]".replace("-0.0", "0.0")


INTERVAL = r"-?[\d.]+ \[[-\d., ]+\]"


def opposite(told: str) -> str:
    """An interval as it reads from the other side."""
    return interval(*(float(n) for n in re.findall(r"-?[\d.]+", told)), sign=-1)


def small(level: float, one: str, other: str, seeds=range(5), preset: str = "small") -> str:
    """One arm of a preset minus another in points, as the pages tell it."""
    runs = switches.measured(preset, level)
    return interval(*(100 * value for value in evaluate.seed_interval(switches.apart(runs[runs.seed.isin(seeds)], one, other))))


STRONGEST = 0.12549  # 32/255, as recorded
SAID = [  # level, one arm, another, and whether README tells the difference too
    (0.0, "normal, epochs=24", "proposed", True), (8 / 255, "proposed", "normal, epochs=24", False),
    (0.06, "proposed", "normal, epochs=24", True), (0.06, "both, lr=0.2", "proposed, lr=0.1", False),
    (0.06, "noisy, lr=0.2", "proposed, lr=0.1", False), (0.06, "stability, lr=0.2", "proposed, lr=0.1", False),
    (0.06, "proposed, lr=0.1", "normal, lr=0.1", False), (0.0, "proposed, lr=0.1", "stability, lr=0.2", False),
    (8 / 255, "proposed, lr=0.1", "stability, lr=0.2", False), (8 / 255, "proposed, lr=0.1", "normal, lr=0.1", False),
    (0.0, "normal, lr=0.1", "stability, lr=0.2", False), (0.06, "discriminative, lr=0.2", "normal, lr=0.1", False),
    (0.06, "both, bn=separate", "proposed, bn=separate", False), (8 / 255, "proposed, bn=separate", "proposed", False),
    (0.06, "proposed, bn=separate", "proposed, bn=clean", False),
    (0.06, "both, bn=separate", "both, bn=clean", False), (0.0, "proposed, bn=clean", "proposed, bn=separate", False),
    (0.0, "both, bn=clean", "both, bn=separate", False),
    (0.06, "both, best_on_test=True", "proposed, best_on_test=True", False),
    (STRONGEST, "both, best_on_test=True", "proposed, best_on_test=True", False), (STRONGEST, "both", "both, bn=separate", False),
    (STRONGEST, "both, bn=separate", "proposed, bn=separate", False),
    (0.0, "normal, lr=0.1", "normal, best_on_test=True", False), (0.0, "proposed, lr=0.1", "proposed, best_on_test=True", False),
    (0.06, "proposed", "stability", False), (0.06, "proposed, best_on_test=True", "stability", False),
    (0.06, "proposed, best_on_test=True", "noisy", False), (0.0, "normal, epochs=24", "both", False),
    (8 / 255, "both", "normal, epochs=24", False), (0.06, "both", "normal, epochs=24", False),
    (0.06, "proposed, ce_noisy=0.5", "proposed", False), (STRONGEST, "proposed, ce_noisy=0.5", "proposed", False),
    (0.06, "both", "proposed, ce_noisy=0.5", False), (STRONGEST, "both", "proposed, ce_noisy=0.5", False),
    (0.06, "both, lr=0.2", "proposed, lr=0.2, ce_noisy=0.5", False), (STRONGEST, "both, lr=0.2", "proposed, lr=0.2, ce_noisy=0.5", False),
    (0.0, "both", "proposed, ce_noisy=0.5", False), (0.0, "proposed", "proposed, bn=separate", False),
    (0.06, "proposed, bn=clean", "normal", False), (0.0, "normal, epochs=24", "proposed, epochs=24", True),
    (0.0, "normal, epochs=24", "both, epochs=24", False), (8 / 255, "proposed, epochs=24", "normal, epochs=24", True),
    (0.06, "proposed, epochs=24", "normal, epochs=24", False), (0.06, "both, epochs=24", "proposed, epochs=24", False),
    (0.0, "both, epochs=24", "proposed, epochs=24", False), (8 / 255, "both, epochs=24", "proposed, epochs=24", False),
    (STRONGEST, "both, epochs=24", "proposed, epochs=24", False), (STRONGEST, "proposed, lr=0.1", "proposed", False),
    (8 / 255, "normal, lr=0.1", "discriminative, lr=0.2", False), (0.06, "both, epochs=24", "proposed, epochs=24, ce_noisy=0.5", False),
    *((level, "both, epochs=24", "proposed, epochs=24, ce_noisy=0.5", False) for level in (0.0, 8 / 255, STRONGEST)),
]  # fmt: skip


@pytest.mark.parametrize("level, one, other, in_readme", SAID)
def test_what_is_said_of_the_small_scale_follows_from_the_records(pages, level, one, other, in_readme):
    """Matched compute, learning rates and BatchNorm, by the numbers that stand in the sentences."""
    expected = small(level, one, other)
    assert [name for name in ["RESULTS.md"] + ["README.md"] * in_readme if expected not in pages[name]] == [], expected


@pytest.mark.parametrize("method, share", [("proposed", 2 / 3), ("both", 1 / 6)])
def test_the_share_of_the_gain_over_normal_that_lies_in_batchnorms_running_averages_is_as_said(method, share):
    runs = switches.measured("small", 0.06)
    lost, gained = (np.mean(switches.apart(runs, f"{method}, bn=separate", rival)) for rival in (f"{method}, bn=clean", "normal"))
    assert lost / gained == pytest.approx(share, abs=0.05)


FULL_WIDTH = [  # as SAID, of `brief`
    (8 / 255, "proposed", "normal", True), (0.0, "normal", "proposed", False), (0.06, "proposed", "normal", True),
    (0.06, "both", "proposed", False), (8 / 255, "both", "proposed", False), (0.06, "both", "normal", False),
    (0.0, "normal, epochs=20", "proposed", False), (8 / 255, "proposed", "normal, epochs=20", False),
    (0.06, "proposed", "normal, epochs=20", True), (0.06, "discriminative", "normal", False),
    (0.06, "proposed", "discriminative", False),
    (8 / 255, "discriminative", "normal", False), (0.0, "normal, epochs=20", "both", False),
    (8 / 255, "both", "normal, epochs=20", False), (0.06, "both", "normal, epochs=20", False),
    (0.0, "normal", "both", False), (STRONGEST, "both", "proposed", False), (STRONGEST, "stability", "proposed", False),
]  # fmt: skip


@pytest.mark.parametrize("level, one, other, in_readme", FULL_WIDTH)
def test_what_is_said_of_full_width_follows_from_the_records(pages, level, one, other, in_readme):
    expected = small(level, one, other, preset="brief")
    assert [name for name in ["RESULTS.md"] + ["README.md"] * in_readme if expected not in pages[name]] == [], expected


def test_what_hangs_on_the_lowest_seed_is_as_said_of_full_width(pages):
    """The verdicts at 8/255 and on clean images, without it: above zero and the printed gain; not within the half point."""
    runs = switches.measured("brief", 8 / 255)
    rest = set(range(4)) - {runs.seed[runs[runs.arm == "proposed"].accuracy.idxmin()]}
    gain, price = small(8 / 255, "proposed", "normal", rest, "brief"), small(0.0, "normal", "proposed", rest, "brief")
    low, bound = float(re.findall(r"[\d.]+", gain)[1]), float(re.findall(r"[\d.]+", price)[1])
    assert low > 1.09 and bound > 100 * CLEAN_TOLERANCE
    assert gain in pages["RESULTS.md"] and gain in pages["08"] and price in pages["RESULTS.md"]


def test_how_twice_the_epochs_move_the_lead_of_both_is_as_said(pages):
    runs = switches.measured("small", 0.06).set_index(["arm", "seed"]).accuracy
    assert f"After 12 epochs its lead at the noise trained with is {small(0.06, 'both', 'proposed')}; whether" in pages["RESULTS.md"]
    level_by_level = records.read(None, "cifar10")[0]["metrics"]["last"]["gaussian"]["levels"]
    for level in level_by_level:  # 'with twice the epochs at every level'
        added = switches.apart(switches.measured("small", level), "both, epochs=24", "proposed, epochs=24, ce_noisy=0.5")
        assert len(added) == 5 and evaluate.seed_interval(added)[1] > 0 and min(added) > 0  # on each seed
    over = sorted(100 * (runs["proposed, epochs=24", s] - runs["normal, epochs=24", s]) for s in range(5))
    assert "the five seeds have {:.1f}, {:.1f}, {:.1f}, {:.1f} and {:.1f})".format(*over) in pages["RESULTS.md"]
    ours, normal, both = (f"{method}, epochs=24" for method in ("proposed", "normal", "both"))
    pairs = ((8 / 255, ours, normal), (0.06, ours, normal), (0.0, both, ours))
    at_8, trained, clean = (small(*pair, range(3)) for pair in pairs)
    told = f"with these 8/255 was undecided, {at_8}; so was, once corrected for the number of claims, the gain at the noise trained with, "
    assert f"{told}{trained}; and `both` was ahead on clean images, {clean}." in pages["RESULTS.md"]


def test_one_pass_and_two_beside_the_first_trainings_are_as_said(pages):
    """Without the runs trained again, to which the two passes are held elsewhere."""
    beside = [
        (STRONGEST, "both", "both, bn=separate"),
        (8 / 255, "proposed, bn=separate", "proposed"),
        (0.06, "proposed, bn=clean", "normal"),
    ]
    for level, one, other in beside:
        runs = switches.measured("small", level)
        found = switches.apart(runs[~runs.arm.str.contains(switches.SELECTED)], one, other)
        assert interval(*(100 * value for value in evaluate.seed_interval(found))) in pages["RESULTS.md"]


def test_the_loss_on_top_of_both_on_one_processor_and_beside_second_trainings_is_as_said(pages):
    rows = experiments.table(experiments.read("added", "cifar10", "small")).set_index(["arm", "seed"])
    gains, ahead, again = [], [], []
    for level, column in ((0.0, "clean"), (8 / 255, "at_0.031373"), (0.06, "noisy"), (STRONGEST, "at_0.12549")):
        runs, own = switches.measured("small", level).set_index(["arm", "seed"]).accuracy, rows.loc["both + the loss", column]
        apart = rows.loc["both", column] - own
        assert len(apart) == 5 and apart.min() > 0
        ahead.append(interval(*(100 * value for value in evaluate.seed_interval(apart))))
        gains.append(interval(*(100 * value for value in evaluate.seed_interval((own - runs["proposed"]).dropna()))))
        behind = (runs[f"both, {switches.SELECTED}"] - runs["proposed, ce_noisy=0.5"]).dropna()
        again.append((interval(*(100 * value for value in evaluate.seed_interval(behind))), len(behind), behind.min()))
    assert (
        f"gives `proposed` {gains[2]} points at the noise trained with (width 8) and {gains[3]} under the strongest." in pages["RESULTS.md"]
    )
    told = "by {} points on clean images, {} at 8/255, {} at the noise trained with and {} under the strongest ([table]".format(*ahead)
    assert f"ahead of that on each of five seeds: {told}" in pages["RESULTS.md"], ahead
    assert all(n == 3 and least > 0 for _, n, least in again[2:])
    told = f"from that processor too, {again[2][0]} and {again[3][0]}, above zero on each of three seeds, neither told from zero"
    assert told in pages["RESULTS.md"], again
    short = f"brings `proposed` {gains[2]} points more at width 8, and leaves it {ahead[2]} behind `both`."
    assert short in pages["README.md"] and "at width 8 costs accuracy at every noise level, on clean images too" in pages["README.md"]


def test_every_level_measured_has_the_loss_cost_both_accuracy_as_readme_says():
    rows = experiments.table(experiments.read("added", "cifar10", "small"))
    levels = [name for name in rows if name.startswith("at_")]
    assert len(levels) == 6
    for level in levels:
        _, low, high, n = experiments.difference(rows, "both + the loss", "both", level)
        assert low <= high < 0 and n == 5, level


def test_what_parts_of_the_loss_change_in_both_is_as_said(pages):
    """The alignment alone is below zero on each seed; what is called undecided is; on digits nothing is told from zero."""
    real, digits = (experiments.table(experiments.read("added", *of)) for of in (("cifar10", "small"), ("digits", "digits")))

    def change(part: str, column: str = "noisy", table=real) -> tuple[float, float, float]:
        return experiments.difference(table, f"both + {part}", "both", column)[:3]

    levels = ("clean", "at_0.031373", "noisy")
    costs = [interval(-100 * mean, -100 * high, -100 * low) for mean, low, high in (change("alignment", level) for level in levels)]
    said = "Its alignment alone costs `both` {} points on clean images, {} at 8/255 and {} at the noise trained with, on each seed; under"
    assert said.format(*costs) in pages["RESULTS.md"]
    for level in levels:
        seeds = real.pivot(index="seed", columns="arm", values=level)
        assert (seeds["both + alignment"] < seeds["both"]).all()
    fifth = "a fifth of the loss"
    told = f"changes `both` by {interval(*(100 * value for value in change(fifth)))} at the noise trained with"
    assert told in pages["RESULTS.md"]
    for level in levels:  # README: 'its alignment alone costs more, up to the noise trained with'
        assert experiments.difference(real, "both + the loss", "both + alignment", level)[1] > 0
    undecided = [change("alignment", "at_0.12549"), *(change(fifth, level) for level in (*levels, "at_0.12549"))]
    first = real[real.seed < 3]
    undecided += [change("the loss", level, first) for level in ("clean", "at_0.031373", "at_0.12549")] + [
        change("alignment", "noisy", first)
    ]
    assert all(low < 0 < high for _, low, high in undecided)
    then = interval(*(100 * value for value in undecided[-1]))
    assert f"{then}, and so was the whole loss at each of the other levels" in pages["RESULTS.md"]
    for part, column in itertools.product(("alignment", fifth, "the loss"), ("clean", "noisy", "at_0.5")):
        _, low, high, n = experiments.difference(digits, f"both + {part}", "both", column)
        assert low < 0 < high and n == 5


def test_what_compactness_and_margin_do_beside_the_alignment_at_the_printed_level_is_as_said(pages):
    """The alignment by itself brings nothing there; the other two all of the gain, and no less than on clean images."""
    rows = experiments.table(experiments.read("decisive", "cifar10", "small"))
    (mean, low, high), clean = (
        experiments.difference(rows, "alignment", "normal", "at_0.031373")[:3],
        experiments.difference(rows, "proposed", "alignment", "clean"),
    )
    assert f"it brings nothing by itself, {interval(100 * mean, 100 * low, 100 * high)}: there compactness" in pages["README.md"]
    added = experiments.difference(rows, "proposed", "alignment", "at_0.031373")
    assert low < 0 < high and added[1] > 0 and round(100 * added[0], 1) == round(100 * clean[0], 1)
    assert added[0] > experiments.difference(rows, "proposed", "normal", "at_0.031373")[0]


def test_the_least_steady_seed_and_the_rates_that_broke_off_are_as_said(pages):
    runs = switches.measured("brief", 8 / 255)
    spread = runs.groupby("arm").accuracy.agg(lambda a: a.max() - a.min())
    lowest, *others = sorted(100 * runs[runs.arm == "proposed"].accuracy)
    told = f"one of its four seeds has {lowest:.1f} at 8/255, the others {others[0]:.1f} to {others[-1]:.1f}"
    assert spread.idxmax() == "proposed" and len(others) == 3 and all(told in pages[name] for name in ("RESULTS.md", "08"))
    folder = records.COMMITTED
    broken = {(r["config"]["method"], r["config"]["lr"]) for r in replication.broken_off(folder, "cifar10")}
    assert broken == {("proposed", 0.1), ("proposed", 0.3), ("discriminative", 0.3)}
    chosen = replication.rates(folder)["brief"]
    assert rates.best(replicated.searched("brief")) == chosen and replicated.searched("brief").isna().sum().sum() == 2 * len(broken)
    assert {method: Config(dataset="cifar10", preset="brief", method=method).lr for method in METHODS} == chosen  # the preset's own
    assert records.read(None, "cifar10", "brief") == published.found("brief")
    assert chosen.pop("stability") == 0.1 and set(chosen.values()) == {0.03} and len(chosen) == 5
    assert all("epoch 1," in r["reason"] for r in replication.broken_off(folder, "cifar10"))


def test_what_carries_over_is_as_said_of_full_width(pages):
    table = published_beyond.carried().loc["brief, last epoch"].stack()
    verdicts = table.str.split(": ").str[1]
    decided = verdicts[verdicts != "undecided"].to_dict()
    low, strong = [("low resolution", "1/2"), ("low resolution", "1/3")], ("uniform", "16/255")
    expected = {(*place, rival): "holds" for rival in ("normal", "noisy") for place in low}
    expected |= {(*place, rival): "does not hold" for rival in ("both", "stability") for place in low}
    assert decided == expected | {(*strong, "normal"): "holds", (*strong, "discriminative"): "holds", (*strong, "both"): "does not hold"}
    own = {(r["config"]["method"], r["config"]["seed"]): r["metrics"]["last"] for r in published.found("brief")}
    at = lambda one, kind, level: 100 * published.under(one[kind], level)[0]  # noqa: E731
    for level in (0.125, 0.25):
        apart = [at(own["proposed", seed], "occlusion", level) - at(own["normal", seed], "occlusion", level) for seed in range(4)]
        assert interval(*evaluate.seed_interval(apart)) in pages["RESULTS.md"]
    for kind, level in (("uniform", 16 / 255), ("low_resolution", 2.0), ("low_resolution", 3.0)):
        for rival in ("normal", "both"):
            seeds = [seed for method, seed in own if method == rival]
            apart = [at(own["proposed", seed], kind, level) - at(own[rival, seed], kind, level) for seed in seeds]
            told = interval(*evaluate.seed_interval(apart), sign=-1 if rival == "both" else 1)
            assert told in pages["RESULTS.md"], (kind, rival, told)
    patches = table[[kind.startswith("occlusion") and rival == "normal" for kind, _, rival in table.index]]
    assert patches.str.startswith("-").sum() == 3 and len(patches) == 4


def test_the_layer_the_decades_and_the_film_are_as_said_of_full_width(pages):
    runs = pd.DataFrame([{"method": r["config"]["method"]} | r["metrics"]["last"]["geometry"] for r in published.found("brief")])
    mean = runs.groupby("method").mean()
    of = lambda method, what: f"{mean.loc[method, what]:.2f}"  # noqa: E731
    told = [f"{of('proposed', 'radius')} against {of('normal', 'radius')} of `normal`"]
    told += [f"{of('proposed', 'margin')} against {of('normal', 'margin')}", f"the smallest radius, {of('stability', 'radius')}"]
    assert mean.radius.idxmin() == "stability"
    apart = published_beyond.flatter().loc["brief"]
    medians = apart[["eq. 21", "‖H‖²"]]
    eq21, norm = (line.split(", n=")[0].replace("+", "") for line in medians.loc["normal"])
    told += [f"{eq21} decades of eq. 21 and {norm} of the Hessian's norm"]
    ratios = of("proposed", "ratio"), of("normal", "ratio"), of("discriminative", "ratio"), of("both", "ratio")
    there = "{} times it against {}.|`discriminative`, without noisy images, has a ratio of {}|`both` has {}".format(*ratios)
    here = "{} times the radius against {}.|`discriminative` has a ratio of {}|`both` has {}".format(*ratios)
    assert [one for one in (*told[:2], *there.split("|")) if one not in pages["08"]] == []
    assert [one for one in (*told, *here.split("|")) if one not in pages["RESULTS.md"]] == []
    assert "{2} radii in `discriminative`, {0} in `proposed` and {3} in `both`".format(*ratios) in pages["README.md"]
    others = medians.drop("normal").map(lambda line: line.split(": ")[1])  # 'nothing is decided', nor at matched compute
    assert set(others.to_numpy().flat) == {"undecided"} and medians.loc["normal"].str.endswith("holds").all()
    (c, n), (c_normal, n_normal) = (
        [film["terms"][term][-1] for term in ("compact", "noisy")]
        for film in map(films.read(records.COMMITTED, "cifar10", "brief").get, ("proposed", "normal"))
    )
    assert f"its first two rise to {c:.1f} and {n:.1f} (`normal`: {c_normal:.0f} and {n_normal:.0f})" in pages["08"]


def test_at_matched_compute_the_decades_are_as_said_of_full_width(pages):
    """log10 of an image's curvature in `normal` with twice the epochs, over that in `proposed`: medians over images, then over seeds."""
    curved = {(replication.arm(r["config"]), r["config"]["seed"]): r["metrics"]["last"]["curvature"] for r in published.every("brief")}
    told = []
    for name in ("kappa", "frobenius"):
        log = {key: np.log10(np.maximum(one[name], 1e-300)) for key, one in curved.items()}
        apart = [np.median(log["normal, epochs=20", seed] - log["proposed", seed]) for seed in range(3)]
        mean, low, high = evaluate.seed_interval(apart)
        assert low < 0 < high  # 'neither told from zero'
        told.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
    assert " and ".join(told) in pages["RESULTS.md"], told
    shown = published_beyond.flatter().loc[("brief", "normal, epochs=20"), ["eq. 21", "‖H‖²"]].str.split(", n=").str[0].str.replace("+", "")
    assert list(shown) == told


def test_between_the_means_over_images_the_decades_are_as_said_of_full_width(pages):
    """From the records themselves: `proposed` beside each method, and `normal` with twice the epochs beside `both`, where the two summaries
    contradict each other."""
    curved = {
        (replication.arm(r["config"]), r["config"]["seed"]): np.array(r["metrics"]["last"]["curvature"]["kappa"])
        for r in published.every("brief")
    }

    def decades(rival: str, own: str, summary) -> tuple:
        seeds = [seed for arm, seed in curved if arm == rival and (own, seed) in curved]
        return evaluate.seed_interval([summary(curved[rival, seed], curved[own, seed]) for seed in seeds])

    between_means = lambda rival, own: np.log10(rival.mean() / own.mean())  # noqa: E731
    median = lambda rival, own: np.median(np.log10(rival / own))  # noqa: E731
    told = lambda found, sign=1: "{:.2f} [{:.2f}, {:.2f}]".format(*(found if sign > 0 else (-found[0], -found[2], -found[1])))  # noqa: E731
    beside = {rival: decades(rival, "proposed", between_means) for rival in ("normal", "noisy", "both", "stability", "normal, epochs=20")}
    assert beside["normal"][1] < 0 < beside["normal"][2] and told(beside["normal"]) in pages["RESULTS.md"]
    less = "{}, {} and {}".format(*(told(beside[rival], -1) for rival in ("noisy", "both", "stability")))
    assert f"less flat than `noisy`, `both` and `stability`, by {less}" in pages["RESULTS.md"]
    assert all(beside[rival][2] < 0 for rival in ("noisy", "both", "stability")) and "is *less* flat than" in pages["README.md"]
    assert told(beside["normal, epochs=20"]) in pages["RESULTS.md"]
    sure, unsure = (decades("both", "normal, epochs=20", summary) for summary in (median, between_means))
    assert (
        sure[1] > 0 > unsure[2] and f"by {told(sure)} decades, and less flat by the mean, by {told(unsure, -1)}, and" in pages["RESULTS.md"]
    )


def test_between_the_means_over_images_flatness_is_as_said_of_the_narrow_networks():
    """'Less flat than plain training on noise everywhere'; than `normal` flatter 'on digits at equal confidence alone'."""
    found = curvature_rules.claims().query("claim == 'proposed is flatter'").set_index(["dataset", "against", "measure"]).verdict
    raw = [f"{name}, means" for name in ("eq. 21", "‖H‖²")]
    matched = [f"{name}, matched confidence, means" for name in ("eq. 21", "‖H‖²")]
    for dataset in ("digits", "cifar10"):
        assert {found[dataset, rival, name] for rival in ("noisy", "both") for name in (*raw, *matched)} == {"does not hold"}
        assert found[dataset, "stability", raw[0]] == "does not hold" and found[dataset, "normal", raw[0]] == "undecided"
    assert [found["digits", "normal", name] for name in (*raw, *matched)] == ["undecided", "undecided", "holds", "holds"]
    assert [found["cifar10", "normal", name] for name in (*raw, *matched)] == ["undecided", "does not hold"] * 2
    shares = {d: curvature_tables.carried(curvature_rules.complete(rows)) for (d, _), rows in curvature_rules.sets().items()}
    assert {d: (round(100 * s.min()), round(100 * s.max())) for d, s in shares.items()} == {"digits": (90, 100), "cifar10": (33, 61)}


def test_what_compactness_costs_digits_and_noisy_loses_elsewhere_is_as_said(pages):
    """Compactness beside the alignment, at the noise trained with; `proposed` minus `noisy` over nine other perturbations of CIFAR-10."""
    rows = experiments.table(experiments.read("ablation"))
    cost = experiments.difference(rows, "alignment", "compactness + alignment")[:3]
    gain = experiments.difference(rows, "proposed", "compactness + alignment")[:3]
    told = "compactness added to the alignment costs {}, and the margin added to both brings {}."
    assert told.format(*(interval(*(100 * value for value in one)) for one in (cost, gain))) in pages["RESULTS.md"]
    strongest = experiments.difference(rows, "proposed + noisy CE", "proposed", "at_0.5")[:3]
    assert f"under the strongest the gain is {interval(*(100 * value for value in strongest))}." in pages["RESULTS.md"]
    own = transfer_rules.own(transfer_rules.sets()["cifar10"].table)
    over = transfer_rules.averages(own, "noisy").query("method == 'proposed'").set_index("perturbation").loc["all but gaussian"]
    assert f"and `noisy` {interval(*(100 * over[name] for name in ('mean', 'low', 'high')))} worse" in pages["RESULTS.md"]


def test_what_the_alignment_brings_on_the_narrow_network_is_as_said(pages):
    rows = experiments.table(experiments.read("decisive", "cifar10", "small"))
    apart = {at: experiments.difference(rows, "alignment", "normal", f"at_{at}")[:3] for at in ("0", "0.031373", "0.06")}
    none, gain, cost = (interval(*(100 * v for v in apart[at]), sign) for at, sign in (("0.031373", 1), ("0.06", 1), ("0", -1)))
    told = f"by itself {gain} points over `normal` at the noise trained with, at a cost of {cost} clean ones, and none that could be seen"
    assert f"{told} at 8/255 ({none})" in pages["RESULTS.md"]


def test_salt_and_pepper_in_training_parts_proposed_from_both_as_said(pages):
    table = transfer_rules.sets()["digits"].table
    rows, told = table[(table.noise == "salt_pepper") & (table.level < 1)], []
    for perturbation, sign in (("gaussian", 1), ("uniform", 1), ("laplace", 1), ("salt_pepper", -1)):
        means = rows[rows.perturbation == perturbation].groupby(["method", "seed"]).accuracy.mean().unstack(0)
        found = evaluate.seed_interval(100 * (means.proposed - means.both))
        told.append(interval(*found, sign))
        assert sign * found[1] > 0 and sign * found[2] > 0
    expected = "by {}, {} and {} points, and behind it under its own, by {}."
    assert expected.format(*told) in pages["RESULTS.md"]


def test_what_training_digits_again_changes_is_as_said(pages):
    rows = experiments.table(experiments.read("rates"))
    again = {level: experiments.difference(rows, "proposed, 0.02", "normal, 0.05", level)[:3] for level in ("clean", "noisy")}
    told = {level: interval(*(100 * value for value in found)) for level, found in again.items()}
    first = {
        level: interval(*(100 * v for v in records.against(DIGITS, at).loc["normal"][:3])) for level, at in (("clean", 0.0), ("noisy", 0.3))
    }
    assert f"is {told['clean']} there where the first training has {first['clean']}" in pages["RESULTS.md"]
    assert f"{told['noisy']} where that has {first['noisy']}" in pages["RESULTS.md"]
    assert again["clean"][1] < 0 < again["clean"][2]


def test_what_is_said_of_adversaries_on_the_narrow_network_follows_from_the_records(pages):
    found = adversary_rules.claims()
    of = lambda claim, rival, measure: found[  # noqa: E731
        (found.dataset == "cifar10")
        & (found.claim == claim)
        & (found.against == f"proposed − {rival}")
        & found.measure.str.contains(measure)
    ].iloc[0]
    told = lambda one: interval(*(100 * one[name] for name in ("mean", "low", "high")))  # noqa: E731
    assert f"already behind `stability` (L∞ {told(of('resists', 'stability', 'L∞'))}, over images too)" in pages["RESULTS.md"]
    assert f"behind `noisy` (L∞ {told(of('resists', 'noisy', 'L∞'))}, L2 {told(of('resists', 'noisy', 'L2'))})" in pages["RESULTS.md"]
    held = adversary_rules.over_images(adversary_rules.accuracies(adversary_rules.sets()["cifar10"], "linf"), 0.5 / 255)
    both = held.set_index("rival").loc["both", ["mean", "low", "high"]]
    assert both.high < 0 and f"over images alone behind `both` (L∞ {interval(*(100 * both))})" in pages["RESULTS.md"]
    assert of("resists", "both", "L∞").low < 0 < of("resists", "both", "L∞").high
    smoothed = adversary_rules.certified(adversary_rules.sets()["cifar10"], 0.12, [0.12])
    behind = -100 * adversary_rules.over_images(smoothed, 0.12).set_index("rival").loc["stability", ["mean", "high"]]
    assert behind["high"] > 0 and f"behind `stability` over images too, by {behind['mean']:.0f} points" in pages["RESULTS.md"]
    certified = [told(of("certified", rival, "smoothed")) for rival in ("stability", "noisy")]
    assert f"than `stability`, {certified[0]} points, and `noisy`, {certified[1]}" in pages["RESULTS.md"]
    assert all(of("certified", rival, "smoothed").high < 0 for rival in ("stability", "noisy"))


def test_by_the_hessian_flatter_images_are_the_less_robust_ones_at_equal_margin_on_the_narrow_network():
    """'For every method (partial rho 0.1 to 0.4)'."""
    rows = curvature_rules.complete(curvature_rules.sets()["cifar10", "small"])
    given = [curvature_rules.links(own, "‖H‖²")["given margin"] for _, own in rows.groupby("method")]
    assert len(given) == 6 and all(one["low"] > 0 and 0.05 < one["mean"] < 0.45 for one in given)


def test_at_equal_confidence_the_loss_alone_is_by_the_hessian_as_flat_as_both_and_less_robust():
    """On digits, as page 07 says; by eq. 21 it is not, and page 12 says so of that alone."""
    rows = curvature_rules.read(None, "digits")
    rows = rows[(rows.noise == "gaussian") & rows.method.isin(["both", "discriminative"])]
    told = curvature_rules.flatter_than_each(rows, "discriminative").set_index("panel").verdict
    assert told["‖H‖², matched confidence"] == "undecided" and told["eq. 21, matched confidence"] == "does not hold"
    robust = rows.assign(right=[curvature_rules.robustness(r).mean() for r in rows.itertuples()]).groupby("method").right.mean()
    assert 9.5 < 100 * (robust["both"] - robust["discriminative"]) < 10.5  # 'ten points less accurate'


def test_what_curvature_tells_at_equal_margin_is_as_said(pages):
    """Digits: by both measures, every interval below zero; CIFAR-10: by eq. 21 above zero where noise was seen, undecided elsewhere."""
    found = curvature_rules.claims()
    given = found[(found.claim == "curvature predicts robustness") & found.measure.str.startswith("given margin")]
    digits = given[given.dataset == "digits"]
    assert len(digits) == 12 and (digits.high < 0).all()
    photographs = given[(given.dataset == "cifar10") & given.measure.str.contains("eq. 21")].set_index("against")
    decided = photographs[photographs.low > 0]["mean"]
    assert set(decided.index) == {"noisy", "both", "stability", "proposed"} and (photographs.low < 0).sum() == 2
    assert f"by both measures (partial ρ {digits['mean'].min():.1f} to {digits['mean'].max():.1f})" in pages["RESULTS.md"]
    assert f"that saw noise ({decided.min():.2f} to {decided.max():.2f})" in pages["RESULTS.md"]


def test_numbers_without_an_interval_in_sentences_of_pages_follow_from_the_records(pages):
    """Those of pages 00, 03, 04, 05 and 12 that no table of the same page shows in these words."""
    studied = (("digits", "digits", 0.3), ("cifar10", "small", 0.06), ("cifar10", "brief", 0.06))
    scales = [(records.headline(None, dataset, preset), level) for dataset, preset, level in studied]
    over = [100 * gained[(gained.method == "proposed") & np.isclose(gained.level, level)]["mean"].item()
            for gained, level in ((records.differences(rows), level) for rows, level in scales)]  # fmt: skip
    assert f"yes, by {min(over):.0f} to {max(over):.0f} points, at all three scales" in pages["00"]
    layer = records.geometry(records.read(None, "digits", "digits")).groupby("method").ratio.mean()
    right = records.summary(scales[0][0]).query("level == 0.3").set_index("method")["mean"] * 100
    told = "`discriminative`, without noisy images, has a margin of {:.1f} times the radius and `both` one of {:.2f}"
    assert told.format(layer.discriminative, layer.both) in pages["03"]
    assert f"`both` is right on {right.both:.1f} % and `discriminative` on {right.discriminative:.1f} %" in pages["03"]
    weak = records.differences(scales[0][0]).query("level == 0.1")["mean"].max()
    assert f"the gain is at most {100 * weak:.1f} points at 0.1" in pages["04"]
    tried = experiments.table(experiments.read("rates")).groupby("arm").noisy.mean() * 100
    assert f"which on test images is {tried['normal, 0.05'] - tried['normal, 0.1']:.1f} points worse than 0.05" in pages["05"]
    within = adversary_rules.accuracies(adversary_rules.read(None), "l2")
    alone, both = (adversary_rules.against(within, method, "normal", 0.5)[0] for method in ("discriminative", "both"))
    assert 0.3 < alone / both < 0.36 and "is as flat there as `both` and gains a third as much in L2" in pages["12"]


def test_every_interval_of_readmes_prose_stands_in_results_or_a_page_as_well(pages):
    """README tells nothing that is not told where its evidence is."""
    prose = pages["README.md"].partition("## What came out")[2].partition("## Two commands")[0]
    told = re.findall(INTERVAL, re.sub(r"<!-- short.*?<!-- end -->", "", prose))
    elsewhere = pages["RESULTS.md"] + pages["08"]
    assert len(told) > 8 and [one for one in told if one not in elsewhere and opposite(one) not in elsewhere] == []


@pytest.mark.parametrize("path", sorted((data.HOME / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_interval_of_a_notebooks_prose_stands_in_its_outputs_or_in_results(pages, path):
    """What a page says of its numbers is what it printed, or what RESULTS holds to the records."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    plain = lambda text: text.replace("−", "-").replace("+", "")  # noqa: E731
    prose = plain(" ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
    shown = plain(json.dumps([cell.get("outputs") for cell in cells], ensure_ascii=False)) + pages["RESULTS.md"]
    assert [one for one in re.findall(INTERVAL, prose) if one not in shown and opposite(one) not in shown] == []


def test_levels_what_stays_undecided_and_the_cards_share_are_as_said_of_full_width(pages):
    runs = switches.measured("brief", 8 / 255)
    normal, proposed = (100 * runs[runs.arm == method].accuracy.mean() for method in ("normal", "proposed"))
    assert f"{normal:.1f} and {proposed:.1f} against 90.06 and 91.15 %" in pages["RESULTS.md"]
    for rival in ("noisy", "stability"):  # 'nothing is decided there'
        for level in (8 / 255, 0.06):
            _, low, high = evaluate.seed_interval(switches.apart(switches.measured("brief", level), "proposed", rival))
            assert low < 0 < high
    rows = files.read_json(records.COMMITTED / "bench" / "card.json")["rows"]
    one, two = (row["ratio"] for row in rows if row["unit"] == "TFLOP/s")
    assert f"waiting: {one:.0%} of its matrix rate" in pages["RESULTS.md"].replace(" %", "%")
    assert f"With two views it is {two:.0%}, and compiling pays" in pages["RESULTS.md"].replace(" %", "%")
    faster = [row["ratio"] for row in rows if row["unit"] == "images/s"]
    assert faster[0] < 1.1 <= faster[1]


TRIED = {f"{method} {lr}": [0, 1, 2] for method in ("normal", "both", "proposed") for lr in (0.03, 0.1)}
TRIED |= {"normal 0.01": [0, 1, 2], "normal 0.3": [0, 1, 2], "proposed 0.01": [0], "proposed 0.3": [0], "both 0.3": [0, 1, 2]}
TRIED |= {"normal 0.03, 20 epochs": [0, 1, 2], "normal 0.3, 20 epochs": [0, 1, 2]}  # at equal compute
TRIED |= {"both 0.1, bn separate": [0, 1, 2], "proposed 0.1, bn separate": [0, 1, 2]}


def test_rates_at_a_quarter_of_the_width_are_read_as_recorded_and_as_said(pages):
    """Test accuracies and their differences by the bits of every image; the choice by the noisy criterion; and what is told of it."""
    runs, accuracies = rates.by_width(), {}
    assert set(runs.width) == {16} and runs.groupby("arm").seed.apply(list).to_dict() == TRIED
    for record in records.read(records.COMMITTED / "rates"):
        config, correct = record["config"], evaluate.unpack(record["metrics"]["last"]["gaussian"]["correct"])
        arm = (
            f"{config['method']} {config['lr']}" + ", 20 epochs" * (config["epochs"] == 20) + ", bn separate" * (config["bn"] == "separate")
        )
        (row,) = runs[(runs.arm == arm) & (runs.seed == config["seed"])].to_dict("records")
        accuracies[arm, config["seed"]] = correct[[0, 1, 2, -1]].mean((1, 2))
        assert config["epochs"] == row["epochs"] in (10, 20)
        shown = [row[f"test, {records.level_name(level)}"] for level in (0.0, 0.031373, 0.06, STRONGEST)]
        assert shown == pytest.approx(accuracies[arm, config["seed"]], abs=1e-6)
    for method, best in (("normal", 0.03), ("proposed", 0.1), ("both", 0.3)):
        own = runs[(runs.method == method) & (runs.epochs == 10) & (runs.bn == "joint") & (runs.groupby("arm").seed.transform("size") == 3)]
        assert [own[own.seed == seed].set_index("lr")["validation, noisy"].idxmax() for seed in range(3)] == [best] * 3
    first = runs[runs.seed == 0].set_index("arm").filter(like="test, ")
    assert all((first.loc[f"proposed {lr}"] < first.loc["proposed 0.1"]).all() for lr in (0.01, 0.3))  # 'worse everywhere'
    longer = runs[runs.epochs == 20].pivot(index="lr", columns="seed", values="validation, noisy")
    assert sorted(longer.idxmax()) == [0.03, 0.03, 0.3]  # 'on two seeds of three'
    table = rates.apart_by_width()
    for one, other in rates.PAIRS:
        seeds = sorted(set(TRIED[one]) & set(TRIED[other]))
        apart = [accuracies[one, seed] - accuracies[other, seed] for seed in seeds]
        cells = [interval(*(100 * value for value in evaluate.seed_interval(level))) for level in zip(*apart, strict=True)]
        *told, n = table.loc[f"{one} − {other}"]
        assert [cell.replace("+", "").replace("-0.0", "0.0") for cell in told] == cells and n == str(len(seeds))
        if one.startswith("proposed") and other in ("normal 0.1", "normal 0.3"):  # 'below zero wherever `normal` has 0.1 or 0.3'
            assert evaluate.seed_interval([level[0] for level in apart])[2] < 0
    passes = [[accuracies[f"{m} 0.1{bn}", seed] for m in ("both", "proposed")] for bn in ("", ", bn separate") for seed in range(3)]
    leads = np.array([both - proposed for both, proposed in passes]).reshape(2, 3, -1)
    _, low, high = evaluate.seed_interval((leads[0] - leads[1])[:, -1])
    assert low < 0 < high and sorted(leads[1, :, -1] > 0.08) == [False, False, True] and leads[1, :, -1].min() < 0  # as said
    said, _, below = pages["RESULTS.md"].partition("### `brief` at a quarter of the width")[2].partition("<!-- rates: generated -->")
    shown, told = below.partition("<!-- end -->")[0], re.findall(INTERVAL, said)
    assert len(told) > 8 and [one for one in told if one not in shown and opposite(one) not in shown] == []


def test_what_is_said_of_chosen_rates_and_repetitions_follows_from_the_records(pages):
    shared = [small(level, "proposed", "stability", range(3)) for level in (0.0, 8 / 255)]
    own = [small(level, "proposed, lr=0.1", "stability, lr=0.2") for level in (0.0, 8 / 255)]
    assert all(f"from {before} to {after}" in pages["RESULTS.md"] for before, after in zip(shared, own, strict=True))
    cost = small(0.0, "normal, lr=0.1", "stability, lr=0.2")
    assert f"from {small(0.0, 'normal', 'stability', range(3))} to {cost} clean points" in pages["RESULTS.md"]
    assert f"({small(8 / 255, 'proposed', 'normal', range(3))} at the shared rate)" in pages["RESULTS.md"]
    assert f"clean points at width 8 ({cost} where each method has" in pages["README.md"]
    runs, levels = switches.measured("small", 0.06), (0.0, 8 / 255, 0.06)
    again = [switches.apart(runs, f"{method}, {switches.SELECTED}", method) for method in ("normal", "both", "proposed")]
    moved, number = np.concatenate(again), {7: "seven", 9: "nine"}
    told = f"upwards in {number[(moved > 0).sum()]} of {number[len(moved)]} runs"
    assert f"by up to {100 * abs(moved).max():.1f} points at the noise trained with, and {told}" in pages["RESULTS.md"]
    higher = {"noisy": 0.2, "both": 0.2, "stability": 0.2, "normal": 0.1, "proposed": 0.1}
    gains = {
        m: [evaluate.seed_interval(switches.apart(switches.measured("small", level), f"{m}, lr={lr}", m)) for level in levels]
        for m, lr in higher.items()
    }
    for methods, clear in ((("noisy", "both", "stability"), True), (("normal", "proposed"), False)):
        means = [100 * mean for method in methods for mean, _, _ in gains[method]]
        assert f"{min(means):.1f} to {max(means):.1f}" in pages["RESULTS.md"]
        assert all((low > 0) == clear for method in methods for _, low, _ in gains[method])
    at_matched = sorted(100 * value for value in switches.apart(runs, "proposed", "normal, epochs=24"))
    assert f"{at_matched[-1]:.1f}, the others {at_matched[0]:.1f} to {at_matched[-2]:.1f}" in pages["RESULTS.md"]


def test_the_last_epoch_was_the_best_on_test_in_as_many_runs_as_is_said(pages):
    both = [r for r in records.read(None, "cifar10") if "best_on_test" in r["metrics"]]
    assert {r["metrics"]["best_on_test"]["epoch"] for r in both} == {r["config"]["epochs"] for r in both} == {12}
    number = {6: "six", 9: "nine"}[len(both)]
    assert all(f"in each of {number} runs" in pages[name] for name in ("RESULTS.md", "08"))


def test_both_ways_of_batchnorm_that_part_the_views_trained_the_same_weights():
    """As the pages say: no loss of any epoch differs, so the statistics kept for predictions are all that does."""
    parted = {}
    for record in records.read(None, "cifar10"):
        if record["config"]["preset"] == "small" and record["config"]["bn"] != "joint":
            losses = tuple(epoch["total"] for epoch in record["history"])
            parted.setdefault((record["config"]["method"], record["config"]["seed"]), []).append(losses)
    assert len(parted) == 6 and all(one == other for one, other in parted.values())


def test_what_is_said_of_other_test_images_follows_from_the_records(pages):
    """Of the same five networks, `proposed` minus a rival with the interval over images."""

    def over_images(rival: str, level: float) -> str:
        own, other = (
            np.concatenate(list(DIGITS[(DIGITS.method == method) & (DIGITS.level == level)].sort_values("seed").correct))
            for method in ("proposed", rival)
        )
        return interval(*(100 * value for value in evaluate.image_interval(own, other)))

    clean, stability = over_images("normal", 0.0), over_images("stability", 0.3)
    assert f"on clean digits is {clean}, and minus `stability` at the noise trained with {stability};" in pages["RESULTS.md"]


def test_without_the_project_beside_the_library_a_report_needs_no_committed_records(tmp_path, monkeypatch):
    records.collect(records.read(None, "digits", "digits"), tmp_path / "records")
    monkeypatch.setattr(records, "COMMITTED", tmp_path / "none")
    report.page(tmp_path / "report.html", tmp_path / "records", "digits", "digits")
    assert "The committed records" not in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    with pytest.raises(InputError, match="clone the project"):
        report.publish()
    with pytest.raises(InputError, match="clone the project"):
        execution.renew(tmp_path)


def test_a_notebook_that_fails_is_named_and_those_before_it_stay_renewed(tmp_path):
    for name, source in (("00_good", "print(2)"), ("01_bad", "1 / 0"), ("02_after", "print(3)")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    with pytest.raises(InputError, match="notebook 01_bad.ipynb failed"):
        execution.renew(tmp_path)
    counts = [nbformat.read(path, 4).cells[0].execution_count for path in sorted(tmp_path.glob("*.ipynb"))]
    assert counts == [1, None, None]


def test_report_is_one_self_contained_page(tmp_path):
    records.collect(records.read(None, "digits", "digits"), tmp_path / "records")
    report.page(tmp_path / "report.html", tmp_path / "records", "digits", "digits")
    text = (tmp_path / "report.html").read_text()
    assert "Side by side" in text and "proposed" in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', text)


def test_a_record_with_a_hole_is_refused_by_name(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "run.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(InputError, match="run.json is no record of a run .KeyError: 'dataset'.: take it out"):
        records.read(tmp_path)


@pytest.mark.parametrize("kept, lacking", [(["proposed"], "normal"), (["normal", "both"], "proposed")])
def test_a_report_of_methods_that_cannot_be_compared_says_so(tmp_path, kept, lacking):
    records.collect([r for r in records.read(None, "digits", "digits") if r["config"]["method"] in kept], tmp_path)
    with pytest.raises(InputError, match=f"compares proposed with normal: there are no records of {lacking}$"):
        report.page(tmp_path / "report.html", tmp_path, "digits", "digits")
    with pytest.raises(InputError, match="at level 0.3 there is no proposed to compare"):
        records.against(DIGITS[DIGITS.method.isin(kept)], 0.3)


def test_runs_that_differ_otherwise_are_not_paired_by_seed_alone():
    twice = pd.concat([DIGITS, DIGITS[DIGITS.method == "both"]])
    with pytest.raises(InputError, match="a level and seed twice"):
        records.differences(twice)


def test_a_level_of_the_printed_table_is_found_among_the_recorded_ones():
    """Records hold six digits, 0.031373, of 8/255."""
    rows = records.headline(None, "cifar10", "small")
    assert records.against(rows, 8 / 255).equals(records.against(rows, 0.031373))
    assert [panel.text for panel in figures.gains(rows, [0.0, 8 / 255]).layout.annotations[:2]] == ["clean images", "noise 8/255"]
    with pytest.raises(InputError, match=r"nothing was measured at noise 0.3 \(76.5/255\): choose among clean, 8/255"):
        figures.gains(rows, [0.3])


def test_the_rates_of_another_width_are_not_taken_for_seeds(monkeypatch):
    runs = rates.by_width()
    wider = runs.assign(width=32, **{column: runs[column] + 0.1 for column in runs if column.startswith("test, ")})
    expected = rates.apart_by_width()
    monkeypatch.setattr(rates, "by_width", lambda: pd.concat([runs, wider[1:]]))
    assert rates.apart_by_width().equals(expected)
