"""Plotly figures of the ablation page, in the template and the colours of `figures`."""

from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..figures import HEIGHT, STYLE, TEMPLATE, WIDTH, ZERO, blank, faint

# Of arms that are no method, in colours that no method has.
LINES = (
    ("#888888", "circle", "solid"), ("#56B4E9", "square", "dash"), ("#8C510A", "diamond", "dot"), ("#7B3294", "x", "dashdot"),
    ("#B8A800", "hexagon", "longdash"),
)  # fmt: skip
# Where a front's first and last number stand beside their marks, so that those of neighbours do not meet.
ENDS = {
    "proposed, λ": ("middle right", "middle right"), "stability, weight": ("middle left", "middle left"),
    "noisy, σ": ("top right", "top right"), "both, σ": ("middle left", "middle left"),
    "stability, σ": ("middle right", "middle left"), "proposed, σ": ("middle right", "bottom left"),
}  # fmt: skip


def along(panels: dict[str, pd.DataFrame], title: str, log: tuple[str, ...] = (), columns: int = 3) -> go.Figure:
    """Quantities during training: a panel for each, a line for each arm (mean over seeds), a band from the lowest to the highest seed.

    panels: panel title -> table with arm, seed, epoch, value. log: the panels with a logarithmic y axis.
    """
    lines = -(-len(panels) // columns)
    titles = [name + " (log)" * (name in log) for name in panels]
    figure = make_subplots(lines, columns, subplot_titles=titles, horizontal_spacing=0.08, vertical_spacing=0.13)
    for index, (name, table) in enumerate(panels.items()):
        at = dict(row=index // columns + 1, col=index % columns + 1)
        trained = table[table.epoch > 0]  # before, margins are negative and lie on no logarithmic axis
        others = cycle(LINES)
        for arm, own in trained.groupby("arm", sort=False):
            colour, shape, dash = STYLE.get(arm) or next(others)
            over = own.groupby("epoch").value.agg(["mean", "min", "max"])
            figure.add_scatter(
                x=[*over.index, *over.index[::-1]], y=[*over["max"], *over["min"][::-1]], mode="lines", fill="toself",
                fillcolor=faint(colour, 0.13),
                line_width=0, hoverinfo="skip", showlegend=False, legendgroup=arm, **at,
            )  # fmt: skip
            figure.add_scatter(
                x=over.index, y=over["mean"], name=arm, legendgroup=arm, showlegend=not index, mode="lines+markers",
                line=dict(color=colour, dash=dash, width=2), marker=dict(symbol=shape, size=7), **at,
            )  # fmt: skip
        if name in log:
            figure.update_yaxes(type="log", **_ticks(trained.value), **at)
        figure.update_xaxes(title="epoch" if at["row"] == lines else None, **at)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-70 / (260 * lines), yanchor="top")
    return figure.update_layout(
        template=TEMPLATE, title=title, legend=legend, margin=dict(t=100, b=130), width=WIDTH, height=230 + 260 * lines
    )


def _ticks(values: pd.Series) -> dict:
    """Ticks of a logarithmic axis: 1, 2, 5, or where more than three decades are shown powers of ten alone."""
    positive = values[values > 0]
    digits = (1, 2, 5) if positive.max() < 1000 * positive.min() else (1,)
    at = [digit * 10.0**power for power in range(-6, 6) for digit in digits]
    return dict(tickvals=at, ticktext=[f"{value:g}" for value in at])


def heat(table: pd.DataFrame, columns: dict[str, str], title: str) -> go.Figure:
    """A mean over seeds for each pair of delta_v and delta_d, one panel for each column of the table, and the border delta_d = 2 delta_v.

    table: delta_v, delta_d and the columns, shares. columns: name -> panel title.
    """
    figure = make_subplots(1, len(columns), subplot_titles=list(columns.values()), horizontal_spacing=0.1, shared_yaxes=True)
    for panel, column in enumerate(columns, 1):
        means = 100 * table.pivot_table(index="delta_d", columns="delta_v", values=column)
        names = [[f"{value:g}" for value in axis] for axis in (means.columns, means.index)]
        figure.add_heatmap(
            z=means, x=np.arange(len(names[0])), y=np.arange(len(names[1])), text=means.round(1), texttemplate="%{text:.1f}",
            colorscale="Viridis", showscale=False,
            hovertemplate="%{z:.1f} %<extra></extra>", row=1, col=panel,
        )  # fmt: skip
        x, y = _border(means.columns.to_numpy(), means.index.to_numpy())
        figure.add_scatter(
            x=x, y=y, mode="lines", line=dict(color="#D55E00", width=4), name="δ<sub>d</sub> > 2 δ<sub>v</sub> above",
            showlegend=panel == 1, row=1, col=panel,
        )  # fmt: skip
        axes = [dict(tickvals=np.arange(len(texts)), ticktext=texts, showgrid=False, range=[-0.5, len(texts) - 0.5]) for texts in names]
        figure.update_xaxes(title="δ<sub>v</sub>", **axes[0], row=1, col=panel).update_yaxes(**axes[1], row=1, col=panel)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-0.24, yanchor="top")
    return figure.update_yaxes(title="δ<sub>d</sub>", col=1).update_layout(
        template=TEMPLATE, title=title, legend=legend, margin=dict(t=100, b=100), width=WIDTH, height=HEIGHT
    )


def _border(delta_v: np.ndarray, delta_d: np.ndarray) -> tuple[list, list]:
    """The staircase between the cells with delta_d > 2 delta_v (above it) and the others, in units of cells.

    >>> _border(np.array([0.5, 1.0]), np.array([1.0, 2.0, 4.0]))
    ([-0.5, 0.5, 0.5, 1.5], [0.5, 0.5, 1.5, 1.5])
    """
    heights = [float((delta_d <= 2 * v).sum() - 0.5) for v in delta_v]
    x = [edge for i in range(len(heights)) for edge in (i - 0.5, i + 0.5)]
    return x, [height for height in heights for _ in range(2)]


def fronts(table: pd.DataFrame, points: pd.DataFrame, title: str, noisy: str) -> go.Figure:
    """Clean against noisy accuracy (mean over seeds): a curve for each front as its field grows, a panel for fields that are weights and
    one for the noise trained with, numbers at both ends of a front; a mark in each panel for each method without a front.

    table: front, method, value, clean, noisy; points: method, clean, noisy; noisy: the name of the noise.
    """
    panels = {"weight of the noisy term": ~table.front.str.endswith("σ"), "noise trained with, σ": table.front.str.endswith("σ")}
    figure = make_subplots(1, 2, subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.03)
    for column, (panel, chosen) in enumerate(panels.items(), 1):
        fixed = points.assign(front=panel, value=0.0)
        for (front, method), own in pd.concat([table[chosen], fixed]).groupby(["front", "method"], sort=False):
            colour, symbol, dash = STYLE[method]
            means = 100 * own.groupby("value")[["clean", "noisy"]].mean()
            several = len(means) > 1
            ends = [f"{value:g}" * (several and value in (means.index[0], means.index[-1])) for value in means.index]
            first, last = ENDS.get(front, ("middle right", "middle right"))
            named = method not in {trace.name for trace in figure.data}
            figure.add_scatter(
                x=means.clean, y=means.noisy, name=method, legendgroup=method, showlegend=named, mode="lines+markers+text", text=ends,
                textposition=[first] * (len(means) - 1) + [last], textfont=dict(size=12, color=colour),
                line=dict(color=colour, width=2, dash=dash),
                marker=dict(symbol=symbol, size=10 if several else 14, color=colour), customdata=means.index,
                hovertemplate=f"{front} = %{{customdata}}: clean %{{x:.1f}}, noisy %{{y:.1f}}<extra></extra>" if several else None,
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title="clean test accuracy (%)").update_yaxes(title=f"test accuracy at {noisy} (%)", col=1)
    legend = dict(orientation="h", x=0.5, xanchor="center", y=-0.2, yanchor="top")
    return figure.update_layout(template=TEMPLATE, title=title, legend=legend, margin=dict(t=100, b=125), width=WIDTH, height=HEIGHT + 90)


SHOWN = (-13, 24)  # points
VERDICTS = {"holds": ("#0072B2", "circle"), "undecided": ("#888888", "diamond"), "does not hold": ("#D55E00", "x")}


def evidence(table: pd.DataFrame, title: str) -> go.Figure:
    """Every difference of accuracy behind the claims, with its interval, one line each, grouped by claim; a tick where its bound is not
    zero. table: of `claims_tables.numbers`.

    The axis ends at SHOWN; an interval that goes on beyond has an arrow there, and where its mean lies beyond, its number alone.
    """
    figure, lines, named = blank(title), 0.0, set()
    for claim, own in table.groupby("claim", sort=False):
        figure.add_annotation(
            x=0, xref="paper", y=-lines, text=f"<b>{claim.replace('`', '')}</b>", showarrow=False, xanchor="right", xshift=-8, font_size=12
        )
        for one in own.itertuples():
            lines += 1
            colour, symbol = VERDICTS[one.holds]
            line = dict(xref="paper", showarrow=False, font_size=11, y=-lines)
            figure.add_annotation(x=0, text=one.evidence, xanchor="right", xshift=-8, **line)
            number, beyond = f"{one.mean:+.0f} [{one.low:+.0f}, {one.high:+.0f}]", not SHOWN[0] < one.mean < SHOWN[1]
            if one.mean <= SHOWN[0] or (one.low < SHOWN[0] and not beyond):
                told = f"◂ {number}" if beyond else "◂"
                figure.add_annotation(x=0, text=f"<span style='color:{colour}'>{told}</span>", xanchor="left", **line)
            if one.mean >= SHOWN[1] or (one.high > SHOWN[1] and not beyond):
                told = f"{number} ▸" if beyond else "▸"
                figure.add_annotation(x=1, text=f"<span style='color:{colour}'>{told}</span>", xanchor="right", **line)
            if beyond:
                continue
            if one.bound:
                tick = dict(symbol="line-ns", size=13, line=dict(color="#888888", width=2))
                figure.add_scatter(x=[one.bound], y=[-lines], mode="markers", marker=tick, showlegend=False, hoverinfo="skip")
            error = dict(type="data", symmetric=False, array=[one.high - one.mean], arrayminus=[one.mean - one.low], thickness=2)
            figure.add_scatter(
                x=[one.mean], y=[-lines], error_x=error, mode="markers", marker=dict(color=colour, symbol=symbol, size=7),
                name=one.holds, legendgroup=one.holds, showlegend=one.holds not in named,
                hovertemplate=f"{one.evidence}: %{{x:+.1f}}<extra></extra>",
            )  # fmt: skip
            named.add(one.holds)
        lines += 1.4
    height = int(200 + 21 * lines)
    legend, axis = dict(orientation="h", y=1 + 60 / (height - 170), yanchor="bottom", x=0), ZERO | dict(range=SHOWN, side="top", dtick=5)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, range=[-lines, 0.8])
    figure.update_layout(xaxis=axis | dict(title="points, larger is for the claim", title_standoff=6), legend=legend, height=height)
    return figure.update_layout(margin=dict(l=520, t=150, b=20), title=dict(xref="container", x=0.02, y=1 - 25 / height))
