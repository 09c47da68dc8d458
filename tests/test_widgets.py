"""Pictures and sliders without a browser: what is drawn and told is exactly what was looked up, computed or trained."""

import base64
import io
import itertools
import json
import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from penultimate import losses
from penultimate.centroids import class_means
from penultimate.commands import execution
from penultimate.figures import STYLE
from penultimate.losses import DiscriminativeLoss
from penultimate.planes import FLAT, boundary, scene, through
from penultimate.show import figures_features, widgets_networks
from penultimate.show.widgets_networks import NoiseExplorer, UmapExplorer, level_slider
from penultimate.study.lookup import Lookup
from penultimate.widgets import PURPLE, ByHand, Film

PLANE = 11  # traces: bands, lines, deciding segments, two of each class, centroids, circles
NOISY, POINTS, CENTROIDS, CIRCLES = 0, 1, 9, 10


def of_class(k, what, panel=0):
    return PLANE * panel + 3 + 2 * k + what


def xy(trace):
    return np.stack([np.asarray(trace.x, dtype=float), np.asarray(trace.y, dtype=float)], axis=1)


def coordinates(figure):
    return [xy(trace) for trace in figure.data]


def same(one, two):
    return len(one) == len(two) and all(a.shape == b.shape and np.allclose(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))


def parts(trace):
    """The pieces of a trace between its gaps."""
    points = xy(trace)
    pieces = np.split(points, np.flatnonzero(np.isnan(points[:, 0])))
    return [piece[~np.isnan(piece[:, 0])] for piece in pieces if (~np.isnan(piece[:, 0])).any()]


def cells(html):
    """The texts of an HTML table, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


def pictured(html):
    """The pixels of the HTML's pictures, uint8 (H,W) or (H,W,3)."""
    return [np.array(Image.open(io.BytesIO(base64.b64decode(source)))) for source in re.findall(r"base64,([^']+)'", html)]


def captions(html):
    return [re.sub(r"<[^>]+>", "|", caption) for caption in re.findall(r"<figcaption>(.*?)</figcaption>", html)]


# --- drawings


@pytest.fixture
def seen():
    rng = np.random.default_rng(0)
    q, noise = rng.normal(size=(2, 30, 6))
    q += 3 * rng.normal(size=(3, 6))[np.arange(30) % 3]
    return scene(q, np.arange(30) % 3, rng.normal(size=(4, 6)), rng.normal(size=4), (2, 0, 1), q + noise)


def kinds(traces):
    return [(t.mode, t.fill, t.legendgroup, t.line.dash, t.marker.symbol, t.marker.color) for t in traces]


def test_the_traces_of_a_plane_do_not_depend_on_its_data(seen):
    whole = figures_features.plane_traces(seen, 0.5, 1.0, "abc", 9)
    never = seen._replace(bias=np.array([0, 0, 0, 1e6]))  # a class that is not shown wins everywhere
    odd = [
        seen._replace(noisy=np.zeros((0, 2))), seen._replace(weight=np.zeros((4, 2))), never,
        seen._replace(points=seen.points[:0], noisy=seen.noisy[:0], labels=seen.labels[:0]),
    ]  # fmt: skip
    assert len(whole) == PLANE
    for other in odd:
        assert kinds(figures_features.plane_traces(other, 0.5, 1.0, "abc", 9)) == kinds(whole)
    assert boundary(never, 1, 0, 1.0, 9).band == [] != boundary(seen, 1, 0, 1.0, 9).band


def test_a_plane_shows_bands_boundaries_points_centroids_and_circles(seen):
    traces = figures_features.plane_traces(seen, 0.7, 1.3, "abc", 5)
    edges = [boundary(seen, c, j, 1.3, 20) for c, j in [(1, 0), (2, 0), (2, 1)]]
    band, line, decides = (parts(trace) for trace in traces[:3])
    assert same(line, [edge.line for edge in edges])
    assert same(decides, [edge.decides for edge in edges if edge.decides is not None])
    assert same(band, [np.concatenate([polygon, polygon[:1]]) for edge in edges for polygon in edge.band])  # closed
    for k in range(3):
        assert np.array_equal(xy(traces[of_class(k, NOISY)]), seen.noisy[seen.labels == k])
        assert np.array_equal(xy(traces[of_class(k, POINTS)]), seen.points[seen.labels == k])
        assert np.allclose(np.linalg.norm(parts(traces[CIRCLES])[k] - seen.centroids[k], axis=1), 0.7)
        assert (
            traces[of_class(k, POINTS)].name == f"class {'abc'[k]}"
            and traces[of_class(k, POINTS)].marker.color == figures_features.COLOURS[k]
        )
    assert np.array_equal(xy(traces[CENTROIDS]), seen.centroids) and traces[CENTROIDS].marker.color == figures_features.COLOURS[:3]


def test_bands_turn_the_same_way_round_so_that_where_they_overlap_nothing_is_cut_out(seen):
    for polygon in parts(figures_features.plane_traces(seen, 0.7, 1.3, "abc", 5)[0]):
        (x, y), (u, v) = polygon[:-1].T, polygon[1:].T
        assert (x * v - u * y).sum() > 0


def test_arrows_go_from_their_start_by_their_step():
    starts, steps = np.array([[1.0, 2], [7, 7], [0, 0]]), np.array([[0.5, -1], [0, 0], [3, 4]])
    trace, nan = figures_features.arrow_trace(starts, steps), [np.nan, np.nan]
    assert np.array_equal(xy(trace), [[1, 2], [1.5, 1], nan, [0, 0], [3, 4], nan], equal_nan=True)  # one of no length is left out
    assert list(trace.marker.size)[:6] == [0, 9, 0] * 2
    assert np.isnan(xy(figures_features.arrow_trace(starts, 0 * steps))).all()


def test_a_plane_with_steps(seen):
    starts, steps = np.array([[1.0, 2], [0, 0]]), np.array([[0.5, -1], [3, 4]])
    figure = figures_features.plane(seen, 0.5, 1.0, "t", "abc", starts, steps)
    assert same(
        coordinates(figure),
        [
            xy(t)
            for t in (
                *figures_features.plane_traces(seen, 0.5, 1.0, "abc", 1.15 * (seen.reach + 0.5)),
                figures_features.arrow_trace(starts, steps),
            )
        ],
    )
    assert np.isnan(xy(figures_features.plane(seen, 0.5, 1.0, "t", "abc").data[-1])).all()


def test_planes_beside_each_other_share_one_scale(seen):
    wide = seen._replace(points=3 * seen.points)
    figure = figures_features.planes_beside({"one": seen, "two": wide}, 0.5, 1.0, "t", "abc")
    assert len(figure.data) == 2 * PLANE and [{t.xaxis for t in half} for half in (figure.data[:PLANE], figure.data[PLANE:])] == [
        {"x"},
        {"x2"},
    ]
    for axis in (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.yaxis, figure.layout.yaxis2):
        assert axis.range[1] == -axis.range[0] == pytest.approx(1.05 * wide.reach)
    told = {t.legendgroup for t in figure.data if t.showlegend}
    assert len(told) == 9 and {"class a", "class b", "class c", "the same, noisy", "centroid", "decision boundary"} < told
    assert not any(t.showlegend for t in figure.data[PLANE:])


# --- ByHand


@pytest.fixture
def by_hand():
    gen = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=gen)  # noqa: E731
    y = torch.arange(12) % 3
    q = 2.5 * torch.tensor([[1.0, 0.2], [-0.8, 0.7], [0.0, -1.0]], dtype=torch.float64)[y] + 0.7 * draw(12, 2)
    W = torch.tensor([[1.0, 0.3], [-1.0, 0.5], [0.0, -1.2]], dtype=torch.float64)  # noqa: N806
    return ByHand(q, y, W, 0.3 * draw(3), 0.5, 3.0)


MOVES = [
    {}, dict(delta_v=1.2), dict(delta_d=0.4), dict(noise=1.1), dict(x=4.2, up=-3.1), dict(point=5, x=-2.0), dict(row=2, angle=75.0),
    dict(row=1, length=2.35, noise=0.0), dict(point=7, up=0.4, row=1, angle=-120.0, delta_v=0.1, delta_d=4.0), dict(delta_v=2.0, noise=0.0),
]  # fmt: skip


@pytest.fixture(params=MOVES, ids=str)
def moved(by_hand, request):
    for name, value in request.param.items():
        getattr(by_hand, name).value = value
    return by_hand


def noisy_of(widget):
    return widget.q + widget.noise.value * torch.randn(widget.q.shape, generator=torch.Generator().manual_seed(0))


def test_by_hand_tells_the_terms_of_the_loss(moved):
    head = nn.Linear(2, 3).double()
    head.weight.data, head.bias.data = moved.W, moved.b
    loss = DiscriminativeLoss(3, 2, delta_v=moved.delta_v.value, delta_d=moved.delta_d.value).double()
    with torch.no_grad():
        expected = loss(moved.q, moved.y, head, noisy_features=noisy_of(moved))._asdict()
    told = {row[0]: row for row in cells(moved.values.value)}
    assert set(told) == {"term", "Lcompact", "Lnoisy", "Lmargin", "Lreg", "weighted sum"}
    for name in ("compact", "noisy", "margin", "reg"):
        assert float(told[f"L{name}"][1]) == pytest.approx(float(expected[name]), abs=6e-5)
        assert float(told[f"L{name}"][3]) == getattr(loss, name)
    assert float(told["weighted sum"][1]) == pytest.approx(float(expected["total"]), abs=6e-5)


def finite_difference(function, at, h=1e-6):
    step = torch.zeros_like(at)
    gradient = np.zeros(at.shape)
    for i in itertools.product(*map(range, at.shape)):
        step[i] = h
        gradient[i] = float(function(at + step) - function(at - step)) / (2 * h)
        step[i] = 0
    return gradient


def test_by_hands_arrows_point_against_the_gradients(moved):
    means, counts = class_means(moved.q, moved.y, 3)
    pull = lambda q: losses.compactness(q, moved.y, means, counts, moved.delta_v.value)  # noqa: E731
    push = lambda m: losses.margin(m, counts, moved.W, moved.b, moved.delta_d.value)  # noqa: E731
    noisy, row = noisy_of(moved), moved.row.value

    def turn(w):
        turned = torch.cat([moved.W[:row], w, moved.W[row + 1 :]])
        return losses.margin(means, counts, turned, moved.b, moved.delta_d.value)

    told = {row[0]: row for row in cells(moved.values.value)}
    for trace, groups in (
        (PLANE, [("Lcompact", pull, moved.q), ("Lnoisy", pull, noisy)]),
        (PLANE + 1, [("Lmargin", push, means), (None, turn, moved.W[[row]])]),
    ):
        starts = np.concatenate([at.numpy() for *_, at in groups])
        gradients = [finite_difference(term, at) for _, term, at in groups]
        for (name, *_), gradient in zip(groups, gradients, strict=True):
            assert name is None or float(told[name][2]) == pytest.approx(np.linalg.norm(gradient), abs=6e-4)
        steep = np.abs(np.concatenate(gradients)).sum(1) > 1e-9
        drawn = xy(moved.figure.data[trace])
        if not steep.any():
            assert np.isnan(drawn).all()
            continue
        assert np.allclose(drawn[0::3], starts[steep], atol=1e-9) and np.isnan(drawn[2::3]).all()
        assert np.allclose(drawn[1::3] - drawn[0::3], -3 * np.concatenate(gradients)[steep], atol=1e-5)
        assert list(moved.figure.data[trace].marker.size)[: len(drawn)] == [0, 9, 0] * steep.sum()  # a head at every end
    assert np.array_equal(xy(moved.figure.data[PLANE + 2])[:2], [[0, 0], moved.W[row].tolist()])
    assert (moved.figure.data[PLANE].marker.color, moved.figure.data[PLANE + 1].marker.color) == (figures_features.RED, PURPLE)


def test_by_hand_draws_its_points_and_the_head(moved):
    q, y = moved.q.numpy(), moved.y.numpy()
    expected = scene(q, y, moved.W, moved.b, noisy=noisy_of(moved), plane=FLAT)
    traces = figures_features.plane_traces(expected, moved.delta_v.value, moved.delta_d.value, "012", 8)
    assert len(moved.figure.data) == PLANE + 3 and same(coordinates(moved.figure)[:PLANE], [xy(t) for t in traces])
    for k in range(3):
        assert np.allclose(xy(moved.figure.data[of_class(k, POINTS)]), q[y == k])
        assert np.allclose(xy(moved.figure.data[of_class(k, NOISY)]), noisy_of(moved).numpy()[y == k])
        assert np.allclose(xy(moved.figure.data[CENTROIDS])[k], q[y == k].mean(0))


def test_by_hands_sliders_move_one_point_and_one_weight_vector(by_hand):
    q, W = by_hand.q.clone(), by_hand.W.clone()  # noqa: N806
    by_hand.point.value, by_hand.row.value = 4, 2
    by_hand.x.value, by_hand.up.value, by_hand.angle.value, by_hand.length.value = -3.0, 1.5, 60.0, 2.0
    q[4], W[2] = torch.tensor([-3.0, 1.5]), torch.tensor([1.0, 3**0.5])
    assert torch.allclose(by_hand.q, q, atol=1e-6) and torch.allclose(by_hand.W, W, atol=1e-6)


def test_choosing_a_point_or_a_weight_vector_moves_nothing_and_shows_it(by_hand):
    q, W, told, drawn = by_hand.q.clone(), by_hand.W.clone(), by_hand.values.value, coordinates(by_hand.figure)  # noqa: N806
    for point in [*range(12), 0]:
        by_hand.point.value = point
        assert [by_hand.x.value, by_hand.up.value] == pytest.approx(q[point].tolist(), abs=1e-6)
    for row in (1, 2, 0):
        by_hand.row.value = row
        assert by_hand.length.value == pytest.approx(float(W[row].norm()), abs=1e-6)
        angle = np.deg2rad(by_hand.angle.value)
        assert by_hand.length.value * np.array([np.cos(angle), np.sin(angle)]) == pytest.approx(W[row].numpy(), abs=1e-6)
    assert torch.allclose(by_hand.q, q, atol=1e-6) and torch.allclose(by_hand.W, W, atol=1e-6) and by_hand.values.value == told
    assert all(np.allclose(a, b, atol=1e-4, equal_nan=True) for a, b in zip(coordinates(by_hand.figure), drawn, strict=True))


def test_by_hand_leaves_what_it_was_given():
    q, W = torch.tensor([[1.0, 0], [-1, 0], [0, 1]]), torch.eye(3, 2)  # noqa: N806
    widget = ByHand(q, torch.arange(3), W, torch.zeros(3), 0.5, 1.0)
    widget.x.value, widget.angle.value, widget.length.value = 5.0, 90.0, 3.0
    assert q[0].tolist() == [1, 0] and torch.equal(W, torch.eye(3, 2)) and widget.q[0].tolist() == [5, 0]


# --- Film


def made_up_film(method, seed):
    rng, epochs, frames = np.random.default_rng(seed), [0, 1, 3, 8], []
    for _ in epochs:
        q = rng.normal(size=(18, 5)) * 2
        seen = scene(q, np.arange(18) % 3, rng.normal(size=(3, 5)), rng.normal(size=3), noisy=q + rng.normal(size=q.shape))
        frames.append({name: part.tolist() for name, part in seen._asdict().items()})
    terms = {name: rng.uniform(size=4).tolist() for name in ("compact", "noisy", "margin", "accuracy", "accuracy_noisy")}
    config = {"delta_v": 0.5, "delta_d": 1.5, "method": method}
    return {"config": config, "classes": [0, 1, 2], "epochs": epochs, "terms": terms, "frames": frames}


@pytest.fixture(scope="module")
def films():
    return {"normal": made_up_film("normal", 0), "proposed": made_up_film("proposed", 1)}


def shows(figure, films, index):
    for panel, film in enumerate(films.values()):
        frame = film["frames"][index]
        for k in range(3):
            own = np.array(frame["labels"]) == k
            for what, part in ((NOISY, "noisy"), (POINTS, "points")):
                assert np.allclose(xy(figure.data[of_class(k, what, panel)]), np.array(frame[part])[own])
        assert np.allclose(xy(figure.data[PLANE * panel + CENTROIDS]), frame["centroids"])
    for (t, term), (m, (method, film)) in itertools.product(enumerate(("compact", "noisy", "margin")), enumerate(films.items())):
        curve, mark = figure.data[2 * PLANE + 4 * t + 2 * m :][:2]
        assert np.allclose(xy(curve), np.stack([film["epochs"], film["terms"][term]], axis=1)) and curve.name == method
        assert np.allclose(xy(mark), [[film["epochs"][index], film["terms"][term][index]]]) and mark.marker.color == STYLE[method][0]
    assert len(figure.data) == 2 * PLANE + 12


def test_a_frame_shows_its_epoch(films):
    for index, epoch in enumerate((0, 1, 3, 8)):
        figure = figures_features.film_frame(films, index)
        shows(figure, films, index)
        assert figure.layout.title.text == f"Training, epoch {epoch} of 8"
        assert [a.text for a in figure.layout.annotations][:2] == ["normal", "proposed"]
        below = [figure.get_subplot(2, column).yaxis for column in (1, 3, 5)]
        assert [axis.type for axis in below] == ["log", "log", "linear"]
        for axis, term in zip(below, ("compact", "noisy", "margin"), strict=True):  # the whole curve of either method is seen
            low, high = 10 ** np.array(axis.range) if axis.type == "log" else axis.range
            assert all(low <= value <= high for film in films.values() for value in film["terms"][term] if value or axis.type == "linear")
        assert figure.layout.xaxis.range == figures_features.film_frame(films, 0).layout.xaxis.range == figure.layout.xaxis2.range


def test_the_play_button_and_the_slider_of_a_film_move_together(films):
    widget = Film(films)
    shows(widget.figure, films, 0)
    assert (widget.play.min, widget.play.max) == (0, 3)
    widget.play.value = 2
    assert (widget.epoch.index, widget.epoch.label) == (2, "3 of 8")
    shows(widget.figure, films, 2)
    widget.epoch.index = 3
    assert widget.play.value == 3
    shows(widget.figure, films, 3)
    widget.epoch.label = "1 of 8"
    assert widget.play.value == 1
    shows(widget.figure, films, 1)
    for old, new in zip(widget.figure.data, figures_features.film_frame(films, 1).data, strict=True):
        assert np.allclose(xy(old), xy(new), equal_nan=True)  # bands and boundaries too


# --- UmapExplorer

N, LEVELS, NAMES = 24, (0.0, 0.1, 0.3), ("cat", "dog", "eel", "fox")


def made_up_lookup(rng, labels, levels=3, dim=6):
    features = (3 * rng.normal(size=(4, dim))[labels] + rng.normal(size=(levels, N, dim))).astype(np.float16)
    predicted = np.where(rng.uniform(size=(levels, N)) < 0.4, rng.integers(0, 4, (levels, N)), labels).astype(np.int32)
    predicted[0] = labels  # nothing is misread at first
    return Lookup(features, predicted, rng.uniform(0.3, 1, (levels, N)).astype(np.float32))


@pytest.fixture
def umap():
    rng, labels = np.random.default_rng(0), np.arange(N) * 7 % 4
    seen = {method: made_up_lookup(rng, labels) for method in ("normal", "proposed")}
    placed = {method: (5 * i + 3 * rng.normal(size=(3, N, 2))).astype(np.float32) for i, method in enumerate(seen)}
    numbers = {
        method: pd.DataFrame(rng.uniform(0, 9, (3, 4)), index=LEVELS, columns=["radius", "margin", "away", "silhouette"]) for method in seen
    }
    return UmapExplorer(seen, placed, torch.rand(3, N, 1, 8, 8, generator=torch.Generator().manual_seed(0)), labels, LEVELS, numbers, NAMES)


@pytest.mark.parametrize("moves", [[], [2], [1], [2, 1, 0]], ids=str)
def test_a_umap_shows_the_positions_and_misread_images_of_its_level(umap, moves):
    for level in moves:
        umap.level.value = level
    level, traces = umap.level.value, iter(umap.figure.data)
    assert len(umap.figure.data) == 10 and level == ([0] + moves)[-1]
    for method, seen in umap.seen.items():
        points = umap.placed[method][level]
        for k in range(4):
            trace, own = next(traces), np.flatnonzero(umap.labels == k)
            assert trace.name == NAMES[k] and np.array_equal(xy(trace), points[own]) and np.array_equal(trace.customdata, own)
            for i, text in zip(own, trace.text, strict=True):
                read, sure = NAMES[seen.predicted[level, i]], seen.confidence[level, i]
                assert text == f"image {i}: {NAMES[k]}, read as {read} ({100 * sure:.0f} %)"
        rings = [points[i] for i in range(N) if seen.predicted[level, i] != umap.labels[i]]
        trace = next(traces)
        drawn = xy(trace)[~np.isnan(xy(trace)[:, 0])]
        assert trace.name == "misread" and np.array_equal(drawn, np.reshape(rings, (-1, 2))) and bool(rings) == (level > 0)


@pytest.mark.parametrize("level", range(3))
def test_a_umap_tells_its_numbers_in_all_dimensions(umap, level):
    umap.level.value = level
    header, *rows = cells(umap.told.value)
    assert header == ["in 6 dimensions", "radius", "margin", "away", "silhouette"]
    assert rows == [[method, *(f"{value:.2f}" for value in table.to_numpy()[level])] for method, table in umap.numbers.items()]


def test_every_position_of_every_level_is_inside_its_panel(umap):
    for positions, x, y in zip(umap.placed.values(), ("xaxis", "xaxis2"), ("yaxis", "yaxis2"), strict=True):
        for axis, values in ((umap.figure.layout[x], positions[..., 0]), (umap.figure.layout[y], positions[..., 1])):
            assert axis.range[0] < values.min() and values.max() < axis.range[1] < values.max() + 0.1 * np.ptp(values)


def test_hovering_shows_that_image_as_it_is_at_this_level(umap):
    umap.level.value = 2
    for trace, point in ((umap.figure.data[3], 1), (umap.figure.data[6], 4), (umap.figure.data[0], 0)):
        trace._dispatch_on_hover(SimpleNamespace(point_inds=[point]), None)
        image = int(trace.customdata[point])
        assert umap.image.value == image
        (pixels,), (caption,) = pictured(umap.card.value), captions(umap.card.value)
        assert np.array_equal(pixels, (255 * umap.views[2, image, 0]).round().numpy())
        for method, seen in umap.seen.items():
            wrong = "" if seen.predicted[2, image] == umap.labels[image] else "✗ "
            assert f"{method} {wrong}|{NAMES[seen.predicted[2, image]]}| {100 * seen.confidence[2, image]:.0f} %" in caption
        assert caption.startswith(f"image {image}, a {NAMES[umap.labels[image]]}|")
    umap.figure.data[2]._dispatch_on_hover(SimpleNamespace(point_inds=[]), None)  # no point: nothing happens
    assert umap.image.value == image


def test_the_picture_follows_the_level(umap):
    umap.image.value = 5
    for level in (1, 2, 0):
        umap.level.value = level
        assert np.array_equal(pictured(umap.card.value)[0], (255 * umap.views[level, 5, 0]).round().numpy())


# --- NoiseExplorer

SLIDERS = {"gaussian": (0.0, 0.1, 0.3), "occlusion": (0.0, 0.25), "low_resolution": (1.0, 1.5, 2.0, 3.0)}
METHODS = ("normal", "both", "proposed")


@pytest.fixture
def noise():
    rng, labels = np.random.default_rng(1), np.arange(N) * 5 % 4
    views = {kind: torch.from_numpy(rng.uniform(size=(len(at), N, 3, 4, 4))) for kind, at in SLIDERS.items()}
    runs, seen = {}, {}
    for method in METHODS:
        torch.manual_seed(len(method))
        config = SimpleNamespace(delta_v=0.5, delta_d=1.0)
        runs[method] = SimpleNamespace(model=SimpleNamespace(head=nn.Linear(6, 4)), config=config)
        seen[method] = {kind: made_up_lookup(rng, labels, len(at)) for kind, at in SLIDERS.items()}
        for kind in SLIDERS:  # no noise: the same features whatever the perturbation
            seen[method][kind].features[0] = seen[method]["gaussian"].features[0]
    return NoiseExplorer(runs, seen, views, SLIDERS, labels, (3, 0, 2), NAMES)


def noise_shows(widget, kind, level, methods):
    assert widget.methods == list(methods) and widget.shown == (kind, level) and len(widget.figure.data) == 4 + 2 * PLANE
    told = cells(widget.told.value)
    amount = "clean" if (kind, level) == ("gaussian", 0) else f"{SLIDERS[kind][level]:.3g}"
    assert told[0][0].split(" (")[0] == f"{kind}, {amount}" and [row[0] for row in told[1:]] == list(methods)
    for m, method in enumerate(methods):
        seen, clean = widget.seen[method][kind], widget.seen[method]["gaussian"].features[0].astype(float)
        accuracy = [100 * sum(p == y for p, y in zip(row, widget.labels, strict=True)) / N for row in seen.predicted]
        curve, mark = widget.figure.data[m], widget.figure.data[2 + m]
        assert np.allclose(xy(curve), np.stack([SLIDERS[kind], accuracy], axis=1)) and curve.name == method
        assert curve.line.color == mark.marker.color == STYLE[method][0] and mark.marker.symbol == STYLE[method][1]
        assert np.allclose(xy(mark), [[SLIDERS[kind][level], accuracy[level]]])
        means = np.stack([clean[widget.labels == c].mean(0) for c in range(4)])
        plane = through(means[[3, 0, 2]])
        for k, c in enumerate((3, 0, 2)):
            now, before = (xy(widget.figure.data[4 + of_class(k, what, m)]) for what in (NOISY, POINTS))
            own = widget.labels == c
            assert np.allclose(now, plane.project(seen.features[level][own].astype(float)))
            assert np.allclose(before, plane.project(clean[own]))
        assert np.allclose(xy(widget.figure.data[4 + PLANE * m + CENTROIDS]), plane.project(means[[3, 0, 2]]))
        head = widget.runs[method].model.head
        whole = scene(clean, widget.labels, head.weight.detach(), head.bias.detach(), (3, 0, 2))
        line = boundary(whole, 1, 0, 1.0, 1.0).line
        drawn = parts(widget.figure.data[4 + PLANE * m + 1])[0]
        (a, b), direction = drawn - line[0], (line[1] - line[0]) / 2
        assert np.allclose([a[0] * direction[1] - a[1] * direction[0], b[0] * direction[1] - b[1] * direction[0]], 0, atol=1e-6)
        away = np.mean([np.linalg.norm(seen.features[level, i].astype(float) - means[widget.labels[i]]) for i in range(N)])
        expected = [f"{accuracy[level]:.1f} %", f"{100 * seen.confidence[level].mean():.1f} %", f"{away:.2f}"]
        assert told[1 + m][1:] == expected
    titles = [a.text for a in widget.figure.layout.annotations]
    assert titles == ["accuracy (%) by level, this seed", *methods]
    first = 8 * (widget.page.value - 1)
    images = range(first, min(first + 8, N))
    pictures, below = pictured(widget.strip.value), captions(widget.strip.value)
    assert len(pictures) == len(below) == len(images)
    for i, pixels, caption in zip(images, pictures, below, strict=True):
        assert np.array_equal(pixels, (255 * widget.views[kind][level, i]).round().permute(1, 2, 0).numpy())
        assert caption.startswith(f"a {NAMES[widget.labels[i]]}|")
        for method in methods:
            seen = widget.seen[method][kind]
            wrong = "" if seen.predicted[level, i] == widget.labels[i] else "✗ "
            assert f"{method} {wrong}|{NAMES[seen.predicted[level, i]]}| {100 * seen.confidence[level, i]:.0f} %" in caption


def test_the_noise_slider_moves_points_marks_numbers_and_images(noise):
    noise_shows(noise, "gaussian", 0, ("normal", "both"))
    for level in (2, 1, 0):
        noise.sigma.value = level
        noise_shows(noise, "gaussian", level, ("normal", "both"))


def test_the_other_slider_takes_the_levels_of_the_chosen_perturbation(noise):
    assert noise.kind.options == ("occlusion", "low_resolution")
    noise.other.value = 1
    noise_shows(noise, "occlusion", 1, ("normal", "both"))
    assert [label for label, _ in noise.other.options] == ["none", "0.25"] and noise.other.description == "side of 4 patches"
    noise.kind.value = "low_resolution"
    assert [label for label, _ in noise.other.options] == ["none", "1.5", "2", "3"] and noise.other.description == "factor"
    noise_shows(noise, "low_resolution", 0, ("normal", "both"))
    noise.other.value = 3
    noise_shows(noise, "low_resolution", 3, ("normal", "both"))
    noise.sigma.value = 1
    noise_shows(noise, "gaussian", 1, ("normal", "both"))
    noise.kind.value = "occlusion"
    noise_shows(noise, "occlusion", 0, ("normal", "both"))


def test_another_method_brings_its_curve_plane_and_title(noise):
    noise.sigma.value = 2
    noise.pickers[0].value = "proposed"
    noise_shows(noise, "gaussian", 2, ("proposed", "both"))
    noise.sigma.value = 1
    noise.pickers[1].value = "normal"
    noise_shows(noise, "gaussian", 1, ("proposed", "normal"))
    reach = max(np.abs(xy(t)[~np.isnan(xy(t)[:, 0])]).max() for t in noise.figure.data if t.mode == "markers" and t.xaxis in ("x2", "x3"))
    for axis in (noise.figure.layout.xaxis2, noise.figure.layout.yaxis3):
        assert axis.range[1] == pytest.approx(1.05 * reach) == -axis.range[0]


def test_pages_hold_eight_images(noise):
    noise.sigma.value = 1
    for page in (2, 3, 1):
        noise.page.value = page
        noise_shows(noise, "gaussian", 1, ("normal", "both"))
    assert (noise.page.min, noise.page.max) == (1, 3)


def test_the_networks_to_start_with_can_be_chosen(noise):
    given = noise.runs, noise.seen, noise.views, SLIDERS, noise.labels, (3, 0, 2), NAMES
    noise_shows(NoiseExplorer(*given, start=["proposed", "normal"]), "gaussian", 0, ("proposed", "normal"))


@pytest.mark.parametrize("channels, mode", [(1, "L"), (2, "L"), (3, "RGB"), (6, "RGB")])
def test_an_image_of_any_number_of_channels_is_a_picture(channels, mode):
    image = torch.rand(channels, 4, 5)
    shown = Image.open(io.BytesIO(base64.b64decode(widgets_networks.png(image).partition(",")[2])))
    first = np.asarray(shown).reshape(4, 5, -1)[..., 0]
    assert shown.mode == mode and np.array_equal(first, (255 * image[0]).round().byte().numpy())


def test_levels_are_named_as_people_say_them():
    assert [label.split()[0] for label, _ in level_slider("n", "gaussian", (0.0, 0.3, 8 / 255)).options] == ["clean", "0.3", "8/255"]
    assert [label for label, _ in level_slider("n", "salt_pepper", (0.0, 0.05)).options] == ["none", "0.05"]


# --- what a notebook keeps of them


def test_live_widgets_are_taken_out_of_a_notebook_and_nothing_else(tmp_path):
    output = nbformat.v4.new_output
    live = output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "HBox()"})
    stays = [
        output("stream", text="δ ≠ 1\n"), output("display_data", {"text/html": "<b>1</b>"}),
        output("error", ename="E", evalue="", traceback=[]), output("execute_result", {"text/plain": "1"}, execution_count=2),
    ]  # fmt: skip
    cell = nbformat.v4.new_code_cell("1", outputs=[stays[0], live, *stays[1:]], execution_count=2, metadata={"tags": ["t"]})
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("δ"), cell], metadata=metadata | {"widgets": {"state": {}}})
    path = tmp_path / "00.ipynb"
    nbformat.write(notebook, path)
    before = json.loads(path.read_text())
    execution.still(path)
    after = json.loads(path.read_text())
    del before["metadata"]["widgets"], before["cells"][1]["outputs"][1]
    assert after == before and len(after["cells"][1]["outputs"]) == 4 and "δ ≠ 1" in path.read_text()
    still = path.read_bytes()
    execution.still(path)
    assert path.read_bytes() == still
    nbformat.validate(nbformat.read(path, as_version=4))
