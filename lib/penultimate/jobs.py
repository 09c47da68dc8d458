"""Many configurations in one call: in this process, in several or on a cluster, with progress on two levels (runs, epochs)."""

import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path

import torch

from . import InputError, data, one_of
from .progress import NotBegun, Progress
from .runs import STORE, Config, Run, check_pictures, load_or_train, measured_as_settled, stored
from .support import engines
from .support.devices import usable
from .support.machine import CODE_VERSION
from .train import OutOfTime

PAUSES = (5, 10, 30)  # seconds, before runs of a worker that went away are handed out again
NARROW = 16  # channels of the first stage


class RunsFailed(InputError):
    """Some runs failed; reasons: configuration -> what stopped it; finished: the runs that did not fail."""

    def __init__(self, outcomes: dict[Config, Exception], asked: int, finished: list[Run]):
        self.reasons = reasons = {c: str(outcome).removeprefix(f"{c.name}: ") for c, outcome in outcomes.items()}
        self.finished = finished
        told = "; ".join(
            f"{', '.join(config.name for config, own in reasons.items() if own == reason)}: {reason}"
            for reason in dict.fromkeys(reasons.values())
        )
        stored = "the others" if len(finished) == asked - len(reasons) else f"{len(finished)} of the others"
        super().__init__(f"{len(reasons)} of {asked} runs failed, {stored} are stored; {told}")


def train_all(
    configs: list[Config], device: str = "cpu", root=None, store: Path | None = None, budget: float | None = None, jobs: int = 1,
    backend: str = "processes", address: str | None = None, on_run: Callable[[Run], None] | None = None,
    on_failure: Callable[[Config, Exception], None] | None = None,
) -> list[Run]:  # fmt: skip
    """Load or train every configuration and return the runs that are finished, in the order asked for.

    budget: seconds in which epochs end; what is left is printed, and the next call goes on from there. on_run receives each finished run
    as soon as it is there, on_failure what stopped one other than the budget.
    jobs: processes, which share the cores. backend: processes, or the ray or dask cluster at an address, whose machines share the cache
    folder with this one; jobs is then how many runs it does at once (1: as many as it can). A run that fails is reported and does not
    stop the others; then RunsFailed.

    >>> import contextlib, io, tempfile
    >>> configs = [Config(method=method, width=4, dim=8, images=64, epochs=1) for method in ("normal", "proposed")]
    >>> with tempfile.TemporaryDirectory() as store, contextlib.redirect_stdout(io.StringIO()):  # its lines of progress
    ...     found = train_all(configs, store=Path(store))
    >>> [run.config.method for run in found]
    ['normal', 'proposed']
    """
    one_of("backend", backend, engines.BACKENDS)
    if address and backend == "processes":
        raise InputError(f"address = {address} is of a cluster: say of which, backend = ray or dask")
    if jobs < 1:
        raise InputError(f"jobs = {jobs}: at least one process is needed")
    if backend == "processes":
        usable(device)  # also where nothing is trained: the caller will measure on it
    store = store or STORE
    found = {c: run if (run := stored(c, store)) and measured_as_settled(run) else None for c in configs}
    waiting = [c for c in found if not found[c]]
    if len(waiting) < len(found):
        check_pictures([run for run in found.values() if run], root)  # said before anything is trained
        print(f"{len(found) - len(waiting)} of {len(found)} runs loaded from the store")
    for run in found.values():
        if run and on_run:
            on_run(run)
    if waiting:  # what would stop every run stops here, once; and data sets are downloaded before processes share them
        for dataset, side in dict.fromkeys((c.dataset, c.image_size) for c in waiting):
            data.load(dataset, root, side)
    options = dict(device=device, root=root, store=store, deadline=time.time() + budget if budget is not None else None)
    outcomes = _train_waiting(waiting, jobs, (backend, address), options, on_run, on_failure) if waiting else {}
    left = [c.name for c, outcome in outcomes.items() if isinstance(outcome, OutOfTime)]
    if left:
        named = ", ".join(left[:5]) + f" and {len(left) - 5} more" * (len(left) > 5)
        print(f"{len(left)} of {len(found)} runs are left; call again to go on: {named}")
    finished = [found[c] or stored(c, store) or load_or_train(c, device, root, store) for c in configs if not outcomes.get(c)]
    failed = {c: outcome for c, outcome in outcomes.items() if outcome and not isinstance(outcome, OutOfTime)}
    if failed:
        raise RunsFailed(failed, len(found), finished)
    return finished


def _train_waiting(waiting: list[Config], jobs: int, where: tuple, options: dict, on_run, on_failure) -> dict[Config, Exception | None]:
    """Train what is not in the store; for each what stopped it: nothing, the budget, or an error."""
    progress, outcomes = Progress(waiting), {}
    if where[0] != "processes":
        found = _on_cluster(waiting, progress, jobs, where, options)
    elif jobs == 1 or len(waiting) < 2:
        found = _in_turn(waiting, progress, options)
    else:
        found = _in_processes(waiting, progress, jobs, options)
    try:
        for config, outcome in found:
            outcomes[config] = outcome
            progress.run(config, outcome)
            if on_run and outcome is None and (run := stored(config, options["store"])):
                on_run(run)
            if on_failure and outcome and not isinstance(outcome, OutOfTime):
                on_failure(config, outcome)
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs and epochs are kept; call again to go on", file=sys.stderr)
        raise
    finally:
        found.close()
        progress.close()
    return outcomes


@contextmanager
def one_thread():
    """Inside, PyTorch computes on one thread: to a narrow network a second one brings nothing, and where another program holds its core,
    the threads wait for each other at every layer (digits: 4 to 15 times slower).

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_turn(waiting: list[Config], progress: Progress, options: dict) -> Iterator[tuple[Config, Exception | None]]:
    for config in waiting:
        with one_thread() if config.width <= NARROW else nullcontext():
            outcome = _outcome(config, lambda row, config=config: progress.epoch(config, row), options)
        yield config, outcome


def _in_processes(waiting: list[Config], progress: Progress, jobs: int, options: dict) -> Iterator[tuple[Config, Exception | None]]:
    with get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=lambda: [progress.epoch(*message) for message in iter(queue.get, None)])
        listener.start()
        share = max(1, torch.get_num_threads() // jobs)
        calls = [(_work, config, options, queue, 1 if config.width <= NARROW else share) for config in waiting]
        try:
            with _ctrl_c_ignored():  # by the workers, which inherit it: joblib ends them, and files appear whole or not at all
                found = engines.handed_out(calls, dict(backend="loky"), jobs)
            with closing(found):  # begin nothing more, lose nothing that is finished
                yield from found
        except BrokenProcessPool as error:
            raise InputError("a process died (out of memory?): finished runs and epochs are kept; call again with fewer --jobs") from error
        finally:
            queue.put(None)
            listener.join()


def _on_cluster(
    waiting: list[Config], progress: Progress, jobs: int, where: tuple, options: dict
) -> Iterator[tuple[Config, Exception | None]]:
    """Where machines go away with their runs, those that are left go on with these, from their last checkpoint."""
    left, in_vain = dict.fromkeys(waiting), 0
    here = {name: Path(path).resolve() for name, path in (("store", options["store"]), ("root", options["root"])) if path}
    with engines.cluster(*where, 0 if jobs == 1 else jobs, options["device"]) as engine:
        while left:
            before = len(left)
            calls = [(_work_elsewhere, config, options | here, data.CACHE, CODE_VERSION) for config in left]
            try:
                for result in engines.watched(calls, engine(), where[0]):
                    for config, outcome in [result] if result else _arrived(left, here["store"]):
                        if config in left:
                            del left[config]
                            yield config, outcome
            except engines.Lost as error:
                for config, outcome in _arrived(left, here["store"]):
                    del left[config]
                    yield config, outcome
                in_vain = in_vain + 1 if len(left) == before else 0
                if in_vain > len(PAUSES):
                    raise InputError(
                        f"workers go away again and again with nothing finished (out of memory?): {engines.SAFE}; give fewer --jobs"
                    ) from error
                progress.runs.write(f"a worker went away ({error}); the {len(left)} runs that are not finished are handed out again")
                time.sleep(PAUSES[max(0, in_vain - 1)])  # until the cluster has counted what is left of it


def _arrived(configs, store: Path) -> list[tuple[Config, None]]:
    """Those that are finished in the store: not every cluster tells before all are."""
    return [(config, None) for config in configs if stored(config, store)]


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


def _work(config: Config, options: dict, queue, threads: int) -> tuple[Config, Exception | None]:
    torch.set_num_threads(threads)
    return config, _outcome(config, lambda row: queue.put((config, row)), options)


def _work_elsewhere(config: Config, options: dict, cache: Path, code: str) -> tuple[Config, Exception | None]:
    """A run on a machine that shares the cache folder with the caller's, and must have the caller's code."""
    if code != CODE_VERSION:
        return config, InputError(f"{platform.node()} has other code of penultimate ({CODE_VERSION}, here {code}): install the same there")
    if not cache.is_dir():
        return config, InputError(f"{platform.node()} has no folder {cache}: put it on a disk that all machines share (PENULTIMATE_CACHE)")
    data.CACHE = cache
    with one_thread() if config.width <= NARROW else nullcontext():
        return config, _outcome(config, None, options)


def _outcome(config: Config, on_epoch, options: dict) -> Exception | None:
    if options["deadline"] and time.time() > options["deadline"]:
        return NotBegun("not begun in this call")
    try:
        load_or_train(config, on_epoch=on_epoch, **options)
    except (OutOfTime, InputError, FloatingPointError) as reason:
        reason.__traceback__ = reason.__context__ = reason.__cause__ = None  # which hold the run's model, images and momenta
        return reason
    except (RuntimeError, OSError) as error:  # of a compiler, a layer, what listens: the other runs go on
        if isinstance(error, getattr(torch, "AcceleratorError", ())):
            raise  # nothing more can be computed on the device in this process
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):  # the latter of a CPU
            return InputError(f"out of memory on {options['device']}: take a smaller batch ({config.batch}) or width ({config.width})")
        traceback.print_exc()
        return RuntimeError(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}")
    return None
