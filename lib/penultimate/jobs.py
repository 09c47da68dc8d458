"""Many configurations in one call: in this process or in several, with progress on two levels (runs, epochs)."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import Manager, get_context
from pathlib import Path

import torch

from . import InputError
from .runs import STORE, Config, Run, load_or_train
from .train import OutOfTime

SECONDS_BETWEEN_LINES = 5


class Progress:
    """Two bars, runs and epochs, in a terminal and in JupyterLab; plain lines where the output is not a terminal."""

    def __init__(self, configs: list[Config]):
        from tqdm.auto import tqdm

        self.lines, self.last_line = not sys.stderr.isatty(), 0.0
        hidden = self.lines and "ipykernel" not in sys.modules
        self.runs = tqdm(total=len(configs), desc="runs  ", unit="run", disable=hidden)
        self.epochs = tqdm(total=sum(c.epochs for c in configs), desc="epochs", unit="epoch", disable=hidden)
        self.done = 0

    def epoch(self, config: Config, row: dict) -> None:
        self.epochs.update(1)
        self.epochs.set_postfix_str(config.name)
        if self.lines and time.time() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.time()
            accuracy = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in ("validation", "validation_noisy", "test") if name in row)
            print(f"  {config.name}: epoch {row['epoch']}/{config.epochs}, loss {row['total']:.3f}, {accuracy}", flush=True)

    def run(self, config: Config, outcome: str) -> None:
        self.done += 1
        self.runs.update(1)
        if self.lines or outcome not in ("loaded", "trained"):
            self.runs.write(f"[{self.done}/{self.runs.total}] {config.name}: {outcome}")

    def close(self) -> None:
        self.epochs.close()
        self.runs.close()


def train_all(configs: list[Config], device: str = "cpu", root=None, store: Path | None = None, budget: float | None = None, jobs: int = 1) -> list[Run]:
    """Load or train every configuration and return the runs that are finished, in the order asked for.

    budget: seconds after which no further epoch is begun; what is left is printed, and the next call goes on from there.
    jobs: processes, which share the cores. A run that fails is reported and does not stop the others; then InputError.
    """
    if jobs < 1:
        raise InputError(f"jobs = {jobs}: at least one process is needed")
    store = store or STORE
    deadline = time.time() + budget if budget is not None else None
    progress, outcomes = Progress(configs), {}
    try:
        for config, outcome in _outcomes(configs, progress, jobs, dict(device=device, root=root, store=store, deadline=deadline)):
            outcomes[config] = outcome
            progress.run(config, outcome if isinstance(outcome, str) else f"failed: {outcome}")
    finally:
        progress.close()
    left = [c.name for c in configs if isinstance(outcomes[c], str) and outcomes[c].startswith("out of time")]
    if left:
        print(f"{len(left)} of {len(configs)} runs are left; call again to go on: {', '.join(left)}")
    failed = [f"{config.name}: {outcome}" for config, outcome in outcomes.items() if not isinstance(outcome, str)]
    if failed:
        raise InputError(f"{len(failed)} of {len(configs)} runs failed, the others are stored; " + "; ".join(failed))
    return [load_or_train(c, store=store) for c in configs if outcomes[c] in ("loaded", "trained")]


def _outcomes(configs: list[Config], progress: Progress, jobs: int, options: dict) -> Iterator[tuple[Config, str | Exception]]:
    waiting = []
    for config in configs:
        if (options["store"] / config.name / "record.json").exists():
            progress.epochs.update(config.epochs)
            yield config, "loaded"
        else:
            waiting.append(config)
    if jobs == 1 or len(waiting) < 2:
        for config in waiting:
            yield config, _outcome(config, lambda row, config=config: progress.epoch(config, row), options)
        return
    with Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=lambda: [progress.epoch(*message) for message in iter(queue.get, None)], daemon=True)
        listener.start()
        threads = max(1, torch.get_num_threads() // jobs)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(queue, threads)) as pool:
            try:
                futures = {pool.submit(_work, config, options): config for config in waiting}
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BaseException:  # Ctrl-C, or a worker that died: begin nothing more
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        queue.put(None)
        listener.join()


def _start_worker(queue, threads: int) -> None:
    global _queue
    _queue = queue
    torch.set_num_threads(threads)


def _work(config: Config, options: dict) -> str | Exception:
    try:
        return _outcome(config, lambda row: _queue.put((config, row)), options)
    except KeyboardInterrupt:  # the parent has it too and reports it
        os._exit(130)


def _outcome(config: Config, on_epoch, options: dict) -> str | Exception:
    try:
        load_or_train(config, on_epoch=on_epoch, **options)
    except OutOfTime as reason:
        return f"out of time, {str(reason).partition(': ')[2]}"
    except (InputError, FloatingPointError) as error:
        return error
    return "trained"
