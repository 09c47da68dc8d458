"""The curvature page's figures show the numbers that they are given."""

import numpy as np
import pandas as pd

from penultimate import figures
from penultimate.figures import STYLE
from penultimate.show import figures_curvature as draw


def lines(mid, index=(0.1, 1.0)):
    return pd.DataFrame({"low": np.divide(mid, 2), "mid": mid, "high": np.multiply(mid, 3)}, index=list(index))


def test_lines_and_bands_are_the_tables_columns():
    panels = {"one": {"a": lines([1.0, 2]), "b": lines([3, 4])}, "two": {"a": lines([5.0, 6])}}
    figure = draw.log_lines(panels, "t", "x", "y", mark=(0.1, "here"))
    drawn, bands = ([t for t in figure.data if (t.fill == "toself") == band] for band in (False, True))
    assert [(t.name, list(t.x), list(t.y)) for t in drawn] == [("a", [0.1, 1], [1, 2]), ("b", [0.1, 1], [3, 4]), ("a", [0.1, 1], [5, 6])]
    assert [(list(t.x), list(t.y)) for t in bands][0] == ([0.1, 1, 1, 0.1], [3, 6, 1, 0.5]) and len(bands) == 3
    assert [t.showlegend for t in drawn] == [True, True, False] and figure.layout.yaxis.type == "log"
    assert [note.x for note in figure.layout.annotations if note.text == "here"] == [-1, -1]  # a logarithmic axis counts in decades


def test_noise_is_labelled_in_grey_levels():
    axis = draw.log_lines({"p": {"a": lines([1, 2], (2 / 255, 0.3))}}, "t", "σ", "y", x="noise").layout.xaxis
    assert (list(axis.tickvals), list(axis.ticktext), axis.type) == ([2 / 255, 0.3], ["2/255", "76.5/255"], "log")


def test_a_forest_shows_means_and_intervals_in_the_methods_colours():
    table = pd.DataFrame([dict(panel=p, row=m, mean=1.0, low=0.5, high=3.0) for p in "abcd" for m in ("normal", "both")])
    figure = figures.forest(table, "t", "decades")
    assert len(figure.data) == 8
    for trace in figure.data:
        assert (list(trace.x), trace.error_x.array[0], trace.error_x.arrayminus[0]) == ([1.0], 2.0, 0.5)
        assert (trace.marker.color, trace.marker.symbol) == STYLE[trace.name][:2]
        assert figure.layout.yaxis.ticktext[int(trace.y[0])] == trace.name
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first row on top


def test_a_forest_shows_every_seed_below_its_estimate():
    table = pd.DataFrame([dict(panel="p", row="both", mean=1.0, low=0.5, high=3.0, by_seed=[(0.7, 0.6, 0.9), (1.3, 1.1, 1.4)])])
    *seeds, estimate = figures.forest(table, "t", "rho").data
    assert [(t.x[0], t.x[0] - t.error_x.arrayminus[0], t.x[0] + t.error_x.array[0]) for t in seeds] == [(0.7, 0.6, 0.9), (1.3, 1.1, 1.4)]
    assert all(estimate.y[0] < t.y[0] < 0.6 for t in seeds)


def test_runs_and_bins_are_drawn_where_they_lie():
    table = pd.DataFrame([dict(panel="raw", method="both", curvature=c, accuracy=0.5) for c in (1e-3, 1e2)])
    (trace,) = draw.against_accuracy(table, "t", "x", "y").data
    assert list(trace.x) == [1e-3, 1e2] and list(trace.y) == [50, 50]
    figure = draw.bins({"digits": {"normal": (np.array([1, 10]), np.array([5.0, 1]), np.array([3, 400]))}}, "t", views=10)
    assert [(list(t.x), list(t.y), t.marker.symbol) for t in figure.data] == [
        ([1, 10], [5, 1], STYLE["normal"][1]), ([1, 10], [3, 400], STYLE["normal"][1])
    ]  # fmt: skip
    assert figure.layout.xaxis2.title.text.endswith("of 10")
