"""Numbers as people read them: with their interval, in grey levels, of how many seeds; and tables of them."""

import re

import numpy as np
import pandas as pd

MARKS = {"holds": "▲", "does not hold": "▼"}  # of a verdict; one that is undecided has none
NO_BREAK = "\u00a0"
TOLD = re.compile(r"(?P<told>.*?)(, n=(?P<n>\d+))?(: (?P<verdict>[a-z ]+))?")


def cell(mean: float, low: float, high: float, signed: bool = False) -> str:
    """A mean with its interval, in points (per cent).

    >>> cell(0.9335, 0.925, 0.942), cell(0.01, -0.002, 0.022, signed=True)
    ('93.3 [92.5, 94.2]', '+1.0 [-0.2, +2.2]')
    """
    if np.isnan(low):  # one run, no interval
        return f"{100 * mean:{'+' if signed else ''}.1f}"
    sign = "+" if signed else ""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (mean, low, high))
    return f"{mean} [{low}, {high}]"


def level_name(level: float) -> str:
    """A standard deviation for people, in grey levels, and in pixel units of [0,1] where that is a short number.

    >>> level_name(0.0), level_name(8 / 255), level_name(0.3)
    ('clean', '8/255', '0.3 (76.5/255)')
    """
    if not level:
        return "clean"
    grey = f"{255 * level:.4g}/255"
    return f"{level:g} ({grey})" if len(f"{level:g}") <= 4 else grey


def counted(n: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "seed"), counted(1200, "seed")
    ('1 seed', '1,200 seeds')
    """
    return f"{n:,} {what}{'s' * (n != 1)}"


def seeds_told(counts) -> str:
    """The number of seeds, from method -> seeds (a dictionary or a series).

    >>> seeds_told({"normal": 5, "both": 5}), seeds_told({"normal": 5, "both": 5, "stability": 3})
    ('5 seeds', '5 seeds (stability: 3)')
    """
    most = max(n for _, n in counts.items())
    fewer = ", ".join(f"{method}: {n}" for method, n in counts.items() if n != most)
    return counted(most, "seed") + f" ({fewer})" * bool(fewer)


def pipes(shown: pd.DataFrame) -> str:
    """A table in Markdown, its index as the first column; columns of numbers, with their intervals or units, stand to the right.

    >>> print(pipes(pd.DataFrame({"clean": ["99.1 [98.6, 99.6]"], "verdict": ["holds"]}, index=["both"])))
    | method | clean | verdict |
    | --- | ---: | --- |
    | both | 99.1 [98.6, 99.6] | holds |
    """
    numbers = [shown.iloc[:, i].astype(str).str.fullmatch(r"\**[-+]?\d\S*( \S+){0,5}").mean() > 0.5 for i in range(shown.shape[1])]
    lines = [
        [shown.index.name or "method", *shown.columns],
        ["---", *("---:" if number else "---" for number in numbers)],
        *([name, *row] for name, row in zip(shown.index, shown.to_numpy(), strict=True)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tidy(shown: pd.DataFrame) -> pd.DataFrame:
    """A table of cells like '+2.9 [+0.3, +5.5], n=5: holds', for a page: each on one line, verdicts as MARKS, and n once, where every row
    has one of its own in a column `seeds`, where every column has one in their names; elsewhere it stays in the cells. What is missing
    is left empty.

    >>> told = {"clean": "-1.4 [-3.1, +0.2], n=5: undecided", "8/255": "+2.9 [+0.3, +5.5], n=5: holds"}
    >>> [cell.split() for cell in tidy(pd.DataFrame(told, index=["proposed"])).loc["proposed"]]
    [['-1.4', '[-3.1,', '+0.2]'], ['▲', '+2.9', '[+0.3,', '+5.5]'], ['5']]
    >>> by_column = tidy(pd.DataFrame({"noisy": ["1.0, n=3", "2.0, n=3"], "both": ["3.0, n=4", "not run"]}))
    >>> by_column.columns.tolist(), by_column.iloc[0].tolist()
    (['noisy (n=3)', 'both (n=4)'], ['1.0', '3.0'])
    """
    parts = shown.astype(object).fillna("").map(lambda told: TOLD.fullmatch(told).groupdict(default=""))
    short = parts.map(lambda part: f"{MARKS.get(part['verdict'], '')} {part['told']}".lstrip().replace(" ", NO_BREAK))
    n = parts.map(lambda part: part["n"])
    of_rows, of_columns = ([sorted(set(own) - {""}) for own in values] for values in (n.to_numpy(), n.to_numpy().T))
    if not any(of_rows):
        return short
    if all(len(own) <= 1 for own in of_rows):
        return short.assign(seeds=["".join(own) for own in of_rows])
    if all(len(own) <= 1 for own in of_columns):
        return short.set_axis([f"{name} (n={own[0]})" if own else name for name, own in zip(short, of_columns, strict=True)], axis=1)
    return shown
