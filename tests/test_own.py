"""A run on one's own data: found by its path, refused when the pictures have changed; noise suggested; balanced accuracy recorded."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from penultimate import InputError, data, records, runs
from penultimate.configs import DEFAULTS, Config
from penultimate.data import Split
from penultimate.evaluate import balanced
from penultimate.jobs import train_all
from penultimate.study import films, lookup, roads, suggest

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
    pattern = re.search(r"delete (.*) to train", str(no.value))[1]
    assert run.folder in list(store.glob(pattern.rpartition("/")[2]))


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


def test_what_is_settled_holds_for_later_runs_and_their_tables(two_classes, store, monkeypatch):
    asked = []
    monkeypatch.setattr(suggest, "noise_level", lambda *given: asked.append(1) or (0.1, suggest.pd.Series({0.0: 1.0, 0.1: 0.9})))
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
