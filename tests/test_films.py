"""Films of training: what they show is the stored run; keeping features changes nothing and survives an interruption."""

import json
import math
import time

import numpy as np
import pytest
import torch

from penultimate import InputError
from penultimate.batches import stream
from penultimate.data import to_unit
from penultimate.noise import NOISES
from penultimate.planes import scene
from penultimate.runs import Run, load_or_train
from penultimate.study import films
from penultimate.study.films import collect, film, read, scenes
from penultimate.support import files
from penultimate.train import KEPT_IMAGES, OutOfTime, Trainer, kept_epochs, train

CLASSES, DRAWN = (4, 0, 7), 20  # fewer than there are of each class


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return load_or_train(tiny(epochs=10, delta_v=0.05), store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def reel(run):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(films, "PER_CLASS", DRAWN)
        return film(run, CLASSES)


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 15, 16, 17, 24, 40, 100, 200, 225, 1000, 9999])
def test_kept_epochs_go_from_the_first_to_the_last_at_most_sixteen(epochs):
    kept = kept_epochs(epochs)
    assert kept[0] == 0 and kept[-1] == epochs and len(kept) <= 16 and all(isinstance(epoch, int) for epoch in kept)
    assert kept == sorted(set(kept))
    if epochs >= 225:  # every one of them differs: steps grow, the early ones are dense
        steps = np.diff(kept)
        assert len(kept) == 16 and (np.diff(steps) >= -1).all() and steps[0] <= epochs / 200 < steps[-1]


def test_features_are_kept_at_these_epochs_from_the_first_test_images(run, digits):
    assert list(run.kept) == kept_epochs(10) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert all(now["clean"].shape == now["noisy"].shape == (450, 16) for now in run.kept.values())
    images = to_unit(digits.test.images[:KEPT_IMAGES])
    noisy = NOISES["gaussian"](images, run.config.sigma, stream(0, "watch", 0)).clamp(0, 1)
    last = run.kept[10]
    with torch.no_grad():
        for name, view in (("clean", images), ("noisy", noisy)):
            q = run.model.features(view)
            assert last[name].dtype == torch.float16 and torch.allclose(last[name].float(), q, rtol=2e-3, atol=1e-4)
    assert torch.equal(last["weight"], run.model.head.weight) and torch.equal(last["bias"], run.model.head.bias)


def test_a_longer_test_split_is_cut(tiny, keras_npz, tmp_path, monkeypatch):
    monkeypatch.setattr("penultimate.train.KEPT_IMAGES", 7)
    path, _ = keras_npz(train=120, test=12)
    run = load_or_train(tiny(dataset=str(path), images=0, epochs=1), store=tmp_path)
    assert list(run.kept) == [0, 1] and {len(now[view]) for now in run.kept.values() for view in ("clean", "noisy")} == {7}


def test_a_film_has_a_frame_and_terms_for_every_kept_epoch(run, reel):
    assert reel["epochs"] == kept_epochs(10) == list(run.kept) and len(reel["frames"]) == len(scenes(reel)) == len(reel["epochs"])
    assert all(len(values) == len(reel["epochs"]) for values in reel["terms"].values())
    assert reel["classes"] == list(CLASSES) and reel["images"] == 450 and reel["name"] == run.config.name


def drawn_rows(labels):
    return [i for c in CLASSES for i in [i for i in range(len(labels)) if labels[i] == c][:DRAWN]]


def test_the_last_frame_is_the_scene_of_the_stored_weights(run, reel, digits):
    labels = digits.test.labels.numpy()
    with torch.no_grad():
        q = run.model.features(to_unit(digits.test.images)).double().numpy()
    head = (part.detach().numpy() for part in (run.model.head.weight, run.model.head.bias))
    rows, means = drawn_rows(labels), np.stack([q[labels == c].mean(0) for c in CLASSES])
    expected, seen = scene(q[rows], labels[rows], *head, CLASSES, centroids=means), scenes(reel)[-1]
    assert len(rows) == len(seen.points) == 3 * DRAWN
    assert np.array_equal(seen.labels, expected.labels) and seen.chosen.tolist() == list(CLASSES)
    for name in ("points", "centroids", "weight", "bias", "stretch"):
        assert np.allclose(getattr(seen, name), getattr(expected, name), rtol=2e-3, atol=5e-3), name
    assert np.abs(seen.points).max() > 0.1  # so that 5e-3 tells something


def test_every_frame_shows_the_kept_features_in_its_own_plane(run, reel, digits):
    labels = digits.test.labels.numpy()
    rows = drawn_rows(labels)
    for seen, now in zip(scenes(reel), run.kept.values(), strict=True):
        q, noisy = now["clean"].double().numpy(), now["noisy"].double().numpy()
        means = np.stack([q[labels == c].mean(0) for c in CLASSES])
        expected = scene(q[rows], labels[rows], now["weight"], now["bias"], CLASSES, noisy[rows], means)
        for name in seen._fields:
            assert np.allclose(getattr(seen, name), getattr(expected, name), atol=1e-3), name


def loop_pull(q, labels, means, delta_v):
    per_class = []
    for c in sorted(set(labels)):
        hinges = [max(0.0, math.dist(q[i], means[c]) - delta_v) ** 2 for i in range(len(q)) if labels[i] == c]
        per_class.append(sum(hinges) / len(hinges))
    return sum(per_class) / len(per_class)


def loop_margin(means, weight, bias, delta_d):
    hinges = []
    for c in range(len(weight)):
        logits = weight @ means[c] + bias
        worst = max((logits[j] - logits[c]) / math.dist(weight[j], weight[c]) for j in range(len(weight)) if j != c)
        hinges.append(max(0.0, delta_d + worst))
    return sum(hinges) / len(hinges)


def test_terms_and_accuracies_equal_loops_over_the_kept_features(run, reel, digits):
    labels, config, terms = digits.test.labels.numpy(), run.config, reel["terms"]
    for index, now in enumerate(run.kept.values()):
        q, noisy, weight, bias = (now[name].double().numpy() for name in ("clean", "noisy", "weight", "bias"))
        means = [q[labels == c].mean(0) for c in range(10)]
        assert terms["compact"][index] == pytest.approx(loop_pull(q, labels, means, config.delta_v), abs=2e-5, rel=1e-4)
        assert terms["noisy"][index] == pytest.approx(loop_pull(noisy, labels, means, config.delta_v), abs=2e-5, rel=1e-4)
        assert terms["margin"][index] == pytest.approx(loop_margin(means, weight, bias, config.delta_d), abs=2e-5, rel=1e-4)
        for name, view in (("accuracy", q), ("accuracy_noisy", noisy)):
            right = sum(int((weight @ view[i] + bias).argmax() == labels[i]) for i in range(len(labels)))
            assert terms[name][index] == pytest.approx(right / len(labels), abs=6e-6)
    assert terms["accuracy"][-1] > terms["accuracy"][0] and terms["noisy"][-1] > terms["compact"][-1] > 0.01


def test_a_film_survives_json(run, reel, tmp_path):
    again = json.loads(json.dumps(reel, allow_nan=False))
    for one, two in zip(scenes(again), scenes(reel), strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in one._fields)
        assert one.labels.dtype.kind == one.chosen.dtype.kind == "i"


def test_films_of_the_first_seed_of_normal_and_proposed_are_collected_and_read(run, tiny, tmp_path):
    other = {name: Run(tiny(epochs=run.config.epochs, **given), run.folder, run.record) for name, given in {
        "normal": dict(method="normal"), "both": dict(method="both"), "second": dict(seed=1),
    }.items()}  # fmt: skip
    collect([run, *other.values()], tmp_path / "records")
    found = read(tmp_path / "records")
    assert found.keys() == {"normal", "proposed"}
    assert found["proposed"] == json.loads(json.dumps(film(run))) and found["normal"] == json.loads(json.dumps(film(other["normal"])))
    assert found["proposed"]["classes"] == [1, 8, 9] and found["proposed"]["config"]["method"] == "proposed"
    assert [path.parent.name for path in tmp_path.glob("records/films/*/*.json")] == ["digits-digits"] * 2
    assert read(tmp_path / "records", "cifar10", "small") == {} == read(tmp_path)


def test_there_is_no_film_where_test_images_are_of_two_classes(tiny, keras_npz, tmp_path):
    path, _ = keras_npz(channels=1, classes=3, train=60, y_test=np.arange(12) % 2)
    run = load_or_train(tiny(dataset=str(path), method="normal", seed=0), store=tmp_path / "runs")
    films.collect([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("classes", [(0, 1, 10), (0, 1, -1), (0, 1, 1), (0, 1)])
def test_classes_that_are_none_are_refused(run, classes):
    with pytest.raises(InputError, match=r"classes \(.*expected"):
        film(run, classes)


def test_a_run_of_an_older_version_is_named(run, tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} lacks features of its training .*: delete it, and it is trained again"):
        film(Run(run.config, tmp_path, run.record))
    collect([Run(run.config, tmp_path, run.record)], tmp_path)
    assert read(tmp_path) == {}


def test_keeping_features_changes_no_weight(tiny, digits, tmp_path):
    plain = train(tiny(best_on_test=True), digits)
    kept = train(tiny(best_on_test=True), digits, kept=tmp_path)
    one, two = plain.model.state_dict(), kept.model.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    drop = lambda history: [{k: v for k, v in row.items() if k != "seconds"} for row in history]  # noqa: E731
    assert drop(plain.history) == drop(kept.history) and plain.best_epoch == kept.best_epoch


@pytest.fixture
def interrupted(run, digits, tmp_path):
    """Goes on with the run in tmp_path and reads what was kept there."""

    def go_on(**given):
        train(run.config, digits, checkpoint=tmp_path / "checkpoint.safetensors", kept=tmp_path / "features", **given)
        return Run(run.config, tmp_path, {}).kept

    return go_on


def same(one, two):
    return list(one) == list(two) and all(torch.equal(one[e][name], two[e][name]) for e in one for name in one[e].keys() | two[e].keys())


@pytest.mark.parametrize("epochs_before", [0, 1, 7])
def test_an_interrupted_run_keeps_every_chosen_epoch_like_an_uninterrupted_one(run, tmp_path, monkeypatch, interrupted, epochs_before):
    clock = iter([0.0] * epochs_before + [2.0] * 99)
    with monkeypatch.context() as patched, pytest.raises(OutOfTime, match=f"{epochs_before} of 10 epochs done"):
        patched.setattr(time, "time", lambda: next(clock))
        interrupted(deadline=1.0)
    assert list(Run(run.config, tmp_path, {}).kept) == [epoch for epoch in kept_epochs(10) if epoch <= epochs_before]
    assert same(interrupted(), run.kept)


def test_a_crash_between_features_and_checkpoint_leaves_the_same_features(run, tmp_path, monkeypatch, interrupted):
    """The epoch whose checkpoint was not written is trained again, and its features are written over with the same."""
    write = files.write_tensors

    def full(path, *given):
        if path.name == "checkpoint.safetensors" and (tmp_path / "features" / "epoch-0002.safetensors").exists():
            raise InputError("full")
        write(path, *given)

    with monkeypatch.context() as patched, pytest.raises(InputError, match="full"):
        patched.setattr(files, "write_tensors", full)
        interrupted()
    assert same(interrupted(), run.kept)


def test_features_beyond_half_precision_are_kept_as_they_are(tiny, digits):
    """A network on its way to a collapse, or back from one, may have features above 65,504: as inf they would be nobody's."""
    trainer = Trainer(tiny(), digits, "cpu")
    assert trainer.features()["clean"].dtype == torch.float16
    with torch.no_grad():
        trainer.model.embed.weight.mul_(1e8)
    kept = trainer.features()
    assert kept["clean"].isfinite().all() and kept["clean"].abs().max() > 65_504 and kept["noisy"].dtype == torch.float32
