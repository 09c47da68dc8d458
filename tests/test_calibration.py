"""Calibration by hand, against a loop and scikit-learn's curve."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torch import nn

from penultimate import InputError, calibration
from penultimate.calibration import calibration_error, overconfidence, reliability


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 2000)
    return confidence, rng.uniform(size=2000) < confidence**2


def test_by_hand():
    """Two bins: (0, 0.5] holds 0.2 (right) and 0.4 (wrong), (0.5, 1] holds 0.8 (right), 0.9 (right), 1.0 (wrong)."""
    table = reliability(np.array([0.2, 0.4, 0.8, 0.9, 1.0]), np.array([1, 0, 1, 1, 0], bool), bins=2)
    assert table == {"count": [2, 3], "confidence": [0.6, 2.7], "correct": [1, 2]}
    assert calibration_error(table) == pytest.approx(2 / 5 * abs(0.5 - 0.3) + 3 / 5 * abs(2 / 3 - 0.9))
    assert overconfidence(table) == pytest.approx((0.2 + 0.4 + 0.8 + 0.9 + 1.0) / 5 - 3 / 5)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    assert reliability(np.array([0.5, 0.500001]), np.ones(2, bool), bins=2)["count"] == [1, 1]


def test_bins_are_those_of_scikit_learn(sample):
    table = {name: np.array(values) for name, values in reliability(*sample).items()}
    right, said = calibration_curve(sample[1], sample[0], n_bins=calibration.BINS)
    full = table["count"] > 0
    assert len(table["count"]) == 15 and table["count"].sum() == 2000
    np.testing.assert_allclose(table["correct"][full] / table["count"][full], right)
    np.testing.assert_allclose(table["confidence"][full] / table["count"][full], said, atol=1e-5)


def test_error_against_a_loop(sample):
    confidence, correct = sample
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean()) if inside.any() else 0
    assert calibration_error(reliability(confidence, correct)) == pytest.approx(expected, abs=1e-5) and expected > 0.1


def test_who_is_right_as_often_as_it_says_has_no_error_but_chance():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(size=100_000)
    table = reliability(confidence, rng.uniform(size=100_000) < confidence)
    assert calibration_error(table) < 15 * 0.5 / np.sqrt(15 * 100_000)  # a bin's chance error is at most 0.5 / sqrt(n_b)
    assert abs(overconfidence(table)) < 5 * 0.5 / np.sqrt(100_000)


def test_scores_are_softmax_and_whether_the_largest_is_right():
    images, labels = torch.rand(7, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    confidence, correct = calibration.scores(model, images, labels, batch=3)
    for i in range(7):
        z = model(images[i : i + 1])[0].double().detach()
        assert confidence[i] == pytest.approx(float(torch.exp(z.max()) / torch.exp(z).sum()), rel=1e-5)
        assert correct[i] == (int(z.argmax()) == int(labels[i]))


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(InputError, match="in training mode"):
        calibration.scores(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(1, 1, 2, 2), torch.tensor([0]))


def test_pixels_may_be_bytes_and_no_grey_levels_of_another_kind():
    images, labels = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8), torch.zeros(5, dtype=torch.long)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    assert np.array_equal(calibration.scores(model, images, labels)[0], calibration.scores(model, images / 255, labels)[0])
    with pytest.raises(InputError, match="expected finite values in"):
        calibration.scores(model, images.float(), labels)


@pytest.mark.parametrize("bad", [[], [1.2], [np.nan]])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(InputError, match=r"expected probabilities"):
        reliability(np.array(bad), np.ones(len(bad), bool))
