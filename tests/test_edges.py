"""The loss at the edges of floating point, against plain formulas in float64: values and gradients."""

import dataclasses

import pytest
import torch
from torch import nn

from penultimate.losses import DiscriminativeLoss, norms, signed_distances
from penultimate.train import train

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# How near a gradient of that type can be: relative to the largest, and its smallest number.
CLOSE = {torch.float32: (2e-4, 1e-37), torch.bfloat16: (2**-7, 1e-37), torch.float16: (2**-10, 6e-8)}
N, CLASSES, DIM, DELTA_V, DELTA_D = 12, 4, 3, 0.5, 5.0


def reference(q, noisy, labels, weight, bias, delta_v=DELTA_V, delta_d=DELTA_D):
    """Each term in float64, class by class, first step (so that every centroid is its batch mean)."""
    terms = {"compact": [], "noisy": [], "margin": [], "reg": []}
    length = torch.linalg.vector_norm
    for c in labels.unique().tolist():
        m, s = q[labels == c].mean(0), []
        for name, view in (("compact", q), ("noisy", noisy)):
            terms[name].append((length(view[labels == c] - m, dim=1) - delta_v).relu().square().mean())
        for j in (j for j in range(len(weight)) if j != c):
            apart = length(weight[j] - weight[c])
            s.append(((weight[j] - weight[c]) @ m + bias[j] - bias[c]) / apart if apart > 0 else 0 * m.sum())
        terms["margin"].append((delta_d + torch.stack(s).amax()).relu())
        terms["reg"].append(length(m))
    return {name: torch.stack(of_classes).mean() for name, of_classes in terms.items()}


def ordinary(dtype=torch.float32, n=N, seed=0):
    gen = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=gen, dtype=torch.float64)  # noqa: E731
    labels = torch.randint(0, CLASSES - 1, (n,), generator=gen)  # the last class is absent
    return {"q": (2 * draw(n, DIM)).to(dtype), "noisy": (2 * draw(n, DIM)).to(dtype), "labels": labels,
            "weight": draw(CLASSES, DIM).float(), "bias": draw(CLASSES).float()}  # fmt: skip


def scaled(given, features=1.0, weights=1.0):
    return given | {"q": features * given["q"], "noisy": features * given["noisy"], "weight": weights * given["weight"]}


def boundary(given):
    """The centroid of class 0 lies exactly between 0 and 1, and as far from 2."""
    weight = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    q = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]] * (N // 2)).to(given["q"].dtype)
    return given | {"q": q, "labels": torch.zeros(N, dtype=torch.long), "weight": weight, "bias": torch.zeros(CLASSES)}


CASES = {
    "ordinary": lambda given: given,
    "identical features": lambda given: given | {name: given["q"][:1].expand(N, DIM).clone() for name in ("q", "noisy")},
    "all features zero": lambda given: given | {name: torch.zeros_like(given["q"]) for name in ("q", "noisy")},
    "a centroid on a boundary": boundary,
    "two identical weight rows": lambda given: given | {"weight": given["weight"][[0, 0, 2, 3]], "bias": given["bias"][[0, 0, 2, 3]]},
    "two identical weight rows, other biases": lambda given: given | {"weight": given["weight"][[0, 0, 2, 3]]},
    "all weights zero": lambda given: given | {"weight": torch.zeros_like(given["weight"])},
    "huge features": lambda given: scaled(given, features=1e17 if given["q"].dtype != torch.float16 else 300),
    "tiny features": lambda given: scaled(given, features=1e-30 if given["q"].dtype != torch.float16 else 1e-6),
    "huge weights": lambda given: scaled(given, weights=1e30),
    "tiny weights": lambda given: scaled(given, weights=1e-30) | {"bias": 1e-30 * given["bias"]},
    "two nearly identical rows": lambda given: (
        given | {"weight": given["weight"][[0, 0, 2, 3]] + 1e-6 * torch.eye(4, 3), "bias": given["bias"][[0, 0, 2, 3]]}
    ),
    "a batch of one": lambda given: given | {name: given[name][:1] for name in ("q", "noisy", "labels")},
    "one class in the batch": lambda given: given | {"labels": torch.full((N,), 2)},
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_equal_float64(case, dtype):
    given = CASES[case](ordinary(dtype))
    head = nn.Linear(DIM, CLASSES)
    head.weight.data, head.bias.data = given["weight"].clone(), given["bias"].clone()
    q, noisy = (given[name].clone().requires_grad_() for name in ("q", "noisy"))
    exact = {name: given[name].double().requires_grad_() for name in ("q", "noisy", "weight", "bias")}
    expected = reference(exact["q"], exact["noisy"], given["labels"], exact["weight"], exact["bias"])
    terms = DiscriminativeLoss(CLASSES, DIM, DELTA_V, DELTA_D)(q, given["labels"], head, noisy)
    for name, wanted in expected.items():
        found = getattr(terms, name)
        assert found.item() == pytest.approx(wanted.item(), rel=2e-5, abs=1e-37), name
        ours = torch.autograd.grad(found, [q, noisy, head.weight, head.bias], retain_graph=True, allow_unused=True)
        right = torch.autograd.grad(wanted, list(exact.values()), retain_graph=True, allow_unused=True)
        for mine, truth, at in zip(ours, right, exact, strict=True):
            truth = torch.zeros_like(exact[at]) if truth is None else truth
            mine = torch.zeros_like(truth) if mine is None else mine.double()
            close = {torch.bfloat16: 2**-7, torch.float16: 2**-10}.get(
                ours[0].dtype if at in ("q", "noisy") and ours[0] is not None else 0, 2e-4
            )
            # a float16 gradient below its smallest number, 6e-8, may be that or none
            smallest = 6e-8 if dtype == torch.float16 and at in ("q", "noisy") else 1e-37
            assert mine.isfinite().all() and (mine - truth).abs().max() <= close * truth.abs().max() + smallest, (name, at)


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-10, 1.0, 1e10, 1e30, 1e37])
def test_norms_are_right_at_every_size(size):
    x = (size * torch.randn(50, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    (gradient,) = torch.autograd.grad(norms(x).sum(), x)
    exact = x.detach().double().requires_grad_()
    wanted = torch.linalg.vector_norm(exact, dim=1)
    torch.testing.assert_close(norms(x).double(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(wanted.sum(), exact)[0], rtol=1e-5, atol=1e-6)


def test_where_squares_fit_scaling_changes_nothing():
    x = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(norms(x), torch.linalg.vector_norm(x, dim=1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_class_absent_for_a_thousand_steps_keeps_its_centroid_and_the_others_follow_float64(dtype):
    loss, head, mu = DiscriminativeLoss(2, DIM).to(dtype), nn.Linear(DIM, 2), 0.99
    first = torch.tensor([[1.0, 2.0, 3.0], [30.0, 0.0, 0.0]]).to(dtype)
    loss(first, torch.tensor([0, 1]), head)
    exact = first[1].double()
    for step in range(1000):
        q = (first[1:] * (1 - step / 2000)).to(dtype)
        loss(q, torch.tensor([1]), head)
        exact = (1 - mu) * q[0].double() + mu * exact
    assert torch.equal(loss.tracker.centroids[0], first[0].float()) and loss.tracker.seen.all()
    torch.testing.assert_close(loss.tracker.centroids[1].double(), exact, rtol=1e-5, atol=1e-6)
    back = torch.tensor([[5.0, 2.0, 3.0]]).to(dtype).requires_grad_()
    terms = loss(back, torch.tensor([0]), head)
    (gradient,) = torch.autograd.grad(terms.compact, back)
    hinge = 4 * mu - DELTA_V  # the centroid moved by (1 - mu) of 4, and the gradient flows through that part too
    assert float(terms.compact) == pytest.approx(hinge**2, rel=1e-4)
    assert float(gradient[0, 0]) == pytest.approx(2 * hinge * mu, rel=1e-2 if dtype == torch.bfloat16 else 2e-3)


def test_identical_rows_have_no_boundary_and_move_nothing():
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    found = signed_distances(torch.ones(3, 2), weight, torch.tensor([0.0, 7.0, 0.0]))
    assert found[0, 1] == found[1, 0] == 0
    (gradient,) = torch.autograd.grad(found[0, 1] + found[1, 0], weight)
    assert not gradient.any()


def test_training_of_one_class_and_of_blank_images_stays_finite(tiny, digits):
    zeros = dataclasses.replace(digits.train, labels=torch.zeros_like(digits.train.labels), images=torch.zeros_like(digits.train.images))
    history = train(tiny(epochs=2), dataclasses.replace(digits, train=zeros)).history
    assert all(value == value and abs(value) < 1e6 for row in history for value in row.values())
