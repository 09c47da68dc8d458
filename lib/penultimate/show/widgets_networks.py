"""Sliders over noise: networks side by side as the images get worse. Everything shown is looked up (`lookup`, `embed`)."""

import base64
import io

import ipywidgets as ui
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..figures import STYLE, TEMPLATE
from ..planes import scene, through
from ..runs import Run
from ..study.films import PER_CLASS
from ..study.lookup import Lookup
from ..support.wording import level_name
from ..widgets import WIDE, column, redraw, table
from . import figures_features

UNITS = {
    "gaussian": "σ", "uniform": "deviation", "laplace": "deviation", "salt_pepper": "share of pixels",
    "occlusion": "side of 4 patches", "low_resolution": "factor",
}  # fmt: skip


def png(image: Tensor) -> str:
    """An image (C,H,W) in [0,1] as the source of an HTML picture: grey, or of its first three channels."""
    from PIL import Image

    pixels = (255 * image[: 3 if len(image) > 2 else 1]).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(source: str, below: str, side: int = 92) -> str:
    """An image with a text below it, as HTML."""
    image = f"<img style='width:{side}px;height:{side}px;image-rendering:pixelated;border:1px solid #ccc' src='{source}' alt=''>"
    style = f"margin:2px;min-width:{side + 32}px;text-align:center;font-size:13px;line-height:1.35"
    return f"<figure style='{style}'>{image}<figcaption>{below}</figcaption></figure>"


def says(method: str, predicted: int, label: int, confidence: float, names) -> str:
    """A network's prediction, red and crossed where it is wrong."""
    colour, mark = ("#222", "") if predicted == label else ("#C00000", "✗ ")
    return f"<span style='color:{colour}'>{method} {mark}<b>{names[predicted]}</b> {100 * confidence:.0f} %</span>"


def level_slider(name: str, perturbation: str, levels, neutral: float = 0.0) -> ui.SelectionSlider:
    """A slider over the levels of a perturbation; its value is the position."""
    deviation = perturbation in ("gaussian", "uniform", "laplace")
    label = lambda level: level_name(level).split()[0] if deviation else "none" if level == neutral else f"{level:g}"  # noqa: E731
    return ui.SelectionSlider(options=[(label(level), i) for i, level in enumerate(levels)], description=name, tooltip=name, **WIDE)


class UmapExplorer:
    """UMAPs of two networks over one noise slider; under each picture its numbers in all d dimensions; hover shows the image.

    seen: method -> Lookup; placed: method -> positions (L,N,2); views (L,N,C,H,W) in [0,1]; numbers: method -> `lookup.numbers`.
    """

    def __init__(self, seen: dict[str, Lookup], placed: dict[str, np.ndarray], views: Tensor, labels, levels, numbers, names):
        self.seen, self.placed, self.views, self.labels, self.names = seen, placed, views, np.asarray(labels), names
        self.numbers, self.texts = numbers, [self._hover(level) for level in range(len(levels))]
        at = {method: positions[0] for method, positions in placed.items()}
        start = figures_features.umap_panels(at, self.labels, self._wrong(0), names, "", hover=self.texts[0])
        for panel, positions in enumerate(placed.values(), 1):  # room for the features of every level
            low, high = positions.min((0, 1)), positions.max((0, 1))
            edge = 0.05 * (high - low)
            start.update_xaxes(range=[low[0] - edge[0], high[0] + edge[0]], col=panel)
            start.update_yaxes(range=[low[1] - edge[1], high[1] + edge[1]], col=panel)
        self.figure = go.FigureWidget(start.update_layout(height=470, margin_t=40, uirevision="kept", hovermode="closest"))
        self.level = level_slider("noise σ", "gaussian", levels)
        self.image = ui.BoundedIntText(0, min=0, max=len(labels) - 1, description="image (or hover)", **WIDE)
        self.told, self.card = ui.HTML(), ui.HTML()
        for trace in self.figure.data:
            if trace.customdata is not None:
                trace.on_hover(self._hovered)
        self.level.observe(self._moved, "value")
        self.image.observe(self._picture, "value")
        self._tell()
        self._picture()
        self.box = ui.VBox([ui.HBox([column(self.level, self.image, self.told), self.card]), self.figure])

    def _wrong(self, level: int) -> dict[str, np.ndarray]:
        return {method: seen.predicted[level] != self.labels for method, seen in self.seen.items()}

    def _hover(self, level: int) -> dict[str, np.ndarray]:
        def text(seen: Lookup, i: int) -> str:
            read = self.names[seen.predicted[level, i]]
            return f"image {i}: {self.names[self.labels[i]]}, read as {read} ({100 * seen.confidence[level, i]:.0f} %)"

        return {m: np.array([text(seen, i) for i in range(len(self.labels))], dtype=object) for m, seen in self.seen.items()}

    def _moved(self, _=None) -> None:
        level, traces = self.level.value, iter(self.figure.data)
        with self.figure.batch_update():
            for method, texts in self.texts[level].items():
                points = self.placed[method][level]
                for trace, rows in self._rows(traces, self._wrong(level)[method]):
                    trace.x, trace.y = points[rows].T
                    if trace.customdata is not None:
                        trace.text = texts[rows]
        self._tell()
        self._picture()

    def _rows(self, traces, wrong):
        """The traces of one panel with the images that they show: one for each class, then the misread ones."""
        for k in range(len(self.names)):
            yield next(traces), np.flatnonzero(self.labels == k)
        yield next(traces), np.flatnonzero(wrong)

    def _tell(self) -> None:
        rows = [[method, *(f"{value:.2f}" for value in numbers.iloc[self.level.value])] for method, numbers in self.numbers.items()]
        first = rows[0][0]
        self.told.value = table([f"in {self.seen[first].features.shape[2]} dimensions", *self.numbers[first].columns], rows)

    def _hovered(self, trace, points, _) -> None:
        if points.point_inds:
            self.image.value = int(trace.customdata[points.point_inds[0]])

    def _picture(self, _=None) -> None:
        i, level = self.image.value, self.level.value
        said = [says(m, s.predicted[level, i], self.labels[i], s.confidence[level, i], self.names) for m, s in self.seen.items()]
        below = "<br>".join([f"image {i}, a {self.names[self.labels[i]]}", *said])
        self.card.value = picture(png(self.views[level, i]), below, 130)


class NoiseExplorer:
    """Two networks of choice as the images get worse: what they see and say, how often they are right, where the features go.

    runs: method -> Run; seen: method -> perturbation -> Lookup; views: perturbation -> (L,N,C,H,W) in [0,1];
    levels: perturbation -> positions of its slider. classes: the three whose plane is drawn.
    """

    def __init__(self, runs: dict[str, Run], seen: dict[str, dict[str, Lookup]], views, levels, labels, classes, names, start=None):
        self.runs, self.seen, self.views, self.levels = runs, seen, views, levels
        self.labels, self.classes, self.names = np.asarray(labels), tuple(classes), names
        clean = {method: found["gaussian"].features[0].astype(float) for method, found in seen.items()}
        self.means = {m: np.stack([q[self.labels == c].mean(0) for c in range(len(names))]) for m, q in clean.items()}
        self.drawn = {c: np.flatnonzero(self.labels == c)[:PER_CLASS] for c in self.classes}
        self.planes = {m: through(means[list(self.classes)]) for m, means in self.means.items()}
        methods, (one, two) = list(runs), start or list(runs)[:2]
        self.pickers = [ui.Dropdown(options=methods, value=m, description=f"method {p}", **WIDE) for m, p in ((one, "A"), (two, "B"))]
        others = [kind for kind in levels if kind != "gaussian"]
        self.sigma = level_slider("Gaussian noise σ", "gaussian", levels["gaussian"])
        self.kind = ui.Dropdown(options=others, description="other perturbation", **WIDE)
        self.other = self._slider_of(others[0])
        self.page = ui.IntSlider(1, min=1, max=(len(labels) - 1) // 8 + 1, description="images, 8 a page", **WIDE)
        self.shown, self.strip, self.told = ("gaussian", 0), ui.HTML(), ui.HTML()
        self.figure = go.FigureWidget(self._draw())
        self.sigma.observe(lambda change: self._show("gaussian", change.new), "value")
        self.other.observe(lambda change: self._show(self.kind.value, change.new), "value")
        self.kind.observe(self._another_kind, "value")
        self.page.observe(self._say, "value")
        for picker in self.pickers:
            picker.observe(self._another_method, "value")
        self._say()
        left = column(self.sigma, self.kind, self.other, self.page)
        self.box = ui.VBox([ui.HBox([left, ui.VBox([*self.pickers, self.told])]), self.strip, self.figure])

    @property
    def methods(self) -> list[str]:
        return [picker.value for picker in self.pickers]

    def _slider_of(self, kind: str) -> ui.SelectionSlider:
        return level_slider(UNITS[kind], kind, self.levels[kind], self.levels[kind][0])

    def _accuracy(self, method: str, kind: str) -> np.ndarray:
        return 100 * (self.seen[method][kind].predicted == self.labels).mean(1)

    def _scene(self, method: str, kind: str, level: int):
        rows, head = np.concatenate(list(self.drawn.values())), self.runs[method].model.head
        clean, noisy = (self.seen[method][k].features[at][rows].astype(float) for k, at in (("gaussian", 0), (kind, level)))
        weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
        return scene(clean, self.labels[rows], weight, bias, self.classes, noisy, self.means[method][list(self.classes)])

    def _draw(self) -> go.Figure:
        """The curve of each method with a mark at the level shown, then the plane of each."""
        figure = make_subplots(1, 3, subplot_titles=["accuracy (%) by level, this seed", *self.methods], horizontal_spacing=0.05)
        traces = [go.Scatter(mode=mode, showlegend=False) for mode in ("lines", "markers") for _ in self.methods]
        figure.add_traces(traces, rows=1, cols=1)
        self.scenes = [self._scene(method, *self.shown) for method in self.methods]
        reach = 1.05 * max(s.reach for s in self.scenes)
        for panel, (method, seen) in enumerate(zip(self.methods, self.scenes, strict=True), 2):
            config = self.runs[method].config
            names = [self.names[c] for c in self.classes]
            planes = figures_features.plane_traces(seen, config.delta_v, config.delta_d, names, reach, legend=panel == 2)
            figures_features.add_plane(figure, 1, panel, planes, reach)
        for trace, curve in zip(figure.data, self._curves(), strict=False):
            trace.update(curve)
        figure.update_yaxes(range=[0, 102], row=1, col=1)
        legend = dict(orientation="h", y=-0.12, x=0.5, xanchor="center", yanchor="top")
        return figure.update_layout(
            template=TEMPLATE, width=1040, height=450, margin=dict(l=45, r=10, t=40, b=110), legend=legend, uirevision=str(self.methods)
        )

    def _curves(self) -> list[dict]:
        kind, level = self.shown
        curves, marks = [], []
        for method in self.methods:
            colour, marker, dash = STYLE[method]
            accuracy = self._accuracy(method, kind)
            curves.append(dict(x=self.levels[kind], y=accuracy, line=dict(color=colour, dash=dash, width=2.5), name=method))
            marks.append(dict(x=[self.levels[kind][level]], y=[accuracy[level]], marker=dict(color=colour, symbol=marker, size=14)))
        return curves + marks

    def _show(self, kind: str, level: int) -> None:
        self.shown = kind, level
        shapes = {n: np.stack([curve["x"], curve["y"]], axis=1) for n, curve in enumerate(self._curves())}
        for panel, method in enumerate(self.methods):
            now = self.seen[method][kind].features[level].astype(float)
            first = 4 + 11 * panel + 3  # after the curves and marks, the planes before it, and the boundaries of its own
            shapes |= {first + 2 * k: self.planes[method].project(now[self.drawn[c]]) for k, c in enumerate(self.classes)}
        redraw(self.figure, shapes)
        self._say()

    def _another_kind(self, change) -> None:
        fresh = self._slider_of(change.new)
        self.other.options, self.other.description, self.other.tooltip = fresh.options, fresh.description, fresh.tooltip
        self._show(change.new, self.other.value)

    def _another_method(self, _=None) -> None:
        fresh = self._draw()
        with self.figure.batch_update():
            for old, new in zip(self.figure.data, fresh.data, strict=True):
                old.update(new)
            self.figure.update_layout(fresh.layout)
        self._say()

    def _say(self, _=None) -> None:
        kind, level = self.shown
        rows, images = [], range(8 * self.page.value - 8, min(8 * self.page.value, len(self.labels)))
        for method in self.methods:
            seen = self.seen[method][kind]
            away = np.linalg.norm(seen.features[level] - self.means[method][self.labels], axis=1).mean()
            rows.append(
                [method, f"{self._accuracy(method, kind)[level]:.1f} %", f"{100 * seen.confidence[level].mean():.1f} %", f"{away:.2f}"]
            )
        amount = self.levels[kind][level]
        shown = f"{kind}, {level_name(amount) if kind == 'gaussian' else f'{amount:.3g}'}"
        self.told.value = table([shown, "accuracy", "mean confidence", "distance to own clean centroid"], rows)
        said = lambda method, i: says(  # noqa: E731
            method, self.seen[method][kind].predicted[level, i], self.labels[i], self.seen[method][kind].confidence[level, i], self.names
        )
        strip = [
            picture(png(self.views[kind][level, i]), "<br>".join([f"a {self.names[self.labels[i]]}", *(said(m, i) for m in self.methods)]))
            for i in images
        ]
        self.strip.value = f"<div style='display:flex;flex-wrap:wrap'>{''.join(strip)}</div>"
