"""A run on one's own data: found by its path, refused when the pictures have changed; noise suggested; balanced accuracy recorded."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from penultimate import InputError, data, jobs, metrics, records, runs
from penultimate.commands import cli, report
from penultimate.comparison import at_level
from penultimate.configs import DEFAULTS, Config
from penultimate.data import Split
from penultimate.evaluate import balanced
from penultimate.jobs import train_all
from penultimate.study import checks, films, lookup, measured, roads, suggest
from penultimate.support import files, own

FAST = dict(network="small", width=4, dim=8, epochs=1, batch=8, image_size=8, pad=1, lr=0.01)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "runs"


@pytest.fixture
def two_classes(tmp_path, store):
    """Bright and dark pictures, of the dark ones twice as many."""
    rng = np.random.default_rng(0)
    for name, mean, count in (("bright", 200, 10), ("dark", 60, 20)):
        (tmp_path / "two classes" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.normal(mean, 20, (10, 10, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "two classes" / name / f"{i}.png")
    return str(tmp_path / "two classes")


def test_the_new_field_changes_no_existing_hash():
    assert Config(method="proposed").hash == Config(method="proposed", image_size=0).hash
    for run in records.read():
        assert Config(**{k: v for k, v in run["config"].items() if k != "image_size"}).name == run["name"]
    assert Config(image_size=16).hash != Config().hash
    with pytest.raises(InputError, match="image_size = -1 must not be negative"):
        Config(image_size=-1)


def test_a_run_is_refused_when_its_pictures_have_changed(two_classes, store):
    config = Config(dataset=two_classes, method="normal", **FAST)
    run = runs.load_or_train(config, store=store)
    assert runs.load_or_train(config, store=store).record == run.record
    Image.new("RGB", (10, 10)).save(f"{two_classes}/dark/0.png")
    for again in (lambda: runs.load_or_train(config, store=store), lambda: train_all([config], store=store)):
        with pytest.raises(InputError, match="was trained on other images than .* holds now .*put the former ones back, or delete") as no:
            again()
    assert "\n" not in str(no.value)
    assert re.search(r"delete (.*) to train", str(no.value))[1] == str(run.folder)


def test_all_whose_pictures_have_changed_are_named_at_once(two_classes, store):
    """By their own folders: what another data set of that name has in the store is not theirs to delete."""
    configs = [Config(dataset=two_classes, method=method, **FAST) for method in ("normal", "both")]
    train_all(configs, store=store)
    Image.new("RGB", (10, 10)).save(f"{two_classes}/dark/0.png")
    with pytest.raises(InputError, match=r"normal-s0-\w+ \(and 1 more\) was trained on other .* delete ") as no:
        train_all(configs, store=store)
    assert str(no.value).endswith(f"delete {store / configs[0].name} {store / configs[1].name} to train again")


@pytest.mark.parametrize("changed", [False, True])
def test_an_interrupted_run_begins_again_when_its_pictures_have_changed(changed, two_classes, store, capsys):
    config = Config(dataset=two_classes, method="proposed", **FAST | {"epochs": 3})

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.load_or_train(config, store=store, on_epoch=stop)
    if changed:
        Image.new("RGB", (10, 10)).save(f"{two_classes}/dark/0.png")
    epochs = []
    run = runs.load_or_train(config, store=store, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == ([1, 2, 3] if changed else [3])
    told = f"{config.name}: the images have changed since its last epoch; beginning again\n"
    assert capsys.readouterr().err == (told if changed else "")
    afresh = runs.load_or_train(config, store=store.parent / "afresh").model.state_dict()
    assert all(torch.equal(tensor, afresh[name]) for name, tensor in run.model.state_dict().items())


def test_what_was_measured_of_other_pictures_is_refused(two_classes, store, tmp_path):
    config, folder = Config(dataset=two_classes, method="normal", **FAST), tmp_path / "records"
    fingerprint = data.load(two_classes, image_size=8).fingerprint
    files.write_json(measured.path_of(config, folder), {"data": {"fingerprint": fingerprint}})
    assert list(measured.missing([config], folder, store=store)) == []
    Image.new("RGB", (10, 10)).save(f"{two_classes}/dark/0.png")
    for whole in (Path.exists, lambda path: False):  # one to which AutoAttack is to be added is not whole
        with pytest.raises(InputError, match=r"normal-s0-\w+.json was measured on other images .*: put the former ones back, or delete"):
            list(measured.missing([config], folder, whole, store=store))


def test_a_study_mixes_no_records_of_other_pictures(two_classes, store, tmp_path):
    config = Config(dataset=two_classes, method="normal")
    records.same_images(tmp_path / "out", config)  # nothing there yet
    record = files.read_json(next(records.COMMITTED.glob("digits-digits/*-normal-s0-*.json")))
    of = lambda fingerprint: record | {"name": config.name, "config": dataclasses.asdict(config), "data": record["data"] | fingerprint}  # noqa: E731
    records.collect([of({"fingerprint": data.load(two_classes).fingerprint})], tmp_path / "out")
    records.same_images(tmp_path / "out", config)
    Image.new("RGB", (10, 10)).save(f"{two_classes}/dark/0.png")
    place = "out holds 1 record of other images than .* has now: delete them, or give another folder"
    for preset in (None, "small"):
        with pytest.raises(InputError, match=place):
            records.same_images(tmp_path / "out", config, preset)
    records.same_images(tmp_path / "out", config, "brief")


def test_a_study_says_when_its_folder_has_more_runs_of_the_data(store, tmp_path, monkeypatch, capsys):
    for name in ("execution.run", "pictures", "figures.export", "page", "films.collect"):
        monkeypatch.setattr(f"penultimate.commands.report.{name}", lambda *given: {})
    digits = [runs.Run(Config(**record["config"]), None, record) for record in records.read(None, "digits", "digits")]
    report.study(digits[:2], tmp_path / "out")
    report.study(digits[1:2], tmp_path / "out")
    told = f"1 record more of earlier studies of this data in {tmp_path / 'out' / 'records'}: the report tells of them too"
    assert [line for line in capsys.readouterr().out.splitlines() if "more" in line] == [told]


def test_a_studys_budget_holds_for_its_pilot_run(two_classes, store, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "STORE", store)
    options = [word for name, value in FAST.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert cli.app(["study", "--dataset", two_classes, "--budget", "0s", *options], standalone_mode=False) == 0
    assert "1 of 1 runs are left; call again to go on" in capsys.readouterr().out
    assert not list(store.glob("*/record.json"))


def test_skipping_of_bad_pictures_can_be_taken_back(two_classes, store):
    (Path(two_classes) / "dark" / "broken.png").write_bytes(b"no picture")
    options = ["train", "--dataset", two_classes, "--methods", "normal", "--budget", "0s"]
    with pytest.raises(InputError, match="broken.png"):
        cli.app(options, standalone_mode=False)
    cli.app([*options, "--skip-bad"], standalone_mode=False)
    cli.app(options, standalone_mode=False)
    with pytest.raises(InputError, match="broken.png"):
        cli.app([*options, "--no-skip-bad"], standalone_mode=False)


def test_the_noise_trained_with_is_told_of_data_that_is_there_and_only_where_it_is_a_default(two_classes, store, capsys):
    options = ["train", "--methods", "normal", "--budget", "0s"]
    for further, told in (((), True), (("--sigma", "0"), False), (("--sigma", "15.3/255"), False)):
        cli.app([*options, "--dataset", two_classes, *further], standalone_mode=False)
        assert ("the default; `study` finds" in capsys.readouterr().out) == told
    with pytest.raises(InputError, match="unknown dataset 'cifar11'"):
        cli.app([*options, "--dataset", "cifar11"], standalone_mode=False)
    assert capsys.readouterr().out == ""


def test_autoattack_is_left_out_where_there_are_too_few_classes(two_classes, store, monkeypatch, capsys):
    monkeypatch.setattr(measured, "missing", lambda configs, folder, whole, **given: iter(()))
    cli.app(["adversary", "--dataset", two_classes], standalone_mode=False)
    assert capsys.readouterr().out == "2 classes: AutoAttack needs 4 and is left out\n"


def test_a_study_without_noise_is_refused(two_classes, store):
    with pytest.raises(InputError, match="sigma = 0.0 must be a finite number above 0"):
        suggest.settle(two_classes, store=store, sigma=0.0, **FAST)


def test_records_of_different_images_are_not_mixed(two_classes, store, tmp_path):
    """Trained before and after a picture changed: either alone is a table, the two together are refused."""
    before = runs.load_or_train(Config(dataset=two_classes, method="normal", **FAST), store=store).record
    after = before | {"data": before["data"] | {"fingerprint": "0" * 64}}
    proposed = after["name"].replace("-normal-", "-proposed-")
    plain = lambda record: record | {"config": dataclasses.asdict(Config(dataset=two_classes, method=record["config"]["method"]))}  # noqa: E731
    records.collect([plain(before), plain(after | {"name": proposed, "config": after["config"] | {"method": "proposed"}})], tmp_path)
    with pytest.raises(InputError, match=f"the records of two_classes in .* are of different images .*{'0' * 10}.*: keep those of one"):
        records.headline(tmp_path, two_classes, "small")


def test_a_record_names_its_images_and_its_width(two_classes, store):
    record = runs.load_or_train(Config(dataset=two_classes, method="normal", **FAST), store=store).record
    checks.run_record(record)
    for part, name in (("data", "fingerprint"), ("config", "width")):
        with pytest.raises(LookupError):
            checks.run_record(record | {part: {key: value for key, value in record[part].items() if key != name}})


def test_where_seeds_do_not_differ_the_caption_says_so(two_classes, store):
    found = [runs.load_or_train(Config(dataset=two_classes, method="normal", seed=seed, **FAST), store=store).record for seed in (0, 1)]
    alike = found[0] | {"config": found[1]["config"]}
    assert "over images where the seeds do not differ" in records.caption([found[0], alike])
    rows = records.table([found[0], alike])
    assert records.summary(rows, "balanced")[["low", "high"]].isna().to_numpy().all()
    assert "do not differ" not in records.caption(records.read(None, "digits", "digits"))


def test_a_notebook_that_fails_leaves_the_report(store, tmp_path, monkeypatch):
    given = []

    def fail(out, values):
        given.append(values)
        raise InputError("notebook 02_train.ipynb failed")

    monkeypatch.setattr("penultimate.commands.execution.run", fail)
    monkeypatch.setattr("penultimate.figures.export", lambda *drawn: True)
    digits = [runs.Run(Config(**record["config"]), None, record) for record in records.read(None, "digits", "digits")]
    monkeypatch.setattr("penultimate.commands.report.films.collect", lambda *given: None)
    three = [run for run in digits if run.config.method in ("normal", "both", "proposed")]
    with pytest.raises(InputError, match="02_train.ipynb failed; .*report.html and the figures are written"):
        report.study(three, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Ways of training on digits (preset digits), after arXiv 2405.18499: normal, both, proposed." in page
    assert given[0]["trained"] == "normal,both,proposed"


def test_balanced_accuracy_is_the_mean_over_classes():
    rng = np.random.default_rng(0)
    labels, correct = torch.tensor([0] * 7 + [1] * 2 + [3]), rng.random((2, 3, 10)) < 0.5
    found = balanced(correct, labels)
    for level in range(2):
        for draw in range(3):
            by_class = [[bool(correct[level, draw, i]) for i in range(10) if labels[i] == c] for c in (0, 1, 3)]
            assert found[level, draw] == pytest.approx(sum(sum(own) / len(own) for own in by_class) / 3)


class Brightness(nn.Module):
    """Class 1 where the mean of an image is above a half."""

    def forward(self, x):
        away = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-away, away], 1)


def test_the_suggested_level_is_the_smallest_that_costs_five_points():
    """One pixel an image, 0.45 or 0.55: noise sigma turns it with probability Phi(-0.05 / sigma), 5 % at sigma = 0.0304 = 7.75/255."""
    pixels = torch.tensor([[115], [140]], dtype=torch.uint8).repeat(4000, 1).reshape(-1, 1, 1, 1)
    split = Split(pixels, torch.tensor([0, 1]).repeat(4000), torch.ones(8000, dtype=torch.bool))
    level, accuracy = suggest.noise_level(Brightness(), split)
    assert level == 8 / 255 and accuracy[0.0] == 1 and accuracy[6 / 255] > 0.95 >= accuracy[8 / 255]
    level, accuracy = suggest.noise_level(Brightness(), split, cost=0.49999)
    assert level == suggest.LEVELS[-1] and len(accuracy) == 1 + len(suggest.LEVELS)  # none costs that much
    with pytest.raises(InputError, match="no noise level can be suggested: normal training reaches 50.0 %"):
        suggest.noise_level(Brightness(), Split(split.images, torch.ones_like(split.labels) - split.labels // 2, split.exact))


@pytest.mark.parametrize("wrong, message", [(["--jobs", "-1"], "jobs = -1"), (["--device", "quantum"], "device 'quantum'")])
def test_a_study_that_cannot_be_settles_nothing(two_classes, store, wrong, message):
    with pytest.raises(InputError, match=message):
        cli.app(["study", "--dataset", two_classes, "--sigma", "0.1", *wrong], standalone_mode=False)
    assert data.settings(two_classes) == {}


def test_settings_with_a_field_that_no_run_has_are_named(two_classes, store):
    own.settle(two_classes, data.CACHE, given={"depth": 3})
    with pytest.raises(InputError, match=r"settings.json settles depth, which no run has: delete it"):
        suggest.settle(two_classes)


def test_what_is_settled_holds_for_later_runs_and_their_tables(two_classes, store, monkeypatch):
    asked = []
    monkeypatch.setattr(suggest, "noise_level", lambda *given, **named: asked.append(1) or (0.1, suggest.pd.Series({0.0: 1.0, 0.1: 0.9})))
    settled = suggest.settle(two_classes, store=store, flip=False, **FAST)
    assert suggest.said(settled).startswith(
        "noise trained with: 0.1 (25.5/255), the smallest tried that costs `normal` 5 points (validation split: 10.0"
    )
    assert "until given otherwise: " in suggest.said(settled) and "flip = False" in suggest.said(settled)
    config = Config(dataset=two_classes, method="normal")
    assert (config.sigma, config.flip, config.image_size, config.epochs) == (0.1, False, 8, 1)
    assert config.lr == 0.01 and Config(dataset=two_classes, lr=0.5).lr == 0.5  # what is given wins
    trained = train_all([config, Config(dataset=two_classes, method="proposed")], store=store)
    found = [run.record for run in trained]
    assert found[0]["metrics"]["last"]["gaussian"]["levels"] == [0, 0.05, 0.1, 0.15, 0.2]
    assert found[0]["data"]["classes"] == {"bright": 7, "dark": 14}
    folder = store.parent / "records"
    records.collect(found, folder)
    films.collect(trained, folder)  # two classes: no plane through three centroids, and no error
    assert not (folder / "films").exists()
    rows = records.headline(folder, two_classes, "small")
    assert set(rows.method) == {"normal", "proposed"} and records.trained_at(rows) == 0.1 and rows.balanced.notna().all()
    assert "nan" not in records.wide(records.summary(rows, "balanced")).to_string()
    caption = records.caption(records.read(folder, two_classes, "small"))
    assert caption.startswith("two_classes (30 pictures of 2 classes") and "2 classes of 7 to 14 training images" in caption
    assert lookup.levels("gaussian", two_classes)[4] == pytest.approx(0.1) and lookup.levels("occlusion", two_classes)[1] == 0.125
    suggest.settle(two_classes, store=store)
    assert asked == [1] and data.settings(two_classes)["fields"]["flip"] is False  # kept; the same pilot is asked once
    assert suggest.settle(two_classes, store=store, sigma=0.2)["fields"]["sigma"] == 0.2


def test_readme_loads_the_network_that_a_study_of_ones_own_pictures_trained(two_classes, store, monkeypatch):
    monkeypatch.setattr(runs, "STORE", store)
    suggest.settle(two_classes, sigma=0.1, **FAST)
    (run,) = train_all([Config(dataset=two_classes, method="both")])
    block, *_ = re.findall(r"```python\n(.*?)```", (data.HOME / "README.md").read_text(encoding="utf-8"), re.S)
    scope, images = {}, torch.rand(2, 3, 8, 8)
    exec(block.replace("path/to/folder", two_classes), scope)
    assert torch.equal(scope["network"](images), run.model(images)) and len(list(store.glob("*/record.json"))) == 1


def test_what_led_to_no_suggestion_does_not_hold_unseen(two_classes, store, monkeypatch):
    def nothing(model, split):
        raise InputError("no noise level can be suggested")

    plain = Config(dataset=two_classes)
    monkeypatch.setattr(suggest, "noise_level", nothing)
    with pytest.raises(InputError, match="no noise level"):
        suggest.settle(two_classes, store=store, **FAST)
    assert Config(dataset=two_classes) == plain != Config(dataset=two_classes, **FAST)
    monkeypatch.setattr(suggest, "noise_level", lambda model, split: (0.1, suggest.pd.Series({0.0: 1.0, 0.1: 0.9})))
    settled = suggest.settle(two_classes, store=store, **FAST)
    monkeypatch.setattr(suggest, "noise_level", nothing)
    with pytest.raises(InputError, match="no noise level"):
        suggest.settle(two_classes, store=store, lr=0.5)
    assert data.settings(two_classes) == settled and Config(dataset=two_classes).lr == FAST["lr"]


def test_named_data_is_never_settled(store):
    with pytest.raises(InputError, match="digits has its presets"):
        suggest.settle("digits", sigma=0.1)
    assert data.settings("digits") == {} and Config().sigma == 0.3 and DEFAULTS["image_size"] == 0


def test_roads_are_the_same_for_the_same_seed_and_learnable(tmp_path, store):
    one, two, other = (roads.write(tmp_path / str(i), 12, seed) for i, seed in enumerate((0, 0, 1)))
    splits = [data.load(folder, image_size=16) for folder in (one, two, other)]
    assert splits[0].fingerprint == splits[1].fingerprint != splits[2].fingerprint
    assert splits[0].classes == tuple(sorted(roads.KINDS)) and len(list(one.glob("junction/*.png"))) == 6
    assert {path.stem.split()[0] for path in one.glob("left/*.png")} == set(roads.WEATHER)
    dates = [path.stat().st_mtime_ns for path in sorted(one.glob("*/*"))]
    assert [path.stat().st_mtime_ns for path in sorted(roads.write(one, 12).glob("*/*"))] == dates  # written once


def test_left_and_right_are_each_others_mirror_image():
    """So mirrored copies (`flip`) would be mislabelled: the reason why the notebook turns them off."""
    rng = np.random.default_rng

    def lean(kind, seed):  # where the road is at two thirds of its height, against where it is below
        grey = np.asarray(roads.draw(kind, "day", rng(seed)).convert("RGB")).astype(int)
        road = np.abs(grey - grey[-2, 22]).sum(2) < 60
        middle = lambda row: np.flatnonzero(road[row]).mean()  # noqa: E731
        return middle(30) - middle(46)

    assert np.mean([lean("right", s) for s in range(20)]) > 4 and np.mean([lean("left", s) for s in range(20)]) < -4


def test_a_run_measured_at_other_levels_than_are_settled_now_is_measured_again_not_trained(two_classes, store, capsys):
    """`train` measures at the default levels, a study at those that its noise calls for: none of its methods may be left alone there."""
    alone = train_all([Config(dataset=two_classes, method="normal", sigma=0.1, **FAST)], store=store)[0]
    suggest.settle(two_classes, store=store, sigma=0.1, **FAST)
    found = train_all([Config(dataset=two_classes, method=method) for method in ("normal", "both")], store=store)
    assert "measured at other noise levels before; measuring it again" in capsys.readouterr().err
    assert found[0].config == alone.config and found[0].history == alone.history
    levels = [run.record["metrics"]["last"]["gaussian"]["levels"] for run in found]
    assert levels == [[0.0, 0.05, 0.1, 0.15, 0.2]] * 2 != [alone.record["metrics"]["last"]["gaussian"]["levels"]] * 2
    before, after = (run.record["metrics"]["last"]["gaussian"] for run in (alone, found[0]))
    accuracies = [one["accuracy"][one["levels"].index(0.1)] for one in (before, after)]
    assert accuracies[0] == accuracies[1]  # at a level that both have, the same network says the same
    assert runs.load_or_train(found[0].config, store=store).record == found[0].record and not capsys.readouterr().err


@pytest.mark.parametrize("fields", [{}, {"sigma": 0.2}])
def test_a_study_refuses_a_noise_that_its_tables_would_not_be_of(two_classes, store, fields):
    with pytest.raises(InputError, match="noise = salt_pepper: a study tells of Gaussian noise alone; for salt_pepper use sweep --noise"):
        suggest.settle(two_classes, store=store, noise="salt_pepper", **fields, **FAST)
    assert not store.exists() and data.settings(two_classes) == {}  # said before a pilot is trained, and nothing is settled


def test_a_level_in_other_units_is_no_level_of_gaussian_noise(two_classes, store):
    assert 50.0 not in metrics.levels_of(Config(dataset=two_classes, noise="jpeg", sigma=50.0))
    assert 0.11 in metrics.levels_of(Config(dataset=two_classes, noise="laplace", sigma=0.11))


@pytest.mark.parametrize("sigma", [0.031373, 8 / 255, 8 / 255 + 5e-6])
def test_a_level_that_is_nearly_the_noise_trained_with_is_measured_once(sigma):
    levels = metrics.levels_of(Config(dataset="cifar10", sigma=sigma))
    assert len(levels) == len(metrics.LEVELS["default"]) + 1 and {sigma, 0.06} <= {*levels}  # the preset's own among them
    rows = pd.DataFrame({"level": metrics.told(levels)})
    assert at_level(rows.level, sigma).sum() == at_level(rows.level, 8 / 255).sum() == 1


def test_a_run_on_named_data_keeps_what_an_older_version_measured():
    """Of its epoch that was best on test no weights are left to measure it by again."""
    gaussian = {"levels": [0.0, 0.25]}
    assert runs.measured_as_settled(runs.Run(Config(sigma=0.25), Path("store"), {"metrics": {"last": {"gaussian": gaussian}}}))


@pytest.mark.parametrize("failing", ["record.json", "sums.json"])
def test_a_run_outlives_a_full_disk_while_it_is_measured_again(two_classes, store, monkeypatch, failing):
    """A run that cannot take its new record keeps its weights, and is measured again, not trained, in the next call."""
    alone = runs.load_or_train(Config(dataset=two_classes, method="normal", sigma=0.1, **FAST), store=store)
    suggest.settle(two_classes, store=store, sigma=0.1, **FAST)

    def full(path, content, write=files.write):
        if path.name == failing:
            raise InputError("No space left on device")
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write", full)
        with pytest.raises(InputError, match="No space left"):
            runs.load_or_train(alone.config, store=store)
    again = runs.load_or_train(alone.config, store=store)
    assert again.history == alone.history and again.record["environment"] == alone.record["environment"]  # seconds of training among them
    assert runs.measured_as_settled(again) and runs.stored(alone.config, store)


def test_what_a_callers_on_epoch_raises_is_not_told_as_the_disks(tiny, store):
    def gone(row):
        raise BrokenPipeError("Broken pipe")

    with pytest.raises(BrokenPipeError):
        runs.load_or_train(tiny(epochs=1), store=store, on_epoch=gone)


@pytest.mark.parametrize("collapse", [0.0, 1e-20])
def test_a_run_that_collapsed_on_its_way_has_its_film(tiny, tmp_path, collapse):
    """All features of an epoch in one point, or nearly: the plane is any that holds it, and a study goes on to its report."""
    run = runs.load_or_train(tiny(), store=tmp_path)
    for path in (run.folder / "features").glob("epoch-0002*"):
        tensors, _ = files.read_tensors(path)
        files.write_tensors(path, tensors | {name: collapse * tensors[name] for name in ("clean", "noisy")})
    (shot,) = (scene for scene, epoch in zip(films.scenes(films.film(run)), run.kept, strict=True) if epoch == 2)
    assert np.isfinite(shot.points).all() and np.abs(shot.points).max() <= 1e-6


def test_films_of_another_folder_of_the_same_name_are_not_taken(tmp_path):
    """Nor is one of other settings where the data set's own are there."""
    folder = tmp_path / "films" / "pics-small"
    film = files.read_json(next((records.COMMITTED / "films" / "digits-digits").glob("*normal*")))
    for name, dataset, epochs in (("z", "a/pics", 24), ("y", "b/pics", 12), ("x", "b/pics", 13)):
        config = dataclasses.asdict(Config(dataset=dataset, method="normal", epochs=epochs))
        files.write_json(folder / f"{name}.json", film | {"name": name, "config": config})
    found = films.read(tmp_path, "b/pics", "small")
    assert {method: one["name"] for method, one in found.items()} == {"normal": "y"}  # 12 epochs are what `small` has


def test_an_exchanged_file_of_a_named_data_set_is_noticed(keras_npz, tmp_path, store):
    """As where the official archive takes the place of a rebuilt copy; a run is found by the name of its data set alone."""
    roots = [tmp_path / str(i) for i in range(2)]
    for i, root in enumerate(roots):
        root.mkdir()
        keras_npz(train=100, classes=10, name=f"{i}/cifar10.npz", x_test=np.full((12, 5, 4, 3), i, np.uint8))
    fields = dict(dataset="cifar10", preset="small", method="normal", network="small", width=4, dim=8, epochs=1, images=0, batch=8, pad=1)
    trained = train_all([Config(**fields)], root=roots[0], store=store)
    assert train_all([Config(**fields)], root=roots[0], store=store)[0].record == trained[0].record
    with pytest.raises(InputError, match="was trained on other images than cifar10 holds now"):
        train_all([Config(**fields)], root=roots[1], store=store)
