"""The loss terms against slow loops, numbers worked out by hand, gradcheck, plane geometry and symmetries."""

import inspect
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from penultimate import InputError
from penultimate.centroids import class_means
from penultimate.losses import DiscriminativeLoss, alignment, compactness, margin, regulariser, signed_distance, signed_distances

SEEDS = range(5)
seeds = st.integers(0, 10_000)


def present(labels):
    return sorted(set(labels.tolist()))


def loop_compactness(q, labels, m, delta_v):
    per_class = []
    for c in present(labels):
        members = [i for i in range(len(labels)) if labels[i] == c]
        distances = [math.sqrt(sum(float(q[i, k] - m[c, k]) ** 2 for k in range(q.shape[1]))) for i in members]
        per_class.append(sum(max(0.0, distance - delta_v) ** 2 for distance in distances) / len(members))
    return sum(per_class) / len(per_class)


def loop_margin(labels, m, weight, bias, delta_d):
    per_class = []
    for c in present(labels):
        hinges = []
        for j in range(len(weight)):
            if j != c:
                s = float((weight[j] - weight[c]) @ m[c] + bias[j] - bias[c]) / float((weight[c] - weight[j]).norm())
                hinges.append(max(0.0, delta_d + s))
        per_class.append(max(hinges))
    return sum(per_class) / len(per_class)


def loop_regulariser(labels, m):
    return sum(math.sqrt(sum(float(v) ** 2 for v in m[c])) for c in present(labels)) / len(present(labels))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("delta_v", [0.5, 2.0])
def test_compactness_and_alignment_equal_a_loop(random_batch, seed, delta_v):
    b = random_batch(seed)
    assert len(present(b.labels)) < b.classes
    for term, q in ((compactness, b.q), (alignment, b.noisy)):
        assert float(term(q, b.labels, b.m, b.counts, delta_v)) == pytest.approx(loop_compactness(q, b.labels, b.m, delta_v), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("delta_d", [0.5, 5.0])
def test_margin_equals_a_loop(random_batch, seed, delta_d):
    b = random_batch(seed)
    expected = loop_margin(b.labels, b.m, b.weight, b.bias, delta_d)
    assert float(margin(b.m, b.counts, b.weight, b.bias, delta_d)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_distances_of_pairs_and_of_some_classes_are_those_of_all(random_batch, seed):
    b = random_batch(seed)
    every, pairs = signed_distances(b.m, b.weight, b.bias), torch.cartesian_prod(torch.arange(5), torch.arange(5))
    assert torch.allclose(signed_distance(b.m, b.weight, b.bias, *pairs.T).view(5, 5), every, rtol=1e-10, atol=1e-12)
    some = signed_distances(b.m, b.weight, b.bias, torch.tensor([3, 1]))
    assert torch.allclose(some, every[[3, 1]], rtol=1e-10, atol=1e-12)  # not to the bit: a CPU may round a smaller product otherwise


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes, forward or backward."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        self.size = max([self.size, *(t.numel() for t in tree_leaves(made) if isinstance(t, torch.Tensor))])
        return made


def test_with_more_classes_than_samples_the_loss_is_right_and_its_tensors_grow_with_the_classes_only():
    n, dim, sizes = 16, 8, {}
    for classes in (500, 1000):
        gen = torch.Generator().manual_seed(0)
        q, labels = torch.randn(n, dim, dtype=torch.float64, generator=gen).requires_grad_(), torch.randint(0, classes, (n,), generator=gen)
        weight, bias = (torch.randn(*s, dtype=torch.float64, generator=gen).requires_grad_() for s in ((classes, dim), (classes,)))
        loss = DiscriminativeLoss(classes, dim).double()
        with Largest() as seen:
            terms = loss(q, labels, SimpleNamespace(weight=weight, bias=bias), q)
            terms.total.backward()
        means = class_means(q, labels, classes)[0]
        assert terms.margin.item() == pytest.approx(loop_margin(labels, *(t.detach() for t in (means, weight, bias)), 5.0), rel=1e-10)
        sizes[classes] = seen.size
    assert sizes[1000] <= 2 * sizes[500] == 2 * 500 * n  # one row a sample, not one a class, and nowhere a third dimension


@pytest.mark.parametrize("seed", SEEDS)
def test_regulariser_equals_a_loop(random_batch, seed):
    b = random_batch(seed)
    assert float(regulariser(b.m, b.counts)) == pytest.approx(loop_regulariser(b.labels, b.m), rel=1e-12)


def test_total_equals_a_loop_over_several_steps(random_batch):
    weights, mu, anchors = dict(compact=0.7, noisy=0.3, margin=2.0, reg=0.1), 0.9, {}
    loss = DiscriminativeLoss(5, 3, delta_v=0.4, delta_d=3.0, momentum=mu, **weights).double()
    for seed in range(4):
        b = random_batch(seed)
        means = torch.zeros_like(b.m)
        for c in present(b.labels):
            means[c] = sum(b.q[i] for i in range(len(b.q)) if b.labels[i] == c) / float(b.counts[c])
            anchors[c] = (1 - mu) * means[c] + mu * anchors[c] if c in anchors else means[c]
        m = torch.stack([anchors.get(c, means[c]) for c in range(5)])
        expected = {
            "compact": loop_compactness(b.q, b.labels, m, 0.4), "noisy": loop_compactness(b.noisy, b.labels, m, 0.4),
            "margin": loop_margin(b.labels, means, b.weight, b.bias, 3.0), "reg": loop_regulariser(b.labels, m),
        }  # fmt: skip
        terms = loss(b.q, b.labels, b, b.noisy)  # b.weight and b.bias serve as the head
        for name, value in expected.items():
            assert float(getattr(terms, name)) == pytest.approx(value, rel=1e-10)
        assert float(terms.total) == pytest.approx(sum(weights[name] * expected[name] for name in weights), rel=1e-10)


def test_two_classes_by_hand():
    q = torch.tensor([[2.0, 0.0], [4.0, 0.0], [-3.0, -2.0], [-3.0, -6.0]])  # m_0 = (3,0), m_1 = (-3,-4); distances 1, 1, 2, 2
    noisy = torch.tensor([[3.0, 2.0], [3.0, 0.0], [-3.0, -4.0], [-3.0, -5.5]])  # distances 2, 0, 0, 1.5
    head = SimpleNamespace(weight=torch.tensor([[3.0, 4.0], [0.0, 0.0]]), bias=torch.tensor([0.0, 5.0]))  # ||w_0 - w_1|| = 5
    terms = DiscriminativeLoss(2, 2)(q, torch.tensor([0, 0, 1, 1]), head, noisy)
    assert float(terms.compact) == pytest.approx(1.25)  # class 0: .5^2 = .25; class 1: 1.5^2 = 2.25
    assert float(terms.noisy) == pytest.approx(0.8125)  # class 0: (1.5^2 + 0) / 2 = 1.125; class 1: (0 + 1^2) / 2 = .5
    assert float(terms.margin) == pytest.approx(2.1)  # s_01 = (-9 + 5) / 5 = -.8, hinge 4.2; s_10 = (-9 - 16 - 5) / 5 = -6, hinge 0
    assert float(terms.reg) == pytest.approx(4.0)  # (3 + 5) / 2
    assert float(terms.total) == pytest.approx(3.13525)  # .5 * 1.25 + .5 * .8125 + 2.1 + .001 * 4


def test_defaults_are_the_authors_settings():
    found = {name: p.default for name, p in inspect.signature(DiscriminativeLoss).parameters.items() if p.default is not p.empty}
    expected = dict(delta_v=0.5, delta_d=5.0, compact=0.5, noisy=0.5, margin=1.0, reg=1e-3, momentum=0.99, tracking="partial")
    assert found == expected
    tracker = DiscriminativeLoss(2, 3).tracker
    assert (tracker.momentum, tracker.tracking, tracker.centroids.shape) == (0.99, "partial", (2, 3))


def test_classes_weigh_equally_however_many_samples_they_have():
    q, labels = torch.tensor([[2.0], [2.0], [2.0], [1.0]]), torch.tensor([0, 0, 0, 1])
    found = compactness(q, labels, torch.zeros(2, 1), torch.tensor([3.0, 1.0]), delta_v=1.0)
    assert float(found) == 0.5  # class 0: 1, class 1: 0; a mean over samples would give 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_gradcheck_of_every_term(random_batch, seed):
    b = random_batch(seed)  # in general position, so away from the kinks
    q, m, weight, bias = (t.requires_grad_() for t in (b.q, b.m, b.weight, b.bias))
    assert gradcheck(lambda q, m: compactness(q, b.labels, m, b.counts, 0.5), (q, m))
    assert gradcheck(lambda q, m: alignment(q, b.labels, m, b.counts, 0.5), (b.noisy.requires_grad_(), m))
    assert gradcheck(lambda *given: margin(given[0], b.counts, *given[1:], 5.0), (m, weight, bias))
    assert gradcheck(lambda m: regulariser(m, b.counts), (m,))


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_of_the_total(random_batch, training):
    b = random_batch(0)

    def total(q, noisy, weight, bias):
        loss = DiscriminativeLoss(5, 3, reg=0.1).double().train(training)  # anew: the centroids move in training mode
        return loss(q, b.labels, SimpleNamespace(weight=weight, bias=bias), noisy).total

    assert gradcheck(total, tuple(t.requires_grad_() for t in (b.q, b.noisy, b.weight, b.bias)))


@given(seed=seeds)
def test_signed_distance_is_that_of_the_centroid_to_the_boundary_plane(random_batch, seed):
    b = random_batch(seed)
    s, logits = signed_distances(b.m, b.weight, b.bias), b.m @ b.weight.T + b.bias
    for c in range(b.classes):
        for j in (j for j in range(b.classes) if j != c):
            normal, height = b.weight[c] - b.weight[j], logits[c, c] - logits[c, j]
            foot = b.m[c] - normal * height / (normal @ normal)  # projection of m_c on {q : z_c(q) = z_j(q)}
            assert abs(float(normal @ foot + b.bias[c] - b.bias[j])) < 1e-9
            assert float((b.m[c] - foot).norm()) == pytest.approx(abs(float(s[c, j])), rel=1e-9, abs=1e-12)
            assert (float(s[c, j]) < 0) == (float(height) > 0)  # negative on c's own side


def test_margin_is_zero_beyond_delta_d_and_grows_by_one_per_unit_of_distance():
    head = torch.tensor([[2.0], [0.0]]), torch.zeros(2)  # boundary at 0; class 0 on the right
    for x, expected in ((7.0, 0.0), (5.0, 0.0), (4.0, 1.0), (1.0, 4.0), (0.0, 5.0), (-2.0, 7.0)):
        assert float(margin(torch.tensor([[x], [0.0]]), torch.tensor([1.0, 0.0]), *head, delta_d=5.0)) == expected


def test_a_single_class_has_no_margin():
    assert float(margin(torch.ones(1, 2), torch.ones(1), torch.ones(1, 2), torch.zeros(1), delta_d=5.0)) == 0


def terms_of(b, q, labels, weight, bias, noisy):
    loss = DiscriminativeLoss(b.classes, b.dim).double()
    return torch.stack(list(loss(q, labels, SimpleNamespace(weight=weight, bias=bias), noisy)))


@given(seed=seeds)
def test_the_order_of_the_samples_does_not_matter(random_batch, seed):
    b = random_batch(seed)
    rows = torch.randperm(len(b.q), generator=torch.Generator().manual_seed(seed))
    before = terms_of(b, b.q, b.labels, b.weight, b.bias, b.noisy)
    torch.testing.assert_close(terms_of(b, b.q[rows], b.labels[rows], b.weight, b.bias, b.noisy[rows]), before)


@given(seed=seeds)
def test_the_numbering_of_the_classes_does_not_matter(random_batch, seed):
    b = random_batch(seed)
    new = torch.randperm(b.classes, generator=torch.Generator().manual_seed(seed))  # class c becomes new[c]
    weight, bias = torch.empty_like(b.weight), torch.empty_like(b.bias)
    weight[new], bias[new] = b.weight, b.bias
    before = terms_of(b, b.q, b.labels, b.weight, b.bias, b.noisy)
    torch.testing.assert_close(terms_of(b, b.q, new[b.labels], weight, bias, b.noisy), before)


@given(seed=seeds, shift=st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_only_the_regulariser_sees_the_origin(random_batch, seed, shift):
    b, t = random_batch(seed), torch.tensor(shift, dtype=torch.float64)
    before = terms_of(b, b.q, b.labels, b.weight, b.bias, b.noisy)
    after = terms_of(b, b.q + t, b.labels, b.weight, b.bias - b.weight @ t, b.noisy + t)
    torch.testing.assert_close(after[1:4], before[1:4], rtol=1e-8, atol=1e-8)  # compact, noisy, margin
    torch.testing.assert_close(compactness(b.q + t, b.labels, b.m + t, b.counts, 0.5), compactness(b.q, b.labels, b.m, b.counts, 0.5))


def test_margin_gradients_reach_head_and_features_undamped_by_momentum(random_batch):
    grads, b = {}, random_batch(0)
    for mu in (0.99, 0.0):
        loss, head = DiscriminativeLoss(5, 3, compact=0, noisy=0, reg=0, momentum=mu).double(), nn.Linear(3, 5).double()
        head.load_state_dict({"weight": b.weight, "bias": b.bias})
        loss(b.q + 1, b.labels, head)  # so that the classes have been seen before
        q = b.q.clone().requires_grad_()
        loss(q, b.labels, head).total.backward()
        grads[mu] = q.grad, head.weight.grad, head.bias.grad
    for damped, plain in zip(grads[0.99], grads[0.0], strict=True):
        torch.testing.assert_close(damped, plain)
        assert plain.abs().sum() > 0.1


def test_noisy_features_are_pulled_to_the_clean_centroid(random_batch):
    b, loss = random_batch(0), DiscriminativeLoss(5, 3, compact=0, margin=0, reg=0).double()
    noisy = b.noisy.requires_grad_()
    loss(b.q, b.labels, b, noisy).total.backward()
    towards = loss.tracker.centroids[b.labels] - b.noisy.detach()
    outside = towards.norm(dim=1) > 0.5
    cosine = nn.functional.cosine_similarity(-noisy.grad[outside], towards[outside])
    assert outside.any() and torch.allclose(cosine, torch.ones_like(cosine))


def test_bfloat16_features_under_autocast_are_computed_in_float32(random_batch):
    b, head = random_batch(0), nn.Linear(3, 5)
    q, noisy = b.q.bfloat16(), b.noisy.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = DiscriminativeLoss(5, 3)(q, b.labels, head, noisy)
    exact = DiscriminativeLoss(5, 3).double()(q.double(), b.labels, head.double(), noisy.double())
    assert {t.dtype for t in found} == {torch.float32}
    torch.testing.assert_close(torch.stack(list(found)).double(), torch.stack(list(exact)), rtol=1e-5, atol=1e-6)


def test_without_noisy_features_the_noisy_term_is_zero(random_batch):
    b = random_batch(0)
    terms = DiscriminativeLoss(5, 3, compact=2.0, noisy=7.0, margin=3.0, reg=4.0).double()(b.q, b.labels, b)
    assert float(terms.noisy) == 0
    torch.testing.assert_close(terms.total, 2 * terms.compact + 3 * terms.margin + 4 * terms.reg)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_two_classes_of_the_same_weights_stay_finite(random_batch, bias):
    b, head = random_batch(0), nn.Linear(3, 5).double()
    with torch.no_grad():
        head.weight[1], head.bias[1] = head.weight[0], head.bias[0] + bias
    q = b.q.requires_grad_()
    terms = DiscriminativeLoss(5, 3).double()(q, b.labels, head, b.noisy)
    terms.total.backward()
    assert all(t.isfinite().all() for t in (*terms, q.grad, head.weight.grad, head.bias.grad))


def test_features_on_their_centroid_have_a_finite_gradient():
    q = torch.zeros(3, 2, requires_grad=True)
    DiscriminativeLoss(2, 2)(q, torch.tensor([0, 0, 1]), nn.Linear(2, 2)).total.backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize(
    "features, labels, noisy, message",
    [
        ((4, 3), [0, 1], None, r"features are \(4, 3\), expected \(2, 3\): 2 labels, dim 3"),
        ((2, 4), [0, 1], None, r"features are \(2, 4\), expected \(2, 3\)"),
        ((2, 3), [0, 1], (3, 3), r"noisy_features are \(3, 3\), expected \(2, 3\)"),
        ((2, 3), [0, 5], None, "labels run from 0 to 5, expected 0 to 4"),
        ((2, 3), [-1, 4], None, "labels run from -1 to 4, expected 0 to 4"),
        ((0, 3), [], None, "batch is empty"),
    ],
)
def test_a_bad_batch_is_named(features, labels, noisy, message):
    labels = torch.tensor(labels, dtype=torch.long)
    with pytest.raises(InputError, match=message):
        DiscriminativeLoss(5, 3)(torch.zeros(features), labels, nn.Linear(3, 5), None if noisy is None else torch.zeros(noisy))


@pytest.mark.parametrize(
    "name, value",
    [("delta_v", 0.0), ("delta_v", -1.0), ("delta_d", 0.0), ("delta_d", math.nan), ("compact", -0.5), ("noisy", -0.5), ("margin", -1.0),
     ("reg", -1e-3), ("reg", math.nan), ("momentum", 1.0), ("momentum", -0.1), ("momentum", math.nan), ("tracking", "mean"),
     ("num_classes", 0), ("dim", 2.5)],
)  # fmt: skip
def test_a_bad_setting_is_named_with_its_value(name, value):
    with pytest.raises(InputError, match=f"{name}.*{value}"):
        DiscriminativeLoss(**dict(num_classes=5, dim=3) | {name: value})


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(classifier=torch.nn.Linear(2, 3)), r"expected Linear\(2, 2\) with a bias"),
        (dict(classifier=torch.nn.Linear(2, 2, bias=False)), r"expected Linear\(2, 2\) with a bias"),
        (dict(classifier=torch.nn.Sequential(torch.nn.Linear(2, 2))), r"the head is Sequential.*, expected Linear\(2, 2\) with a bias"),
        (dict(classifier=lambda q: q), r"expected Linear\(2, 2\) with a bias"),
        (dict(labels=torch.zeros(3)), r"labels are torch.float32 \(3,\), expected int64 of shape"),
        (dict(labels=torch.zeros(3, dtype=torch.uint8)), "labels are torch.uint8"),
        (dict(labels=torch.zeros(3, dtype=torch.bool)), "labels are torch.bool"),
        (dict(labels=torch.zeros(3, 1, dtype=torch.long)), r"labels are torch.int64 \(3, 1\), expected int64 of shape"),
    ],
)
def test_a_head_or_labels_of_another_kind_are_named(given, message):
    fine = dict(features=torch.ones(3, 2), labels=torch.zeros(3, dtype=torch.long), classifier=torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=f"(?s){message}"):
        DiscriminativeLoss(2, 2)(**fine | given)


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_cannot_be_told_apart_have_no_boundary_however_their_norms_round(seed):
    """||w||^2 + ||w||^2 - 2 w.w need not round to 0: a gap in the biases over what is left of it would be millions."""
    row = torch.randn(1, 50, generator=torch.Generator().manual_seed(seed))
    s = signed_distances(torch.zeros(2, 50), row.repeat(2, 1), torch.tensor([0.0, 1.0]))
    assert torch.equal(s, torch.zeros(2, 2))


def test_rows_an_ulp_apart_have_no_boundary_in_the_margin_either():
    weight, bias = torch.tensor([[1.0, 0.0], [1 + 1.2e-7, 0.0], [-1.0, 0.0]]), torch.tensor([0.0, -1.0, 0.0], requires_grad=True)
    centroids = torch.tensor([[3.0, 0.0], [3.0, 0.0], [-3.0, 0.0]], requires_grad=True)
    assert signed_distance(centroids, weight, bias, torch.tensor([0]), torch.tensor([1])).tolist() == [0.0]
    loss = margin(centroids, torch.tensor([1.0, 0.0, 0.0]), weight, bias, delta_d=5.0)
    loss.backward()  # of the largest hinge, of a distance that counts as zero
    assert loss.item() == 5.0 and not centroids.grad.any() and not bias.grad.any()
