"""Input curvature against Hessians that are known: a quadratic, a smooth network, a kink that only differences see."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from penultimate import InputError, curvature, theory
from penultimate.curvature import METHODS, hessian, input_curvature, top_eigenvalue
from penultimate.logit_losses import cross_entropy, negative_log_odds, negative_margin, tempered
from penultimate.model import build
from penultimate.support import hessians

first_logit = lambda logits, labels: logits[:, 0]  # noqa: E731


class Quadratic(nn.Module):
    """Logits (x'Ax / 2, 0): with `first_logit` as the loss the Hessian is A, in every image; pixel space where std is given."""

    def __init__(self, matrix, std=None):
        super().__init__()
        self.matrix = matrix
        if std is not None:
            self.register_buffer("std", std.reshape(-1, 1, 1))
        self.eval()

    def forward(self, x):
        x = x.flatten(1)
        return torch.stack([((x @ self.matrix) * x).sum(1) / 2, 0 * x[:, 0]], 1)


class Kink(nn.Module):
    """Logits (slope * relu(x), 0) of one pixel: no second derivative anywhere but at 0."""

    def __init__(self, slope, std):
        super().__init__()
        self.slope = slope
        self.register_buffer("std", torch.full((1, 1, 1), std, dtype=torch.float64))
        self.eval()

    def forward(self, x):
        return torch.stack([self.slope * x.flatten(), 0 * x.flatten()], 1).relu()


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def matrix():
    a = draw(12, 12)
    return a + a.T


@pytest.fixture(scope="module")
def smooth():
    """A softplus twin of the small network in float64, BatchNorm statistics unlike the initial ones; 20 images, 10 classes."""
    model = build("small", 4, 8, 10, torch.tensor([0.3]), torch.tensor([0.4]), 0).double()
    model(draw(64, 1, 8, 8, seed=5))
    images = torch.rand(12, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return theory.softplus_twin(model.eval(), beta=5.0), images, torch.arange(12) % 10


def test_a_quadratic_has_the_curvature_of_its_matrix(matrix):
    x, y = draw(5, 3, 2, 2), torch.zeros(5, dtype=torch.long)
    call = lambda **given: input_curvature(Quadratic(matrix), x, y, loss=first_logit, **given)  # noqa: E731
    frobenius, probes = float(matrix.square().sum()), 500
    assert call(method="exact").tolist() == pytest.approx([frobenius] * 5)
    error = math.sqrt(2 * float(torch.trace(matrix @ matrix @ matrix @ matrix)) / probes)  # Var ||Ag||^2 = 2 tr(A^4)
    products = call(method="hvp", probes=probes)
    assert products.tolist() == pytest.approx([frobenius] * 5, abs=4 * error)
    for step in (1e-3, 1.0):  # the gradient of a quadratic is linear: a difference of any length is exact
        torch.testing.assert_close(call(probes=probes, step=step), products, rtol=1e-9, atol=0)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    largest = float(eigenvalues[eigenvalues.abs().argmax()])
    assert top_eigenvalue(Quadratic(matrix), x[:1], y[:1], 500, loss=first_logit).tolist() == pytest.approx([largest], rel=1e-6)


def test_probes_and_step_are_those_of_eq_21(smooth):
    model, x, y = smooth
    g, h = curvature.draw_probes(x, 3, torch.Generator().manual_seed(9)), 0.2

    def slope(u):  # in normalised space u = (x - mean) / std
        u = u.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(u * model.std + model.mean), y, reduction="sum"), u)[0]

    u = (x - model.mean) / model.std
    expected = sum(((slope(u + h * probe) - slope(u)) / h).flatten(1).norm(dim=1).square() for probe in g) / 3
    found = input_curvature(model, x, y, probes=3, step=h, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(found, expected)


def test_the_three_methods_agree_on_a_smooth_network(smooth):
    model, x, y = smooth
    h, probes = hessian(model, x, y), 200
    torch.testing.assert_close(h, h.transpose(1, 2))
    exact = input_curvature(model, x, y, "exact")
    torch.testing.assert_close(exact, torch.linalg.eigvalsh(h).square().sum(1))
    fourth = torch.linalg.matrix_power(h, 4).diagonal(dim1=1, dim2=2).sum(1)
    products = input_curvature(model, x, y, "hvp", probes)
    assert ((products - exact).abs() < 5 * (2 * fourth / probes).sqrt()).all()  # five standard errors of Hutchinson's estimate
    # The difference quotient's error begins with the third derivative times h: a tenth of the step, a tenth of the error.
    coarse, fine = (input_curvature(model, x, y, probes=probes, step=step) - products for step in (1e-3, 1e-4))
    assert (coarse / fine).median() == pytest.approx(10, rel=0.1)
    assert (fine.abs() / products).max() < 1e-2


def test_the_hessian_is_autograds(smooth):
    model, x, y = smooth
    expected = torch.autograd.functional.hessian(lambda v: F.cross_entropy(model(v[None]), y[:1]), x[0]).reshape(64, 64)
    torch.testing.assert_close(hessian(model, x, y, "pixel")[0], expected)
    torch.testing.assert_close(top_eigenvalue(model, x, y, 200), _by_magnitude(torch.linalg.eigvalsh(hessian(model, x, y))))


def _by_magnitude(eigenvalues):
    return eigenvalues.gather(1, eigenvalues.abs().argmax(1, keepdim=True))[:, 0]


@pytest.mark.parametrize("std", [1.0, 0.25])
def test_differences_see_a_kink_and_derivatives_do_not(std):
    """The gradient jumps by `slope` where a probe crosses the kink at distance t: eq. 21 is (std slope / h)^2 P(g > t / (std h))."""
    slope, step, probes = 3.0, 1e-2, 20_000
    model, x, y = Kink(slope, std), torch.full((1, 1, 1, 1), -0.5 * std * step, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    assert input_curvature(model, x, y, "exact", loss=first_logit) == input_curvature(model, x, y, "hvp", loss=first_logit) == 0
    crossed = stats.norm.sf(0.5)
    error = math.sqrt(crossed * (1 - crossed) / probes)
    found = float(input_curvature(model, x, y, probes=probes, step=step, loss=first_logit)) / (std * slope / step) ** 2
    assert found == pytest.approx(crossed, abs=4 * error)
    assert input_curvature(model, 100 * x, y, step=step, loss=first_logit) == 0  # far from the kink


def test_normalised_space_scales_the_hessian_on_both_sides(matrix):
    std = torch.tensor([0.5, 0.25, 2.0], dtype=torch.float64)
    model, x, y = Quadratic(matrix, std), draw(2, 3, 2, 2), torch.zeros(2, dtype=torch.long)
    s = std.repeat_interleave(4)
    expected = s[:, None] * matrix * s
    torch.testing.assert_close(hessian(model, x, y, loss=first_logit)[1], expected)
    torch.testing.assert_close(hessian(model, x, y, "pixel", first_logit)[1], matrix)
    for space, whole in (("normalised", expected), ("pixel", matrix)):
        found = input_curvature(model, x, y, "exact", space=space, loss=first_logit)
        assert found.tolist() == pytest.approx([float(whole.square().sum())] * 2)
        for method in ("hvp", "finite_difference"):
            found = input_curvature(model, x, y, method, 2000, space=space, loss=first_logit)
            assert found.tolist() == pytest.approx([float(whole.square().sum())] * 2, rel=0.15)
    torch.testing.assert_close(
        curvature.gradient(model, x, y, loss=first_logit), std.reshape(3, 1, 1) * (x.flatten(1) @ matrix).reshape(x.shape)
    )
    bare = Quadratic(matrix)  # without a std there is one space
    assert torch.equal(hessian(bare, x, y, "normalised", first_logit), hessian(bare, x, y, "pixel", first_logit))


@pytest.fixture(scope="module")
def kinked(smooth):
    """The ReLU network that `smooth` is the twin of."""
    model = copy.deepcopy(smooth[0])
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Softplus):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, nn.ReLU())
    return model.eval()


@pytest.mark.parametrize("loss", [cross_entropy, tempered(2.5), negative_log_odds])
@pytest.mark.parametrize("space", hessians.SPACES)
def test_through_the_logits_is_the_whole_hessian_of_a_relu_network(smooth, kinked, space, loss, monkeypatch):
    _, x, y = smooth
    found = input_curvature(kinked, x, y, "piecewise_linear", space=space, loss=loss)
    torch.testing.assert_close(found, input_curvature(kinked, x, y, "exact", space=space, loss=loss), rtol=1e-9, atol=0)
    whole = hessian(kinked, x, y, space, loss, "piecewise_linear")
    torch.testing.assert_close(whole, hessian(kinked, x, y, space, loss), rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(hessians, "NUMBERS_AT_ONCE", 3 * x[0].numel() * len(x))  # rows of J in blocks of three, the last one short
    torch.testing.assert_close(hessian(kinked, x, y, space, loss, "piecewise_linear"), whole)
    assert found.unique().numel() == 12


def test_through_the_logits_holds_where_a_wrong_class_is_nearly_sure(kinked, smooth):
    """In float32 p (1 - p) of that class is rounding: neither refused nor lost."""
    model, x = copy.deepcopy(kinked), smooth[1]
    for parameter in model.head.parameters():
        parameter.data *= 120
    wrong = model(x).argmin(1)
    assert F.cross_entropy(model(x), wrong, reduction="none").median() > 10
    expected = input_curvature(model, x, wrong, "exact")
    found = input_curvature(model.float(), x.float(), wrong, "piecewise_linear")
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-3 * float(expected.median()))


def test_through_the_logits_refuses_a_network_that_bends(smooth):
    with pytest.raises(InputError, match=r"the logits are not piecewise linear in the image .*take method='hvp'"):
        input_curvature(*smooth, "piecewise_linear")


def test_one_image_at_which_the_logits_bend_is_enough_to_refuse():
    class Softplus(nn.Module):
        def forward(self, x):
            return F.softplus(x.flatten(1))  # linear to the last bit above 20

    x, y = torch.stack([torch.full((1, 1, 2), 30.0), torch.zeros(1, 1, 2)]), torch.tensor([0, 1])
    assert input_curvature(Softplus().eval(), x[:1], y[:1], "piecewise_linear") >= 0
    for ask in (input_curvature, hessian):
        with pytest.raises(InputError, match="not piecewise linear"):
            ask(Softplus().eval(), x, y, method="piecewise_linear")


@pytest.mark.parametrize("method", METHODS)
def test_an_image_has_its_own_curvature_whatever_its_company(smooth, kinked, monkeypatch, method):
    model, x, y = smooth
    model = kinked if method == "piecewise_linear" else model
    call = lambda rows: input_curvature(model, x[rows], y[rows], method, generator=torch.Generator().manual_seed(3))  # noqa: E731
    everyone = call(torch.arange(12))
    for rows in (torch.tensor([7]), torch.tensor([11, 3, 7]), torch.arange(12).flip(0)):
        torch.testing.assert_close(call(rows), everyone[rows], rtol=1e-6, atol=0)
    monkeypatch.setattr(hessians, "NUMBERS_AT_ONCE", 64 * 3)
    torch.testing.assert_close(call(torch.arange(12)), everyone, rtol=1e-6, atol=0)
    assert everyone.unique().numel() == 12


def test_vectors_are_images_too(matrix):
    x, y = draw(4, 12), torch.zeros(4, dtype=torch.long)
    flat, square = (
        [input_curvature(Quadratic(matrix), v, y, m, loss=first_logit) for m in METHODS[:3]] for v in (x, x.reshape(4, 3, 2, 2))
    )
    assert all(torch.equal(a, b) for a, b in zip(flat, square, strict=True))
    assert top_eigenvalue(Quadratic(matrix), x, y, loss=first_logit).shape == (4,)


def test_without_a_generator_a_call_repeats_itself(smooth):
    torch.manual_seed(1)
    one = input_curvature(*smooth)
    torch.rand(3)
    assert torch.equal(input_curvature(*smooth), one)
    assert not torch.equal(input_curvature(*smooth, generator=torch.Generator().manual_seed(1)), one)


def test_a_call_leaves_no_trace_and_ignores_autocast(smooth):
    model, x, y = smooth
    before = {name: t.clone() for name, t in model.state_dict().items()}
    expected = input_curvature(model.float(), x.float(), y, "hvp")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = input_curvature(model, x.float(), y, "hvp")
    model.double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)  # bfloat16 has 8 bits
    assert not expected.requires_grad and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t.float(), before[name].float()) for name, t in model.state_dict().items())


def test_cross_entropy_is_torchs_and_keeps_its_precision():
    logits, labels = 3 * draw(30, 7), torch.arange(30) % 7
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(tempered(2.5)(logits, labels), F.cross_entropy(logits / 2.5, labels, reduction="none"))
    margin = torch.stack([torch.cat([z[:c], z[c + 1 :]]).max() - z[c] for z, c in zip(logits, labels, strict=True)])
    assert torch.equal(negative_margin(logits, labels), margin)
    p = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(negative_log_odds(logits, labels), ((1 - p) / p).log())
    sure = torch.tensor([[20.0, 0.0, 1.0]])  # 1 - p_y is 7.7e-9: lost where p_y rounds to 1
    own, torchs = (torch.func.grad(lambda z, f=f: f(z, torch.tensor([0])).sum())(sure)[0, 0] for f in (cross_entropy, F.cross_entropy))
    expected = -(1 - 1 / (1 + math.exp(-20) + math.exp(-19)))
    assert float(own) == pytest.approx(expected, rel=1e-5) and float(torchs) != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(step=0.0), r"step = 0.0 must be a finite number above 0"),
        (dict(step=math.nan), r"step = nan must be"),
        (dict(probes=0), r"probes = 0: a whole number of at least 1"),
        (dict(probes=2.5), r"probes = 2.5"),
        (dict(method="autograd"), r"unknown method 'autograd': choose one of finite_difference, hvp, exact"),
        (dict(space="feature"), r"unknown space 'feature': choose one of normalised, pixel"),
        (dict(images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8)), r"images are torch.uint8: curvature needs float32 or float64"),
        (dict(images=torch.zeros(2, 1, 2, 2, dtype=torch.float16)), r"images are torch.float16"),
        (dict(images=torch.zeros(2, dtype=torch.float64)), r"images of shape \(2,\): expected at least one, \(N,C,H,W\) or \(N,D\)"),
        (dict(images=torch.full((2, 1, 2, 2), math.nan, dtype=torch.float64)), r"of finite numbers"),
        (dict(images=torch.zeros(2, 1, 2, 2)), r"the model is torch.float64 on cpu, the images are torch.float32 on cpu: bring them"),
        (dict(labels=torch.zeros(3, dtype=torch.long)), r"labels are torch.int64 of shape \(3,\) on cpu: expected torch.int64"),
        (dict(labels=torch.zeros(2)), r"labels are torch.float32"),
        (dict(labels=torch.tensor([0, 3])), r"labels run from 0 to 3, the model has 3 classes: 0 to 2"),
        (dict(labels=torch.tensor([-1, 0])), r"labels run from -1 to 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(given, message):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double().eval()
    usable = dict(images=torch.zeros(2, 1, 2, 2, dtype=torch.float64), labels=torch.zeros(2, dtype=torch.long))
    with pytest.raises(InputError, match=message) as error:
        input_curvature(model, **usable | given)
    assert "\n" not in str(error.value)


def test_one_layer_in_training_mode_is_enough_to_refuse(smooth):
    model, x, y = smooth
    model.backbone[0][1].train()
    try:
        for function in (input_curvature, hessian, top_eigenvalue, curvature.gradient):
            with pytest.raises(InputError, match=r"the model is in training mode, .*call model.eval\(\) first"):
                function(model, x, y)
    finally:
        model.eval()


def test_too_large_for_the_whole_hessian_says_what_to_take():
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)).eval(), torch.zeros(1, 3, 32, 32)
    for call in (lambda: hessian(model, x, torch.tensor([0])), lambda: input_curvature(model, x, torch.tensor([0]), "exact")):
        with pytest.raises(InputError, match=r"3,072 numbers is too large for the exact Hessian \(at most 1,024\): take method='hvp'"):
            call()
    assert input_curvature(model, x, torch.tensor([0]), "hvp") > 0


def test_other_parameters_must_be_positive(smooth):
    for wrong in (0, 2.5, True, math.nan):
        with pytest.raises(InputError, match=f"iterations = {wrong}: a whole number of at least 1 is needed"):
            top_eigenvalue(*smooth, iterations=wrong)
    with pytest.raises(InputError, match="temperature = -1.0"):
        tempered(-1.0)


def test_a_flat_loss_has_no_eigenvalue_above_zero():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 2) + 0 * x.flatten(1).sum(1, keepdim=True)

    assert top_eigenvalue(Flat().eval(), torch.rand(2, 1, 2, 2), torch.tensor([0, 1])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("odds", [-80.0, -55.0, -21.0, -1.0, 0.0, 1.0, 21.0, 55.0, 80.0])
def test_the_derivatives_of_cross_entropy_keep_their_precision_on_either_side(odds, kind):
    """Of log(1 + e^x) with x = -z_y: sigma(x) and sigma(x) sigma(-x)."""
    loss = lambda x: cross_entropy(torch.stack([-x, torch.zeros_like(x)], 1), torch.zeros(1, dtype=torch.long)).sum()  # noqa: E731
    x = torch.tensor([odds], dtype=kind)
    slope, bend = torch.func.grad(loss)(x), torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(x)
    assert slope.item() == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-5, abs=0)
    assert bend.item() == pytest.approx(math.exp(-abs(odds)) / (1 + math.exp(-abs(odds))) ** 2, rel=1e-5, abs=0)


@pytest.mark.parametrize("odds", [-30.0, 5.0, 21.0, 30.0])
def test_the_hessian_of_a_sure_network_is_known_as_far_as_float64_holds_it(odds):
    """Logits (0, w.x) and label 0: H = p (1 - p) w w' with p = 1 / (1 + e^-w.x), where one of the two rounds to 1 or not."""
    w = torch.tensor([3.0, 4.0], dtype=torch.float64)

    class Linear(nn.Module):
        def forward(self, x):
            logit = x.flatten(1) @ w
            return torch.stack([torch.zeros_like(logit), logit], 1)

    x = (odds * w / 25).reshape(1, 1, 1, 2)
    expected = math.exp(-abs(odds)) / (1 + math.exp(-abs(odds))) ** 2 * torch.outer(w, w)
    for method in ("exact", "piecewise_linear"):
        found = hessian(Linear().eval(), x, torch.tensor([0]), method=method)[0]
        torch.testing.assert_close(found, expected, rtol=1e-12 + 1e-15 * math.exp(max(odds, 0)), atol=0)


@pytest.mark.parametrize("iterations", [99, 100])
def test_power_iteration_finds_an_eigenvalue_whose_square_float32_cannot_hold(iterations):
    class Linear(nn.Module):
        def forward(self, x):
            logit = x.flatten(1) @ torch.tensor([3.0, 4.0])
            return torch.stack([torch.zeros_like(logit), logit], 1)

    x = torch.tensor([[[[7.2, 9.6]]]])  # log-odds of 60, the label on their side: 25 e^-60
    found = top_eigenvalue(Linear().eval(), x, torch.tensor([1]), iterations)
    assert found.item() == pytest.approx(25 * math.exp(-60), rel=1e-3, abs=0)


def test_a_gpus_rounding_of_convolutions_is_switched_off_inside_and_only_there():
    seen = []

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def features(self, x):
            seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")))
            return x.flatten(1)

        def forward(self, x):
            return self.head(self.features(x))

    model = Noting().eval()
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    before = torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", torch.bfloat16):
        input_curvature(model, x, y)
        inside = theory.differences(model, x, y, sigma=1e-3, draws=2)
    assert all(map(torch.equal, inside, theory.differences(model, x, y, sigma=1e-3, draws=2)))
    assert set(seen) == {(False, False)} and torch.backends.cudnn.allow_tf32 == before
