"""The centroid plane against least squares, the full feature space and brute force over points of the plane."""

import numpy as np
import pytest

from penultimate import InputError
from penultimate.planes import FLAT, Plane, boundary, scene, through

SEEDS = range(6)
CLASSES, DIM, DELTA_D, REACH = 5, 7, 0.8, 6.0
PAIRS = [(1, 0), (2, 0), (2, 1)]


@pytest.fixture
def space():
    """Features of five classes in R^7, a head in general position and the scene of three of the classes, all float64."""

    def make(seed, classes=(3, 0, 4), **given):
        rng = np.random.default_rng(seed)
        labels = np.arange(60) % CLASSES
        features = 2 * rng.normal(size=(CLASSES, DIM))[labels] + rng.normal(size=(60, DIM))
        weight, bias = rng.normal(size=(CLASSES, DIM)), rng.normal(size=CLASSES)
        return features, labels, weight, bias, scene(features, labels, weight, bias, classes, **given)

    return make


def the_plane(features, labels, classes=(3, 0, 4)):
    return through(np.stack([features[labels == c].mean(0) for c in classes]))


@pytest.mark.parametrize("seed", SEEDS)
def test_three_points_keep_their_distances_in_their_plane(seed):
    three = np.random.default_rng(seed).normal(size=(3, DIM))
    plane = through(three)
    assert np.allclose(plane.axes.T @ plane.axes, np.eye(2), atol=1e-12)
    flat = plane.project(three)
    for i in range(3):
        for j in range(3):
            assert np.linalg.norm(flat[i] - flat[j]) == pytest.approx(np.linalg.norm(three[i] - three[j]), abs=1e-12)
    assert np.allclose(plane.origin + flat @ plane.axes.T, three, atol=1e-12)  # they lie in it
    assert np.allclose(flat.mean(0), 0, atol=1e-12)
    assert flat[0] == pytest.approx([np.linalg.norm(three[0] - three.mean(0)), 0], abs=1e-12) and flat[1, 1] > 0


@pytest.mark.parametrize("apart, third", [(1.0, 2.0), (1.0, 1.0), (1.0, -3.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.0), (1e-13, 2.0)])
def test_three_points_on_a_line_or_in_one_point_lie_in_their_plane_too(apart, third):
    """As the centroids of a network that has collapsed; the second and the first may be the same, or the first the mean of the others."""
    one, direction = np.random.default_rng(0).normal(size=(2, DIM))
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        three = np.stack([one, one + apart * direction, one + third * apart * direction])[order]
        plane = through(three)
        assert np.allclose(plane.axes.T @ plane.axes, np.eye(2), atol=1e-12)
        assert np.allclose(plane.origin + plane.project(three) @ plane.axes.T, three, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_projection_is_the_nearest_point_of_the_plane(seed):
    rng = np.random.default_rng(seed)
    plane, points = through(rng.normal(size=(3, DIM))), rng.normal(size=(9, DIM))
    expected = np.linalg.lstsq(plane.axes, (points - plane.origin).T, rcond=None)[0].T
    assert np.allclose(plane.project(points), expected, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_logits_on_the_plane_are_those_of_the_full_space(space, seed):
    features, labels, weight, bias, seen = space(seed)
    plane, t = the_plane(features, labels), np.random.default_rng(seed).normal(size=(50, 2)) * 5
    assert np.allclose(t @ seen.weight.T + seen.bias, (plane.origin + t @ plane.axes.T) @ weight.T + bias, atol=1e-11)


@pytest.mark.parametrize("seed", SEEDS)
def test_stretch_is_one_over_the_length_of_the_projected_normal(space, seed):
    features, labels, weight, _, seen = space(seed)
    axes = the_plane(features, labels).axes
    for c, one in enumerate((3, 0, 4)):
        for j, two in enumerate((3, 0, 4)):
            if c != j:
                normal = (weight[one] - weight[two]) / np.linalg.norm(weight[one] - weight[two])
                assert seen.stretch[c, j] == pytest.approx(1 / np.linalg.norm(axes @ (axes.T @ normal)), rel=1e-12)
                assert seen.stretch[c, j] >= 1


def test_a_scene_holds_the_images_of_its_three_classes_in_their_order(space):
    shift = np.random.default_rng(7).normal(size=(60, DIM))
    features, labels, weight, bias, seen = space(0)
    plane = the_plane(features, labels)
    rows = [i for i in range(60) if labels[i] in (3, 0, 4)]
    assert seen.labels.tolist() == [(3, 0, 4).index(labels[i]) for i in rows] and seen.chosen.tolist() == [3, 0, 4]
    assert np.allclose(seen.points, plane.project(features[rows])) and seen.noisy.shape == (0, 2)
    for k, c in enumerate((3, 0, 4)):
        assert np.allclose(seen.centroids[k], seen.points[seen.labels == k].mean(0), atol=1e-12)  # projection is affine
        assert np.allclose(seen.centroids[k], plane.project(features[labels == c].mean(0)), atol=1e-12)
    noisy = scene(features, labels, weight, bias, (3, 0, 4), noisy=features + 30 * shift)
    assert np.allclose(noisy.noisy, plane.project((features + 30 * shift)[rows])) and np.allclose(noisy.points, seen.points)
    assert noisy.reach == pytest.approx(np.abs(noisy.noisy).max()) and noisy.reach > seen.reach
    assert seen.reach == max(np.abs(seen.points).max(), np.abs(seen.centroids).max())


def test_given_centroids_and_a_given_plane_are_used(space):
    given = np.random.default_rng(1).normal(size=(3, DIM))
    *_, seen = space(0, centroids=given)
    assert np.allclose(seen.centroids, through(given).project(given))
    *_, flat = space(0, plane=Plane(np.zeros(DIM), np.eye(DIM)[:, :2]))
    features, labels, weight, bias, _ = space(0)
    assert np.allclose(flat.points, features[np.isin(labels, (3, 0, 4))][:, :2]) and np.allclose(flat.weight, weight[:, :2])
    assert np.allclose(flat.bias, bias)


def test_in_a_space_that_is_a_plane_nothing_is_stretched_or_moved():
    rng = np.random.default_rng(0)
    q, weight, bias = rng.normal(size=(9, 2)), rng.normal(size=(3, 2)), rng.normal(size=3)
    seen = scene(q, np.arange(9) % 3, weight, bias, plane=FLAT)
    assert np.allclose(seen.stretch, 1) and np.array_equal(seen.points, q) and np.array_equal(seen.weight, weight)


@pytest.mark.parametrize("classes", [(0, 1, 1), (0, 1, 5), (-1, 0, 1), (0, 1), (0, 1, 2, 3)])
def test_other_than_three_different_classes_are_refused(space, classes):
    with pytest.raises(InputError, match="expected three different ones from 0 to 4"):
        space(0, classes)


@pytest.mark.parametrize("c, j", PAIRS)
@pytest.mark.parametrize("seed", SEEDS)
def test_on_the_line_both_classes_have_equal_logits_in_the_full_space(space, seed, c, j):
    features, labels, weight, bias, seen = space(seed)
    plane, line = the_plane(features, labels), boundary(seen, c, j, DELTA_D, REACH).line
    logits = (plane.origin + line @ plane.axes.T) @ weight.T + bias
    one, two = seen.chosen[[c, j]]
    assert np.allclose(logits[:, one], logits[:, two], atol=1e-10)
    assert np.linalg.norm(line[1] - line[0]) == pytest.approx(2 * REACH)
    assert abs(line.mean(0) @ (line[1] - line[0])) < 1e-9  # its middle is the foot of the origin


@pytest.mark.parametrize("seed", range(20))
def test_a_boundary_decides_where_no_other_class_wins(space, seed):
    *_, seen = space(seed)
    for c, j in PAIRS:
        found, (one, two) = boundary(seen, c, j, DELTA_D, REACH), seen.chosen[[c, j]]
        share = np.linspace(0, 1, 4001)
        points = found.line[0] + share[:, None] * (found.line[1] - found.line[0])
        logits = points @ seen.weight.T + seen.bias
        lead = logits[:, one] - np.delete(logits, [one, two], axis=1).max(1)
        wins = lead > 1e-9
        if found.decides is None:
            assert not wins.any()
            continue
        length = np.linalg.norm(found.line[1] - found.line[0])
        low, high = ((end - found.line[0]) @ (found.line[1] - found.line[0]) / length**2 for end in found.decides)
        assert np.allclose(found.line[0] + low * (found.line[1] - found.line[0]), found.decides[0])  # on the line
        inside = (share > low - 1e-9) & (share < high + 1e-9)
        assert low < high and (wins == inside)[np.abs(lead) > 1e-6].all()


def test_boundaries_that_decide_and_that_do_not_were_both_seen(space):
    found = [boundary(space(seed)[-1], c, j, DELTA_D, REACH) for seed in range(20) for c, j in PAIRS]
    decides = [f.decides is not None for f in found]
    cut = [f.decides is not None and np.linalg.norm(f.decides[1] - f.decides[0]) < 1.99 * REACH for f in found]
    assert 5 < sum(decides) < 55 and sum(cut) > 5
    assert {len(f.band) for f in found} == {0, 1, 2}


def within(points, polygon):
    """Whether points lie in a convex polygon: always to the same side of its edges."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    away = points[:, None] - polygon
    side = edges[:, 0] * away[:, :, 1] - edges[:, 1] * away[:, :, 0]
    return (side >= -1e-9).all(1) | (side <= 1e-9).all(1)


def hyperplane(weight, bias, one, two, q):
    """Signed distance of q to the boundary of two classes, in all dimensions, positive on the side of the first."""
    return (q @ (weight[one] - weight[two]) + bias[one] - bias[two]) / np.linalg.norm(weight[one] - weight[two])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_band_is_what_its_class_wins_nearer_to_the_boundary_than_delta_d(space, seed):
    features, labels, weight, bias, seen = space(seed)
    plane, rng = the_plane(features, labels), np.random.default_rng(seed)
    for c, j in PAIRS:
        found, (one, two) = boundary(seen, c, j, DELTA_D, REACH), seen.chosen[[c, j]]
        sides = []
        for polygon in found.band:
            t = rng.dirichlet(np.full(len(polygon), 0.5), 300) @ polygon
            q = plane.origin + t @ plane.axes.T
            logits, away = q @ weight.T + bias, hyperplane(weight, bias, one, two, q)
            side = one if away.mean() > 0 else two
            sides.append(side)
            assert (logits[:, side] >= logits.max(1) - 1e-9).all()
            assert (np.abs(away) <= DELTA_D + 1e-9).all()
            corner = hyperplane(weight, bias, one, two, plane.origin + polygon @ plane.axes.T)
            assert (np.abs(corner) <= DELTA_D + 1e-9).all() and len(polygon) >= 3
        assert len(set(sides)) == len(sides)
        # and conversely: what satisfies both, no farther along the line than it is drawn, is in a polygon
        along, across = rng.uniform(-REACH, REACH, 4000), rng.uniform(-1, 1, 4000) * 1.2 * DELTA_D * seen.stretch[c, j]
        direction = (found.line[1] - found.line[0]) / (2 * REACH)
        t = found.line.mean(0) + along[:, None] * direction + across[:, None] * np.array([direction[1], -direction[0]])
        q = plane.origin + t @ plane.axes.T
        logits, away = q @ weight.T + bias, hyperplane(weight, bias, one, two, q)
        for side, sign in ((one, 1), (two, -1)):
            expected = (logits.argmax(1) == side) & (sign * away < DELTA_D) & (sign * away > 0)
            polygon = [p for p, of in zip(found.band, sides, strict=True) if of == side]
            inside = within(t, polygon[0]) if polygon else np.zeros(len(t), dtype=bool)
            clear = np.abs(np.abs(away) - DELTA_D) > 1e-6
            assert (inside == expected)[clear].all()


def test_classes_with_the_same_weights_have_no_boundary(space):
    features, labels, weight, bias, _ = space(0)
    weight[3] = weight[0]
    seen = scene(features, labels, weight, bias, (3, 0, 4))
    found = boundary(seen, 0, 1, DELTA_D, REACH)
    assert np.isnan(found.line).all() and found.line.shape == (2, 2) and found.decides is None and found.band == []
    assert np.isfinite(boundary(seen, 0, 2, DELTA_D, REACH).line).all() and np.isfinite(seen.stretch).all()


def test_a_class_that_never_wins_has_no_band_on_its_side(space):
    bands = 0
    for seed in SEEDS:
        features, labels, weight, bias, _ = space(seed)
        weight[1], bias[1] = weight[0], bias[0] + 0.3  # class 1 is above class 0 everywhere
        seen, plane = scene(features, labels, weight, bias, (3, 0, 4)), the_plane(features, labels)
        for c, j, other in ((0, 1, 3), (2, 1, 4)):
            found = boundary(seen, c, j, DELTA_D, REACH)
            assert found.decides is None and len(found.band) <= 1  # where class 0 equals another, class 1 is above both
            for polygon in found.band:
                assert ((plane.origin + polygon.mean(0) @ plane.axes.T) @ weight.T + bias).argmax() == other
                bands += 1
    assert bands > 3


def test_two_classes_of_three_by_hand():
    """Boundaries x = 0, y = x and y = -x of the head 0: (-1, 0), 1: (1, 0), 2: (0, 1); class 2 wins above |x|."""
    q = np.array([[-2.0, 0], [2, 0], [0, 2]])
    seen = scene(q, np.arange(3), np.array([[-1.0, 0], [1, 0], [0, 1]]), np.zeros(3), plane=FLAT)
    found = boundary(seen, 1, 0, delta_d=1.0, reach=4.0)
    assert np.allclose(sorted(found.line.tolist()), [[0, -4], [0, 4]]) and np.allclose(sorted(found.decides.tolist()), [[0, -4], [0, 0]])
    areas = [shoelace(p) for p in found.band]
    assert areas == pytest.approx([4.5, 4.5])  # 1 x 4 below the axis and the half square between it and the diagonal
    assert sorted(p[:, 0].max() for p in found.band) == pytest.approx([0, 1])


def shoelace(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_what_has_no_plane_or_no_centroid_is_named():
    with pytest.raises(InputError, match=r"points of 1 number\(s\) lie in no plane: .*dim"):
        through(np.ones((3, 1)))
    corners = np.array([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    with pytest.raises(InputError, match="class 2 has no features, so no centroid"):
        scene(corners, [0, 1, 1], weight=corners, bias=np.zeros(3))
    assert scene(corners, [0, 1, 1], weight=corners, bias=np.zeros(3), centroids=corners).centroids.shape == (3, 2)
