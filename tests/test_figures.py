"""Figures show the numbers that they are given."""

import numpy as np
import pytest
from PIL import Image

from penultimate import figures, records
from penultimate.show import figures_features

ROWS = records.headline(None, "digits", "digits")


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_curves_and_bands_are_the_summary():
    figure, expected = figures.accuracy_curves(ROWS), records.summary(ROWS).query("method == 'proposed'")
    assert np.allclose(named(figure, "proposed").y, 100 * expected["mean"])
    band = [trace for trace in figure.data if trace.legendgroup == "proposed" and trace.fill == "toself"][0]
    assert np.allclose(band.y, 100 * np.concatenate([expected.high, expected.low[::-1]]))


def test_gains_are_the_paired_differences():
    figure = figures.gains(ROWS, [0.3])
    expected = records.differences(ROWS).set_index(["method", "level"])
    for trace in figure.data:
        row = expected.loc[(trace.name, 0.3)]
        assert (trace.x[0], trace.error_x.array[0], trace.error_x.arrayminus[0]) == pytest.approx(
            (100 * row["mean"], 100 * (row.high - row["mean"]), 100 * (row["mean"] - row.low))
        )


def test_methods_differ_in_colour_and_in_marker():
    colours, markers, _ = zip(*figures.STYLE.values(), strict=True)
    assert len(set(colours)) == len(set(markers)) == len(figures.STYLE)


def test_an_animation_holds_every_frame_and_the_last_one_longest(tmp_path):
    pages = [figures.blank(str(i), width=120, height=90) for i in range(3)]
    if not figures.animate(pages, tmp_path / "x.gif", milliseconds=200):
        pytest.skip("needs Chrome or Chromium")
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 3 and gif.size == (120, 90)
        times = [gif.seek(i) or gif.info["duration"] for i in range(3)]
    assert times == [200, 200, 3000]


@pytest.mark.parametrize("classes, shown", [(2, 3), (20, 21), (100, 1)])
def test_a_legend_names_two_classes_and_not_a_hundred(classes, shown):
    """The rings of misread images are named whatever the number."""
    labels = np.arange(classes).repeat(2)
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    maps, wrong = {"a": points, "b": points}, {name: labels == 0 for name in "ab"}
    figure = figures_features.umap_panels(maps, labels, wrong, [f"class {c}" for c in range(classes)], "UMAP")
    assert sum(trace.showlegend for trace in figure.data) == shown
    assert figure.layout.legend.title.text == ("100 classes" if classes == 100 else "class")
