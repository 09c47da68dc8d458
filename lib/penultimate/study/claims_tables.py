"""Tables of the claims: all evidence with its numbers, what of it decides, and the short table of RESULTS."""

import pandas as pd

from .. import records
from ..comparison import verdict
from .claims import CLAIMS
from .evidence import Evidence
from .verdicts import by_outcomes, judge


def number(one: Evidence) -> str:
    """An evidence's number with its interval.

    >>> number(Evidence("", 0.074, 0.062, 0.087, 5)), number(Evidence("", 1.54, 1.19, 1.88, 5, unit="decades"))
    ('+7.4 [+6.2, +8.7] points', '+1.54 [+1.19, +1.88] decades')
    """
    if one.unit in ("decades", ""):
        return f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}] {one.unit}".rstrip()
    return f"{records.cell(one.mean, one.low, one.high, signed=True)} {one.unit}"


def p_value(one: Evidence) -> float:
    """Two-sided p of the t test that an evidence's interval over seeds stands for, its mean against its bound; nan for one seed, and where
    nothing varies.

    >>> round(float(p_value(Evidence("1, 2 and 3 against 0", 2.0, -0.484, 4.484, 3))), 3)
    0.074
    """
    from scipy import stats

    t = stats.t(one.n - 1)
    error = (one.high - one.low) / 2 / t.ppf(0.975)
    return 2 * t.sf(abs(one.mean - one.bound) / error) if error > 0 else float("nan")


def table() -> pd.DataFrame:
    """Every claim with its verdict, and one line for each evidence: claim, by, verdict, evidence, number, n, holds, p, notebook."""
    rows = []
    for claim in CLAIMS:
        evidence = list(claim.evidence())
        shared = dict(claim=claim.text, by=claim.by, verdict=judge(evidence), notebook=claim.notebook)
        rows += [
            shared
            | dict(evidence=one.what, number=number(one), n=one.n, holds=verdict(one.low, one.high, one.bound), p=p_value(one))
            | dict(notebook=one.notebook or claim.notebook)
            for one in evidence
        ] or [shared | dict(evidence="", number="", n=0, holds="", p=float("nan"))]
    return pd.DataFrame(rows)


def corrected(rows: pd.DataFrame) -> str:
    """What holding the false discovery rate to 5 % (Benjamini and Hochberg, by SciPy) would change in `table`: how many intervals decide,
    how many still do, and which verdicts become others. (It takes the tests to be independent, or to depend on each other positively.)

    >>> lines = dict(claim=["A", "A", "B"], verdict=["mixed", "mixed", "undecided"], holds=["holds", "does not hold", "undecided"])
    >>> print(corrected(pd.DataFrame(lines | {"p": [0.001, 0.04, 0.9]})))  # doctest: +NORMALIZE_WHITESPACE
    2 of 3 intervals decide; 1 where at most one decision in twenty is expected to be false (Benjamini and Hochberg). Other verdicts then:
    A (mixed, then holds partly)
    """
    from scipy import stats

    told = rows[rows.p.notna()]
    q = pd.Series(stats.false_discovery_control(told.p), told.index)
    found = rows.holds.mask(q.reindex(rows.index) >= 0.05, "undecided")
    then = {claim: by_outcomes(set(own)) for claim, own in found[found != ""].groupby(rows.claim, sort=False)}
    before = rows.drop_duplicates("claim").set_index("claim").verdict
    changed = [f"{claim} ({before[claim]}, then {verdict})" for claim, verdict in then.items() if verdict != before[claim]]
    return (
        f"{(told.p < 0.05).sum()} of {len(told)} intervals decide; {(q < 0.05).sum()} where at most one decision in twenty is expected to "
        f"be false (Benjamini and Hochberg). Other verdicts then: {'; '.join(changed) or 'none'}"
    )


def numbers() -> pd.DataFrame:
    """The evidence in points of accuracy, for a picture: claim, evidence, mean, low, high, bound, holds."""
    rows = [
        (claim.text, one.what, *(100 * value for value in (one.mean, one.low, one.high, one.bound)), verdict(one.low, one.high, one.bound))
        for claim in CLAIMS
        for one in claim.evidence()
        if one.unit == "points"
    ]
    return pd.DataFrame(rows, columns=["claim", "evidence", "mean", "low", "high", "bound", "holds"])


def markdown() -> str:
    """The table in RESULTS: one row a claim, the paper's first, with how much of its evidence holds, does not hold or is undecided, and the
    first of each; all of it stands in notebook 09."""
    rows, lines = table(), []
    ordered = rows.sort_values("by", key=lambda by: by.map(["paper", "summary", "study"].index), kind="stable")
    for (claim, by, found), own in ordered.groupby(["claim", "by", "verdict"], sort=False):
        told = [_told(holds, one, len(own)) for holds, one in own[own.n > 0].groupby("holds", sort=False)]
        links = ", ".join(f"[{page[:2]}](notebooks/{page}.ipynb)" for page in own.notebook.unique())
        lines.append({"claim": claim, "by": by, "verdict": found, "evidence (95 % intervals)": "<br>".join(told), "see": links})
    return f"{records.pipes(pd.DataFrame(lines).set_index('claim'))}\n\n*{corrected(rows)}.*"


def _told(holds: str, alike: pd.DataFrame, of: int) -> str:
    """Evidence with one outcome, by its first: 'undecided, 2 of 3: ...'."""
    first = alike.iloc[0]
    return f"{holds}, {len(alike)} of {of}: {first.evidence}: {first.number}, n = {first.n}"
