"""The claims of the paper, of its summary and of this study, each with the rule that judges it, fixed before the results it judges.

A claim rests on evidence: differences that it says lie above a bound, each with its 95 % interval. By `verdict` each evidence holds, does
not hold, or is undecided. The claim *holds* where all of its evidence holds, *holds partly* where some does, *does not hold here* where
none does and some clearly does not, is *undecided* where no interval decides, and *not tested* where there is no record.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import pandas as pd

from . import InputError, experiments, explanation, records
from .evaluate import seed_interval
from .records import CLEAN_TOLERANCE, verdict

DATA = {"digits": "digits", "cifar10": "small"}  # data set -> the preset whose records are asked
NAMES = {"clean": "clean", "noisy": "training noise"}
TRAINED, STRONGEST = "the training noise", "the strongest noise"


class Evidence(NamedTuple):
    """A number that the claim says lies above `bound`, with its 95 % interval over n seeds; what it is, in words, and its unit."""

    what: str
    mean: float
    low: float
    high: float
    n: int
    unit: str = "points"  # of accuracy; or decades, none (a rank correlation ρ), or % of the rival's value
    bound: float = 0.0


class Claim(NamedTuple):
    text: str
    by: str  # paper, summary or study
    notebook: str
    evidence: Callable[[], Iterator[Evidence]]


def judge(evidence: list[Evidence]) -> str:
    """The verdict on a claim.

    >>> up, down, unclear = Evidence("", 1, 0.5, 2, 5), Evidence("", -1, -2, -0.5, 5), Evidence("", 0, -1, 1, 5)
    >>> judge([up, up]), judge([up, unclear]), judge([down, unclear]), judge([unclear]), judge([])
    ('holds', 'holds partly', 'does not hold here', 'undecided', 'not tested')
    """
    found = {verdict(one.low, one.high, one.bound) for one in evidence}
    if not found:
        return "not tested"
    if found == {"holds"}:
        return "holds"
    return "holds partly" if "holds" in found else "does not hold here" if "does not hold" in found else "undecided"


@cache
def _headline(dataset: str) -> pd.DataFrame:
    return records.headline(None, dataset, DATA[dataset])


def beats(method: str, rival: str, level: str | float = TRAINED, bound: float = 0.0) -> Iterator[Evidence]:
    """Accuracy of one method minus another's, paired by seed, on every data set that has both."""
    for dataset in DATA:
        rows = _headline(dataset)
        if {method, rival} <= set(rows.method):
            noise = {TRAINED: records.trained_at(rows), STRONGEST: rows.level.max()}.get(level, level)
            mean, low, high, n = records.against(rows, noise, method).loc[rival]
            yield Evidence(f"{dataset}, {records.level_name(noise)}: {method} − {rival}", mean, low, high, int(n), bound=bound)


def shape(quantity: str, method: str = "proposed", rival: str = "normal", sign: int = 1) -> Iterator[Evidence]:
    """How much larger (sign 1) or smaller (-1) a quantity of the feature geometry is than the rival's, as a share of the rival's."""
    for dataset, preset in DATA.items():
        values = records.geometry(records.read(None, dataset, preset)).pivot(index="seed", columns="method", values=quantity)
        if {method, rival} <= set(values):
            relative = sign * (values[method] / values[rival] - 1).dropna()
            side = "above" if sign > 0 else "below"
            yield Evidence(f"{dataset}: {quantity} of {method}, {side} that of {rival}", *seed_interval(relative), len(relative), unit="%")


def arm(experiment: str, own: str, rival: str, column: str = "noisy", bound: float = 0.0) -> Iterator[Evidence]:
    """One arm of an experiment minus another, paired by seed, on every data set whose records hold both."""
    for dataset, preset in DATA.items():
        for name in (experiment, "decisive"):
            rows = _experiment(name, dataset, preset)
            if rows is not None and {own, rival} <= set(rows.arm):
                yield Evidence(
                    f"{dataset}, {NAMES[column]}: {own} − {rival}", *experiments.difference(rows, own, rival, column), bound=bound
                )  # fmt: skip
                break


@cache
def _experiment(name: str, dataset: str, preset: str) -> pd.DataFrame | None:
    try:
        return experiments.table(experiments.read(name, dataset, preset))
    except InputError:
        return None


def crossing() -> Iterator[Evidence]:
    """delta_d > 2 delta_v against the cells that cross that line: of each side the cell with the best mean noisy accuracy on the
    validation split is compared on the test split, paired by seed."""
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
    """How much more `proposed` gains over `normal` where all share a low learning rate than where each has its own."""
    rows = _experiment("switches", "digits", "digits")
    if rows is None:
        return
    noisy = rows.pivot(index="seed", columns="arm", values="noisy")
    apart = (noisy["proposed, low rate"] - noisy["normal, low rate"]) - (noisy["proposed"] - noisy["normal"])
    yield Evidence("digits, training noise: gain over normal at lr 0.002 − gain at the chosen rates", *seed_interval(apart), len(apart))


def selection() -> Iterator[Evidence]:
    """Clean test accuracy of the epoch that is best on test, minus that of the last epoch."""
    rows = _experiment("switches", "digits", "digits")
    for method in ("normal", "both", "proposed") if rows is not None else ():
        own = rows[rows.arm == f"{method}, best on test"]
        yield Evidence(f"digits, clean: {method}, best epoch on test − last epoch", *seed_interval(own.best_clean - own.clean), len(own))


@cache
def _explained() -> pd.DataFrame:
    try:
        return explanation.claims()
    except InputError:
        return pd.DataFrame(columns=["claim", "measure", "against"])


def explained(
    claim: str, measures: tuple[str, ...] | None, against: tuple[str, ...], unit: str = "decades", sign: int = 1
) -> Iterator[Evidence]:
    """What `explanation.claims` says of some measures (None: all) and rivals or methods; sign -1 where a number should lie below zero."""
    rows = _explained()
    for one in rows[(rows.claim == claim) & rows.measure.isin(measures or rows.measure) & rows.against.isin(against)].itertuples():
        low, high = sorted((sign * one.low, sign * one.high))
        named = f"{one.dataset}: {'−' * (sign < 0)}{one.measure}, {one.against}".replace("rho", "ρ")
        yield Evidence(named, sign * one.mean, low, high, int(one.n), unit=unit)


def chain(*makers: Callable[[], Iterator[Evidence]]) -> Callable[[], Iterator[Evidence]]:
    """The evidence of several makers, one after the other."""
    return lambda: (one for make in makers for one in make())


def untested() -> Iterator[Evidence]:
    """No record yet."""
    return iter(())


P, A, C = partial, "05_ablation", "07_curvature"
RIVALS = ("both", "stability")
flat = partial(explained, "proposed is flatter")
CLAIMS = [
    Claim("More robust to the noise it is trained with than normal training", "paper", "04_noise_sweep", P(beats, "proposed", "normal")),
    Claim(
        "At no cost in clean accuracy (less than half a point)", "paper", "04_noise_sweep",
        P(beats, "proposed", "normal", 0.0, -CLEAN_TOLERANCE),
    ),
    Claim("More robust than cross-entropy on clean and noisy images (both)", "paper", "04_noise_sweep", P(beats, "proposed", "both")),
    Claim("More robust than cross-entropy on noisy images (noisy)", "paper", "04_noise_sweep", P(beats, "proposed", "noisy")),
    Claim("More robust than point-wise stability training", "paper", "04_noise_sweep", P(beats, "proposed", "stability")),
    Claim("Keeps more clean accuracy than point-wise stability", "paper", "04_noise_sweep", P(beats, "proposed", "stability", 0.0)),
    Claim("Classes become compact: a smaller radius", "paper", "03_penultimate_layer", P(shape, "radius", sign=-1)),
    Claim("Centroids move away from the boundaries: a wider margin", "paper", "03_penultimate_layer", P(shape, "margin")),
    Claim("The margin grows relative to the radius", "paper", "03_penultimate_layer", P(shape, "ratio")),
    Claim("The loss is flatter in input space than normal training's (eq. 21, as measured)", "paper", C, P(flat, ("eq. 21",), ("normal",))),
    Claim("It is flatter than that of `both` and `stability` too", "study", C, P(flat, ("eq. 21",), RIVALS)),
    Claim(
        "It is flatter at equal confidence, by eq. 21 and by the Hessian", "study", C,
        P(flat, ("eq. 21, matched confidence", "‖H‖², matched confidence"), ("normal", *RIVALS)),
    ),
    Claim(
        "Theorem 6.1: curvature lies below its bound, at small noise and at the noise trained with", "paper", C,
        P(explained, "theorem 6.1", None, ("normal", "proposed")),
    ),
    Claim(
        "Images with lower curvature are more robust", "paper", C,
        P(explained, "curvature predicts robustness", ("rho, eq. 21",), ("normal", "proposed"), "", -1),
    ),
    Claim(
        "Curvature says something of robustness that the logit margin does not", "study", C,
        P(explained, "curvature predicts robustness", ("given margin, eq. 21",), ("normal", "proposed"), "", -1),
    ),
    Claim("CIFAR-10 at full size: 91.15 % against 90.06 % at 8/255", "paper", "", untested),
    Claim("Carries over to occlusion and low resolution", "paper", "", untested),
    Claim(
        "On clean images alone the loss already protects against noise", "summary", A,
        chain(P(beats, "discriminative", "normal"), P(arm, "ablation", "compactness", "neither")),
    ),
    Claim(
        "Compactness and margin are needed together", "summary", A,
        chain(P(arm, "ablation", "proposed", "compactness + alignment"), P(arm, "ablation", "proposed", "margin + alignment")),
    ),
    Claim(
        "Without alignment too, both terms do better than one", "summary", A,
        chain(P(arm, "ablation", "compactness + margin", "compactness"), P(arm, "ablation", "compactness + margin", "margin")),
    ),
    Claim("δ_d > 2 δ_v is necessary", "summary", A, crossing),
    Claim(
        "Partial momentum is worth its complexity", "summary", A,
        chain(P(arm, "centroids", "partial, μ = 0.99", "naive"), P(arm, "centroids", "partial, μ = 0.99", "momentum, μ = 0.99")),
    ),
    Claim(  # at 32, the value that was meant, no run survives its first epoch
        "λ too high costs clean accuracy", "summary", A, P(arm, "fronts", "proposed, λ = 0.5", "proposed, λ = 8", "clean"),
    ),
    Claim("δ_v too large costs robustness", "summary", A, P(arm, "deltas", "0.5, 5", "8, 5")),
    Claim("Lower curvature certifies robustness or resists adversaries", "summary", "", untested),
    Claim(
        "The alignment of noisy features does the work", "study", A,
        chain(P(arm, "ablation", "proposed", "compactness + margin"), P(arm, "ablation", "alignment", "neither")),
    ),
    Claim("`both` beats `proposed` at the strongest noise", "study", "04_noise_sweep", P(beats, "both", "proposed", STRONGEST)),
    Claim("Cross-entropy on noisy logits is what `proposed` lacks", "study", A, P(arm, "ablation", "proposed + noisy CE", "proposed")),
    Claim("With it, the loss adds robustness to `both`", "study", A, P(arm, "ablation", "proposed + noisy CE", "both")),
    Claim(
        "One joint BatchNorm pass is more robust than two passes", "study", A,
        chain(
            P(arm, "switches", "proposed", "proposed, bn separate"), P(arm, "switches", "proposed", "proposed, bn clean"),
            P(arm, "switches", "both", "both, bn separate"), P(arm, "switches", "stability", "stability, bn separate"),
        ),
    ),
    Claim("The gain survives normal training at matched compute", "study", A, P(arm, "switches", "proposed", "normal, twice the epochs")),
    Claim("A shared, low learning rate flatters the method", "study", A, low_rate),
    Claim("Choosing the epoch on the test set flatters a method", "study", A, selection),
    Claim(
        "Independent crops of the two views cost robustness", "study", A,
        chain(
            P(arm, "switches", "proposed, shared crops", "proposed, independent crops"),
            P(arm, "switches", "stability, shared crops", "stability, independent crops"),
        ),
    ),
]  # fmt: skip


def number(one: Evidence) -> str:
    """An evidence's number with its interval.

    >>> number(Evidence("", 0.074, 0.062, 0.087, 5)), number(Evidence("", 1.54, 1.19, 1.88, 5, unit="decades"))
    ('+7.4 [+6.2, +8.7] points', '+1.54 [+1.19, +1.88] decades')
    """
    if one.unit in ("decades", ""):
        return f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}] {one.unit}".rstrip()
    return f"{records.cell(one.mean, one.low, one.high, signed=True)} {one.unit}"


def table() -> pd.DataFrame:
    """Every claim with its verdict, and one line for each evidence: claim, by, verdict, evidence, number, n, holds, notebook."""
    rows = []
    for claim in CLAIMS:
        evidence = list(claim.evidence())
        shared = dict(claim=claim.text, by=claim.by, verdict=judge(evidence), notebook=claim.notebook)
        rows += [
            shared | dict(evidence=one.what, number=number(one), n=one.n, holds=verdict(one.low, one.high, one.bound)) for one in evidence
        ] or [shared | dict(evidence="", number="", n=0, holds="")]
    return pd.DataFrame(rows)


def numbers() -> pd.DataFrame:
    """The evidence in points of accuracy, for a picture: claim, evidence, mean, low, high, holds."""
    rows = [
        (claim.text, one.what, *(100 * value for value in (one.mean, one.low, one.high)), verdict(one.low, one.high, one.bound))
        for claim in CLAIMS
        for one in claim.evidence()
        if one.unit == "points"
    ]
    return pd.DataFrame(rows, columns=["claim", "evidence", "mean", "low", "high", "holds"])


def markdown() -> str:
    """README's table: one row a claim."""
    rows, lines = table(), []
    for (claim, by, found, notebook), own in rows.groupby(["claim", "by", "verdict", "notebook"], sort=False):
        link = f"[{notebook[:2]}](notebooks/{notebook}.ipynb)" if notebook else ""
        cells = "<br>".join(f"{r.evidence}: {r.number}, n = {r.n}" for r in own.itertuples() if r.evidence)
        lines.append({"claim": claim, "by": by, "verdict": found, "evidence (95 % intervals)": cells, "see": link})
    return records.pipes(pd.DataFrame(lines).set_index("claim"))
