"""Progress of runs and of epochs: bars in a terminal and in JupyterLab, plain lines where the output is not a terminal."""

import sys
import time
from collections.abc import Iterator

from .configs import Config
from .train import OutOfTime

SECONDS_BETWEEN_LINES = 5


class NotBegun(OutOfTime):
    """The time budget was used up before this run's turn."""


def no_bars() -> bool:
    """Whether bars are of no use: the output is neither a terminal nor a notebook."""
    return not sys.stderr.isatty() and "ipykernel" not in sys.modules


class Lines:
    """Lines of progress where the output is not a terminal, of each thing one in SECONDS_BETWEEN_LINES: of two runs in step, of both."""

    def __init__(self):
        self.wanted, self.last = not sys.stderr.isatty(), {}

    def tell(self, of: str, line: str) -> None:
        if self.wanted and time.time() - self.last.get(of, 0.0) > SECONDS_BETWEEN_LINES:
            self.last[of] = time.time()
            print(f"  {of}: {line}", flush=True)


def each(items: list, name: str, unit: str) -> Iterator:
    """The items, with a bar in a terminal and in JupyterLab and plain lines where the output is not a terminal.

    >>> import contextlib, io
    >>> with contextlib.redirect_stdout(io.StringIO()):
    ...     found = [2 * item for item in each([3, 1, 2], "doubling", "number")]
    >>> found
    [6, 2, 4]
    """
    from tqdm.auto import tqdm

    lines = Lines()
    for done, item in enumerate(tqdm(items, desc=name, unit=unit, disable=no_bars()), 1):
        yield item
        lines.tell(name, f"{unit} {done}/{len(items)}")


class Progress:
    """Two bars, runs and epochs, in a terminal and in JupyterLab; plain lines where the output is not a terminal."""

    def __init__(self, configs: list[Config]):
        from tqdm.auto import tqdm

        self.lines = Lines()
        self.runs = tqdm(total=len(configs), desc="runs  ", unit="run", disable=no_bars())
        self.epochs = tqdm(total=sum(c.epochs for c in configs), desc="epochs", unit="epoch", disable=no_bars())
        self.done, self.reached = 0, {}

    def epoch(self, config: Config, row: dict) -> None:
        self.epochs.update(row["epoch"] - self.reached.get(config, 0))  # a resumed run brings its earlier epochs along
        self.reached[config] = row["epoch"]
        self.epochs.set_postfix_str(config.name)
        accuracy = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in ("validation", "validation_noisy", "test") if name in row)
        self.lines.tell(config.name, f"epoch {row['epoch']}/{config.epochs}, loss {row['total']:.3f}, {accuracy}")

    def run(self, config: Config, stopped_by: Exception | None) -> None:
        self.done += 1
        self.runs.update(1)
        if stopped_by is None:  # a cluster tells of whole runs only
            self.epochs.update(config.epochs - self.reached.get(config, 0))
        if (self.lines.wanted or stopped_by) and not isinstance(stopped_by, NotBegun):  # those are counted at the end
            outcome = "trained" if stopped_by is None else "out of time" if isinstance(stopped_by, OutOfTime) else "failed"
            self.runs.write(
                f"[{self.done}/{self.runs.total}] {config.name}: {outcome}"
                + (f" ({str(stopped_by).removeprefix(f'{config.name}: ')})" if stopped_by else "")
            )

    def close(self) -> None:
        self.epochs.close()
        self.runs.close()
