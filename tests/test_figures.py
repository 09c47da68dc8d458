"""Figures show the numbers that they are given."""

import logging
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from choreographer.errors import BrowserClosedError
from PIL import Image

from penultimate import figures, records
from penultimate.show import drawing, figures_features

ROWS = records.headline(None, "digits", "digits")


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_curves_and_bands_are_the_summary():
    figure, expected = figures.accuracy_curves(ROWS), records.summary(ROWS).query("method == 'proposed'")
    assert np.allclose(named(figure, "proposed").y, 100 * expected["mean"])
    band = [trace for trace in figure.data if trace.legendgroup == "proposed" and trace.fill == "toself"][0]
    assert np.allclose(band.y, 100 * np.concatenate([expected.high, expected.low[::-1]]))


def test_curves_of_gains_are_the_paired_differences():
    figure, expected = figures.gain_curves(ROWS, "t", 0.3), records.differences(ROWS).query("method == 'both'")
    assert np.allclose(named(figure, "both").y, 100 * expected["mean"]) and not [one for one in figure.data if one.name == "normal"]
    band = [trace for trace in figure.data if trace.legendgroup == "both" and trace.fill == "toself"][0]
    assert np.allclose(band.y, 100 * np.concatenate([expected.high, expected.low[::-1]])) and figure.layout.yaxis.zeroline


def test_radius_and_margin_stand_among_what_is_asked_and_equal_ratios():
    layer = pd.DataFrame({"method": ["normal", "both"], "radius": [3.0, 2.0], "margin": [6.0, 7.0]})
    figure = figures_features.radius_and_margin(layer, 0.5, 5.0, "t")
    radius, margin = figure.layout.shapes
    assert (radius.x0, radius.x1, margin.y0, margin.y1) == (0.5, 0.5, 5.0, 5.0)
    for trace in (trace for trace in figure.data if trace.text):
        ratio = float(trace.text[1].removeprefix("ratio "))
        assert trace.x[0] == 0 and np.allclose(trace.y, ratio * np.array(trace.x))
        assert trace.x[-1] == figure.layout.xaxis.range[1] or trace.y[-1] == pytest.approx(figure.layout.yaxis.range[1])


def test_rivals_are_set_against_proposed():
    figure = figures.against_each(ROWS, [0.0, 0.3], "t")
    assert [note.text for note in figure.layout.annotations[:2]] == ["clean images", "noise 0.3 (76.5/255)"]
    expected = pd.concat([records.against(ROWS, level) for level in (0.0, 0.3)])
    assert [trace.name for trace in figure.data] == list(expected.index)
    assert np.allclose([trace.x[0] for trace in figure.data], 100 * expected["mean"])
    assert np.allclose([trace.error_x.array[0] for trace in figure.data], 100 * (expected.high - expected["mean"]))


def test_the_bound_on_clean_accuracy_is_drawn_on_clean_images_alone():
    (line,) = figures.gains(ROWS, [0.3, 0.0]).layout.shapes
    assert (line.x0, line.xref) == (-0.5, "x2")


def test_a_picture_that_cannot_be_drawn_is_an_error(tmp_path):
    """Of two, the other is drawn; plotly itself says nothing."""
    if not figures.export([figures.blank("t")], [tmp_path / "first.png"]):
        pytest.skip("needs Chrome or Chromium to draw with")
    odd = figures.blank("odd one").add_scatter(x=[0, 1], y=[0, 1]).add_vline(0.5, layer="between")  # of which this plotly.js makes nothing
    with pytest.raises(RuntimeError, match="odd one"):
        figures.export([figures.blank("t"), odd], [tmp_path / "t.png", tmp_path / "odd.png"])
    assert (tmp_path / "t.png").exists()


def test_a_browser_that_never_answers_is_ended_and_another_draws(tmp_path, monkeypatch):
    browser, started = tmp_path / "chromium", []
    shutil.copy(shutil.which("sleep"), browser)

    def write_images(figures, paths, **_):
        started.append(subprocess.Popen([browser, "60"] if not started else ["true"]))
        if started[-1].wait():  # as Kaleido tells of a browser that went away
            raise BrowserClosedError
        Path(paths[0]).write_bytes(b"drawn")

    monkeypatch.setattr(drawing.pio, "write_images", write_images)
    monkeypatch.setattr(drawing, "PATIENCE", 1)
    assert figures.export([figures.blank("t")], [tmp_path / "t.png"])
    assert [process.returncode for process in started] == [-signal.SIGKILL, 0] and (tmp_path / "t.png").read_bytes() == b"drawn"


def test_what_the_browser_garbles_and_the_picture_survives_is_not_said(monkeypatch, tmp_path, caplog):
    def write_images(figures, paths, **_):
        for said in ("JSONError decoding message. Ignoring", "another"):
            logging.getLogger("choreographer.channels.pipe").error(said)
        Path(paths[0]).write_bytes(b"drawn")

    monkeypatch.setattr(drawing.pio, "write_images", write_images)
    assert figures.export([figures.blank("t")], [tmp_path / "t.png"]) and caplog.messages == ["another"]


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


def test_an_older_picture_does_not_pass_for_a_new_one(tmp_path, monkeypatch):
    """Plotly says nothing of a figure that it cannot draw."""
    (tmp_path / "t.png").write_bytes(b"old")
    monkeypatch.setattr(drawing.pio, "write_images", lambda *given, **named: None)
    with pytest.raises(RuntimeError, match=r"plotly could not draw t.png \(a title\)"):
        figures.export([figures.blank("a title")], [tmp_path / "t.png"])
    assert (tmp_path / "t.png").read_bytes() == b"old"
