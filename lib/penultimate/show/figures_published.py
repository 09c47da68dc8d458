"""Plotly figures of the page on the published comparison, in the template and the colours of `figures`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..comparison import summary
from ..figures import HEIGHT, STYLE, blank, faint, forest
from ..support.wording import level_name

PRINTED = dict(symbol="diamond-tall-open", size=15, color="#666666", line_width=2)
SPREAD = 0.62  # of the distance between two levels, taken by the methods at one of them


def gains(table: pd.DataFrame, title: str) -> go.Figure:
    """`published.gains` of several rivals: a panel for each preset and choice of the epoch, n beside each, the printed gain beside it.

    table: its columns, and rival.
    """
    figure = forest(table.rename(columns={"what": "panel", "rival": "row"}), title, "points", columns=2)
    panels, rivals = list(dict.fromkeys(table.what)), list(dict.fromkeys(table.rival))
    for one in table.itertuples():
        index, y = panels.index(one.what), rivals.index(one.rival)
        at = dict(row=index // 2 + 1, col=index % 2 + 1)
        end = dict(x=np.nanmax([one.mean, one.high]), y=y, xshift=8, xanchor="left", bgcolor="white")
        figure.add_annotation(text=f"n = {one.n}", showarrow=False, font_size=11, **end, **at)
        if not np.isnan(one.printed):
            figure.add_scatter(x=[one.printed], y=[y], mode="markers", marker=PRINTED, name="printed", showlegend=False, **at)
    if table.printed.notna().any():
        figure.update_layout(title_text=f"{title} (grey diamond: the printed gain)")
    return figure


def accuracies(rows: pd.DataFrame, title: str) -> go.Figure:
    """Mean accuracy of each method at each noise level with its 95 % interval, the methods side by side. rows: of `records.table`."""
    reduced = summary(rows)
    levels, methods = sorted(reduced.level.unique()), list(dict.fromkeys(reduced.method))
    axis = "standard deviation of the noise, in grey levels (evenly spaced, not to scale)"
    figure = blank(title, height=HEIGHT + 60, xaxis_title=axis, yaxis_title="test accuracy (%)")
    for between in range(1, len(levels)):
        figure.add_vline(between - 0.5, line=dict(color="#DDDDDD", width=1))
    for index, (method, own) in enumerate(reduced.groupby("method", sort=False)):
        colour, symbol, _ = STYLE[method]
        x = [levels.index(level) + SPREAD * ((index + 0.5) / len(methods) - 0.5) for level in own.level]
        middle, high, low = (100 * own[name] for name in ("mean", "high", "low"))
        error = dict(type="data", symmetric=False, array=high - middle, arrayminus=middle - low, thickness=1.8, width=3)
        figure.add_scatter(
            x=x, y=middle, error_y=error | dict(color=colour), mode="lines+markers", name=f"{method}, n = {own.n.max()}",
            line=dict(color=faint(colour, 0.3), width=1), marker=dict(symbol=symbol, size=9, color=colour),
            hovertemplate=f"{method}: %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    named = [level_name(level).replace(" ", "<br>") for level in levels]
    return figure.update_layout(xaxis=dict(tickvals=[*range(len(levels))], ticktext=named, showgrid=False), margin_b=95)
