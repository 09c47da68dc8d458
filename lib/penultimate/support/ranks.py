"""Rank correlations over images, whole and at a fixed third quantity, intervals from resampled images, and quantiles."""

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 1000


def bootstrap(statistic, sample: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of statistic(sample, axis=-1) over resampled images; sample (..., N), the same images in
    every row.

    >>> low, high = bootstrap(np.mean, np.arange(100.0))
    >>> low < 49.5 < high, round(high - low)
    (True, 11)
    """
    low, high = np.quantile(statistic(resampled(sample), axis=-1), (0.025, 0.975))
    return float(low), float(high)


def resampled(columns: np.ndarray) -> np.ndarray:
    """RESAMPLES draws of N images with replacement, the same images in every column; (..., N) -> (..., RESAMPLES, N).

    >>> one, other = resampled(np.array([[1, 2, 3], [10, 20, 30]]))
    >>> one.shape, bool((other == 10 * one).all())
    ((1000, 3), True)
    """
    return columns[..., _draws(columns.shape[-1])]


def _draws(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, n, (RESAMPLES, n))


def correlations(columns: np.ndarray) -> np.ndarray:
    """Spearman's rank correlations of k quantities of N images with each other; (k, ..., N) -> (..., k, k).

    >>> correlations(np.array([[1.0, 5.0, 7.0], [-2.0, -3.0, -9.0]]))[0, 1].round(6)
    np.float64(-1.0)
    """
    ranks = stats.rankdata(columns, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    ranks /= np.linalg.norm(ranks, axis=-1, keepdims=True)
    return np.einsum("i...n,j...n->...ij", ranks, ranks)


def resampled_correlations(columns: np.ndarray) -> np.ndarray:
    """`correlations(resampled(columns))` without sorting every draw; (k, N) -> (RESAMPLES, k, k).

    A value that n images of a draw have, m of them with no greater one, has the rank m - (n - 1) / 2 there.

    >>> columns = np.random.default_rng(0).normal(size=(2, 50))
    >>> np.allclose(resampled_correlations(columns), correlations(resampled(columns)))
    True
    """
    k, n = columns.shape
    times = np.stack([np.bincount(draw, minlength=n) for draw in _draws(n)])  # how often a draw holds each image
    ranks = np.empty((k, *times.shape))
    for rank, column in zip(ranks, columns, strict=True):
        order = np.argsort(column)
        _, first, which = np.unique(column[order], return_index=True, return_inverse=True)
        alike = np.add.reduceat(times[:, order], first, axis=1)
        rank[:, order] = (alike.cumsum(1) - (alike - 1) / 2)[:, which]
    ranks = (ranks - (n + 1) / 2) * np.sqrt(times)  # n ranks have the mean (n + 1) / 2
    ranks /= np.linalg.norm(ranks, axis=-1, keepdims=True)
    return np.einsum("irn,jrn->rij", ranks, ranks, optimize=True)


def partial(r: np.ndarray, a: int, b: int, given: int) -> np.ndarray:
    """The correlation of a and b at a fixed rank of a third: (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2) (1 - r_bc^2)); (..., k, k) -> (...).

    >>> c = np.arange(100.0)
    >>> wave = np.resize([1.0, -1.0], 100)
    >>> partial(correlations(np.stack([c + 5 * wave, c - 5 * wave, c])), 0, 1, given=2).round(2)
    np.float64(-0.98)
    """
    ab, ac, bc = r[..., a, b], r[..., a, given], r[..., b, given]
    return (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))


def ten_bins(curvature: np.ndarray, correct: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The authors' measure: Pearson's r between 1..10 and the mean curvature of the images with that many correct views.

    -> r, the bins that hold images, their mean curvature, their numbers of images. Images that are never correct are left out, as
    theirs are.

    >>> r, bins, means, counts = ten_bins(np.array([9.0, 3.0, 2.0, 1.0]), np.array([0, 1, 5, 10]))
    >>> round(r, 2), bins.tolist(), means.tolist(), counts.tolist()
    (-1.0, [1, 5, 10], [3.0, 2.0, 1.0], [1, 1, 1])
    """
    bins, counts = np.unique(correct[correct > 0].astype(int), return_counts=True)
    means = np.array([curvature[correct == n].mean() for n in bins])
    return (float(stats.pearsonr(bins, means).statistic) if len(bins) > 2 else float("nan")), bins, means, counts


def spread(samples: dict, shares: tuple[float, float, float] = (0.25, 0.5, 0.75)) -> pd.DataFrame:
    """Quantiles of the samples at each x: columns low, mid, high (quartiles, if nothing else is asked for), x in the index.

    >>> spread({0.1: np.arange(5.0)}).to_numpy().tolist()
    [[1.0, 2.0, 3.0]]
    """
    found = {x: np.quantile(np.asarray(values, dtype=float), shares) for x, values in samples.items()}
    return pd.DataFrame.from_dict(found, orient="index", columns=["low", "mid", "high"])
