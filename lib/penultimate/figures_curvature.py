"""Plotly figures of the curvature page, in the template and the colours of `figures`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .figures import HEIGHT, STYLE, TEMPLATE, WIDTH

COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito's
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid")


def _panels(names, title: str, below: int = 65, **layout) -> go.Figure:
    """Panels side by side, their names above them, a legend below all; below: px that the axis' labels and title need."""
    figure = make_subplots(1, len(names), subplot_titles=list(names), horizontal_spacing=0.09, **layout)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-below / (HEIGHT - 140), yanchor="top")
    margin = dict(l=90, t=90, b=below + 50)
    return figure.update_layout(template=TEMPLATE, title=title, legend=legend, margin=margin, width=WIDTH, height=HEIGHT + below)


def log_lines(
    panels: dict[str, pd.DataFrame], title: str, x_title: str, y_title: str, mark: tuple[float, str] | None = None, log_x: bool = True
) -> go.Figure:
    """Lines over a common x with a logarithmic y: a panel for each table, a line for each of its columns, x in the index.

    mark: a value of x that gets a vertical line and its name. log_x: x is logarithmic too; otherwise it is a list of names.
    """
    figure = _panels(panels, title, below=65 if log_x else 95, shared_yaxes=True)
    for panel, table in enumerate(panels.values(), 1):
        for name, colour, symbol, dash in zip(table, COLOURS, SYMBOLS, DASHES, strict=False):
            figure.add_scatter(
                x=table.index, y=table[name], name=name, legendgroup=name, showlegend=panel == 1, mode="lines+markers",
                line=dict(color=colour, dash=dash, width=2.5), marker=dict(symbol=symbol, size=9), row=1, col=panel,
            )  # fmt: skip
        if mark:
            figure.add_vline(mark[0], line=dict(color="#888888", dash="dot"), row=1, col=panel)
            at = np.log10(mark[0]) if log_x else mark[0]
            figure.add_annotation(x=at, y=1, yref="y domain", text=mark[1], showarrow=False, xanchor="right", xshift=-5, row=1, col=panel)
    figure.update_xaxes(title=x_title, **dict(type="log", dtick=1, exponentformat="power") if log_x else dict(tickangle=-40))
    return _powers(figure, np.concatenate([table.to_numpy(dtype=float).ravel() for table in panels.values()])).update_yaxes(
        title=y_title, col=1
    )


def _powers(figure: go.Figure, values: np.ndarray) -> go.Figure:
    """Logarithmic y axes with a tick at every decade, or at every other where there are many."""
    values = values[values > 0]
    decades = np.log10(values.max() / values.min())
    return figure.update_yaxes(type="log", exponentformat="power", showexponent="all", dtick=1 if decades < 7 else 2)


def forest(table: pd.DataFrame, title: str, x_title: str, columns: int = 3) -> go.Figure:
    """Estimates with their intervals around zero. table: panel, row (a method, which gives the colour, or any name), mean, low, high."""
    names, rows = list(dict.fromkeys(table.panel)), list(dict.fromkeys(table.row))
    lines = -(-len(names) // columns)
    figure = make_subplots(
        lines, min(columns, len(names)), subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.04,
        vertical_spacing=0.16 if lines > 1 else 0,
    )  # fmt: skip
    for index, name in enumerate(names):
        at = dict(row=index // columns + 1, col=index % columns + 1)
        for own in table[table.panel == name].itertuples():
            colour, symbol, _ = STYLE.get(own.row, ("#222222", "circle", ""))
            error = dict(type="data", symmetric=False, array=[own.high - own.mean], arrayminus=[own.mean - own.low], thickness=2.5, width=6)
            marker = dict(color=colour, symbol=symbol, size=12)
            figure.add_scatter(x=[own.mean], y=[own.row], error_x=error, mode="markers", marker=marker, showlegend=False, **at)
        figure.add_vline(0, line=dict(color="#888888", width=2), **at)
        figure.update_yaxes(categoryorder="array", categoryarray=rows[::-1], range=[-0.6, len(rows) - 0.4], **at)
    figure.update_xaxes(title=x_title, row=lines, col=(min(columns, len(names)) + 1) // 2)
    longest = max(len(str(row)) for row in rows)
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        margin=dict(l=40 + 8 * longest, t=100, b=80),
        width=WIDTH,
        height=180 + lines * (75 + 34 * len(rows)),
    )


def against_accuracy(table: pd.DataFrame, title: str, x_title: str, y_title: str) -> go.Figure:
    """One mark per run: curvature (logarithmic) against accuracy under noise. table: panel, method, curvature, accuracy (share)."""
    names = list(dict.fromkeys(table.panel))
    figure = _panels(names, title, shared_yaxes=True)
    for panel, name in enumerate(names, 1):
        for method, own in table[table.panel == name].groupby("method", sort=False):
            colour, symbol, _ = STYLE[method]
            figure.add_scatter(
                x=own.curvature, y=100 * own.accuracy, name=method, legendgroup=method, showlegend=panel == 1, mode="markers",
                marker=dict(color=colour, symbol=symbol, size=12, line=dict(width=1, color="white")), row=1, col=panel,
            )  # fmt: skip
    figure.update_xaxes(type="log", dtick=1, exponentformat="power", title=x_title)
    return figure.update_yaxes(title=y_title, col=1)


def bins(panels: dict[str, dict[str, tuple]], title: str) -> go.Figure:
    """Curvature of the images with 1..10 correct views, by method. panels: name -> method -> (bins, values)."""
    figure = _panels(panels, title)
    for panel, methods in enumerate(panels.values(), 1):
        for method, (at, values) in methods.items():
            colour, symbol, dash = STYLE[method]
            figure.add_scatter(
                x=at, y=values, name=method, legendgroup=method, showlegend=panel == 1, mode="lines+markers",
                line=dict(color=colour, dash=dash, width=2), marker=dict(symbol=symbol, size=9), row=1, col=panel,
            )  # fmt: skip
    figure.update_xaxes(title="noisy views classified correctly, of 10", dtick=1)
    drawn = np.concatenate([values for methods in panels.values() for _, values in methods.values()])
    return _powers(figure, drawn).update_yaxes(title="mean curvature (eq. 21)", col=1)
