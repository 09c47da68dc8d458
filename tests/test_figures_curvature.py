"""The curvature page's figures show the numbers that they are given."""

import numpy as np
import pandas as pd

from penultimate import figures_curvature as draw
from penultimate.figures import STYLE


def test_lines_are_the_tables_columns():
    panels = {"one": pd.DataFrame({"a": [1.0, 2], "b": [3, 4]}, index=[0.1, 1.0]), "two": pd.DataFrame({"a": [5.0, 6]}, index=[0.1, 1.0])}
    figure = draw.log_lines(panels, "t", "x", "y", mark=(0.1, "here"))
    assert [(t.name, list(t.x), list(t.y)) for t in figure.data] == [
        ("a", [0.1, 1], [1, 2]), ("b", [0.1, 1], [3, 4]), ("a", [0.1, 1], [5, 6])
    ]  # fmt: skip
    assert [t.showlegend for t in figure.data] == [True, True, False] and figure.layout.yaxis.type == "log"
    assert [note.x for note in figure.layout.annotations if note.text == "here"] == [-1, -1]  # a logarithmic axis counts in decades


def test_a_forest_shows_means_and_intervals_in_the_methods_colours():
    table = pd.DataFrame([dict(panel=p, row=m, mean=1.0, low=0.5, high=3.0) for p in "abcd" for m in ("normal", "both")])
    figure = draw.forest(table, "t", "decades")
    assert len(figure.data) == 8
    for trace in figure.data:
        assert (list(trace.x), trace.error_x.array[0], trace.error_x.arrayminus[0]) == ([1.0], 2.0, 0.5)
        assert (trace.marker.color, trace.marker.symbol) == STYLE[trace.y[0]][:2]


def test_runs_and_bins_are_drawn_where_they_lie():
    table = pd.DataFrame([dict(panel="raw", method="both", curvature=c, accuracy=0.5) for c in (1e-3, 1e2)])
    (trace,) = draw.against_accuracy(table, "t", "x", "y").data
    assert list(trace.x) == [1e-3, 1e2] and list(trace.y) == [50, 50]
    (trace,) = draw.bins({"digits": {"normal": (np.array([1, 10]), np.array([5.0, 1]))}}, "t").data
    assert list(trace.x) == [1, 10] and list(trace.y) == [5, 1] and trace.marker.symbol == STYLE["normal"][1]
