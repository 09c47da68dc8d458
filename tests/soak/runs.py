"""Runs that are killed, stopped, waited for and damaged: what is in the store afterwards equals what was never disturbed."""

import contextlib
import io
import itertools
import os
import random
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from penultimate import InputError, data, jobs, runs
from penultimate.commands import cli
from penultimate.runs import Config, Run, load_or_train
from penultimate.support import files
from penultimate.train import OutOfTime

from . import Row, row

SMALL = dict(network="small", width=4, dim=8, epochs=12, images=0, batch=60, lr=0.02, schedule="cosine", sigma=0.3, pad=0, flip=False)
METHODS = ("proposed", "normal", "both", "stability", "discriminative")


@cache
def images(folder: Path) -> str:
    """A few digits as an npz of one's own, so that an epoch takes hundredths of a second; its path."""
    digits = data.load("digits")
    parts = {"train": digits.train[:240], "test": digits.test[:60]}
    arrays = {f"x_{name}": part.images[:, 0].numpy() for name, part in parts.items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "digits.npz", **arrays, **{f"y_{name}": part.labels.numpy() for name, part in parts.items()})
    return str(folder / "digits.npz")


def config(folder: Path, number: int, **fields) -> Config:
    """The number-th of many small runs, of every method in turn."""
    return Config(
        dataset=images(folder), method=METHODS[number % len(METHODS)], seed=number, best_on_test=bool(number % 2), **SMALL | fields
    )


def contents(run: Run) -> dict[str, bytes]:
    """Weights, centroid-free state and kept features of a finished run, by file, and its metrics: what must agree to the bit."""
    weights = {name: tensor.numpy().tobytes() for name, tensor in run.model.state_dict().items()}
    features = {f"{epoch}/{name}": tensor.numpy().tobytes() for epoch, kept in run.kept.items() for name, tensor in kept.items()}
    return weights | features | {"metrics": repr(run.record["metrics"]).encode()}


def forked(work) -> int:
    """Start work() in a process of its own, which has paid for its imports; its id. Exit code 0, SystemExit's, or 70 after an error."""
    sys.stdout.flush(), sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background process would hand on as ignored
        sys.stdout = sys.stderr = io.StringIO()
        work()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def ended(process: int) -> bool:
    """Whether a forked process is over; it remains to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


def unreadable(folder: Path) -> list[str]:
    """Files under their final name that do not read as whole."""
    bad = []
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock"):
        try:
            files.read_json(path) if path.suffix == ".json" else files.read_tensors(path)
        except InputError as error:
            bad.append(str(error))
    return bad


class InTwoHalves:
    """A file on a slow disk: it is written in two halves, so that a kill finds it half-written."""

    def __init__(self, file):
        self.file, self.name, self.flush, self.fileno = file, file.name, file.flush, file.fileno

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content: bytes) -> None:
        for half in (content[: len(content) // 2], content[len(content) // 2 :]):
            self.file.write(half)
            self.file.flush()
            time.sleep(0.02)


def slowly(asked: Config, store: Path) -> None:
    opened = files.tempfile.NamedTemporaryFile
    files.tempfile = SimpleNamespace(NamedTemporaryFile=lambda **given: InTwoHalves(opened(**given)))
    load_or_train(asked, store=store)


def kills(count: int, folder: Path, seed: int = 0, per_run: int = 10) -> Row:
    """SIGKILL at random moments, in training, writing and measuring alike."""
    rng, lost, within, done, resumed = random.Random(seed), [], 0, 0, 0
    for number in itertools.count():
        if done >= count:
            break
        asked, here, epochs = config(folder, number), folder / f"killed-{number}", []
        expected = contents(load_or_train(asked, store=folder / "whole"))
        for _ in range(min(per_run, count - done)):
            progress = (here / asked.name / "checkpoint.safetensors").exists()
            process = forked(lambda asked=asked, here=here: slowly(asked, here))
            while not progress and not half_written(here) and not ended(process):  # it has begun
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.8))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            done, within = done + 1, within + bool(half_written(here))
            lost += unreadable(here)
        run = load_or_train(asked, store=here, on_epoch=lambda row, epochs=epochs: epochs.append(row["epoch"]))
        resumed += len(epochs) < asked.epochs
        lost += [f"{asked.name} differs"] * (contents(run) != expected) + [f"{path} was left" for path in half_written(here)]
    seen = f"{number} runs, {within} kills in the midst of writing a file, {resumed} runs went on from a checkpoint; all equal to the bit"
    return row("SIGKILL while training, then resumed", done, seen, lost)


def stops(count: int, folder: Path, seed: int = 0) -> Row:
    """Ctrl-C, SIGTERM and --budget in turn, on the command line's own entry; then the run goes on."""
    rng, lost, codes = random.Random(seed), [], {}
    for number in range(count):
        kind, asked, here = ("Ctrl-C", "SIGTERM", "budget")[number % 3], config(folder, number, epochs=40), folder / f"stopped-{number}"
        fields = {name: value for name, value in SMALL.items() if name not in ("flip",)} | {"epochs": 40}
        words = ["train", "--dataset", asked.dataset, "--methods", asked.method, "--seeds", str(asked.seed), "--no-flip"]
        words += ["--best-on-test"] if asked.best_on_test else []
        words += [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        words += ["--budget", "0.5s"] if kind == "budget" else []

        def work(words=words, here=here):
            runs.STORE = jobs.STORE = here
            sys.argv = ["penultimate", *words]
            cli.main()

        process = forked(work)
        checkpoint = here / asked.name / "checkpoint.safetensors"
        while not checkpoint.exists() and not ended(process):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        if kind != "budget":
            os.kill(process, signal.SIGINT if kind == "Ctrl-C" else signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        codes.setdefault(kind, set()).add(code)
        finished = (here / asked.name / "record.json").exists()
        lost += [f"{kind}: exit code {code}"] * (code not in ({"Ctrl-C": 130, "SIGTERM": 143, "budget": 0}[kind], 0 if finished else None))
        lost += (
            [f"{kind}: no checkpoint"] * (not checkpoint.exists() and not finished) + unreadable(here) + list(map(str, half_written(here)))
        )
        run = load_or_train(asked, store=here)
        lost += [f"{asked.name} differs"] * (contents(run) != contents(load_or_train(asked, store=folder / "whole")))
    seen = "exit codes " + ", ".join(f"{' or '.join(map(str, sorted(found)))} ({kind})" for kind, found in codes.items())
    return row("Ctrl-C, SIGTERM and --budget, then resumed", count, f"{seen}; all equal to the bit", lost)


def together(rounds: int, folder: Path, processes: int = 8) -> Row:
    """So many processes ask for one run; in every second round the one that trains is killed first, and another takes its lock over."""
    lost, takeovers = [], []
    for number in range(rounds):
        asked, here = config(folder, number), folder / f"together-{number}"
        kill = number % 2

        def work(asked=asked, here=here):
            trained = here / f"{asked.name}.trained.{os.getpid()}"
            load_or_train(asked, store=here, on_epoch=lambda row: trained.touch())

        here.mkdir(parents=True)
        waiting = {forked(work) for _ in range(processes)}
        if kill:
            while not (found := list(here.glob("*.trained.*"))):
                time.sleep(0.002)
            (first,) = found
            holder = int(first.suffix[1:])
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
            died = time.perf_counter()
            waiting.remove(holder)
            while len(list(here.glob("*.trained.*"))) < 2 and not (here / asked.name / "record.json").exists():
                time.sleep(0.002)
            takeovers.append(time.perf_counter() - died)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in waiting]
        trained = len(list(here.glob("*.trained.*")))
        lost += [f"exit codes {codes}"] * any(codes) + [f"{trained} processes trained"] * (trained != 1 + kill)
        lost += [f"{asked.name} differs"] * (
            contents(load_or_train(asked, store=here)) != contents(load_or_train(asked, store=folder / "whole"))
        )
    seen = f"one process trained, {processes - 1} waited and loaded"
    if takeovers:
        seen += f"; {len(takeovers)} times it was killed and another took over, at the latest after {max(takeovers):.1f} s"
    return row(f"{processes} processes ask for one run", rounds, seen, lost)


def apart(rounds: int, folder: Path) -> Row:
    """While one run is locked (by a process that does nothing else), another is trained; and a budget ends the wait for the first."""
    from filelock import FileLock

    lost = []
    for number in range(rounds):
        held, free = config(folder, 2 * number), config(folder, 2 * number + 1)
        (folder / "apart").mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder / 'apart' / held.name}.lock", thread_local=False):
            process = forked(lambda free=free: load_or_train(free, store=folder / "apart"))
            lost += [f"{free.name} waited"] * bool(os.waitpid(process, 0)[1])
            waiting = forked(lambda held=held: _until(time.time() + 0.3, held, folder / "apart"))
            lost += [f"{held.name} did not wait for its budget"] * bool(os.waitpid(waiting, 0)[1])
    return row("two different runs at once", rounds, "neither waited for the other; a wait ends with its budget", lost)


def _until(deadline: float, asked: Config, store: Path) -> None:
    with contextlib.suppress(OutOfTime):
        load_or_train(asked, store=store, deadline=deadline)
        raise InputError("it was locked")


def damage(count: int, folder: Path, seed: int = 0) -> Row:
    """A bit flipped, an end cut off, a file emptied or lost, anywhere in finished runs: none of it is served."""
    rng, lost, rebuilt = random.Random(seed), [], 0
    asked = config(folder, 0)
    whole = load_or_train(asked, store=folder / "whole")
    expected, parts = contents(whole), sorted(path.relative_to(whole.folder) for path in whole.folder.rglob("*") if path.is_file())
    for number in range(count):
        here = folder / "damaged" / asked.name
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(whole.folder, here)
        path, kind = here / rng.choice(parts), rng.choice(["flip", "cut", "empty", "lose"])
        content = bytearray(path.read_bytes())
        if kind == "flip":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes({"flip": content, "cut": content[: rng.randrange(len(content))], "empty": b"", "lose": b""}[kind])
        if kind == "lose":
            path.unlink()
        served = runs.stored(asked, folder / "damaged")
        if served is None:
            rebuilt += 1
            if number % 20 == 0:  # a second each
                with contextlib.redirect_stderr(io.StringIO()):
                    served = load_or_train(asked, store=folder / "damaged")
        lost += [f"{kind} of {path.name} was served"] * (served is not None and contents(served) != expected)
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    seen = f"{rebuilt} found out, to be trained again; in {count - rebuilt} nothing that is read was hit (its sums lost or blank space)"
    return row("stored runs damaged (bit, end, whole file)", count, seen, lost)
