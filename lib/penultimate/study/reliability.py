"""What the soak tests (`make soak`) found, as RESULTS shows it."""

import pandas as pd

from ..records import COMMITTED
from ..support import files
from ..support.wording import pipes

RECORD = COMMITTED / "reliability.json"  # beside the folders of records, where `records.read` does not look


def markdown(found: dict | None = None) -> str:
    """The table of the last soak (default: the committed one): what was tried, how often, what was seen, what was lost.

    >>> rows = [{"what": "a full disk", "times": 1000, "seen": "ended in one line", "lost": "nothing"}]
    >>> where = dict(device="CPU", cores=2, load=1.5, python="3.11", torch="2.6")
    >>> markdown({"rows": rows, "environment": where, "seconds": 120}).splitlines()[2:]
    ['| a full disk | 1,000 | ended in one line | nothing |', '', '*2 minutes; CPU, 2 cores, load 1.5, Python 3.11, torch 2.6.*']
    """
    if not (found or RECORD.exists()):
        return "No soak is recorded yet: `make soak` makes the table."
    found = found or files.read_json(RECORD)
    table = pd.DataFrame(found["rows"]).astype(str).set_index("what").rename_axis("tried")
    table["times"] = [f"{int(times):,}" for times in table["times"]]
    around = found["environment"]
    where = f"{around['device']}, {around['cores']} cores, load {around['load']}, Python {around['python']}, torch {around['torch']}"
    return f"{pipes(table)}\n\n*{found['seconds'] / 60:.0f} minutes; {where}.*"
