"""make soak: the long tests, one after the other; prints the table that RESULTS shows and writes data/records/reliability.json."""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

from penultimate.data import HOME
from penultimate.study.reliability import RECORD, markdown
from penultimate.support import files
from penultimate.support.machine import environment

from . import disk, fuzz, malice, runs

CASES = 5_000  # of odd input, for each reader
DEAR = {"lookups": 10, "command line": 10, "notebooks' parameters": 5, "checkpoints": 4}  # so many times fewer: each case takes longer


def main(scale: float = 1.0) -> None:
    """scale: a share of the counts, to try it out."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started, rows = time.perf_counter(), []
    times = lambda count: max(1, round(scale * count))  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        place = Path(folder)
        tests = [
            lambda: runs.kills(times(100), place),
            lambda: runs.stops(times(12), place),
            lambda: runs.together(times(10), place),
            lambda: runs.apart(times(5), place),
            lambda: runs.damage(times(200), place),
            lambda: malice.malice(place / "malice"),
        ]
        if disk.mountable():
            tests.insert(5, lambda: disk.disks([round(2 + 500 * i / times(10)) for i in range(times(10))], place))
        else:
            print("a full and a read-only disk: left out, mounting one takes root", flush=True)
        readers = fuzz.readers(place / "fuzz")
        tests += [lambda n=n, r=r: fuzz.fuzz(n, r, times(CASES // DEAR.get(n, 1))) for n, r in readers.items()]
        for test in tests:
            began = time.perf_counter()
            done = test()
            rows.append(done._asdict())
            print(f"{done.what}: {done.times} times; {done.seen}; lost: {done.lost} ({time.perf_counter() - began:.0f} s)", flush=True)
    around = environment("cpu") | {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    content = {"environment": around, "seconds": round(time.perf_counter() - started), "rows": rows}
    if scale == 1:
        files.write_json(RECORD, content)
        print(f"wrote {RECORD.relative_to(HOME)}")
    print(markdown(content))
    sys.exit(any(row["lost"] != "nothing" for row in rows))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
