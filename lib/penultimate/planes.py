"""The centroid plane: what the losses act on, seen in the plane through three class centroids, with no embedding in between.

A point q of feature space R^d is seen at P (q - o), P the orthogonal projection on the plane, o the mean of the three centroids.
"""

from typing import NamedTuple

import numpy as np

from . import InputError


class Plane(NamedTuple):
    """o + span(axes): origin o (d,), axes (d,2) orthonormal.

    >>> Plane(np.ones(3), np.eye(3)[:, :2]).project(np.array([[2.0, 3.0, 9.0]]))
    array([[1., 2.]])
    """

    origin: np.ndarray
    axes: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """P (q - o) in the plane's coordinates: points (N,d) -> (N,2)."""
        return (points - self.origin) @ self.axes


FLAT = Plane(np.zeros(2), np.eye(2))  # a feature space that is a plane already


def through(three: np.ndarray) -> Plane:
    """The plane through three points (3,d), their mean as origin, the first to the right of it, the second above.

    Where they lie on one line or in one point, as the centroids of a network that has collapsed, a plane that holds it. Raises InputError
    for points that are single numbers: there is no plane.

    >>> corners = np.array([[2.0, 0, 5], [-1, 3, 5], [-1, -3, 5]])
    >>> through(corners).project(corners).round(6) + 0.0
    array([[ 2.,  0.],
           [-1.,  3.],
           [-1., -3.]])
    """
    if three.shape[1] < 2:
        raise InputError(f"points of {three.shape[1]} number(s) lie in no plane: features need two dimensions or more (dim)")
    origin, basis = three.mean(0), np.eye(three.shape[1])
    right, up = three[0] - origin, three[1] - origin
    smallest = 1e-9 * np.abs(three).max()
    first = right if np.linalg.norm(right) > smallest else up if np.linalg.norm(up) > smallest else basis[0]
    first = first / np.linalg.norm(first)
    up = up - (up @ first) * first
    if not np.linalg.norm(up) > smallest:  # any direction that is not the first
        up = basis[np.abs(first).argmin()]
        up = up - (up @ first) * first
    return Plane(origin, np.stack([first, up / np.linalg.norm(up)], axis=1))


class Scene(NamedTuple):
    """Features, centroids and the head as three classes' plane shows them; class k of the three is classes[k].

    points (N,2), noisy (N,2) or none, labels (N,) in 0..2, centroids (3,2). weight (C,2), bias (C,): the head on the plane, exact there:
    logits of the plane's point t are weight t + bias, chosen (3,) the rows of the three classes. stretch (3,3): 1 / ||P n_cj||, n_cj the
    unit normal of the boundary between c and j: a distance to the boundary is that much longer within the plane.
    """

    points: np.ndarray
    noisy: np.ndarray
    labels: np.ndarray
    centroids: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    chosen: np.ndarray
    stretch: np.ndarray

    @property
    def reach(self) -> float:
        """How far from the origin anything of it lies."""
        return float(max(np.abs(part).max(initial=0) for part in (self.points, self.noisy, self.centroids)))


def scene(features, labels, weight, bias, classes=(0, 1, 2), noisy=None, centroids=None, plane: Plane | None = None) -> Scene:
    """The scene of three classes: features, noisy (N,d), labels (N,), the head's weight (C,d) and bias (C,).

    centroids (3,d): of the three classes; left out, the means of their features. plane: left out, the one through the centroids.
    Raises InputError for classes that are not three different ones of the head's, and for one without features where no centroids are
    given.

    >>> corners = np.array([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    >>> seen = scene(corners, [0, 1, 2], weight=corners, bias=np.zeros(3), plane=FLAT)
    >>> np.array_equal(seen.centroids, corners), seen.reach
    (True, 2.0)
    """
    q, w, b = (np.asarray(given, dtype=float) for given in (features, weight, bias))
    chosen, labels = np.array(classes), np.asarray(labels)
    if len(set(classes)) != 3 or not all(0 <= c < len(w) for c in classes):
        raise InputError(f"classes {tuple(classes)}: expected three different ones from 0 to {len(w) - 1}")
    absent = [int(c) for c in chosen if not (labels == c).any()]
    if absent and centroids is None:
        raise InputError(f"class {absent[0]} has no features, so no centroid: give centroids, or other classes")
    shown = np.isin(labels, chosen)
    which = (labels[shown, None] == chosen).argmax(1)
    m = np.stack([q[labels == c].mean(0) for c in chosen]) if centroids is None else np.asarray(centroids, dtype=float)
    plane = plane or through(m)
    flat = w @ plane.axes
    apart, apart_in_plane = (np.linalg.norm(x[chosen][:, None] - x[chosen][None], axis=2) for x in (w, flat))
    stretch = np.divide(apart, apart_in_plane, out=np.ones((3, 3)), where=apart_in_plane > 0)
    noisy = np.zeros((0, 2)) if noisy is None else plane.project(np.asarray(noisy, dtype=float)[shown])
    return Scene(plane.project(q[shown]), noisy, which, plane.project(m), flat, w @ plane.origin + b, chosen, stretch)


class Boundary(NamedTuple):
    """The line z_c = z_j on the plane: the whole of it, (2,2); its segment where it decides, (2,2) or none; its band, as polygons."""

    line: np.ndarray
    decides: np.ndarray | None
    band: list[np.ndarray]


def boundary(scene: Scene, c: int, j: int, delta_d: float, reach: float) -> Boundary:
    """The exact line in which the boundary between the c-th and the j-th of the three classes cuts the plane.

    It decides where no other class of the C has a higher logit. band: the part of c's and of j's region that is nearer to the boundary
    than delta_d, which is delta_d / ||P n|| within the plane. reach: how far the line is drawn, in both directions.

    >>> corners = np.array([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    >>> seen = scene(corners, [0, 1, 2], weight=corners, bias=np.zeros(3), plane=FLAT)
    >>> boundary(seen, 1, 2, delta_d=0.5, reach=3.0).decides + 0.0  # of the line y = 0 the part where class 0 is lower
    array([[ 0.,  0.],
           [-3.,  0.]])
    """
    one, two = scene.chosen[[c, j]]
    apart = scene.weight[one] - scene.weight[two]
    length = np.linalg.norm(apart)
    if not length:
        return Boundary(np.full((2, 2), np.nan), None, [])  # the two classes are nowhere told apart
    normal = apart / length
    along = np.array([-normal[1], normal[0]])
    foot = (scene.bias[two] - scene.bias[one]) / length * normal
    line = foot + reach * np.array([[-1.0], [1.0]]) * along
    out = delta_d * scene.stretch[c, j] * normal
    strips = (np.concatenate([line[::-1], line + out]), np.concatenate([line, line[::-1] - out]))  # both turn the same way round
    sides = [_region(scene, k, strip) for k, strip in zip((one, two), strips, strict=True)]
    return Boundary(line, _decides(scene, one, two, line), [side for side in sides if len(side)])


def _decides(scene: Scene, one: int, two: int, line: np.ndarray) -> np.ndarray | None:
    """The segment of a line z_one = z_two on which no third class is higher: z_one - z_k is linear from end to end."""
    lead = line @ (scene.weight[one] - scene.weight).T + scene.bias[one] - scene.bias  # (2,C)
    start, end = np.delete(lead, [one, two], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = start / (start - end)
    low, high = max([0.0, *crossing[end > start]]), min([1.0, *crossing[end < start]])
    if low >= high or (start[end == start] < 0).any():
        return None
    return line[0] + np.array([[low], [high]]) * (line[1] - line[0])


def _region(scene: Scene, k: int, polygon: np.ndarray) -> np.ndarray:
    """The part of a convex polygon (n,2) in which class k has the highest logit: cut by each half plane z_k >= z_i in turn."""
    for i in np.delete(np.arange(len(scene.weight)), k):
        lead = polygon @ (scene.weight[k] - scene.weight[i]) + scene.bias[k] - scene.bias[i]
        if (lead >= -1e-9 * np.abs(lead).max(initial=1)).all():
            continue
        following, later = np.roll(polygon, -1, axis=0), np.roll(lead, -1)
        kept = []
        for here, there, at, to in zip(polygon, following, lead, later, strict=True):
            kept += [here] if at >= 0 else []
            kept += [here + at / (at - to) * (there - here)] if (at >= 0) != (to >= 0) else []
        polygon = np.array(kept).reshape(-1, 2)
    return polygon
