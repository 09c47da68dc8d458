"""The long tests of `make soak`, and what tests/ runs short versions of: each returns a row of the table in RESULTS."""

from typing import NamedTuple


class Row(NamedTuple):
    """what was tried, how often, what was seen, and what was lost ("nothing", or what)."""

    what: str
    times: int
    seen: str
    lost: str


def row(what: str, times: int, seen: str, lost: list[str]) -> Row:
    """A row; lost: a line for each case that went wrong."""
    return Row(what, times, seen, "; ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "") if lost else "nothing")
