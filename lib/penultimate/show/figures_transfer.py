"""Plotly figures of the transfer page, in the template and the colours of `figures`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..figures import HEIGHT, STYLE, TEMPLATE, WIDTH, blank, faint

SCALES = {True: "RdBu", False: "Viridis"}  # of differences, around zero, and of accuracies


def heat(table: pd.DataFrame, title: str, signed: bool = True, x_title: str = "", y_title: str = "", px: int = 30) -> go.Figure:
    """Numbers with their intervals, a panel each. table: panel, row, column, mean, low, high (points), n.

    signed: differences, around zero; those whose interval reaches to the other side of zero stand in brackets. The pointer brings
    the interval and n. px: height of a row.
    """
    panels, rows, columns = (list(dict.fromkeys(table[name])) for name in ("panel", "row", "column"))
    figure = make_subplots(1, len(panels), subplot_titles=panels, shared_yaxes=True, horizontal_spacing=0.02)
    crowded = len(panels) * len(columns) > 8
    most, least = table["mean"].abs().max(), table["mean"].min()
    for index, panel in enumerate(panels, 1):
        own = table[table.panel == panel].pivot(index="row", columns="column").reindex(index=rows)
        own = own.reindex(columns=columns, level=1)
        mean, low, high = (own[name].to_numpy() for name in ("mean", "low", "high"))
        figure.add_heatmap(
            z=mean, x=columns, y=rows, text=_texts(mean, low, high, signed), texttemplate="%{text}", textfont_size=12,
            customdata=np.stack([low, high, own["n"].to_numpy()], -1), colorscale=SCALES[signed], xgap=1, ygap=1, showscale=False,
            zmin=-most if signed else least, zmax=most, name=panel,
            hovertemplate=f"%{{y}}, %{{x}}: %{{z:{'+' * signed}.1f}} [%{{customdata[0]:{'+' * signed}.1f}}, "
                          f"%{{customdata[1]:{'+' * signed}.1f}}], n = %{{customdata[2]}}<extra>{panel}</extra>",
            row=1, col=index,
        )  # fmt: skip
    left, above, below = 35 + 8 * max(map(len, rows)), 95, 115 if crowded else 55 + 25 * bool(x_title)
    figure.update_xaxes(tickangle=-40 if crowded else 0, showgrid=False, title=x_title)
    figure.update_yaxes(autorange="reversed", showgrid=False).update_yaxes(title=y_title, col=1)
    size = dict(width=WIDTH, height=px * len(rows) + above + below)
    margin = dict(l=left + 25 * bool(y_title), t=above, b=below)
    return figure.update_layout(template=TEMPLATE, title=title, margin=margin, title_y=1 - 25 / size["height"], **size)


def _texts(mean: np.ndarray, low: np.ndarray, high: np.ndarray, signed: bool) -> list[list[str]]:
    def text(value, lower, upper) -> str:
        if np.isnan(value):
            return ""
        return (f"({value:+.1f})" if lower <= 0 <= upper else f"{value:+.1f}") if signed else f"{value:.1f}"

    return [[text(*cell) for cell in zip(*row, strict=True)] for row in zip(mean, low, high, strict=True)]


def hoverable(figure: go.Figure) -> None:
    """The interactive twin of a picture in a notebook; without Plotly's own 4 MB, which JupyterLab has."""
    from IPython.display import display

    display({"application/vnd.plotly.v1+json": figure.to_plotly_json() | {"config": {}}, "text/plain": "an interactive figure"}, raw=True)


def strip(columns: dict[str, list[tuple[np.ndarray, str]]], rows: list[str], title: str) -> go.Figure:
    """One image under every perturbation: a column each, a row for each severity. columns: name -> (image (H,W) in [0,1], what stands
    below it) for each row; an empty text and an image of NaN where there is none."""
    height, width = next(iter(columns.values()))[0][0].shape
    pitch, line = width + 1.2, height + 4.2  # below an image two lines of text
    figure = blank(title, width=WIDTH, height=80 + 132 * len(rows))
    for column, (name, images) in enumerate(columns.items()):
        for row, (image, below) in enumerate(images):
            x, y = column * pitch, -row * line
            if not np.isnan(image).any():
                figure.add_heatmap(z=image, x0=x, y0=y, dx=1, dy=-1, colorscale="gray", zmin=0, zmax=1, showscale=False, hoverinfo="skip")
            figure.add_annotation(x=x + width / 2 - 0.5, y=y - height + 0.3, text=below, showarrow=False, yanchor="top", font_size=11)
        told = name.replace("_", "<br>").replace("+", "<br>+ ")
        figure.add_annotation(x=column * pitch + width / 2 - 0.5, y=0.9, text=told, showarrow=False, yanchor="bottom", font_size=12)
    for row, name in enumerate(rows):
        figure.add_annotation(x=-1.3, y=-row * line - height / 2 + 0.5, text=name, showarrow=False, xanchor="right", font_size=13)
    hidden = dict(visible=False)
    return figure.update_layout(xaxis=hidden, yaxis=hidden | dict(scaleanchor="x"), margin=dict(l=60, r=10, t=70, b=10))


def reliability(panels: dict[str, pd.DataFrame], title: str) -> go.Figure:
    """Accuracy against confidence, a panel for each condition, a line for each method; the diagonal is a classifier that is right as often
    as it says. panels: name -> method, confidence, accuracy, low, high, share (of the predictions; the size of the mark)."""
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.03)
    for index, table in enumerate(panels.values(), 1):
        at = dict(row=1, col=index)
        figure.add_scatter(
            x=[0, 100], y=[0, 100], mode="lines", line=dict(color="#888888", dash="dot"), showlegend=False, hoverinfo="skip", **at
        )
        for method, own in table.groupby("method", sort=False):
            colour, symbol, dash = STYLE[method]
            error = dict(type="data", symmetric=False, array=100 * (own.high - own.accuracy), arrayminus=100 * (own.accuracy - own.low))
            figure.add_scatter(
                x=100 * own.confidence, y=100 * own.accuracy, name=method, legendgroup=method,
                error_y=error | dict(thickness=1.5, width=0, color=faint(colour, 0.45)),
                showlegend=index == 1, mode="lines+markers", line=dict(color=colour, dash=dash, width=2),
                marker=dict(symbol=symbol, size=5 + 12 * own.share**0.5), customdata=100 * own.share,
                hovertemplate=f"{method}: confidence %{{x:.1f}} %, right %{{y:.1f}} %, %{{customdata:.1f}} % of all<extra></extra>", **at,
            )  # fmt: skip
    lowest = 100 * min(float(table.low.min()) for table in panels.values())
    figure.update_xaxes(title="confidence (%)", range=[20, 103]).update_yaxes(range=[min(20, lowest) - 3, 103])
    figure.update_yaxes(title="right (%)", col=1)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-0.29, yanchor="top")
    return figure.update_layout(template=TEMPLATE, title=title, legend=legend, margin=dict(t=100, b=130), width=WIDTH, height=HEIGHT)
