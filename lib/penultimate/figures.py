"""Plotly figures of the study: one template, one colour and one marker for each method, intervals as bands."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import InputError
from .comparison import CLEAN_TOLERANCE, against, at_level, differences, summary
from .show.drawing import animate, export, show  # noqa: F401  names that the pages use
from .support.wording import level_name

# Okabe and Ito's colours, told apart by most colour-blind readers; markers and dashes say the same again.
STYLE = {
    "normal": ("#000000", "circle", "solid"), "noisy": ("#E69F00", "diamond", "dot"), "both": ("#0072B2", "square", "solid"),
    "stability": ("#009E73", "triangle-up", "dash"), "discriminative": ("#CC79A7", "cross", "dot"),
    "proposed": ("#D55E00", "star", "solid"),
}  # fmt: skip
# Theirs with a brown and a grey, for whatever is not a method: classes, lines.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C510A", "#000000", "#B8A800", "#888888")
WIDTH, HEIGHT = 960, 480
# The zero of an axis of differences: always shown, and below the marks, where a shape would cover them.
ZERO = dict(rangemode="tozero", zeroline=True, zerolinecolor="#888888", zerolinewidth=2)

TEMPLATE = go.layout.Template(
    layout=dict(
        font=dict(family="Open Sans, Helvetica, Arial, sans-serif", size=15, color="#222222"),
        title=dict(x=0, xref="paper", xanchor="left", font=dict(size=19)), margin=dict(l=75, r=30, t=70, b=70),
        paper_bgcolor="white", plot_bgcolor="white", legend=dict(font=dict(size=14)),
        xaxis=dict(showline=True, linecolor="#888888", gridcolor="#EEEEEE", zeroline=False, ticks="outside"),
        yaxis=dict(showline=True, linecolor="#888888", gridcolor="#EEEEEE", zeroline=False, ticks="outside"),
    )
)  # fmt: skip


def blank(title: str, **layout) -> go.Figure:
    """A figure without lines, in the study's template; layout: what differs from it.

    >>> blank("Radius", height=300).layout.height
    300
    """
    return go.Figure(layout=dict(template=TEMPLATE, title=title, width=WIDTH, height=HEIGHT) | layout)


def faint(colour: str, opacity: float) -> str:
    """A colour of STYLE or COLOURS, see-through.

    >>> faint("#0072B2", 0.15)
    'rgba(0,114,178,0.15)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _level_axis(levels: list[float], trained_at: float | None) -> dict:
    """Labels at the levels, but not at a training noise that stands too close to another: its own line names it."""
    crowded = trained_at and any(0 < abs(level - trained_at) < 0.05 * max(levels) for level in levels)
    shown = [level for level in levels if not (crowded and np.isclose(level, trained_at))]
    names = [level_name(level).replace(" ", "<br>") for level in shown]
    return dict(
        title="standard deviation of the noise, in pixel units of [0,1] (n/255: in grey levels)",
        tickvals=shown,
        ticktext=names,
        tickangle=0,
    )


def accuracy_curves(rows: pd.DataFrame, title: str = "Accuracy under Gaussian noise", trained_at: float | None = None) -> go.Figure:
    """Mean accuracy of each method against the noise level, with the 95 % interval as a band. rows: `records.headline`.

    >>> from penultimate.records import headline
    >>> figure = accuracy_curves(headline(), trained_at=0.3)
    >>> [trace.name for trace in figure.data if trace.name][-1], figure.layout.annotations[0].text
    ('proposed', 'trained at 0.3 (76.5/255)')
    """
    return _over_levels(summary(rows), title, trained_at, "test accuracy (%)")


def gain_curves(rows: pd.DataFrame, title: str, trained_at: float | None = None, baseline: str = "normal") -> go.Figure:
    """Each method's paired difference to the baseline, in points, against the noise level, with its 95 % interval as a band.

    >>> from penultimate.records import headline
    >>> [trace.name for trace in gain_curves(headline(), "Gain over normal").data if trace.showlegend is None]
    ['noisy', 'both', 'stability', 'discriminative', 'proposed']
    """
    figure = _over_levels(differences(rows, baseline), title, trained_at, f"points of accuracy above {baseline}")
    return figure.update_yaxes(ZERO)


def _over_levels(reduced: pd.DataFrame, title: str, trained_at: float | None, y_title: str) -> go.Figure:
    """A line with a band for each method. reduced: method, level, mean, low, high (0 to 1)."""
    figure = blank(title)
    for method, own in reduced.groupby("method", sort=False):
        colour, marker, dash = STYLE[method]
        if own.low.notna().all():
            edge = [*own.level, *own.level[::-1]], [*(100 * own.high), *(100 * own.low[::-1])]
            figure.add_scatter(
                x=edge[0], y=edge[1], mode="lines", line_width=0, fill="toself", fillcolor=faint(colour, 0.15), hoverinfo="skip",
                showlegend=False, legendgroup=method,
            )  # fmt: skip
        figure.add_scatter(
            x=own.level, y=100 * own["mean"], name=method, legendgroup=method, mode="lines+markers",
            line=dict(color=colour, dash=dash, width=2.5), marker=dict(symbol=marker, size=11, line=dict(width=1, color="white")),
            hovertemplate=f"{method}: %{{y:.1f}}<extra></extra>",
        )  # fmt: skip
    if trained_at:
        figure.add_vline(
            trained_at,
            line=dict(color="#888888", dash="dot"),
            annotation_text=f"trained at {level_name(trained_at)}",
            annotation_position="top right",
        )
    return figure.update_layout(xaxis=_level_axis(sorted(reduced.level.unique()), trained_at), yaxis_title=y_title, margin_b=95)


def forest(table: pd.DataFrame, title: str, x_title: str, columns: int = 4) -> go.Figure:
    """Estimates with their intervals around zero, a panel each. table: panel, row (a method, which gives the colour, or any name), mean,
    low, high and, where the seeds are shown as well, by_seed: (value, low, high) of each, drawn thin below the estimate.

    >>> row = dict(panel="clean images", row="both", mean=0.2, low=-0.4, high=0.8)
    >>> forest(pd.DataFrame([row]), "Difference", "points").layout.annotations[0].text
    'clean images'
    """
    names, rows, seeds = list(dict.fromkeys(table.panel)), list(dict.fromkeys(table.row)), "by_seed" in table
    lines, height = -(-len(names) // columns), len(rows) * (60 if seeds else 34)  # px of a panel
    gap, below = 95 * (lines - 1), 75
    figure = make_subplots(
        lines, min(columns, len(names)), subplot_titles=[in_html(name).replace(", ", ",<br>") for name in names], shared_yaxes=True,
        horizontal_spacing=0.04, vertical_spacing=95 / (lines * height + gap) if gap else 0,
    )  # fmt: skip

    def add(x, y, low, high, at, thick: bool, **more):
        error = dict(type="data", symmetric=False, array=[high - x], arrayminus=[x - low], thickness=2.5 if thick else 1, width=6 * thick)
        figure.add_scatter(x=[x], y=[y], error_x=error, mode="markers", showlegend=False, **more, **at)

    for index, name in enumerate(names):
        at = dict(row=index // columns + 1, col=index % columns + 1)
        for own in table[table.panel == name].itertuples():
            colour, symbol, _ = STYLE.get(own.row, ("#222222", "circle", ""))
            y, told = rows.index(own.row), f"{own.row}: %{{x:+.2f}}<extra></extra>"
            for k, (value, low, high) in enumerate(own.by_seed if seeds else ()):
                thin = dict(color=faint(colour, 0.6), size=4)
                add(value, y + 0.1 * k, low, high, at, False, name=f"{own.row}, a seed", marker=thin, hoverinfo="skip")
            mark = dict(color=colour, symbol=symbol, size=8)  # small beside narrow intervals
            add(own.mean, y - 0.2 * seeds, own.low, own.high, at, True, name=own.row, marker=mark, hovertemplate=told)
        figure.update_xaxes(ZERO, **at)
        figure.update_yaxes(range=[len(rows) - 0.4, -0.6], tickvals=[*range(len(rows))], ticktext=rows, **at)
    size = dict(width=WIDTH, height=lines * height + gap + 115 + below)
    figure.add_annotation(x=0.5, y=0, xref="paper", yref="paper", yshift=-below + 10, yanchor="bottom", text=x_title, showarrow=False)
    return figure.update_layout(
        template=TEMPLATE, title=title, margin=dict(l=45 + 8 * max(map(len, rows)), t=115, b=below), title_y=1 - 25 / size["height"], **size
    )


def in_html(name: str) -> str:
    """The name of a quantity as Plotly writes it.

    >>> in_html("w_max squared")
    'w<sub>max</sub> squared'
    """
    return name.replace("w_max", "w<sub>max</sub>")


def gains(rows: pd.DataFrame, levels: list[float], title: str = "Difference to normal training") -> go.Figure:
    """Each method's paired difference to `normal`, in points, with its 95 % interval, one panel for each level; on clean images a dotted
    line at the bound of 'clean accuracy maintained'.

    >>> from penultimate.records import headline
    >>> [panel.text for panel in gains(headline(), [0.0, 0.3]).layout.annotations[:2]]
    ['clean images', 'noise 0.3 (76.5/255)']
    """
    found = differences(rows)
    parts = [found[at_level(found.level, level)] for level in levels]
    if missing := [level_name(level) for level, part in zip(levels, parts, strict=True) if not len(part)]:
        there = ", ".join(map(level_name, found.level.unique()))
        raise InputError(f"nothing was measured at noise {', '.join(missing)}: choose among {there}")
    shown = pd.concat(parts)
    points = shown[["mean", "low", "high"]].mul(100).assign(row=shown.method, panel=shown.level.map(_panel_name))
    figure = forest(points, title, "points of accuracy (right: better than normal)", columns=len(levels))
    if 0.0 in levels:
        bound = dict(x=-100 * CLEAN_TOLERANCE, line=dict(color="#888888", dash="dot"))
        figure.add_vline(**bound, row=1, col=1 + levels.index(0.0))
    return figure


def against_each(rows: pd.DataFrame, levels: list[float], title: str) -> go.Figure:
    """The paired difference of `proposed` to each other one, in points, with its 95 % interval, one panel for each level.

    >>> from penultimate.records import headline
    >>> [trace.name for trace in against_each(headline(), [0.3], "Proposed minus each").data]
    ['normal', 'noisy', 'both', 'stability', 'discriminative']
    """
    tables = [against(rows, level).reset_index(names="row").assign(panel=_panel_name(level)) for level in levels]
    points = pd.concat(tables)
    points[["mean", "low", "high"]] *= 100
    return forest(points, title, "points of accuracy (right: proposed is better)", columns=len(levels))


def _panel_name(level: float) -> str:
    return f"noise {level_name(level)}" if level else "clean images"


def training_curves(histories: dict[str, list[dict]], columns: dict[str, str], title: str) -> go.Figure:
    """Columns of the history over epochs, one panel each, one line per method. columns: history name -> panel title.

    Accuracies are shown in per cent; a method that lacks a column has no line in its panel.

    >>> history = [{"epoch": 1, "total": 2.3, "test": 0.5}, {"epoch": 2, "total": 1.1, "test": 0.8}]
    >>> figure = training_curves({"normal": history}, {"total": "loss", "test": "test accuracy (%)"}, "Training")
    >>> [tuple(line.y) for line in figure.data]
    [(2.3, 1.1), (50.0, 80.0)]
    """
    figure = make_subplots(1, len(columns), subplot_titles=list(columns.values()), horizontal_spacing=0.09)
    for panel, column in enumerate(columns, 1):
        for method, history in histories.items():
            colour, marker, dash = STYLE[method]
            scale = 100 if column.startswith(("validation", "test")) else 1
            points = [(row["epoch"], scale * row[column]) for row in history if column in row]
            if points:
                epochs, values = zip(*points, strict=True)
                shown = panel == min(i for i, name in enumerate(columns, 1) if name in history[0])
                figure.add_scatter(
                    x=epochs, y=values, name=method, legendgroup=method, showlegend=shown, mode="lines+markers",
                    line=dict(color=colour, dash=dash, width=2), marker=dict(symbol=marker, size=6), row=1, col=panel,
                )  # fmt: skip
        figure.update_xaxes(title="epoch", row=1, col=panel)
    return figure.update_layout(template=TEMPLATE, title=title, margin_t=100, width=WIDTH, height=HEIGHT)


def curve(x, lines: dict[str, np.ndarray], title: str, x_title: str, y_title: str) -> go.Figure:
    """Named lines over a common x.

    >>> [line.name for line in curve([0, 1], {"measured": np.zeros(2), "bound": np.ones(2)}, "Theorem", "sigma", "||H||").data]
    ['measured', 'bound']
    """
    figure = blank(title, xaxis_title=x_title, yaxis_title=y_title)
    for (name, values), colour, dash in zip(
        lines.items(), ("#D55E00", "#0072B2", "#009E73", "#000000"), ("solid", "dash", "dot", "dashdot"), strict=False
    ):
        figure.add_scatter(x=x, y=values, name=name, mode="lines", line=dict(color=colour, dash=dash, width=2.5))
    return figure
