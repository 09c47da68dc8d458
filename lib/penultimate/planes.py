"""The feature plane as the losses see it: points, centroids, delta_v circles, boundaries and their delta_d bands."""

import numpy as np
import plotly.graph_objects as go

from .figures import blank

CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73")
CLASS_MARKERS = ("circle", "square", "diamond")


def _boundary(figure: go.Figure, weight, bias, c: int, j: int, delta_d: float, reach: float) -> None:
    """The line z_c = z_j with its band, solid where it decides (no third class lies above it), dotted where it does not."""
    apart = weight[c] - weight[j]
    normal = apart / np.linalg.norm(apart)
    along = np.array([-normal[1], normal[0]])
    line = (bias[j] - bias[c]) / np.linalg.norm(apart) * normal + np.linspace(-reach, reach, 2001)[:, None] * along
    logits = line @ weight.T + bias
    decides = logits[:, c] >= logits.max(1) - 1e-4 * np.abs(logits).max()
    first = dict(showlegend=(c, j) == (1, 0), hoverinfo="skip", mode="lines")
    inner = line[decides]
    if len(inner):
        band = np.concatenate([inner + delta_d * normal, inner[::-1] - delta_d * normal])
        figure.add_scatter(
            x=band[:, 0],
            y=band[:, 1],
            fill="toself",
            fillcolor="rgba(120,120,120,0.15)",
            line_width=0,
            name="within δ<sub>d</sub> of a boundary",
            legendgroup="band",
            **first,
        )
    for mask, stroke, name in (
        (decides, dict(color="#555555", width=2.5), "decision boundary"),
        (~decides, dict(color="#AAAAAA", width=1, dash="dot"), "its extension"),
    ):
        shown = np.where(mask[:, None], line, np.nan)
        figure.add_scatter(x=shown[:, 0], y=shown[:, 1], line=stroke, name=name, legendgroup=name, **first)


def plane(features, labels, weight, bias, centroids, delta_v: float, delta_d: float, title: str, arrows=()) -> go.Figure:
    """A feature plane (d = 2) with what the losses see: points, centroids, circles of radius delta_v, and for each pair of
    classes the boundary with the band within delta_d of it, which their centroids must leave.

    features (N,2), labels (N,), weight (C,2), bias (C,), centroids (C,2). arrows: (start, step) pairs of 2-vectors to draw.
    """
    reach = 1.15 * float(np.abs(np.concatenate([features, centroids])).max() + delta_v)
    figure = blank(title, width=760, height=640)
    for c in range(len(weight)):
        for j in range(c):
            _boundary(figure, weight, bias, c, j, delta_d, 4 * reach)
    angle = np.linspace(0, 2 * np.pi, 100)
    for c, centroid in enumerate(centroids):
        colour, own = CLASS_COLOURS[c], features[labels == c]
        figure.add_scatter(
            x=own[:, 0],
            y=own[:, 1],
            mode="markers",
            name=f"class {c}",
            marker=dict(color=colour, symbol=CLASS_MARKERS[c], size=9, line=dict(width=1, color="white")),
        )
        figure.add_scatter(
            x=centroid[0] + delta_v * np.cos(angle),
            y=centroid[1] + delta_v * np.sin(angle),
            mode="lines",
            line=dict(color=colour, dash="dash"),
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[centroid[0]],
            y=[centroid[1]],
            mode="markers",
            marker=dict(color=colour, symbol="x", size=15, line=dict(width=2, color="white")),
            name=f"centroid {c}",
            showlegend=False,
        )
    for start, step in arrows:
        figure.add_annotation(
            x=start[0] + step[0],
            y=start[1] + step[1],
            ax=start[0],
            ay=start[1],
            xref="x",
            yref="y",
            axref="x",
            ayref="y",
            text="",
            showarrow=True,
            arrowhead=3,
            arrowwidth=2,
            arrowcolor="#C00000",
        )
    axis = dict(range=[-reach, reach], constrain="domain")
    return figure.update_layout(xaxis=axis | dict(title="feature 1"), yaxis=axis | dict(title="feature 2", scaleanchor="x"))
