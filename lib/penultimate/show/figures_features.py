"""Pictures of feature space: the plane with what the losses see, training as frames, UMAP beside its numbers.

Every picture has the same traces in the same order whatever its data, so that a widget redraws it by replacing coordinates.
"""

import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .. import InputError
from ..figures import COLOURS, STYLE, TEMPLATE, WIDTH, blank
from ..planes import Scene, boundary
from ..study.films import scenes as scenes_of

MARKERS = (
    "circle", "square", "diamond", "cross", "star", "triangle-up", "triangle-down", "hexagon", "pentagon", "x",
)  # fmt: skip
PAIRS = ((1, 0), (2, 0), (2, 1))
RED = "#C00000"
NOWHERE = np.full((1, 2), np.nan)
MOST_NAMED = 20  # classes in a legend
LOGARITHMIC = ("compact", "noisy")  # of a method that grows its space they leave a scale from zero to the others' no room
TERMS = {"compact": "L<sub>compact</sub>", "noisy": "L<sub>noisy</sub>", "margin": "L<sub>margin</sub>"}


def folded(title: str) -> str:
    """A title in lines that fit, where names of classes make it long.

    >>> folded("short"), folded("one " * 30).count("<br>")
    ('short', 1)
    """
    return "<br>".join(textwrap.wrap(title, 100))


def _xy(points: np.ndarray) -> dict:
    return dict(x=points[:, 0], y=points[:, 1])


def plane_shapes(scene: Scene, delta_v: float, delta_d: float, reach: float) -> list[np.ndarray]:
    """The coordinates (n,2) of a scene, 11 parts: bands, lines, deciding segments; of each class noisy, clean features; centroids; circles.

    Lines are drawn well beyond `reach`; what there is not is a point nowhere.
    """
    lines = [boundary(scene, c, j, delta_d, 4 * reach) for c, j in PAIRS]
    bands = [np.concatenate([side, side[:1]]) for line in lines for side in line.band]
    decides = [line.decides for line in lines if line.decides is not None]
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = delta_v * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    features = [
        part
        for k in range(3)
        for part in (scene.noisy[scene.labels == k] if len(scene.noisy) else NOWHERE, scene.points[scene.labels == k])
    ]
    circles = _with_gaps([centroid + circle for centroid in scene.centroids])
    return [_with_gaps(bands), _with_gaps([line.line for line in lines]), _with_gaps(decides), *features, scene.centroids, circles]


def _with_gaps(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([points for part in parts for points in (part, NOWHERE)]) if parts else NOWHERE


def plane_traces(scene: Scene, delta_v: float, delta_d: float, names, reach: float, legend: bool = True) -> list[go.Scatter]:
    """`plane_shapes` as traces. names: of the three classes."""
    told = "%{fullData.name}<extra></extra>"

    def style(name: str, rank: int, shown: bool = True, **more) -> dict:
        return dict(name=name, legendgroup=name, legendrank=rank, showlegend=legend and shown, hoverinfo="skip") | more

    styles = [
        style("within δ<sub>d</sub> of it", 160, mode="lines", fill="toself", fillcolor="rgba(120,120,120,0.18)", line_width=0),
        style("a third class wins", 170, mode="lines", line=dict(color="#AAAAAA", width=1, dash="dash")),
        style("decision boundary", 150, mode="lines", line=dict(color="#555555", width=2.5)),
    ]
    for k, name in enumerate(names):
        mark, noisy = dict(color=COLOURS[k], symbol=MARKERS[k]), dict(color=COLOURS[k], symbol=f"{MARKERS[k]}-open", size=7, opacity=0.65)
        styles += [
            style("the same, noisy", 120, not k and len(scene.noisy) > 0, mode="markers", marker=noisy),
            style(f"class {name}", 110, mode="markers", marker=mark | dict(size=8, line=dict(width=1, color="white")), hovertemplate=told),
        ]
    cross = dict(color=COLOURS[:3], symbol="x", size=8, line=dict(width=1.2, color="black"))
    styles += [
        style("centroid", 130, mode="markers", marker=cross, hovertemplate=told),
        style("δ<sub>v</sub> around it", 140, mode="lines", line=dict(color="black", width=1.5, dash="dot")),
    ]
    shapes = plane_shapes(scene, delta_v, delta_d, reach)
    return [go.Scatter(**_xy(shape), **style) for shape, style in zip(shapes, styles, strict=True)]


def arrow_shape(starts: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Steps as one line with gaps (3n,2); steps of no length are left out."""
    moved = np.abs(steps).sum(1) > 0
    ends = np.stack([starts, starts + steps, np.full_like(starts, np.nan)], axis=1)[moved]
    return ends.reshape(-1, 2) if moved.any() else NOWHERE


def arrow_trace(starts: np.ndarray, steps: np.ndarray, colour: str = RED) -> go.Scatter:
    """Steps as one trace: shafts, with a head where each ends. starts, steps (n,2)."""
    return go.Scatter(
        **_xy(arrow_shape(starts, steps)), mode="lines+markers", hoverinfo="skip", showlegend=False, line=dict(color=colour, width=2),
        marker=dict(symbol="arrow", angleref="previous", color=colour, size=[0, 9, 0] * len(starts)),
    )  # fmt: skip


def plane(scene: Scene, delta_v: float, delta_d: float, title: str, names, starts=(), steps=()) -> go.Figure:
    """One scene: points, centroids, circles of radius delta_v, boundaries with the bands that centroids must leave, steps (n,2)."""
    figure = blank(title, width=760, height=640)
    reach = 1.15 * (scene.reach + delta_v)
    arrows = arrow_trace(np.reshape(starts, (-1, 2)), np.reshape(steps, (-1, 2)))
    figure.add_traces([*plane_traces(scene, delta_v, delta_d, names, reach), arrows])
    axis = dict(range=[-reach, reach], constrain="domain")
    return figure.update_layout(xaxis=axis | dict(title="feature 1"), yaxis=axis | dict(title="feature 2", scaleanchor="x"))


def planes_beside(scenes: dict[str, Scene], delta_v: float, delta_d: float, title: str, names, reach: float | None = None) -> go.Figure:
    """The scenes of several methods, a panel each, on one scale. names: of the three classes."""
    figure = make_subplots(
        1, len(scenes), subplot_titles=list(scenes), horizontal_spacing=0.04, x_title="units of the feature space, in both directions"
    )
    reach = reach or 1.05 * max(scene.reach for scene in scenes.values())
    for column, scene in enumerate(scenes.values(), 1):
        add_plane(figure, 1, column, plane_traces(scene, delta_v, delta_d, names, reach, legend=column == 1), reach)
    legend = dict(orientation="h", y=-0.12, x=0.5, xanchor="center", yanchor="top")
    return figure.update_layout(
        template=TEMPLATE, title=folded(title), width=WIDTH, height=640, legend=legend, margin=dict(l=50, r=20, t=90, b=110)
    )


def add_plane(figure: go.Figure, row: int, col: int, traces: list[go.Scatter], reach: float) -> None:
    """Put the traces of a plane into a panel, both axes from -reach to reach on one scale."""
    figure.add_traces(traces, rows=row, cols=col)
    axis = dict(range=[-reach, reach], constrain="domain")
    anchor = figure.get_subplot(row, col).xaxis.plotly_name.replace("axis", "")
    figure.update_xaxes(axis, row=row, col=col)
    figure.update_yaxes(axis | dict(scaleanchor=anchor, showticklabels=col == 1), row=row, col=col)


def film_frame(films: dict[str, dict], index: int) -> go.Figure:
    """Training at the index-th kept epoch: the plane of each method, below it the terms over the epochs with a mark at this one.

    films: two methods -> `films.film`. The scale is the same in every frame.
    """
    if len(films) != 2:
        raise InputError(f"a film shows two methods side by side, got {', '.join(films) or 'none'}: train both")
    first = next(iter(films.values()))
    figure = make_subplots(
        2, 6, specs=[[dict(colspan=3), None, None, dict(colspan=3), None, None], [dict(colspan=2), None] * 3], row_heights=[0.68, 0.32],
        subplot_titles=[*films, *(f"{name} (test images)" for name in TERMS.values())], vertical_spacing=0.13, horizontal_spacing=0.07,
    )  # fmt: skip
    reach = 1.05 * max(scene.reach for film in films.values() for scene in scenes_of(film))
    for column, film in zip((1, 4), films.values(), strict=True):
        config = film["config"]
        traces = plane_traces(scenes_of(film)[index], config["delta_v"], config["delta_d"], film["classes"], reach, legend=column == 1)
        add_plane(figure, 1, column, traces, reach)
    for panel, term in enumerate(TERMS):
        for method, film in films.items():
            colour, marker, dash = STYLE[method]
            epochs, values = film["epochs"], film["terms"][term]
            figure.add_scatter(
                x=epochs, y=values, mode="lines", line=dict(color=colour, dash=dash, width=2), name=method, legendgroup=method,
                showlegend=panel == 0, row=2, col=2 * panel + 1,
            )  # fmt: skip
            figure.add_scatter(
                x=[epochs[index]], y=[values[index]], mode="markers", showlegend=False, legendgroup=method, row=2, col=2 * panel + 1,
                marker=dict(color=colour, symbol=marker, size=12, line=dict(width=1, color="white")),
            )  # fmt: skip
        every, last = np.array([value for film in films.values() for value in film["terms"][term]]), first["epochs"][-1]
        logarithmic = term in LOGARITHMIC and every.max() > 0  # before training all features may lie in their circles, and cost nothing
        ends = np.log10(every[every > 0]) if logarithmic else every
        edge, at = 0.06 * np.ptp(ends), dict(row=2, col=2 * panel + 1)
        figure.update_yaxes(range=[ends.min() - edge, ends.max() + edge], type="log" if logarithmic else "linear", **at)
        figure.update_xaxes(title="epoch", range=[-0.06 * last, 1.06 * last], **at)
    legend = dict(orientation="v", y=1, x=1.01, xanchor="left", yanchor="top", font_size=13)
    heading = f"Training, epoch {first['epochs'][index]} of {first['epochs'][-1]}"
    return figure.update_layout(
        template=TEMPLATE, title=heading, width=WIDTH + 80, height=780, legend=legend, margin=dict(l=50, r=20, t=90, b=80)
    )


def radius_and_margin(geometry: pd.DataFrame, delta_v: float, delta_d: float, title: str) -> go.Figure:
    """Class radius against margin, one mark per run, both in units of the feature space; dashed what the loss asks for, a radius of at most
    delta_v and a margin of at least delta_d; dotted lines of equal ratio. geometry: `records.geometry`.

    >>> one = pd.DataFrame({"method": ["both"], "radius": [3.0], "margin": [6.0]})
    >>> figure = radius_and_margin(one, 0.5, 5.0, "Layer")
    >>> figure.data[-1].name, float(figure.data[-1].x[0]), float(figure.data[-1].y[0])
    ('both', 3.0, 6.0)
    """
    figure = blank(
        title, xaxis_title="class radius (mean distance to the own centroid)", yaxis_title="margin (centroid to nearest boundary)"
    )
    right, top = 1.1 * max(geometry.radius.max(), delta_v), 1.1 * max(geometry.margin.max(), delta_d)
    for ratio in (1, 2, 4, 8):
        end = min(right, top / ratio)
        figure.add_scatter(
            x=[0, 0.95 * end, end], y=[0, 0.95 * ratio * end, ratio * end], mode="lines+text", text=["", f"ratio {ratio}", ""],
            textfont=dict(size=12, color="#888888"), textposition="bottom center" if end == right else "middle right",
            line=dict(color="#BBBBBB", width=1, dash="dot"), showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    asked = dict(line=dict(color="#555555", width=1.5, dash="dash"), annotation_font_size=13)
    figure.add_vline(delta_v, annotation_text="δ<sub>v</sub>", annotation_position="bottom right", **asked)
    figure.add_hline(delta_d, annotation_text="δ<sub>d</sub>", annotation_position="top right", **asked)
    for method, own in geometry.groupby("method", sort=False):
        colour, marker, _ = STYLE[method]
        mark = dict(color=colour, symbol=marker, size=13, line=dict(width=1, color="white"))
        figure.add_scatter(x=own.radius, y=own.margin, name=method, mode="markers", marker=mark)
    figure.update_xaxes(range=[0, right])
    return figure.update_yaxes(range=[0, top])


def umap_panels(
    placed: dict[str, np.ndarray], labels: np.ndarray, wrong: dict[str, np.ndarray], names, title: str, hover=None
) -> go.Figure:
    """UMAP positions (N,2), a panel for each name, one legend; misread images are ringed. wrong: name -> bool (N,).

    hover: name -> texts (N,). Traces of a panel: one for each class, then the rings.
    """
    columns = min(2, len(placed))
    rows = -(-len(placed) // columns)
    figure = make_subplots(rows, columns, subplot_titles=list(placed), horizontal_spacing=0.03, vertical_spacing=0.07)
    for panel, (name, points) in enumerate(placed.items()):
        at = dict(row=panel // columns + 1, col=panel % columns + 1)
        for k, label in enumerate(names):
            own = labels == k
            mark = dict(color=COLOURS[k % 10], symbol=MARKERS[k % 10], size=7, line=dict(width=0.5, color="white"))
            told = dict(text=hover[name][own], hovertemplate="%{text}<extra></extra>") if hover else dict(hoverinfo="skip")
            figure.add_scatter(
                **_xy(points[own]), mode="markers", marker=mark, name=str(label), legendgroup=str(label), showlegend=not panel,
                customdata=np.flatnonzero(own), **told, **at,
            )  # fmt: skip
        ring = dict(symbol="circle-open", color=RED, size=9, line_width=1)
        figure.add_scatter(
            **_xy(points[wrong[name]]), mode="markers", marker=ring, name="misread", legendgroup="misread", showlegend=not panel,
            hoverinfo="skip", **at,
        )  # fmt: skip
    for column in range(columns):  # the panels of a column show the same map
        drawn = np.concatenate(list(placed.values())[column::columns])
        edge = 0.05 * np.ptp(drawn, axis=0)
        low, high = drawn.min(0) - edge, drawn.max(0) + edge
        figure.update_xaxes(range=[low[0], high[0]], showticklabels=False, ticks="", col=column + 1)
        figure.update_yaxes(range=[low[1], high[1]], showticklabels=False, ticks="", col=column + 1)
    if len(names) > MOST_NAMED:  # marks and colours recur every ten classes: a legend would be long and tell nothing
        figure.for_each_trace(lambda trace: trace.update(showlegend=trace.name == "misread" and trace.showlegend))
    legend = dict(title="class" if len(names) <= MOST_NAMED else f"{len(names)} classes", itemsizing="constant")
    return figure.update_layout(
        template=TEMPLATE, title=title, width=WIDTH, height=80 + 400 * rows, legend=legend, margin=dict(l=20, r=20, t=90, b=20)
    )
