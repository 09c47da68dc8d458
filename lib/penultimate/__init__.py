"""Does a compact, wide-margin penultimate layer make a classifier robust to noise?

A reproduction study of arXiv 2405.18499. In this folder lie the method, from data and noise to losses, training, evaluation and curvature,
and what all pages share: jobs, records, figures, widgets. What the method stands on is in support/, what the study makes of runs in study/,
pictures of single pages in show/, the command line in commands/, side-by-side measurements in bench/.

Modules, each knowing only those before it:
vision, files, splits, pictures, own, data, corruptions, noise, model, centroids, losses, methods, memory, devices, machine, graphs,
batches, checkpoints, train, evaluate, geometry, logit_losses, hessians, curvature, theory, layers, configs, integrity, metrics, runs,
planes, checks, wording, comparison, records, progress, engines, jobs, measured, suggest, roads, ranks, curvature_records,
curvature_decades, curvature_rules, curvature_tables, calibration, transfer, transfer_rules, transfer_tables, films, centroid_trace,
lookup, grids, experiments, replication, rates, replicated, attacks, certified, adversary, adversary_links, adversary_rules, published,
published_beyond, switches, replays, adversary_tables, evidence, verdicts, claims, claims_tables, embed, drawing, figures,
figures_curvature, figures_experiments, figures_transfer, figures_adversary, figures_published, figures_pictures, figures_features,
widgets, widgets_networks, bench, reliability, execution, report, options, cli and its commands in cli_*.
"""

import math
import numbers


class InputError(ValueError):
    """Something the caller gave cannot be used; the message names the thing, the value and the mend, in one line."""


def one_of(what: str, value, known) -> None:
    """Raise InputError unless value is among the known ones.

    >>> one_of("noise", "gauss", ["gaussian", "uniform"])
    Traceback (most recent call last):
    penultimate.InputError: unknown noise 'gauss': choose one of gaussian, uniform
    """
    if value not in list(known):  # a list: what cannot be hashed is unknown too
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(map(str, known))}")


def positive(what: str, value: float) -> None:
    """Raise InputError unless value is a finite number above 0.

    >>> positive("sigma", -0.1)
    Traceback (most recent call last):
    penultimate.InputError: sigma = -0.1 must be a finite number above 0
    """
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{what} = {value} must be a finite number above 0")


def at_least_one(what: str, value: int) -> None:
    """Raise InputError unless value is a whole number of at least 1.

    >>> at_least_one("draws", 0)
    Traceback (most recent call last):
    penultimate.InputError: draws = 0: a whole number of at least 1 is needed
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{what} = {value}: a whole number of at least 1 is needed")
