"""Sliders over pictures of feature space. They look up what was computed; only the toy of notebook 01 computes, on twelve points."""

import ipywidgets as ui
import numpy as np
import plotly.graph_objects as go
import torch

from . import losses
from .centroids import class_means
from .planes import FLAT, scene
from .show import figures_features

WIDE = dict(style=dict(description_width="150px"), layout=ui.Layout(width="420px"))
PURPLE = "#7B3294"


def column(*children) -> ui.VBox:
    """Controls one below the other, as wide as they need.

    >>> len(column(ui.Button(), ui.Button()).children)
    2
    """
    return ui.VBox(children, layout=ui.Layout(flex="0 0 auto", max_width="460px"))


def redraw(widget: go.FigureWidget, shapes: dict[int, np.ndarray]) -> None:
    """Give traces, by their number, new coordinates (n,2), in one message to the browser; what has not changed is not sent.

    >>> widget = go.FigureWidget(go.Scatter(x=[0, 1], y=[0, 1]))
    >>> redraw(widget, {0: np.array([[0, 5], [1, 7]])})
    >>> widget.data[0].y
    array([5., 7.])
    """
    with widget.batch_update():
        for number, shape in shapes.items():
            trace, (x, y) = widget.data[number], np.asarray(shape, dtype=float).T
            if not (np.array_equal(trace.x, x, equal_nan=True) and np.array_equal(trace.y, y, equal_nan=True)):
                trace.x, trace.y = x, y


def table(header: list[str], rows: list[list[str]]) -> str:
    """An HTML table: the first column to the left, numbers to the right.

    >>> table(["term", "value"], [["margin", "1.25"]]).count("<td")
    2
    """
    cells = lambda tag, row: "".join(  # noqa: E731
        f"<{tag} style='padding:2px 9px;text-align:{'right' if i else 'left'};font-variant-numeric:tabular-nums'>{cell}</{tag}>"
        for i, cell in enumerate(row)
    )
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table style='font-size:14px;line-height:1.5'><tr>{cells('th', header)}</tr>{body}</table>"


def slider(name: str, value: float, low: float, high: float, step: float) -> ui.FloatSlider:
    """A slider with room for its name, which a mouse over it shows too.

    >>> slider("noise", 0.3, low=0, high=1, step=0.1).value
    0.3
    """
    return ui.FloatSlider(value, min=low, max=high, step=step, description=name, tooltip=name, **WIDE)


class ByHand:
    """The toy of notebook 01: every term of the loss, its value and the step against its gradient, as its arguments move.

    q (N,2) features, y (N,) labels in 0..2, W (3,2), b (3,): the head. `box` is what a notebook shows.
    """

    def __init__(self, q, y, W, b, delta_v: float, delta_d: float):  # noqa: N803
        self.q, self.y, self.W, self.b = q.clone(), y, W.clone(), b
        self.drift = torch.randn(q.shape, generator=torch.Generator().manual_seed(0))
        self.delta_v, self.delta_d = slider("δ_v, free radius", delta_v, 0.05, 2, 0.05), slider("δ_d, wanted margin", delta_d, 0.1, 5, 0.1)
        self.noise = slider("noise on the features", 0.3, 0, 1.5, 0.05)
        self.point = ui.Dropdown(options=[(f"{i} (class {int(c)})", i) for i, c in enumerate(y)], description="point", **WIDE)
        self.x, self.up = slider("its feature 1", float(q[0, 0]), -6, 6, 0.1), slider("its feature 2", float(q[0, 1]), -6, 6, 0.1)
        self.row = ui.Dropdown(options=[(f"w{'₀₁₂'[c]} (class {c})", c) for c in range(3)], description="weight vector", **WIDE)
        self.angle, self.length = slider("its angle (degrees)", 0, -180, 180, 1), slider("its length", 1, 0.1, 3, 0.05)
        self.values = ui.HTML()
        self.loading = False  # while a slider is set to what it stands for, it must not change it
        self._show_weight()
        self.figure = go.FigureWidget(figures_features.plane(self._scene(), delta_v, delta_d, "", "012"))
        nowhere = np.zeros((len(self.q), 2))
        self.figure.data[-1].marker.size = [0, 9, 0] * 2 * len(self.q)  # steps of clean and noisy features
        self.figure.add_traces(
            [figures_features.arrow_trace(nowhere, nowhere, PURPLE), figures_features.arrow_trace(nowhere[:1], nowhere[:1], "black")]
        )
        self.figure.update_layout(
            width=590,
            height=520,
            margin=dict(l=55, r=5, t=20, b=60),
            uirevision="kept",
            xaxis_range=[-7, 7],
            yaxis_range=[-7, 7],
            legend_font_size=12,
        )
        self.point.observe(self._show_point, "value")
        self.row.observe(self._show_weight, "value")
        for moved in (self.delta_v, self.delta_d, self.noise, self.x, self.up, self.angle, self.length):
            moved.observe(self._moved, "value")
        self._moved()
        note = ui.HTML(
            "<div style='line-height:1.5'>Steps against the gradient: "
            f"<b style='color:{figures_features.RED}'>red</b> of L<sub>compact</sub> on clean and of L<sub>noisy</sub> on noisy features, "
            f"<b style='color:{PURPLE}'>purple</b> of L<sub>margin</sub> on the centroids and "
            "on the chosen weight vector (<b>black</b>, from the origin). "
            "The centroid counts as fixed where features are pulled to it; ‖gradient‖ is with respect to what its arrows stand on.</div>"
        )
        controls = [self.delta_v, self.delta_d, self.noise, self.point, self.x, self.up, self.row, self.angle, self.length]
        self.box = ui.HBox([column(*controls, self.values, note), self.figure])

    def _show_point(self, _=None) -> None:
        self.loading = True
        self.x.value, self.up.value = self.q[self.point.value].tolist()
        self.loading = False

    def _show_weight(self, _=None) -> None:
        w, self.loading = self.W[self.row.value], True
        self.angle.value, self.length.value = float(torch.rad2deg(torch.atan2(w[1], w[0]))), float(w.norm())
        self.loading = False

    def _scene(self):
        return scene(self.q, self.y, self.W, self.b, noisy=self.q + self.noise.value * self.drift, plane=FLAT)

    def _moved(self, change=None) -> None:
        if self.loading:
            return
        if change is not None and change.owner in (self.x, self.up):
            self.q[self.point.value] = torch.tensor([self.x.value, self.up.value])
        if change is not None and change.owner in (self.angle, self.length):
            angle = torch.deg2rad(torch.tensor(self.angle.value))
            self.W[self.row.value] = self.length.value * torch.stack([angle.cos(), angle.sin()])
        delta_v, delta_d = self.delta_v.value, self.delta_d.value
        means, counts = class_means(self.q, self.y, 3)
        noisy_features = self.q + self.noise.value * self.drift
        clean, noisy, m, W = (t.clone().requires_grad_() for t in (self.q, noisy_features, means, self.W))  # noqa: N806
        terms = {
            "compact": losses.compactness(clean, self.y, means, counts, delta_v),
            "noisy": losses.alignment(noisy, self.y, means, counts, delta_v),
            "margin": losses.margin(m, counts, W, self.b, delta_d),
            "reg": losses.regulariser(m, counts),
        }
        at = {"compact": clean, "noisy": noisy, "margin": m, "reg": m}
        steps = [torch.autograd.grad(term, at[name], retain_graph=True)[0] for name, term in terms.items()]
        features, moves, row = torch.cat([self.q, noisy_features]), [-3 * step.numpy() for step in steps], self.row.value
        turned = -3 * torch.autograd.grad(terms["margin"], W)[0].numpy()[[row]]
        starts, pushed = np.concatenate([means.numpy(), self.W[[row]].numpy()]), np.concatenate([moves[2], turned])
        shapes = figures_features.plane_shapes(self._scene(), delta_v, delta_d, 8)
        shapes += [figures_features.arrow_shape(features.numpy(), np.concatenate(moves[:2])), figures_features.arrow_shape(starts, pushed)]
        shapes += [figures_features.arrow_shape(np.zeros((1, 2)), self.W[[row]].numpy())]
        redraw(self.figure, dict(enumerate(shapes)))
        weights = {"compact": 0.5, "noisy": 0.5, "margin": 1.0, "reg": 0.001}
        values = {name: float(value.detach()) for name, value in terms.items()}
        sizes = dict(zip(terms, [f"{float(step.norm()):.3f}" for step in steps], strict=True))
        rows = [[f"L<sub>{name}</sub>", f"{value:.4f}", sizes[name], f"{weights[name]:g}"] for name, value in values.items()]
        total = sum(weights[name] * value for name, value in values.items())
        self.values.value = table(["term", "value", "‖gradient‖", "weight"], [*rows, ["weighted sum", f"{total:.4f}", "", ""]])


class Film:
    """Training, epoch by epoch: a play button and a slider over films of the same epochs (method -> `films.film`)."""

    def __init__(self, films: dict[str, dict]):
        self.films, first = films, next(iter(films.values()))
        frames = [figures_features.film_frame(films, i).data for i in range(len(first["epochs"]))]
        self.shown = [{n: np.stack([trace.x, trace.y], axis=1) for n, trace in enumerate(traces)} for traces in frames]
        self.figure = go.FigureWidget(figures_features.film_frame(films, 0).update_layout(title="", height=720, margin_t=30))
        epochs = [(f"{epoch} of {first['epochs'][-1]}", i) for i, epoch in enumerate(first["epochs"])]
        self.epoch = ui.SelectionSlider(options=epochs, description="epoch", **WIDE)
        self.play = ui.Play(min=0, max=len(epochs) - 1, interval=500, description="play")
        ui.link((self.play, "value"), (self.epoch, "index"))
        self.epoch.observe(lambda change: redraw(self.figure, self.shown[change.new]), "value")
        self.box = ui.VBox([ui.HBox([self.play, self.epoch]), self.figure])
