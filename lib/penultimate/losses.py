"""The paper's discriminative loss on penultimate features, one equation a function. C_B: the classes present in the batch.

q_i = features[i] in R^d, y_i = labels[i], m_c = centroids[c], N_c = counts[c], z_c = w_c . q + b_c the head's logits.
Proposition 5.3: scaling q by s and W by 1/s changes no logit; as s falls L_compact falls, as it grows L_margin does. Each needs the other.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import InputError, at_least_one
from .centroids import CentroidTracker

SAME_ROW = 1e-14  # ||w_c - w_j||^2 over ||w_c||^2 + ||w_j||^2, below which float64 products cannot tell the rows apart


def norms(x: Tensor) -> Tensor:
    """||x_i|| of each row (N,d) -> (N,), right from the smallest to the largest float32. The gradient at 0 is 0.

    >>> norms(torch.tensor([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]]))
    tensor([5.0000e-30, 5.0000e+30, 0.0000e+00])
    """
    return torch.linalg.vector_norm(_wide(x), dim=1).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float64, where squares of float32 neither under- nor overflow and differences keep their digits; Apple's GPUs lack it."""
    return x if x.device.type == "mps" else x.double()


def compactness(features: Tensor, labels: Tensor, centroids: Tensor, counts: Tensor, delta_v: float) -> Tensor:
    """L_compact = mean over c in C_B of mean over i in c of [ ||q_i - m_c|| - delta_v ]_+^2  (the paper's eq. 8).

    features (N,d), labels (N,), centroids (C,d), counts (C,) of the batch -> scalar.

    >>> q = torch.tensor([[2.5, 0.0], [0.1, 0.0]])
    >>> compactness(q, torch.tensor([0, 1]), torch.zeros(2, 2), torch.ones(2), delta_v=0.5)  # ([2]^2 + 0) / 2
    tensor(2.)
    """
    distance = norms(features - centroids[labels])
    hinge = (distance - delta_v).relu().square()
    return (hinge / counts[labels]).sum() / (counts > 0).sum()


def alignment(noisy_features: Tensor, labels: Tensor, centroids: Tensor, counts: Tensor, delta_v: float) -> Tensor:
    """L_noisy: L_compact of the noisy view's features q(x~_i), pulled to the centroids of the CLEAN features.

    >>> alignment(torch.tensor([[0.0, 1.5]]), torch.tensor([0]), torch.zeros(1, 2), torch.ones(1), delta_v=0.5)
    tensor(1.)
    """
    return compactness(noisy_features, labels, centroids, counts, delta_v)


def signed_distances(centroids: Tensor, weight: Tensor, bias: Tensor, classes: Tensor | None = None) -> Tensor:
    """s_cj = ((w_j - w_c) . m_c + b_j - b_c) / ||w_c - w_j||: from centroid c to the boundary between c and j.

    Negative on c's own side. centroids (C,d), weight (C,d), bias (C,) -> (C,C), zero on the diagonal; for some `classes` (R,) alone
    (R,C). Where w_c = w_j there is no boundary: the distance counts as zero and has no gradient.

    >>> signed_distances(torch.tensor([[3.0], [-1.0]]), torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    tensor([[ 0., -3.],
            [-1.,  0.]])
    """
    c = torch.arange(len(weight), device=weight.device) if classes is None else classes
    w, b, m = _wide(weight), _wide(bias), _wide(centroids)[c]
    logits = torch.addmm(b, m, w.T)
    gap = logits - logits.gather(1, c[:, None])
    both = w.square().sum(1) + w[c].square().sum(1, keepdim=True)
    squared = torch.addmm(both, w[c], w.T, alpha=-2)  # ||w_c - w_j||^2 = ||w_c||^2 + ||w_j||^2 - 2 w_c . w_j
    apart = squared > SAME_ROW * both
    return torch.where(apart, gap / torch.where(apart, squared, 1).sqrt(), 0).to(weight.dtype)


def signed_distance(centroids: Tensor, weight: Tensor, bias: Tensor, c: Tensor, j: Tensor) -> Tensor:
    """s_cj of `signed_distances` for pairs of classes c (R,), j (R,) alone; (R,).

    >>> head = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    >>> signed_distance(torch.tensor([[3.0], [-1.0]]), *head, c=torch.tensor([0]), j=torch.tensor([1]))
    tensor([-3.])
    """
    normal = _wide(weight)[j] - _wide(weight)[c]  # not one for both: their gradients add up in float32, as in the runs of the records
    gap, length = (normal * centroids[c]).sum(1) + _wide(bias)[j] - _wide(bias)[c], torch.linalg.vector_norm(normal, dim=1)
    squares = _wide(weight.detach()).square().sum(1)
    apart = length.square() > SAME_ROW * (squares[j] + squares[c])
    return torch.where(apart, gap / torch.where(apart, length, 1), 0).to(weight.dtype)


def margin(centroids: Tensor, counts: Tensor, weight: Tensor, bias: Tensor, delta_d: float, classes: Tensor | None = None) -> Tensor:
    """L_margin = mean over c in C_B of max over j != c of [ delta_d + s_cj ]_+, not squared.

    Its gradient reaches the centroids and the head's weight and bias; of equally near boundaries the first has it all.
    classes (R,): those to look at, C_B among them; left out: all.

    >>> margin(torch.tensor([[3.0], [-1.0]]), torch.ones(2), torch.tensor([[1.0], [-1.0]]), torch.zeros(2), delta_d=5.0)
    tensor(3.)
    """
    c = torch.arange(len(weight), device=weight.device) if classes is None else classes
    with torch.no_grad():  # only the nearest boundary has a gradient: all pairs are looked at, one a class is differentiated
        s = signed_distances(centroids, weight, bias, c)
        j = s.scatter(1, c[:, None], -torch.inf).argmax(1)
    present, bounded = counts[c] > 0, j != c  # a single class has no boundary
    return ((delta_d + signed_distance(centroids, weight, bias, c, j)).relu() * (present & bounded)).sum() / present.sum()


def regulariser(centroids: Tensor, counts: Tensor) -> Tensor:
    """L_reg = mean over c in C_B of ||m_c||.

    >>> regulariser(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([2.0, 1.0]))
    tensor(3.)
    """
    present = counts > 0
    return (norms(centroids) * present).sum() / present.sum()


class Terms(NamedTuple):
    """Scalars: the weighted total without the cross-entropy, and each term unweighted."""

    total: Tensor
    compact: Tensor
    noisy: Tensor
    margin: Tensor
    reg: Tensor


class DiscriminativeLoss(nn.Module):
    """total = alpha L_compact + lambda L_noisy + beta L_margin + gamma L_reg, to be added to the cross-entropy.

    compact = alpha, noisy = lambda, margin = beta, reg = gamma; momentum = mu; tracking: see CentroidTracker. The
    defaults are the authors' CIFAR-10 values; their one mean over clean and noisy features makes alpha = lambda = 0.5.
    Computed in at least float32 under autocast. The centroids are buffers and move in training mode only.
    Raises InputError for shapes that do not fit, and on the CPU for labels outside 0 ... C-1.

    >>> head, loss = nn.Linear(2, 2), DiscriminativeLoss(num_classes=2, dim=2)
    >>> clean, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    >>> terms = loss(clean, labels, head, noisy_features=clean + 0.1)
    >>> float(terms.compact), round(float(terms.reg), 4)
    (0.0, 2.0)
    """

    def __init__(
        self, num_classes: int, dim: int, delta_v: float = 0.5, delta_d: float = 5.0, compact: float = 0.5,
        noisy: float = 0.5, margin: float = 1.0, reg: float = 1e-3, momentum: float = 0.99, tracking: str = "partial",
    ):  # fmt: skip
        super().__init__()
        for name, value in (("num_classes", num_classes), ("dim", dim)):
            at_least_one(name, value)
        for name, value in (("delta_v", delta_v), ("delta_d", delta_d)):
            if not value > 0:
                raise InputError(f"{name} = {value} must be positive")
        for name, value in (("compact", compact), ("noisy", noisy), ("margin", margin), ("reg", reg)):
            if not value >= 0:
                raise InputError(f"weight {name} = {value} must not be negative")
        if not 0 <= momentum < 1:
            raise InputError(f"momentum = {momentum} must lie in [0, 1)")
        self.delta_v, self.delta_d = delta_v, delta_d
        self.compact, self.noisy, self.margin, self.reg = compact, noisy, margin, reg
        self.tracker = CentroidTracker(num_classes, dim, momentum, tracking)

    def forward(self, features: Tensor, labels: Tensor, classifier: nn.Linear, noisy_features: Tensor | None = None) -> Terms:
        """features (N,d) of the clean view, labels (N,), the head, noisy_features (N,d) of the noisy view -> Terms."""
        self._check(features, labels, classifier, noisy_features)
        with torch.autocast(features.device.type, enabled=False):
            exact = torch.promote_types(features.dtype, torch.float32)
            q, w, b = features.to(exact), classifier.weight.to(exact), classifier.bias.to(exact)
            anchor, mean, counts = self.tracker(q, labels)
            compact = compactness(q, labels, anchor, counts, self.delta_v)
            noisy = compact.new_zeros(())
            if noisy_features is not None:
                noisy = alignment(noisy_features.to(exact), labels, anchor, counts, self.delta_v)
            few = counts.topk(len(q)).indices if len(q) < len(counts) else None  # a batch holds no more classes than samples
            apart = margin(mean, counts, w, b, self.delta_d, few)
            reg = regulariser(anchor, counts)
            total = self.compact * compact + self.noisy * noisy + self.margin * apart + self.reg * reg
        return Terms(total, compact, noisy, apart, reg)

    def _check(self, features: Tensor, labels: Tensor, classifier: nn.Linear, noisy_features: Tensor | None) -> None:
        num_classes, dim = self.tracker.centroids.shape
        if labels.ndim != 1 or labels.dtype not in (torch.int64, torch.int32):
            raise InputError(f"labels are {labels.dtype} {tuple(labels.shape)}, expected int64 of shape (N,)")
        weight, bias = (getattr(classifier, name, None) for name in ("weight", "bias"))
        if getattr(weight, "shape", None) != (num_classes, dim) or bias is None:
            raise InputError(f"the head is {classifier}, expected Linear({dim}, {num_classes}) with a bias")
        expected = (len(labels), dim)
        for name, given in (("features", features), ("noisy_features", noisy_features)):
            if given is not None and tuple(given.shape) != expected:
                raise InputError(f"{name} are {tuple(given.shape)}, expected {expected}: {len(labels)} labels, dim {dim}")
        if not len(labels):
            raise InputError("the batch is empty: the loss needs at least one sample")
        # On an accelerator the look would stop the device, compiled it would break the graph; data.load has checked the labels once.
        looked = labels.device.type == "cpu" and not torch.compiler.is_compiling()
        if looked and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise InputError(f"labels run from {int(labels.min())} to {int(labels.max())}, expected 0 to {num_classes - 1}")
