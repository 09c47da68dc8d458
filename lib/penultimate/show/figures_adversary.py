"""Plotly figures of the adversary page, in the template and the colours of `figures`."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..comparison import summary
from ..figures import STYLE, TEMPLATE, WIDTH, faint


class Panel(NamedTuple):
    """One panel of `curves`: rows as `records.summary` takes them, what x is, how many of its units are 1, and a marked x."""

    rows: pd.DataFrame
    x_title: str
    scale: float = 1.0
    mark: float | None = None


def curves(panels: dict[str, Panel], title: str, y_title: str, columns: int = 2) -> go.Figure:
    """Mean accuracy of each method over budgets or radii, with the 95 % interval as a band and in the hover; a panel each."""
    lines = -(-len(panels) // columns)
    figure = make_subplots(lines, columns, subplot_titles=list(panels), horizontal_spacing=0.09, vertical_spacing=0.36 / lines)
    seen = set()
    for index, panel in enumerate(panels.values()):
        at = dict(row=index // columns + 1, col=index % columns + 1)
        for method, own in summary(panel.rows).groupby("method", sort=False):
            colour, symbol, dash = STYLE[method]
            x, per_cent = panel.scale * own.level, own[["mean", "low", "high"]].mul(100).clip(0, 100)
            figure.add_scatter(
                x=[*x, *x[::-1]], y=[*per_cent.high, *per_cent.low[::-1]], mode="lines", fill="toself", fillcolor=faint(colour, 0.12),
                line_width=0, hoverinfo="skip", showlegend=False, legendgroup=method, name=f"{method}, band", **at,
            )  # fmt: skip
            figure.add_scatter(
                x=x, y=per_cent["mean"], name=method, legendgroup=method, showlegend=method not in seen, mode="lines+markers",
                line=dict(color=colour, dash=dash, width=2.5), marker=dict(symbol=symbol, size=9, line=dict(width=1, color="white")),
                customdata=per_cent[["low", "high"]], **at,
                hovertemplate=f"{method}, %{{x:.3g}}: %{{y:.1f}} % [%{{customdata[0]:.1f}}, %{{customdata[1]:.1f}}]<extra></extra>",
            )  # fmt: skip
            seen.add(method)
        if panel.mark is not None:
            figure.add_vline(panel.scale * panel.mark, line=dict(color="#888888", dash="dot"), **at)
        figure.update_xaxes(title=panel.x_title, title_standoff=8, rangemode="tozero", **at).update_yaxes(range=[0, 103], **at)
    height = 190 + 340 * lines
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-65 / (height - 190), yanchor="top")
    layout = dict(title=title, legend=legend, margin=dict(l=75, t=100, b=115), width=WIDTH, height=height, title_y=1 - 28 / height)
    return figure.update_yaxes(title=y_title, col=1).update_layout(template=TEMPLATE, **layout)


def bought(table: pd.DataFrame, title: str, y_title: str, columns: int = 3) -> go.Figure:
    """One mark per run: decades by which it is flatter than `normal` against its gain in accuracy. table: `adversary_links.bought`."""
    names = list(dict.fromkeys(table.panel))
    lines = -(-len(names) // columns)
    figure = make_subplots(lines, columns, subplot_titles=names, horizontal_spacing=0.07, vertical_spacing=0.42 / lines, shared_yaxes=True)
    for index, name in enumerate(names):
        at = dict(row=index // columns + 1, col=index % columns + 1)
        for method, own in table[table.panel == name].groupby("method", sort=False):
            colour, symbol, _ = STYLE[method]
            figure.add_scatter(
                x=own.decades, y=100 * own.gain, name=method, legendgroup=method, showlegend=not index, mode="markers",
                marker=dict(color=colour, symbol=symbol, size=11, line=dict(width=1, color="white")), customdata=own.seed,
                hovertemplate=f"{method}, seed %{{customdata}}: %{{x:+.2f}} decades, %{{y:+.1f}} points<extra></extra>", **at,
            )  # fmt: skip
        lines_at_zero = dict(line=dict(color="#888888", width=1.5), **at)
        figure.add_hline(0, **lines_at_zero).add_vline(0, **lines_at_zero)
        said = "decades, right: farther" if "distance" in name else "decades, right: flatter"
        figure.update_xaxes(title=said, title_standoff=8, **at)
    height = 170 + 310 * lines
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-65 / (height - 170), yanchor="top")
    layout = dict(title=title, legend=legend, margin=dict(l=75, t=100, b=115), width=WIDTH, height=height, title_y=1 - 28 / height)
    return figure.update_yaxes(title=y_title, col=1).update_layout(template=TEMPLATE, **layout)
