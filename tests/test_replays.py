"""Committed runs trained again: the comparison by hand, and the present code held to what is committed."""

import json

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from penultimate import InputError, records
from penultimate.commands import cli
from penultimate.commands.report import RESULTS as PAGE
from penultimate.runs import record
from penultimate.study import measured, replays, switches
from penultimate.study.switches import SELECTED
from penultimate.support.machine import environment
from penultimate.train import train

ORIGINALS = {r["name"]: r for r in records.read(None, "digits", "digits")}
COMMITTED = replays.read("digits", "digits")
RESULTS = PAGE.read_text()
ARITHMETIC = ("torch", "platform", "device", "instructions")  # what of an environment decides how sums round


def test_epochs_agree_up_to_the_first_number_that_differs():
    rows = [{"epoch": e, "total": 2.0 / e, "validation": 0.5, "seconds": 1.0} for e in (1, 2, 3)]
    changed = lambda i, **fields: [row | fields if k == i else row for k, row in enumerate(rows)]  # noqa: E731
    assert replays.agreeing(rows, rows) == 3 and replays.agreeing(rows, rows[:2]) == 2
    assert replays.agreeing(rows, changed(1, seconds=9.0)) == 3
    assert replays.agreeing(rows, changed(1, validation=0.50001)) == 1 and replays.agreeing(rows, changed(0, total=2.00001)) == 0
    assert replays.agreeing(rows, [rows[0], {"epoch": 2, "total": 1.0}, rows[2]]) == 1  # an accuracy is not there
    assert replays.agreeing(rows, [row | {"test": 0.5} for row in rows]) == 3  # nor was it looked at then


def test_a_run_is_trained_again_from_its_record_alone(tiny, digits):
    config = tiny(method="proposed", best_on_test=True, schedule="multistep", milestones=(1, 2))
    kept = json.loads(json.dumps(record(config, digits, train(config, digits), "cpu")))
    whole, first = replays.again(kept), replays.again(kept, epochs=1)
    assert replays.agreeing(kept["history"], whole["history"]) == 3 == len(whole["history"])
    assert replays.agreeing(kept["history"], first["history"]) == 1 == len(first["history"])
    assert "now" not in replays.outcome(kept["history"], whole["history"])
    other = replays.again(kept | {"config": kept["config"] | {"delta_v": 0.4}})  # another loss from the first step on
    assert replays.agreeing(kept["history"], other["history"]) == 0
    assert "part in epoch 1 (loss " in replays.outcome(kept["history"], other["history"])
    images = kept["data"] | {"fingerprint": "of others"}
    with pytest.raises(InputError, match="trained on other images than digits has now"):
        replays.again(kept | {"data": images})


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_first_epoch_of_every_digits_run_is_as_its_record_says(name):
    """On any processor, since in an epoch of 19 steps rounding does not grow to a thousandth of the loss: another method, schedule, order
    of the images or draw of the noise is further off."""
    then, now = ORIGINALS[name]["history"], replays.again(ORIGINALS[name], epochs=1)["history"]
    assert len(now) == 1
    for term in ("total", "ce"):
        assert now[0][term] == pytest.approx(then[0][term], rel=1e-3)


@pytest.mark.parametrize("replay", [r for r in COMMITTED if r["config"]["seed"] == 0], ids=lambda replay: replay["name"])
def test_on_the_same_arithmetic_a_run_is_the_same_to_every_digit(replay):
    here = environment("cpu")
    if other := [f"{key} {replay['environment'][key]}, here {here[key]}" for key in ARITHMETIC if replay["environment"][key] != here[key]]:
        pytest.skip(f"rounds otherwise: replays were made with {'; '.join(other)}")
    now = replays.again(replay, epochs=4)
    assert replays.agreeing(replay["history"][:4], now["history"]) == 4, "training rounds otherwise now: make the replays again"


def test_a_replay_is_done_for_its_epochs_by_this_code_on_this_machine(tiny, digits, tmp_path):
    config, path = tiny(), tmp_path / "replay.json"
    kept = json.loads(json.dumps(record(config, digits, train(config, digits), "cpu")))
    path.write_text(json.dumps(replays.again(kept, epochs=2)))
    assert [replays.done(path, epochs) for epochs in (1, 2, 3, 0, 9)] == [True, True, False, False, False]
    for name in ("code", "instructions", "torch"):
        other = json.loads(path.read_text())
        other["environment"][name] = "another"
        (tmp_path / "other.json").write_text(json.dumps(other))
        assert not replays.done(tmp_path / "other.json", 1)


def test_the_command_compares_leaves_what_exists_and_counts(tmp_path):
    call = ["replay", "--methods", "normal", "--seeds", "0,1", "--records", str(tmp_path)]
    done = CliRunner().invoke(cli.app, call)
    paths = sorted(tmp_path.glob("digits-digits/*.json"))
    assert done.exit_code == 0 and [path.stem for path in paths] == sorted(r for r in ORIGINALS if "-normal-s0" in r or "-normal-s1" in r)
    kept = json.loads(paths[0].read_text())
    files = {path: path.stat().st_mtime_ns for path in paths}
    paths[1].write_text(json.dumps(kept | {"name": paths[1].stem, "history": [kept["history"][0] | {"total": 7.5}]}))
    again = CliRunner().invoke(cli.app, call)
    assert "part in epoch 1 (loss " in again.output and ", now 7.5)" in again.output
    assert paths[0].stat().st_mtime_ns == files[paths[0]]
    counted = replays.agreeing(ORIGINALS[kept["name"]]["history"], kept["history"])  # 1 with the arithmetic of the record, else 0
    assert f"{counted} of 2 runs came out the same" in again.output
    for words, told in ((["--epochs", "-1"], "epochs = -1: give how many"), (["--seeds", "9"], "no committed runs of digits")):
        refused = CliRunner().invoke(cli.app, ["replay", *words])
        assert isinstance(refused.exception, InputError) and told in str(refused.exception)


def test_a_table_has_a_row_for_every_replay_by_what_its_run_changed(tmp_path):
    found = replays.table()
    assert len(found) == len(COMMITTED) and set(found.changed) == {""}
    for row in found.itertuples():
        (replay,) = (r for r in COMMITTED if (r["config"]["method"], r["config"]["seed"]) == (row.method, row.seed))
        then = ORIGINALS[replay["name"]]["history"]
        equal = [all(then[e][k] == replay["history"][e][k] for k in then[e] if k != "seconds") for e in range(len(then))]
        assert row.epochs == len(then) == 24 and row.same == (equal.index(False) if False in equal else 24)


def test_whole_replays_take_their_records_place_in_the_comparison(tmp_path):
    """A mean and Student's interval of differences between last rows; a replay of some epochs, or of another setting, changes none."""
    replay = next(r for r in COMMITTED if (r["config"]["method"], r["config"]["seed"]) == ("proposed", 2))
    (tmp_path / "digits-digits").mkdir()

    def kept(**changed):
        (tmp_path / "digits-digits" / "a.json").write_text(json.dumps(replay | changed))
        return replays.apart(folder=tmp_path).set_index(["rival", "view", "which"])

    raised = [*replay["history"][:-1], replay["history"][-1] | {"validation": 0.25}]
    found = kept(history=raised)
    for which in ("recorded", "again"):
        last = {r["config"]["method"]: {} for r in ORIGINALS.values()}
        for r in ORIGINALS.values():
            last[r["config"]["method"]][r["config"]["seed"]] = r["history"][-1]["validation"]
        if which == "again":
            last["proposed"][2] = 0.25
        for rival in ("normal", "stability"):
            differences = [100 * (last["proposed"][seed] - last[rival][seed]) for seed in range(5)]
            low, high = stats.t.interval(0.95, 4, np.mean(differences), stats.sem(differences))
            assert found.loc[rival, "validation", which].tolist() == pytest.approx([np.mean(differences), low, high])
    recorded = found.xs("recorded", level="which")
    assert not found.xs("again", level="which").equals(recorded)
    for changed in ({"history": raised[-1:]}, {"history": raised, "config": replay["config"] | {"mu": 0.9}}):
        found = kept(**changed)
        assert found.xs("again", level="which").equals(recorded)


def test_what_results_says_of_runs_trained_again_follows_from_the_replays():
    digits, small = replays.table(), replays.table("cifar10", "small")
    earlier = {preset: replays.table(dataset, preset, replays.EARLIER) for dataset, preset in measured.PLACES.items()}
    with_loss = ("discriminative", "proposed")
    plain = digits[~digits.method.isin(with_loss)]
    assert len(plain) == 20 and (plain.same == 24).all() and (plain.epochs == 24).all()
    assert sorted(earlier["digits"].groupby("method").seed.apply(list)) == [[*range(5)]] * 2 and (earlier["digits"].same == 24).all()
    first = small[small.changed == ""].assign(whole=lambda rows: rows.same == rows.epochs)
    assert len(first) == 30 and first[~first.method.isin(with_loss)].whole.all()
    since = first[first.method.isin(with_loss)].groupby("whole")[["method", "seed"]].apply(lambda rows: {*map(tuple, rows.values)})
    assert since[True] == {(method, seed) for method in with_loss for seed in (3, 4)}
    assert since[False] == {*map(tuple, earlier["small"][["method", "seed"]].values)} and (earlier["small"].same == 1).all()

    def tried(method: str, changed: str, seeds=range(5)) -> list[int]:
        return small[(small.method == method) & (small.changed == changed) & small.seed.isin(seeds)].same.tolist()

    other = [tried(method, SELECTED) for method in ("normal", "both", "proposed")] + [tried("normal", "epochs=24")]
    other += [tried(method, "epochs=24", range(3)) for method in ("both", "proposed")] + [tried("proposed", "ce_noisy=0.5")]
    other += [tried("normal", "lr=0.2"), tried("stability", "lr=0.1"), tried("stability", "lr=0.2")]
    assert all(seen and not any(seen) for seen in other)
    assert all(tried(method, "epochs=24", (3, 4)) == [1, 1] for method in ("both", "proposed"))
    plain = first[~first.method.isin(with_loss)]
    assert plain[plain.epochs == 12][["method", "seed"]].values.tolist() == [["both", 3], ["both", 4]]
    told = "all 20 of `small` in their first epoch (the fourth and fifth seed of `both` in each of 12)"
    assert f"all 20 runs of digits in each of 24 epochs, and {told};" in RESULTS and replays.COMMIT in RESULTS


def test_the_version_that_trained_again_gives_the_present_numbers_here_and_not_its_own():
    """So the processor parts them, and not the code."""
    present = {replay["name"]: replay for replay in replays.read("cifar10", "small")}
    kept = {r["name"]: r for r in records.read(None, "cifar10")}
    found = replays.read("cifar10", "small", records.COMMITTED / "replays" / "b99c5e8")
    assert [replay["config"]["method"] for replay in found] == ["both", "normal"] and "commit b99c5e8, seed 0 of each" in RESULTS
    for replay in found:
        then, now = kept[replay["name"]], present[replay["name"]]
        assert replay["environment"]["code"] == then["environment"]["code"] != now["environment"]["code"]
        assert replays.agreeing(replay["history"], now["history"]) == 1 and replays.agreeing(then["history"], replay["history"]) == 0


def test_whole_replays_change_the_comparison_in_one_place_as_results_says():
    changed = []
    for dataset, preset in measured.PLACES.items():
        replayed = replays.table(dataset, preset).query("changed == '' and method == 'proposed' and same < epochs")
        assert (replayed.epochs == {"digits": 24, "small": 12}[preset]).all() and len(replayed) == {"digits": 5, "small": 3}[preset]
        for (rival, view), own in replays.apart(dataset, preset).groupby(["rival", "view"]):
            told = own.set_index("which").eval("low * high > 0")
            changed += [(preset, rival, view, bool(told.recorded))] if told.recorded != told.again else []
    assert changed == [("small", "stability", "validation_noisy", True)]
    found = replays.apart("cifar10", "small").query("view == 'validation_noisy' and which == 'again'").set_index("rival")
    ahead, behind = (found.loc[rival, ["mean", "low", "high"]].tolist() for rival in ("normal", "both"))
    told = "{:.1f} [{:.1f}, {:.1f}] points ahead of `normal` and {:.1f} [{:.1f}, {:.1f}] behind `both`"
    assert told.format(*ahead, -behind[0], -behind[2], -behind[1]) in RESULTS
    assert "but that to `stability` on CIFAR-10 at the noise trained with, which is no longer" in RESULTS


def test_how_far_a_repetition_moves_beside_another_seed_is_as_results_says():
    ratios = []
    for level in (0.0, 8 / 255, 0.06):
        runs = switches.measured("small", level)
        for method in ("normal", "both"):
            moved = np.array(switches.apart(runs, f"{method}, {SELECTED}", method))
            assert len(moved) == 3
            ratios.append(np.sqrt((moved**2).mean() / 2) / runs[runs.arm == method].accuracy.std())
    assert f"is {min(ratios):.1f} to {max(ratios):.1f} of that over seeds" in RESULTS
