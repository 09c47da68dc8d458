"""Does a compact, wide-margin penultimate layer make a classifier robust to noise?

A reproduction study of arXiv 2405.18499. Modules, each knowing only those before it:
vision, splits, pictures, own, data, noise, model, centroids, losses, methods, train, evaluate, geometry, curvature, theory,
layers, configs, runs, records, jobs, suggest, roads, flatness, explanation, planes, films, lookup, embed, figures,
figures_curvature, figures_pictures, drawings, widgets, explorers, bench, report, cli, cli_curvature.
"""


class InputError(ValueError):
    """Something the caller gave cannot be used; the message names the thing, the value and the mend, in one line."""


def one_of(what: str, value, known) -> None:
    """Raise InputError unless value is among the known ones.

    >>> one_of("noise", "gauss", ["gaussian", "uniform"])
    Traceback (most recent call last):
    penultimate.InputError: unknown noise 'gauss': choose one of gaussian, uniform
    """
    if value not in known:
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(map(str, known))}")
