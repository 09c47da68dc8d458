"""Evidence for claims, read from the committed records: differences that a claim says lie above a bound, each with its 95 % interval."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import pandas as pd

from .. import records
from ..evaluate import seed_interval
from ..runs import Config
from . import adversary_rules, curvature_rules, experiments, measured, published, switches, transfer_rules
from .measured import PLACES

NAMES = {"clean": "clean", "noisy": "training noise"}
TRAINED, STRONGEST = "the training noise", "the strongest noise"
PUBLISHED, CLAIMS_PAGE = "08_paper_vs_ours", "09_claims"


class Evidence(NamedTuple):
    """A number that the claim says lies above `bound`, with its 95 % interval over n seeds; what it is, in words, and its unit.
    Where the unit is points or %, the numbers are shares: 0.01 is one point, or 1 %."""

    what: str
    mean: float
    low: float
    high: float
    n: int
    unit: str = "points"  # of accuracy; or points of ECE, decades, none (a rank correlation ρ), or % of the rival's value
    bound: float = 0.0
    notebook: str = ""  # that shows it, where that is not the claim's


@cache
def _headline(dataset: str) -> pd.DataFrame:
    return records.headline(None, dataset, PLACES[dataset])


def beats(method: str, rival: str, level: str | float = TRAINED, bound: float = 0.0) -> Iterator[Evidence]:
    """Accuracy of one method minus another's, paired by seed, on every data set that has both.

    >>> one = next(beats("both", "normal"))
    >>> one.what, one.unit, bool(one.low > one.bound)
    ('digits, 0.3 (76.5/255): both − normal', 'points', True)
    """
    for dataset in PLACES:
        rows = _headline(dataset)
        if {method, rival} <= set(rows.method):
            noise = {TRAINED: records.trained_at(rows), STRONGEST: rows.level.max()}.get(level, level)
            mean, low, high, n = records.against(rows, noise, method).loc[rival]
            yield Evidence(f"{dataset}, {records.level_name(noise)}: {method} − {rival}", mean, low, high, int(n), bound=bound)


def shape(quantity: str, sign: int = 1) -> Iterator[Evidence]:
    """How much larger (sign 1) or smaller (-1) a quantity of the feature geometry of `proposed` is, as a share of that of `normal`.

    >>> one = next(shape("radius", sign=-1))
    >>> one.what, one.unit, bool(0 < one.mean < 1)
    ('digits: radius of proposed, below that of normal', '%', True)
    """
    for dataset, preset in PLACES.items():
        values = records.geometry(records.read(None, dataset, preset)).pivot(index="seed", columns="method", values=quantity)
        if {"proposed", "normal"} <= set(values):
            relative = sign * (values["proposed"] / values["normal"] - 1).dropna()
            side = "above" if sign > 0 else "below"
            what, page = f"{dataset}: {quantity} of proposed, {side} that of normal", CLAIMS_PAGE if dataset == "cifar10" else ""
            yield Evidence(what, *seed_interval(relative), len(relative), unit="%", notebook=page)


def arm(experiment: str, own: str, rival: str, column: str = "noisy", bound: float = 0.0) -> Iterator[Evidence]:
    """One arm of an experiment minus another, paired by seed, on every data set whose records hold both.

    >>> one = next(arm("switches", "both", "normal"))
    >>> one.what, bool(one.low > 0), list(arm("switches", "both", "an arm that no record has"))
    ('digits, training noise: both − normal', True, [])
    """
    for dataset, preset in PLACES.items():
        for name in (experiment, "decisive"):
            rows = _experiment(name, dataset, preset)
            if rows is not None and {own, rival} <= set(rows.arm):
                yield Evidence(
                    f"{dataset}, {NAMES[column]}: {own} − {rival}", *experiments.difference(rows, own, rival, column), bound=bound
                )  # fmt: skip
                break


@cache
def _experiment(name: str, dataset: str, preset: str) -> pd.DataFrame | None:
    """None where there is no record; one that cannot be used is an error, and not a claim with less evidence."""
    there = experiments.path(name, dataset, preset).exists()
    return experiments.table(experiments.read(name, dataset, preset)) if there else None


@cache
def _switched(preset: str, level: float) -> pd.DataFrame:
    return switches.measured(preset, level)


def switch(own: str, rival: str, level: str | float = TRAINED, bound: float = 0.0, preset: str = "small") -> Iterator[Evidence]:
    """One arm of a CIFAR-10 preset minus another, paired by seed; of one seed alone there is no interval over seeds. (That `switches.apart`
    looks at the version of the code was added after the results were in.)

    >>> next(switch("both, bn=clean", "both")).what, list(switch("both, bn=clean", "an arm that no record has"))
    ('cifar10, training noise: both, bn=clean − both', [])
    """
    noise = Config(dataset="cifar10", preset=preset).sigma if level == TRAINED else level
    apart = switches.apart(_switched(preset, noise), own, rival)
    if len(apart) > 1:
        named = f"cifar10{', full width' * (preset == 'brief')}, {NAMES['noisy'] if level == TRAINED else records.level_name(level)}"
        yield Evidence(f"{named}: {own} − {rival}", *seed_interval(apart), len(apart), bound=bound, notebook=PUBLISHED)


def crossing() -> Iterator[Evidence]:
    """delta_d > 2 delta_v against the cells that cross that line: of each side the cell with the best mean noisy accuracy on the
    validation split is compared on the test split, paired by seed.

    >>> next(crossing()).what
    'digits, training noise: best (δ_v, δ_d) = (...) − best that crosses, (...)'
    """
    rows = _experiment("deltas", "digits", "digits")
    if rows is None:
        return
    delta_v, delta_d = (rows.arm.str.split(", ").str[i].astype(float) for i in (0, 1))
    keeps, crosses = (rows[side].groupby("arm").validation_noisy.mean().idxmax() for side in (delta_d > 2 * delta_v, delta_d < 2 * delta_v))
    yield Evidence(
        f"digits, training noise: best (δ_v, δ_d) = ({keeps}) − best that crosses, ({crosses})",
        *experiments.difference(rows, keeps, crosses),
    )


def low_rate() -> Iterator[Evidence]:
    """How much more `proposed` gains where all share a low learning rate than where each has its own: over `normal`, and (added after the
    results were in) over `both`.

    >>> [one.what.partition(": ")[2] for one in low_rate()]
    ['gain over normal at lr 0.002 − gain at the chosen rates', 'gain over both at lr 0.002 − gain at the chosen rates']
    """
    rows = _experiment("switches", "digits", "digits")
    if rows is None:
        return
    noisy = rows.pivot(index="seed", columns="arm", values="noisy")
    for rival in ("normal", "both"):
        apart = ((noisy["proposed, low rate"] - noisy[f"{rival}, low rate"]) - (noisy["proposed"] - noisy[rival])).dropna()
        what = f"digits, training noise: gain over {rival} at lr 0.002 − gain at the chosen rates"
        yield Evidence(what, *seed_interval(apart), len(apart))


def own_rates() -> Iterator[Evidence]:
    """`proposed` minus its rivals, each at the learning rate that its validation accuracy chooses: on digits of a grid wider than the
    preset's; on CIFAR-10 of those that were tried there, by the validation accuracy of one of the seeds that are compared.

    >>> [one.what.partition(" − ")[2].partition(",")[0] for one in own_rates() if one.what.startswith("digits")]  # its rivals there
    ['normal', 'noisy', 'both', 'stability']
    """
    rows = _experiment("rates", "digits", "digits")
    best = {} if rows is None else experiments.chosen(rows)
    for rival in ("normal", "noisy", "both", "stability") if best else ():
        what = f"digits, training noise: {best['proposed']} − {best[rival]}"
        yield Evidence(what, *experiments.difference(rows, best["proposed"], best[rival]))
    for one in switches.at_own_rates("small", Config(dataset="cifar10", preset="small").sigma).itertuples():
        if one.n > 1:
            interval = (value / 100 for value in (one.mean, one.low, one.high))
            yield Evidence(f"cifar10, training noise: {one.what}", *interval, one.n, notebook=PUBLISHED)


def selection() -> Iterator[Evidence]:
    """Clean test accuracy of the epoch that is best on test, minus that of the last epoch.

    >>> found = list(selection())
    >>> found[0].what, all(one.mean >= 0 for one in found)  # no epoch is better than the best
    ('digits, clean: normal, best epoch on test − last epoch', True)
    """
    rows = _experiment("switches", "digits", "digits")
    for method in ("normal", "both", "proposed") if rows is not None else ():
        own = rows[rows.arm == f"{method}, best on test"]
        yield Evidence(f"digits, clean: {method}, best epoch on test − last epoch", *seed_interval(own.best_clean - own.clean), len(own))
    for one in switches.selected("small", 0.0).itertuples():  # added before any such run on CIFAR-10 had ended
        if one.n > 1:
            interval = (value / 100 for value in (one.mean, one.low, one.high))
            yield Evidence(f"cifar10, clean: {one.what} epoch", *interval, one.n, notebook=PUBLISHED)


@cache
def _explained() -> pd.DataFrame:
    found = [pd.DataFrame(columns=["claim", "dataset", "measure", "against"])]
    for kind, rules in (("curvature", curvature_rules), ("transfer", transfer_rules), ("adversary", adversary_rules)):
        if measured.present(kind):
            found.append(rules.claims())
    return pd.concat(found)


def explained(
    claim: str, measures: tuple[str, ...] | None, against: tuple[str, ...], unit: str = "decades", sign: int = 1
) -> Iterator[Evidence]:
    """What the `claims` of `curvature_rules`, `transfer_rules` and `adversary_rules` say of some measures (None: all) and rivals or
    methods; sign -1 where a number should lie below zero."""
    rows = _explained()
    for one in rows[(rows.claim == claim) & rows.measure.isin(measures or rows.measure) & rows.against.isin(against)].itertuples():
        low, high = sorted((sign * one.low, sign * one.high))
        named = f"{one.dataset}: {'−' * (sign < 0)}{one.measure}, {one.against}".replace("rho", "ρ")
        yield Evidence(named, sign * one.mean, low, high, int(one.n), unit=unit)


def chain(*makers: Callable[[], Iterator[Evidence]]) -> Callable[[], Iterator[Evidence]]:
    """The evidence of several makers, one after the other.

    >>> makers = [lambda what=what: iter([Evidence(what, 1.0, 0.5, 1.5, 5)]) for what in ("one", "another")]
    >>> [evidence.what for evidence in chain(*makers)()]
    ['one', 'another']
    """
    return lambda: (one for make in makers for one in make())


def full_size() -> Iterator[Evidence]:
    """`proposed` minus `normal` at the published level, for each full-size preset and choice of the epoch with several seeds.

    >>> any("small" in one.what for one in full_size())  # of an eighth of the width
    False
    """
    for one in published.gains(8 / 255).itertuples():
        if one.n > 1 and not one.what.startswith("small"):
            interval = (value / 100 for value in (one.mean, one.low, one.high))
            yield Evidence(f"cifar10, 8/255: {one.what}, proposed − normal", *interval, one.n)
