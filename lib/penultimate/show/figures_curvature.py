"""Plotly figures of the curvature page, in the template and the colours of `figures`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..figures import COLOURS, HEIGHT, STYLE, TEMPLATE, WIDTH, faint, in_html

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid")


def _panels(names, title: str, below: int = 65, **layout) -> go.Figure:
    """Panels side by side, their names above them, a legend below all; below: px that the axis' labels and title need."""
    figure = make_subplots(1, len(names), subplot_titles=list(names), horizontal_spacing=0.09, **layout)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-below / (HEIGHT - 140), yanchor="top")
    margin = dict(l=90, t=90, b=below + 50)
    return figure.update_layout(template=TEMPLATE, title=title, legend=legend, margin=margin, width=WIDTH, height=HEIGHT + below)


def log_lines(
    panels: dict[str, dict[str, pd.DataFrame]], title: str, x_title: str, y_title: str, x: str = "log",
    mark: tuple[float, str] | None = None,
) -> go.Figure:  # fmt: skip
    """Lines with bands over a common x and a logarithmic y: panel -> line -> table of low, mid, high with x in its index.

    x: log, or noise (logarithmic, labelled in grey levels), or names. mark: a value of x that gets a vertical line and its name.
    """
    figure = _panels(panels, title, below=95 if x == "names" else 65, shared_yaxes=True)
    for panel, lines in enumerate(panels.values(), 1):
        at = dict(row=1, col=panel)
        for (name, table), colour, symbol, dash in zip(lines.items(), COLOURS, SYMBOLS, DASHES, strict=False):
            across = [*table.index, *table.index[::-1]]
            figure.add_scatter(
                x=across, y=[*table.high, *table.low[::-1]], mode="lines", fill="toself", fillcolor=faint(colour, 0.15), line_width=0,
                hoverinfo="skip", showlegend=False, legendgroup=name, name=f"{name}, band", **at,
            )  # fmt: skip
            figure.add_scatter(
                x=table.index, y=table.mid, name=in_html(name), legendgroup=name, showlegend=panel == 1, mode="lines+markers",
                line=dict(color=colour, dash=dash, width=2.5), marker=dict(symbol=symbol, size=9), **at,
            )  # fmt: skip
        if mark:
            figure.add_vline(mark[0], line=dict(color="#888888", dash="dot"), **at)
            figure.add_annotation(
                x=np.log10(mark[0]), y=1, yref="y domain", text=mark[1], showarrow=False, xanchor="right", xshift=-5, bgcolor="white", **at
            )
    tables = [table for lines in panels.values() for table in lines.values()]
    levels = tables[0].index
    grey = dict(tickvals=levels, ticktext=[f"{255 * v:.4g}/255" for v in levels], tickangle=0, tickfont_size=12) if x == "noise" else {}
    kinds = {"log": dict(dtick=1, exponentformat="power"), "noise": grey, "names": dict(tickangle=-40)}
    figure.update_xaxes(title=x_title, type=None if x == "names" else "log", **kinds[x])
    drawn = np.concatenate([table.to_numpy(dtype=float).ravel() for table in tables])
    return _powers(figure, drawn).update_yaxes(title=in_html(y_title), col=1)


def _powers(figure: go.Figure, values: np.ndarray) -> go.Figure:
    """Logarithmic y axes with a tick at every decade, or at every other where there are many."""
    values = values[values > 0]
    decades = np.log10(values.max() / values.min())
    return figure.update_yaxes(type="log", exponentformat="power", showexponent="all", dtick=1 if decades < 7 else 2)


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
        spread = np.log10(table.curvature[table.panel == name]).agg(np.ptp)
        figure.update_xaxes(type="log", dtick=1 if spread < 4 else 2, exponentformat="power", row=1, col=panel)
    figure.update_xaxes(title=x_title, col=(len(names) + 1) // 2)
    return figure.update_yaxes(title=y_title, col=1)


def bins(panels: dict[str, dict[str, tuple]], title: str, views: int) -> go.Figure:
    """Curvature of the images with 1..views correct views, by method, and below how many images that is.

    panels: name -> method -> (bins, values, counts).
    """
    figure = make_subplots(2, len(panels), subplot_titles=list(panels), shared_xaxes=True, row_heights=[0.65, 0.35], vertical_spacing=0.06)
    for panel, methods in enumerate(panels.values(), 1):
        for method, (at, *rows) in methods.items():
            colour, symbol, dash = STYLE[method]
            for row, values in enumerate(rows, 1):
                figure.add_scatter(
                    x=at, y=values, name=method, legendgroup=method, mode="lines+markers", line=dict(color=colour, dash=dash, width=2),
                    showlegend=row == 1 and not any(method in earlier for earlier in list(panels.values())[: panel - 1]),
                    marker=dict(symbol=symbol, size=9), row=row, col=panel,
                )  # fmt: skip
    figure.update_xaxes(title=f"noisy views classified correctly, of {views}", row=2)
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(title="mean curvature (eq. 21)", row=1, col=1).update_yaxes(title="images", row=2, col=1)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-0.14, yanchor="top")
    return figure.update_layout(template=TEMPLATE, title=title, legend=legend, margin=dict(l=90, t=90, b=110), width=WIDTH, height=680)
