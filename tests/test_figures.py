"""Figures show the numbers that they are given."""

import numpy as np
import pytest

from penultimate import figures, planes, records

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
        row = expected.loc[(trace.y[0], 0.3)]
        assert (trace.x[0], trace.error_x.array[0], trace.error_x.arrayminus[0]) == pytest.approx(
            (100 * row["mean"], 100 * (row.high - row["mean"]), 100 * (row["mean"] - row.low))
        )


def test_plane_draws_each_boundary_where_it_decides_and_its_band_delta_d_wide():
    weight, bias, delta_d = np.array([[1.0, 0.3], [-1.0, 0.5], [0.0, -1.0]]), np.array([0.0, 0.0, 0.4]), 0.7
    features = np.array([[3.0, 1.0], [-2.5, 2.0], [0.0, -3.0]])
    figure = planes.plane(features, np.arange(3), weight, bias, features, 0.5, delta_d, "")
    lines = [trace for trace in figure.data if trace.name == "decision boundary"]
    bands = [trace for trace in figure.data if trace.legendgroup == "band"]
    for line, band, (c, j) in zip(lines, bands, [(1, 0), (2, 0), (2, 1)], strict=True):
        points = np.stack([line.x, line.y], 1)
        logits = points[~np.isnan(points[:, 0])] @ weight.T + bias
        assert np.allclose(logits[:, c], logits[:, j]) and (logits[:, c] >= logits.max(1) - 0.02).all()
        edge = np.stack([band.x, band.y], 1) @ (weight[c] - weight[j]) + bias[c] - bias[j]
        assert np.allclose(np.abs(edge) / np.linalg.norm(weight[c] - weight[j]), delta_d)


def test_methods_differ_in_colour_and_in_marker():
    colours, markers, _ = zip(*figures.STYLE.values(), strict=True)
    assert len(set(colours)) == len(set(markers)) == len(figures.STYLE)
