"""The noise sweep on a model whose answers are known, intervals against scipy, and the feature geometry's invariances."""

import base64
import math
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from penultimate import InputError, evaluate, records
from penultimate.evaluate import correctness, image_interval, pack, seed_interval, sweep, unpack
from penultimate.geometry import describe


class Brightness(nn.Module):
    """Class 1 where the mean is above one half; keeps every batch that it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return torch.stack([torch.full((len(x),), 0.5), x.flatten(1).mean(1)], 1)


@pytest.fixture
def grey():
    """Sixty uniform grey images, from black to white, and whether each is bright; as many again mislabelled."""
    brightness = torch.linspace(0, 1, 60)
    images, labels = brightness[:, None, None, None].expand(60, 1, 4, 4), (brightness > 0.5).long()
    return torch.cat([images, images]), torch.cat([labels, 1 - labels])


def test_sweep_counts_what_the_model_gets_right(grey):
    images, labels = grey
    table, correct = sweep(Brightness(), images, labels, "low_resolution", [0, 1, 2], draws=2, per_image=True)
    assert list(table.columns) == ["perturbation", "level", "draw", "accuracy"] and len(table) == 3 * 2
    assert (table.accuracy == 0.5).all() and (table.perturbation == "low_resolution").all()  # grey stays grey
    assert table.level.tolist() == [0, 0, 1, 1, 2, 2] and table.draw.tolist() == [0, 1] * 3
    assert correct.shape == (3, 2, 120) and correct.dtype == bool
    assert correct[:, :, :60].all() and not correct[:, :, 60:].any()


def test_noise_blurs_the_threshold_only(grey):
    images, labels = (part[:60] for part in grey)
    correct = correctness(Brightness(), images, labels, "gaussian", [0, 0.2], draws=8)
    brightness = images[:, 0, 0, 0].numpy()
    far, near = abs(brightness - 0.5) > 0.3, abs(brightness - 0.5) < 0.03
    assert correct[0].all() and correct[1][:, far].all() and not correct[1][:, near].all()  # the mean's deviation is 0.05


def test_uint8_images_are_taken_as_they_are():
    images, labels = torch.tensor([[100, 100], [200, 200]], dtype=torch.uint8).reshape(2, 1, 1, 2), torch.tensor([0, 1])
    assert correctness(Brightness(), images, labels, "gaussian", [0, 0.01], draws=1).all()


@pytest.mark.parametrize("perturbation, level", [("gaussian", 0.2), ("salt_pepper", 0.2), ("occlusion+gaussian", (0.5, 0.1))])
def test_every_model_meets_the_same_draws(grey, perturbation, level):
    one, two, other_seed = Brightness(), Brightness(), Brightness()
    torch.manual_seed(0)
    correctness(one, *grey, perturbation, [level], draws=3)
    torch.manual_seed(1)
    torch.rand(5)
    correctness(two, *grey, perturbation, [0, level], draws=3)  # nor do the other levels matter
    correctness(other_seed, *grey, perturbation, [level], draws=3, seed=1)
    assert torch.equal(torch.cat(one.seen), torch.cat(two.seen[-3:]))
    shown = [*one.seen, *other_seed.seen]
    assert len(shown) == 6 and not any(torch.equal(a, b) for i, a in enumerate(shown) for b in shown[:i])


def test_draws_are_the_named_perturbation_of_the_images(grey):
    model = Brightness()
    correctness(model, *grey, "uniform", [0.1], draws=1)
    noise = model.seen[0] - grey[0]
    inside = (grey[0] > 0.2) & (grey[0] < 0.8)
    assert float(noise.abs().max()) <= 0.1 * math.sqrt(3) + 1e-6
    assert float(noise[inside].std()) == pytest.approx(0.1, abs=5 * 0.1 * math.sqrt(0.8 / 4 / int(inside.sum())))  # five standard errors


def test_chunks_have_draws_of_their_own(monkeypatch):
    monkeypatch.setattr(evaluate, "CHUNK", 3)
    model, images = Brightness(), torch.full((8, 1, 4, 4), 0.5)
    labels = torch.tensor([0, 1] * 4)
    correct = correctness(model, images, labels, "gaussian", [0.1], draws=1)
    shown = torch.cat(model.seen)
    assert [len(part) for part in model.seen] == [3, 3, 2] and len({image.numpy().tobytes() for image in shown}) == 8
    assert correct[0, 0].tolist() == ((shown.flatten(1).mean(1) > 0.5).long() == labels).tolist()


def test_level_zero_is_the_clean_image_in_every_draw(grey):
    model = Brightness()
    correct = correctness(model, *grey, "gaussian", [0.0], draws=4)
    assert torch.equal(torch.cat(model.seen), grey[0]) and (correct == correct[:, :1]).all()


def test_a_sweep_leaves_the_models_mode_alone(grey):
    for training in (True, False):
        assert sweep(model := Brightness().train(training), *grey, "gaussian", [0.1], 1) is not None and model.training == training


@pytest.mark.parametrize(
    "perturbation, levels, draws, message",
    [
        ("gaussian", [0.1], 0, "0 draws at 1 levels: a sweep needs at least one of each"),
        ("gaussian", [0.1], 10**30, "and at most 1,000 draws"),
        ("gaussian", [], 1, "1 draws at 0 levels"),
        ("fog", [0.1], 1, "unknown noise 'fog': choose one of gaussian"),
        ("gaussian", [-0.1], 1, "gaussian level -0.1"),
        ("occlusion", [2.0], 1, "occlusion level 2.0 makes patches of 8 px in a 4x4 image"),
    ],
)
def test_a_bad_sweep_is_named(grey, perturbation, levels, draws, message):
    with pytest.raises(InputError, match=message):
        sweep(Brightness(), *grey, perturbation, levels, draws)
    with pytest.raises(InputError, match="seed = 1000000000000 is not a whole number from 0 to below 10,000,000,000"):
        sweep(Brightness(), *grey, "gaussian", [0.1], 1, seed=10**12)


@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_packed_bits_come_back(shape, seed):
    correct = np.random.default_rng(seed).random(shape) < 0.5
    packed = pack(correct)
    assert np.array_equal(unpack(packed), correct) and unpack(packed).dtype == bool
    assert isinstance(packed["zlib"], str) and packed["shape"] == shape


def test_bits_lie_image_by_image():
    packed = pack(np.array([[True, False, True], [False, False, True]]))  # two rows, three images: 10, 00, 11
    assert zlib.decompress(base64.b64decode(packed["zlib"])) == bytes([0b10000000, 0, 0b11000000])


def test_an_older_records_plain_bits_are_read():
    found = unpack({"shape": [2, 3], "bits": base64.b64encode(bytes([0b10100100])).decode()})
    assert found.tolist() == [[True, False, True], [False, False, True]]
    with pytest.raises(InputError, match=r"2 bytes of bits do not fill the shape \[2, 3\]: expected 1"):
        unpack({"shape": [2, 3], "bits": base64.b64encode(bytes(2)).decode()})


def zipped(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "packed, message",
    [
        ({"shape": [8, 10], "zlib": zipped(bytes(9))}, r"9 bytes of bits do not fill the shape \[8, 10\]: expected 10"),
        ({"shape": [8, 10], "zlib": zipped(bytes(10**8))}, r"11 bytes of bits do not fill the shape \[8, 10\]: expected 10"),
        ({"shape": [8, 10], "zlib": zipped(bytes(10))[:-8]}, r"bits of an array of shape \[8, 10\] are damaged \(cut short"),
        ({"shape": [8, 10], "zlib": zipped(bytes(10))[:-2] + "!!"}, r"bits of an array of shape \[8, 10\] are damaged"),
        ({"shape": [8, 10], "zlib": base64.b64encode(zlib.compress(bytes(10)) + b"more").decode()}, "are damaged .cut short, or something"),
        ({"shape": [8, 10], "zlib": base64.b64encode(bytes(10)).decode()}, "are damaged .Error -3"),
        ({"shape": [10**5, 10**5], "zlib": zipped(bytes(10**6))}, "is no shape of at most 268,435,456 bits"),
        ({"shape": [8, -10], "zlib": zipped(b"")}, r"\[8, -10\] is no shape"),
        ({"shape": [8, 10], "bits": "####"}, r"bits of an array of shape \[8, 10\] are damaged"),
    ],
)
def test_damaged_bits_are_named_and_never_inflated_beyond_their_shape(packed, message):
    tracemalloc.start()
    with pytest.raises(InputError, match=message) as error:
        unpack(packed)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4e6 and "\n" not in str(error.value)


def test_packed_bits_are_small_and_the_clean_level_is_there_once():
    """On the committed CIFAR-10 records, whose bits are plain."""
    for record in (r for r in records.read(None, "cifar10", "small") if r["config"]["seed"] == 0):
        plain = record["metrics"]["last"]["gaussian"]["correct"]
        correct = unpack(plain)
        first_draw = correct.copy()
        first_draw[0, 1:] = False
        packed = len(pack(correct)["zlib"])
        assert np.array_equal(unpack(pack(correct)), correct) and packed < 0.55 * len(plain["bits"])
        assert packed < 1.01 * len(pack(first_draw)["zlib"])


@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=8, unique=True), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_seed_interval_equals_scipy(values, confidence):
    mean, low, high = seed_interval(values, confidence)
    expected = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
    assert (mean, low, high) == pytest.approx((np.mean(values), *expected), abs=1e-12)


def test_seed_interval_by_hand():
    # Mean 3, deviation sqrt(2.5), n 5; t(0.975, 4) = 2.776 in the tables: half-width 2.776 * sqrt(2.5 / 5) = 1.963.
    assert seed_interval([1, 2, 3, 4, 5]) == pytest.approx((3, 1.037, 4.963), abs=5e-4)


def test_one_seed_has_no_interval():
    mean, low, high = seed_interval([0.7])
    assert mean == 0.7 and math.isnan(low) and math.isnan(high)


def test_image_interval_is_about_the_normal_one():
    correct = np.random.default_rng(1).random((1, 2000)) < 0.8
    mean, low, high = image_interval(correct)
    half = 1.96 * math.sqrt(mean * (1 - mean) / 2000)
    assert mean == correct.mean()
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)


def test_the_draws_of_an_image_are_one_cluster():
    once = np.random.default_rng(1).random((1, 1000)) < 0.7
    assert image_interval(np.repeat(once, 10, axis=0)) == pytest.approx(image_interval(once))  # ten copies tell no more than one


def test_a_difference_is_paired_by_image():
    rng = np.random.default_rng(0)
    baseline = rng.random((5, 1000)) < 0.5
    correct = baseline | (rng.random((5, 1000)) < 0.02)  # never worse
    mean, low, high = image_interval(correct, baseline)
    assert mean == pytest.approx(correct.mean() - baseline.mean()) and 0 < low < mean < high < 0.02


@pytest.mark.parametrize("images", [1, 10, 84, 1000])
def test_images_without_an_error_do_not_make_a_certainty(images):
    """The rule of three: none of n images speaks against, so up to 3/n may. So too for a difference of methods that agree."""
    right = np.ones((3, images), bool)
    mean, low, high = image_interval(right)
    assert (mean, high) == (1, 1) and 0.05 ** (1 / images) - 1 / images < low <= 1 - 2 / (images + 2)
    mean, low, high = image_interval(right, right)
    assert mean == 0 and low == -high and 2 / (images + 2) <= high <= 4 / (images + 2) + (images == 1)


@pytest.fixture(scope="module")
def layer():
    """Features of 4 classes around centroids on their own side, 20 samples each, and their head; float64."""
    gen = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=gen)  # noqa: E731
    weight, labels = 3 * draw(4, 6), torch.arange(4).repeat_interleave(torch.tensor([20, 5, 10, 30]))
    return weight[labels] + 0.7 * draw(65, 6), labels, weight, draw(4)


@pytest.mark.parametrize("absent", [-1, 0, 2])
def test_radius_and_margin_equal_a_loop_over_the_classes_present(layer, absent):
    q, labels, weight, bias = layer
    q, labels = q[labels != absent], labels[labels != absent]
    radii, margins, gaps = [], [], []
    for c in sorted({0, 1, 2, 3} - {absent}):
        mine = q[labels == c]
        m = mine.mean(0)
        radii.append(sum(float((one - m).norm()) for one in mine) / len(mine))
        others = [(weight[c] - weight[j], bias[c] - bias[j]) for j in range(4) if j != c]
        margins.append(min(float((normal @ m + offset) / normal.norm()) for normal, offset in others))
        leads = [mine @ normal + offset for normal, offset in others]
        gaps.append(min(float(lead.mean() / lead.std(correction=0)) for lead in leads))
    found = describe(q, labels, weight, bias)
    expected = {"radius": np.mean(radii), "margin": np.mean(margins), "ratio": np.mean(margins) / np.mean(radii), "gap": np.mean(gaps)}
    assert found == pytest.approx(expected, rel=1e-9)


@given(s=st.floats(0.1, 10))
def test_radius_and_margin_grow_with_the_features_and_their_ratio_does_not(layer, s):
    q, labels, weight, bias = layer
    before, after = describe(q, labels, weight, bias), describe(s * q, labels, weight / s, bias)
    assert after == pytest.approx({**before, "radius": s * before["radius"], "margin": s * before["margin"]}, rel=1e-9)


@given(seed=st.integers(0, 1000))
def test_gap_survives_every_invertible_map_and_the_ratio_does_not(layer, seed):
    q, labels, weight, bias = layer
    a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 3 * torch.eye(6)
    before, after = describe(q, labels, weight, bias), describe(q @ a.T, labels, weight @ torch.linalg.inv(a), bias)
    assert after["gap"] == pytest.approx(before["gap"], rel=1e-6)
    assert after["ratio"] != pytest.approx(before["ratio"], rel=1e-3)


def test_geometry_does_not_see_the_origin(layer):
    q, labels, weight, bias = layer
    shift = torch.arange(6, dtype=torch.float64)
    assert describe(q + shift, labels, weight, bias - weight @ shift) == pytest.approx(describe(q, labels, weight, bias), rel=1e-9)


@pytest.mark.parametrize("perturbation, images, labels, message", [
    ("fog", torch.zeros(2, 1, 2, 2), torch.zeros(2), "unknown noise 'fog'"),
    ("gaussian", torch.full((2, 1, 2, 2), 1.5), torch.zeros(2), "expected finite values in"),
    ("gaussian", torch.zeros(2, 1, 2, 2), torch.zeros(3), "2 images but 3 labels"),
])  # fmt: skip
def test_level_zero_is_checked_like_any_other(perturbation, images, labels, message):
    with pytest.raises(InputError, match=message):
        sweep(torch.nn.Flatten(), images, labels, perturbation, [0], draws=1)
