"""How a claim is judged by its evidence.

A claim rests on evidence: differences that it says lie above a bound, each with its 95 % interval. By `verdict` each evidence holds, does
not hold, or is undecided. The claim *holds* where all of its evidence holds, *holds partly* where some does and the rest is undecided, is
*mixed* where some holds and some clearly does not, *does not hold here* where none does and some clearly does not, is *undecided* where
no interval decides, and *not tested* where there is no record; at full size one seed is none either, elsewhere its interval is over test
images. (*Mixed* was told apart from *holds partly* after the results were in; it makes no verdict kinder.)
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..comparison import verdict
from .evidence import Evidence


class Claim(NamedTuple):
    text: str
    by: str  # paper, summary or study
    notebook: str
    evidence: Callable[[], Iterator[Evidence]]


def judge(evidence: list[Evidence]) -> str:
    """The verdict on a claim.

    >>> up, down, unclear = Evidence("", 1, 0.5, 2, 5), Evidence("", -1, -2, -0.5, 5), Evidence("", 0, -1, 1, 5)
    >>> judge([up, up]), judge([up, unclear]), judge([up, down]), judge([down, unclear]), judge([unclear]), judge([])
    ('holds', 'holds partly', 'mixed', 'does not hold here', 'undecided', 'not tested')
    """
    return by_outcomes({verdict(one.low, one.high, one.bound) for one in evidence})


def by_outcomes(found: set[str]) -> str:
    """The verdict that the different outcomes of a claim's evidence (`comparison.verdict`) make.

    >>> by_outcomes({"holds", "undecided"}), by_outcomes({"holds", "does not hold", "undecided"}), by_outcomes(set())
    ('holds partly', 'mixed', 'not tested')
    """
    if not found:
        return "not tested"
    if found == {"holds"}:
        return "holds"
    if "does not hold" in found:
        return "mixed" if "holds" in found else "does not hold here"
    return "holds partly" if "holds" in found else "undecided"
