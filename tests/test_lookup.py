"""What widgets look up equals what the network does; it is kept beside the run, and made again where it does not fit."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from penultimate import InputError, data
from penultimate.data import to_unit
from penultimate.embed import embedding
from penultimate.jobs import one_thread
from penultimate.model import penultimate_features, predict
from penultimate.noise import NOISES, apply
from penultimate.runs import Run, load_or_train
from penultimate.study.lookup import LEVELS, Lookup, levels, look_up, looked_at, numbers, perturbed
from penultimate.support import files

N = 60


@pytest.fixture(scope="module")
def stored(tiny, tmp_path_factory):
    return load_or_train(tiny(epochs=10, delta_v=0.05), store=tmp_path_factory.mktemp("store"))


@pytest.fixture
def run(stored, tmp_path):
    """The run in a folder of its own, without anything looked up."""
    fresh = Run(stored.config, tmp_path, stored.record)
    fresh.__dict__["model"] = stored.model
    return fresh


@pytest.fixture(scope="module")
def images(digits):
    return digits.test.images[:N]


def test_every_perturbation_has_levels_from_the_neutral_one_up():
    assert LEVELS.keys() == NOISES.keys() - {"coin_flip", "blur", "contrast", "jpeg"}  # for the theory, and for page 06
    for name in LEVELS:
        for dataset in ("digits", "cifar10", "some/set.npz"):
            at = levels(name, dataset)
            assert at[0] == (1.0 if name == "low_resolution" else 0.0) and list(at) == sorted(set(at)) and len(at) >= 5
    with pytest.raises(InputError, match="perturbation with a slider 'blur'"):
        levels("blur", "digits")
    assert levels("gaussian", "digits")[-1] == 0.5 and levels("gaussian", "cifar10")[-1] == 32 / 255


@pytest.mark.parametrize("name", LEVELS)
def test_the_neutral_level_leaves_the_images(images, name):
    at = levels(name, "digits")
    views = perturbed(images, name, at)
    assert views.shape == (len(at), N, 1, 8, 8) and views.min() >= 0 and views.max() <= 1
    assert torch.allclose(views[0], images / 255, atol=1e-6)
    moved = [(view - views[0]).abs().mean().item() for view in views]
    assert moved == sorted(moved) and moved[1] > 0  # and the slider makes it worse step by step


@pytest.mark.parametrize("name", ["gaussian", "uniform", "laplace"])
def test_levels_share_their_random_numbers(name):
    grey = torch.full((20, 1, 8, 8), 128, dtype=torch.uint8)
    one, two = perturbed(grey, name, (0.05, 0.1))
    free = (one > 0) & (one < 1) & (two > 0) & (two < 1)
    assert free.float().mean() > 0.9
    assert torch.allclose(2 * (one - 128 / 255)[free], (two - 128 / 255)[free], atol=1e-6)


@pytest.mark.parametrize("name, levels", [("salt_pepper", (0.1, 0.3)), ("occlusion", (0.25, 0.5))])
def test_a_higher_level_hits_more_pixels(name, levels):
    grey = torch.full((40, 1, 8, 8), 128, dtype=torch.uint8)
    one, two = (view != 128 / 255 for view in perturbed(grey, name, levels))
    assert one.any() and two.sum() > one.sum()
    if name == "salt_pepper":
        assert two[one].all()  # the same ones and others


@pytest.mark.parametrize("name", ["gaussian", "occlusion", "low_resolution"])
def test_a_lookup_is_what_the_network_says_of_the_perturbed_images(run, images, name):
    seen, at = look_up(run, images, name), levels(name, "digits")
    assert seen.features.shape == (len(at), N, 16) and seen.predicted.shape == seen.confidence.shape == (len(at), N)
    assert seen.features.dtype == np.float16 and len({*seen.predicted.ravel()}) > 1
    for k, level in enumerate(at):
        view = apply(name, to_unit(images), level, torch.Generator().manual_seed(0))
        with torch.no_grad():
            q, logits = run.model.features(view), run.model(view)
        assert np.allclose(seen.features[k], q.numpy(), rtol=2e-3, atol=1e-4)
        assert np.array_equal(seen.predicted[k], predict(run.model, view).numpy())
        assert np.allclose(seen.confidence[k], logits.softmax(1).amax(1).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "salt_pepper"])
def test_a_kept_lookup_is_read_not_made_again(run, images, name):
    first, path = look_up(run, images, name), run.folder / "lookup" / f"{name}.safetensors"
    again = look_up(run, images, name)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(first, again, strict=True))
    tensors, metadata = files.read_tensors(path)
    assert tensors.keys() == {"features", "predicted", "confidence"}
    files.write_tensors(path, tensors | {"predicted": tensors["predicted"] + 100}, metadata)
    assert np.array_equal(look_up(run, images, name).predicted, first.predicted + 100)
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{name}.safetensors"]


@pytest.mark.parametrize("change", ["levels", "images"])
def test_other_levels_or_another_number_of_images_are_looked_up_anew(run, images, monkeypatch, change):
    first = look_up(run, images)
    if change == "levels":  # as many, so that only their values tell
        monkeypatch.setitem(LEVELS, "gaussian", {"default": (*levels("gaussian", "digits")[:-1], 0.7)})
        second = look_up(run, images)
        assert np.array_equal(second.features[:-1], first.features[:-1]) and not np.array_equal(second.features[-1], first.features[-1])
    else:
        second = look_up(run, images[:-1])
        assert second.features.shape == (11, N - 1, 16) and np.array_equal(second.predicted[0], first.predicted[0, :-1])
    assert np.array_equal(look_up(run, images if change == "levels" else images[:-1]).features, second.features)


def test_numbers_equal_loops(run, images, digits):
    seen, labels = look_up(run, images), digits.test.labels[:N].numpy()
    told = numbers(run, seen, labels)
    assert list(told.index) == list(levels("gaussian", "digits")) and list(told.columns) == [
        "radius",
        "margin",
        "to clean centroid",
        "silhouette",
    ]
    features = seen.features.astype(float)
    weight, bias = (part.detach().numpy().astype(float) for part in (run.model.head.weight, run.model.head.bias))
    clean = [features[0][labels == c].mean(0) for c in range(10)]
    for k, q in enumerate(features):
        means = [q[labels == c].mean(0) for c in range(10)]
        radius = np.mean([np.mean([math.dist(q[i], means[c]) for i in range(N) if labels[i] == c]) for c in range(10)])
        margins = []
        for c in range(10):
            z = weight @ means[c] + bias
            margins.append(min((z[c] - z[j]) / math.dist(weight[c], weight[j]) for j in range(10) if j != c))
        away = sum(math.dist(q[i], clean[labels[i]]) for i in range(N)) / N
        assert told.iloc[k].tolist() == pytest.approx([radius, np.mean(margins), away, silhouette_score(q, labels)], rel=1e-5, abs=1e-6)
        assert -1 <= told.silhouette.iloc[k] <= 1
        assert told.silhouette.iloc[k] == pytest.approx(loop_silhouette(q, labels), abs=1e-6)
    assert told.radius.iloc[-1] != pytest.approx(told["to clean centroid"].iloc[-1], rel=1e-3)


def loop_silhouette(q, labels):
    scores = []
    for i in range(len(q)):
        away = {c: np.mean([math.dist(q[i], q[j]) for j in range(len(q)) if labels[j] == c and j != i]) for c in set(labels)}
        a, b = away.pop(labels[i]), min(away.values())
        scores.append((b - a) / max(a, b))
    return np.mean(scores)


def test_without_two_images_of_a_class_there_is_no_silhouette(run, images):
    seen = look_up(run, images)
    told = numbers(run, Lookup(*(part[:, :3] for part in seen)), np.arange(3))
    assert told.silhouette.isna().all() and told["to clean centroid"].notna().all()


def test_the_images_looked_at_are_those_whose_features_are_kept(tiny, keras_npz, tmp_path, monkeypatch):
    assert torch.equal(looked_at("digits").images, data.load("digits").test.images)
    for module in ("study.lookup", "train"):
        monkeypatch.setattr(f"penultimate.{module}.KEPT_IMAGES", 7)
    path, _ = keras_npz(train=120, test=12)
    run, test = load_or_train(tiny(dataset=str(path), images=0, epochs=1), store=tmp_path), looked_at(str(path))
    assert len(test) == 7
    q = penultimate_features(run.model, to_unit(test.images))
    assert torch.allclose(run.kept[1]["clean"].float(), q, rtol=2e-3, atol=1e-4)


class LinearUmap:
    """In place of UMAP, whose positions nothing should be tested on: x -> its first two values less the fitted mean."""

    made = []

    def __init__(self, **options):
        self.options, self.fitted, self.transformed = options, [], []
        LinearUmap.made.append(self)

    def fit(self, x):
        self.fitted.append(x)
        self.mean, self.embedding_ = x.mean(0), 2 * (x - x.mean(0))[:, :2]
        return self

    def transform(self, x):
        self.transformed.append(x)
        return 2 * (x - self.mean)[:, :2]


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setattr(LinearUmap, "made", [])
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=LinearUmap))
    return LinearUmap.made


def test_a_umap_is_fitted_on_clean_features_alone(run, images, library):
    seen = look_up(run, images)
    placed, features = embedding(run, seen), seen.features.astype(np.float32)
    (made,) = library
    assert len(made.fitted) == 1 and np.array_equal(made.fitted[0], features[0])
    assert len(made.transformed) == 10 and all(np.array_equal(x, q) for x, q in zip(made.transformed, features[1:], strict=True))
    assert placed.shape == (11, N, 2)
    for at, q in zip(placed, features, strict=True):
        assert np.allclose(at, 2 * (q - features[0].mean(0))[:, :2], atol=1e-6)
    assert made.options["n_neighbors"] == 15 and made.options["random_state"] == 0


def test_a_kept_umap_needs_no_library(run, images, library, monkeypatch, capsys):
    seen = look_up(run, images)
    first = embedding(run, seen)
    assert "proposed: making a UMAP of 60 images at 11 levels" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "umap", None)  # an import of it fails
    assert np.array_equal(embedding(run, seen), first) and capsys.readouterr().out == ""
    with pytest.raises(ImportError):
        embedding(run, seen, neighbors=7)


def test_other_images_or_neighbours_make_another_umap(run, images, library):
    seen = look_up(run, images)
    embedding(run, seen)
    embedding(run, seen, neighbors=5)
    few = look_up(run, images[:9])
    assert embedding(run, few).shape == (11, 9, 2)
    assert [made.options["n_neighbors"] for made in library] == [15, 5, 8]


def test_narrow_networks_compute_on_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    with pytest.raises(KeyError), one_thread():
        assert asked == [1]
        raise KeyError
    assert asked == [1, 4]  # as before, whatever happened


def test_a_lookup_leaves_the_model_able_to_bear_gradients(stored, images):
    """Also where the lookup is what first reads it."""
    fresh = Run(stored.config, stored.folder, stored.record)
    look_up(fresh, images)
    fresh.model(torch.rand(2, 1, 8, 8)).sum().backward()
