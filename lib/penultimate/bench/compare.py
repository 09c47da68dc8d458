"""Two ways of doing the same thing, run in turn: medians of both, and the median of the ratios of neighbouring runs."""

import timeit
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..data import HOME
from ..support import files
from ..support.wording import counted, pipes
from . import NAMES, ON_A_GPU

ROUNDS = 9
MET = {True: "kept", False: "missed"}


class Row(NamedTuple):
    """One line of the table. ratio: against / ours, so that more is better; `kept`: whether the target is."""

    what: str
    against: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    target: str
    kept: bool


def in_turn(ours: Callable, theirs: Callable, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Seconds a call of each, and theirs over ours: medians over `rounds` alternating runs of 0.2 s or more, after one to warm up.

    >>> ours, theirs, ratio = in_turn(lambda: sum(range(1000)), lambda: sum(range(4000)), rounds=3)
    >>> ours < theirs and ratio > 1
    True
    """
    timers = timeit.Timer(ours), timeit.Timer(theirs)
    counts = [_calls(timer) for timer in timers]
    taken = np.array([[timer.timeit(n) / n for timer, n in zip(timers, counts, strict=True)] for _ in range(rounds)])
    return *map(float, np.median(taken, axis=0)), float(np.median(taken[:, 1] / taken[:, 0]))


def faster(what: str, against: str, times: float, ours: Callable, theirs: Callable, rounds: int = ROUNDS) -> Row:
    """A row whose target is to be so many times as fast; milliseconds."""
    a, b, ratio = in_turn(ours, theirs, rounds)
    return Row(what, against, "ms", 1e3 * a, 1e3 * b, ratio, f"{times:g}x as fast", ratio >= times)


def alone(run: Callable, rounds: int = ROUNDS) -> float:
    """Milliseconds a call: the median over rounds of 0.2 s or more, after one to warm up."""
    timer = timeit.Timer(run)
    count = _calls(timer)
    return 1e3 * float(np.median(timer.repeat(rounds, count))) / count


def _calls(timer: timeit.Timer) -> int:
    """How many calls fill 0.2 s, once the first, which may compile, is done."""
    timer.timeit(1)
    return timer.autorange()[0]


def committed() -> str:
    """The table, in RESULTS, of the committed measurements."""
    paths = {name: HOME / "data" / "records" / "bench" / f"{name}.json" for name in NAMES}
    return markdown({name: files.read_json(path) for name, path in paths.items() if name not in ON_A_GPU or path.exists()})


def markdown(found: dict[str, dict]) -> str:
    """The table of records {name: {environment, rows}}, and under it, for those that have them, where a step's time goes (shares) and what
    takes the time of a missed row (reasons)."""
    rows = [Row(**row) for record in found.values() for row in record["rows"]]
    cells = [
        (r.what, r.against, f"{number(r.ours)} {r.unit}", f"{number(r.theirs)} {r.unit}", reached(r), r.target, MET[r.kept]) for r in rows
    ]
    table = pd.DataFrame(cells, columns=["what", "against", "here", "there", "reached", "target", ""]).set_index("what")
    around = [record["environment"] for record in found.values()]
    loads = [e["load"] for e in around]
    places = {f"{e['device']}, {counted(e['threads'], 'thread')}, {e['cores']} cores, torch {e['torch']}" for e in around}
    where = f"{'; '.join(sorted(places))}; load {min(loads)} to {max(loads)}"
    told = [f"{pipes(table)}\n\n*Times are medians of alternating runs after a warm-up; {where}.*"]
    if parts := [part for record in found.values() for part in _shares(record)]:
        told.append(f"*Where a step's time goes, PyTorch's operations by its profiler. {'; '.join(parts)}.*")
    if parts := [part for record in found.values() for part in _reasons(record)]:
        told.append(f"*What takes the time in missed rows. {'; '.join(parts)}.*")
    return "\n\n".join(told)


def number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _shares(record: dict) -> list[str]:
    parts = lambda whole: ", ".join(f"{name} {share:.1%}" for name, share in whole.items())  # noqa: E731
    return [f"{named}: {parts(whole)}" for named, whole in record.get("shares", {}).items()]


def _reasons(record: dict) -> list[str]:
    """For each missed row that has one: what of it takes how long, measured alone."""
    missed = {row["what"]: row for row in record["rows"] if not row["kept"]}
    known = [(missed[what], *reason) for what, reason in record.get("reasons", {}).items() if what in missed]
    return [f"{row['what']}: {named} {number(part)} {row['unit']}, all of it {number(row['ours'])}" for row, named, part in known]


def reached(row: Row) -> str:
    """What was reached, in the terms of the target.

    >>> reached(Row("", "", "ms", 20.0, 2.0, 0.1, "under 6x the time", False))
    '10.0x'
    >>> reached(Row("", "", "s", 2.0, 1.5, 0.75, "under 1 s more", True))
    '+0.50 s'
    """
    if row.target.endswith("s more"):
        return f"{row.ours - row.theirs:+.2f} s"
    if row.target.endswith("% more"):
        return f"{1 / row.ratio - 1:+.0%}"
    if row.target.endswith("of it"):  # a share to stay under, or to come up to
        return f"{1 / row.ratio:.2%}" if row.target.startswith("under") else f"{row.ratio:.0%}"
    return f"{1 / row.ratio if row.target.startswith('under') else row.ratio:.1f}x"
