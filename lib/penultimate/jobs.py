"""Many configurations in one call: in this process or in several, with progress on two levels (runs, epochs)."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing import active_children, get_context
from pathlib import Path

import torch

from . import InputError, data
from .runs import STORE, Config, Run, check_pictures, load_or_train, stored
from .train import OutOfTime, usable

SECONDS_BETWEEN_LINES = 5
NARROW = 16  # channels of the first stage


def no_bars() -> bool:
    """Whether bars are of no use: the output is neither a terminal nor a notebook."""
    return not sys.stderr.isatty() and "ipykernel" not in sys.modules


class RunsFailed(InputError):
    """Some runs failed; reasons: configuration -> what stopped it."""

    def __init__(self, reasons: dict[Config, str], asked: int):
        self.reasons = reasons
        told = "; ".join(f"{config.name}: {reason}" for config, reason in reasons.items())
        super().__init__(f"{len(reasons)} of {asked} runs failed, the others are stored; {told}")


class NotBegun(OutOfTime):
    """The time budget was used up before this run's turn."""


class Lines:
    """Lines of progress where the output is not a terminal, one in SECONDS_BETWEEN_LINES at most."""

    def __init__(self):
        self.wanted, self.last = not sys.stderr.isatty(), 0.0

    def tell(self, line: str) -> None:
        if self.wanted and time.time() - self.last > SECONDS_BETWEEN_LINES:
            self.last = time.time()
            print(line, flush=True)


def each(items: list, name: str, unit: str) -> Iterator:
    """The items, with a bar in a terminal and in JupyterLab and plain lines where the output is not a terminal."""
    from tqdm.auto import tqdm

    lines = Lines()
    for done, item in enumerate(tqdm(items, desc=name, unit=unit, disable=no_bars()), 1):
        yield item
        lines.tell(f"  {name}: {unit} {done}/{len(items)}")


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
        self.lines.tell(f"  {config.name}: epoch {row['epoch']}/{config.epochs}, loss {row['total']:.3f}, {accuracy}")

    def run(self, config: Config, stopped_by: Exception | None) -> None:
        self.done += 1
        self.runs.update(1)
        if (self.lines.wanted or stopped_by) and not isinstance(stopped_by, NotBegun):  # those are counted at the end
            outcome = "trained" if stopped_by is None else "out of time" if isinstance(stopped_by, OutOfTime) else "failed"
            self.runs.write(
                f"[{self.done}/{self.runs.total}] {config.name}: {outcome}"
                + (f" ({str(stopped_by).removeprefix(f'{config.name}: ')})" if stopped_by else "")
            )

    def close(self) -> None:
        self.epochs.close()
        self.runs.close()


def train_all(
    configs: list[Config], device: str = "cpu", root=None, store: Path | None = None, budget: float | None = None, jobs: int = 1
) -> list[Run]:
    """Load or train every configuration and return the runs that are finished, in the order asked for.

    budget: seconds after which no further epoch is begun; what is left is printed, and the next call goes on from there.
    jobs: processes, which share the cores. A run that fails is reported and does not stop the others; then InputError.
    """
    if jobs < 1:
        raise InputError(f"jobs = {jobs}: at least one process is needed")
    store = store or STORE
    found = {c: stored(c, store) for c in configs}
    waiting = [c for c in configs if not found[c]]
    if len(waiting) < len(configs):
        check_pictures([run for run in found.values() if run], root)  # said before anything is trained
        print(f"{len(configs) - len(waiting)} of {len(configs)} runs loaded from the store")
    if waiting:  # what would stop every run stops here, once; and data sets are downloaded before processes share them
        usable(device)
        for dataset, side in dict.fromkeys((c.dataset, c.image_size) for c in waiting):
            data.load(dataset, root, side)
    deadline = time.time() + budget if budget is not None else None
    outcomes = _train_waiting(waiting, jobs, dict(device=device, root=root, store=store, deadline=deadline)) if waiting else {}
    left = [c.name for c, outcome in outcomes.items() if isinstance(outcome, OutOfTime)]
    if left:
        named = ", ".join(left[:5]) + f" and {len(left) - 5} more" * (len(left) > 5)
        print(f"{len(left)} of {len(configs)} runs are left; call again to go on: {named}")
    failed = {
        c: str(outcome).removeprefix(f"{c.name}: ") for c, outcome in outcomes.items() if outcome and not isinstance(outcome, OutOfTime)
    }
    if failed:
        raise RunsFailed(failed, len(configs))
    return [stored(c, store) or load_or_train(c, root=root, store=store) for c in configs if not outcomes.get(c)]


def _train_waiting(waiting: list[Config], jobs: int, options: dict) -> dict[Config, Exception | None]:
    """Train what is not in the store; for each what stopped it: nothing, the budget, or an error."""
    progress, outcomes = Progress(waiting), {}
    try:
        for config, outcome in _outcomes(waiting, progress, jobs, options):
            outcomes[config] = outcome
            progress.run(config, outcome)
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs and epochs are kept; call again to go on", file=sys.stderr)
        raise
    finally:
        progress.close()
    return outcomes


@contextmanager
def one_thread():
    """Inside, PyTorch computes on one thread: to a narrow network a second one brings nothing, and where another program holds its core,
    the threads wait for each other at every layer (digits: 4 to 15 times slower)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _outcomes(waiting: list[Config], progress: Progress, jobs: int, options: dict) -> Iterator[tuple[Config, Exception | None]]:
    if jobs == 1 or len(waiting) < 2:
        for config in waiting:
            with one_thread() if config.width <= NARROW else nullcontext():
                outcome = _outcome(config, lambda row, config=config: progress.epoch(config, row), options)
            yield config, outcome
        return
    spawn = get_context("spawn")
    with spawn.Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=lambda: [progress.epoch(*message) for message in iter(queue.get, None)])
        listener.start()
        threads = max(1, torch.get_num_threads() // jobs)
        pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_start_worker, initargs=(queue, threads))
        others = set(active_children())
        try:
            with _ctrl_c_ignored():  # by the workers, which inherit it: the parent ends them
                futures = {pool.submit(_work, config, options): config for config in waiting}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise InputError("a process died (out of memory?): finished runs and epochs are kept; call again with fewer --jobs") from error
        except (KeyboardInterrupt, SystemExit):  # SIGTERM: see cli.main
            for worker in set(active_children()) - others:
                worker.terminate()  # files appear whole or not at all
            raise
        finally:  # begin nothing more, lose nothing that is finished
            pool.shutdown(cancel_futures=True)
            queue.put(None)
            listener.join()


@contextmanager
def _ctrl_c_ignored():
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a signal
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(queue, threads: int) -> None:
    global _queue
    _queue = queue
    torch.set_num_threads(threads)


def _work(config: Config, options: dict) -> Exception | None:
    return _outcome(config, lambda row: _queue.put((config, row)), options)


def _outcome(config: Config, on_epoch, options: dict) -> Exception | None:
    if options["deadline"] and time.time() > options["deadline"]:
        return NotBegun("not begun in this call")
    try:
        load_or_train(config, on_epoch=on_epoch, **options)
    except (OutOfTime, InputError, FloatingPointError, torch.OutOfMemoryError) as reason:
        return reason
    return None
