"""Class means and their momentum, against loops; where the gradient flows."""

import pytest
import torch

from penultimate import InputError
from penultimate.centroids import CentroidTracker, class_means


def loop_means(q, labels, classes):
    means = torch.zeros(classes, q.shape[1], dtype=q.dtype)
    for c in set(labels.tolist()):
        members = [q[i] for i in range(len(q)) if labels[i] == c]
        means[c] = sum(members) / len(members)
    return means


@pytest.mark.parametrize("seed", range(3))
def test_class_means_equal_a_loop(random_batch, seed):
    b = random_batch(seed)
    means, counts = class_means(b.q, b.labels, b.classes)
    torch.testing.assert_close(means, loop_means(b.q, b.labels, b.classes))
    assert counts.tolist() == [int((b.labels == c).sum()) for c in range(b.classes)]
    assert counts[-1] == 0 and (means[-1] == 0).all()


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.99])
def test_partial_momentum_equals_the_recurrence(random_batch, mu):
    tracker, expected = CentroidTracker(5, 3, mu).double(), {}
    for seed in range(6):
        b = random_batch(seed, n=4)  # few samples: classes come and go
        anchor, mean, counts = tracker(b.q, b.labels)
        batch_means = loop_means(b.q, b.labels, 5)
        for c in set(b.labels.tolist()):
            expected[c] = (1 - mu) * batch_means[c] + mu * expected[c] if c in expected else batch_means[c]
            torch.testing.assert_close(anchor[c], expected[c])
        torch.testing.assert_close(mean, batch_means)
        for c in range(5):  # absent classes keep theirs
            torch.testing.assert_close(tracker.centroids[c], expected.get(c, torch.zeros(3).double()))
            assert bool(tracker.seen[c]) == (c in expected)


def test_gradient_is_full_for_a_first_centroid_and_damped_later():
    tracker, labels = CentroidTracker(3, 1, momentum=0.99), torch.tensor([0, 0, 0, 0, 1])
    for scale in (1.0, 0.01):  # first seen: 1 / N_c; then (1 - mu) / N_c
        q = torch.randn(5, 1, requires_grad=True)
        tracker(q, labels).anchor.sum().backward()
        torch.testing.assert_close(q.grad[:, 0], scale * torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0]))
        assert not tracker.centroids.requires_grad


def test_the_mean_carries_its_full_gradient_at_every_step():
    tracker, labels = CentroidTracker(3, 1, momentum=0.99), torch.tensor([0, 0, 0, 0, 1])
    for _ in range(3):
        q = torch.randn(5, 1, requires_grad=True)
        tracker(q, labels).mean.sum().backward()
        torch.testing.assert_close(q.grad[:, 0], torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0]))


def test_a_class_with_one_sample_starts_at_that_sample():
    tracker = CentroidTracker(2, 2)
    anchor, mean, counts = tracker(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    assert anchor[1].tolist() == mean[1].tolist() == tracker.centroids[1].tolist() == [1.0, 2.0]
    assert counts.tolist() == [0, 1] and tracker.seen.tolist() == [False, True]


def test_evaluation_moves_nothing_and_anchors_at_the_stored_centroid():
    tracker = CentroidTracker(3, 1, momentum=0.5)
    tracker(torch.tensor([[2.0]]), torch.tensor([0]))
    tracker.eval()
    before = {name: t.clone() for name, t in tracker.state_dict().items()}
    q = torch.tensor([[8.0], [5.0]], requires_grad=True)
    anchor, mean, _ = tracker(q, torch.tensor([0, 1]))
    assert anchor[:, 0].tolist() == [2.0, 5.0, 0.0]  # stored; never seen: its batch mean; absent
    assert mean[:, 0].tolist() == [8.0, 5.0, 0.0]
    assert torch.autograd.grad(anchor[0, 0], q)[0].abs().sum() == 0
    assert all(torch.equal(t, before[name]) for name, t in tracker.state_dict().items())


def test_naive_tracking_uses_the_batch_means_alone(random_batch):
    tracker = CentroidTracker(5, 3, 0.99, "naive").double()
    for seed in range(3):
        b = random_batch(seed)
        anchor, mean, _ = tracker(b.q, b.labels)
        torch.testing.assert_close(anchor, loop_means(b.q, b.labels, 5))
        torch.testing.assert_close(mean, anchor)


def test_momentum_tracking_gives_the_margin_the_anchor_too():
    tracker = CentroidTracker(1, 1, 0.9, "momentum")
    for value, expected in ((1.0, 1.0), (2.0, 1.1), (2.0, 1.19)):
        anchor, mean, _ = tracker(torch.tensor([[value]]), torch.tensor([0]))
        assert float(mean) == float(anchor) == pytest.approx(expected)


def test_the_default_is_partial_momentum_of_99_percent():
    tracker = CentroidTracker(1, 1)
    for value, expected in ((1.0, 1.0), (2.0, 1.01)):
        anchor, mean, _ = tracker(torch.tensor([[value]]), torch.tensor([0]))
        assert float(anchor) == pytest.approx(expected) and float(mean) == value


def test_unknown_tracking_names_the_known():
    with pytest.raises(InputError, match="unknown centroid tracking 'median': choose one of partial, momentum, naive"):
        CentroidTracker(2, 2, tracking="median")


def test_state_survives_a_round_trip(random_batch):
    one, two = CentroidTracker(5, 3, 0.9), CentroidTracker(5, 3, 0.9)
    first, second = random_batch(0, n=4), random_batch(1)
    one(first.q.float(), first.labels)
    two.load_state_dict(one.state_dict())
    for a, b in zip(one(second.q.float(), second.labels), two(second.q.float(), second.labels), strict=True):
        assert torch.equal(a, b)


def test_an_absent_class_keeps_its_centroid_to_the_last_bit_whatever_the_features():
    for stored, given in ((torch.float32, torch.bfloat16), (torch.float64, torch.float32)):
        tracker = CentroidTracker(num_classes=2, dim=1).to(stored)
        tracker(torch.tensor([[1 / 3]], dtype=stored), torch.tensor([0]))
        before = tracker.centroids[0].clone()
        tracker(torch.ones(1, 1, dtype=given), torch.tensor([1]))
        assert torch.equal(tracker.centroids[0], before) and tracker.centroids.dtype == stored
        assert tracker.centroids[1] == 1


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_batch_that_is_not_finite_moves_no_centroid_of_its_classes(bad):
    """As when mixed precision overflows and the optimiser's step is left out: the next batch is as if that one had not been."""
    tracker, labels = CentroidTracker(num_classes=3, dim=2, momentum=0.9), torch.tensor([0, 1])
    tracker(torch.ones(2, 2), labels)
    broken = tracker(torch.tensor([[bad, 1.0], [2.0, 2.0], [bad, bad]]), torch.tensor([0, 1, 2]))
    assert not broken.anchor[0].isfinite().all()  # the loss of the batch itself says so
    assert tracker.seen.tolist() == [True, True, False]
    assert torch.allclose(tracker.centroids, torch.tensor([[1.0, 1.0], [1.1, 1.1], [0.0, 0.0]]))


def test_a_look_under_inference_mode_moves_nothing_and_training_goes_on():
    tracker = CentroidTracker(num_classes=1, dim=1)
    labels, q = torch.tensor([0]), torch.ones(1, 1, requires_grad=True)
    tracker(q, labels)
    with torch.inference_mode():
        tracker(torch.full((1, 1), 9.0), labels)
    assert tracker.centroids == 1
    tracker(q, labels).anchor.sum().backward()
    assert q.grad == pytest.approx(1 - tracker.momentum)


@pytest.mark.parametrize("training", [True, False])
def test_the_anchor_of_an_absent_class_is_its_stored_centroid(training):
    """In evaluation mode even where the batch has an infinite feature: nothing of it is read."""
    tracker = CentroidTracker(2, 3, momentum=0.5)
    tracker(torch.full((2, 3), 10.0), torch.tensor([0, 1]))
    tracker.train(training)
    anchor, _, _ = tracker(torch.full((1, 3), 2.0), torch.tensor([1]))
    assert anchor[0].tolist() == [10.0] * 3 and anchor[1].tolist() == [6.0 if training else 10.0] * 3
    if not training:
        assert tracker(torch.full((1, 3), torch.inf), torch.tensor([1])).anchor.tolist() == [[10.0] * 3] * 2


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_counts_and_sums_as_float32_does(kind):
    q = (torch.arange(5000) % 7).to(kind)[:, None]
    means, counts = class_means(q, torch.zeros(5000, dtype=torch.long), 1)
    assert counts.tolist() == [5000.0] and means.dtype == kind
    assert means.item() == pytest.approx(q.double().mean().item(), rel=2**-8)


def test_stored_centroids_stay_wide_where_the_default_is_not_and_where_a_state_is_taken_over():
    torch.set_default_dtype(torch.bfloat16)
    try:
        tracker = CentroidTracker(num_classes=1, dim=1, momentum=0.99)
        for value in (100.0, *[110.0] * 500):
            tracker(torch.tensor([[value]]), torch.tensor([0]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert tracker.centroids.item() == pytest.approx(110 - 10 * 0.99**500, abs=0.01)
    narrow = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tracker.state_dict().items()}
    other = CentroidTracker(num_classes=1, dim=1)
    other.load_state_dict(narrow, assign=True)
    assert other.centroids.dtype == torch.float32 and other.seen.all()
