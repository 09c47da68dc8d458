"""Where runs are computed: processes of this machine, or a Ray or Dask cluster. joblib hands the calls out, whichever it is."""

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from joblib import Parallel, delayed, parallel_config

from .. import InputError, one_of

BACKENDS = ("processes", "ray", "dask")
SECONDS_TO_REACH = 20  # a cluster that does not answer by then is not there
SECONDS_BETWEEN_LOOKS = 1
SAFE = "finished runs and epochs are safe in the store"


class Lost(Exception):
    """A worker went away with what it was computing."""


class Engine(NamedTuple):
    """How joblib is told of it; how many calls at once; how it returns results; whether a cluster still answers; what it raises for a
    worker that went away."""

    told: dict
    jobs: int
    return_as: str
    alive: Callable[[], bool]
    lost: tuple[type[Exception], ...]


def handed_out(calls: list[tuple], told: dict, jobs: int, return_as: str = "generator_unordered") -> Iterable:
    """The results of calls (function, arguments ...), as they come. All are handed out before this returns: workers have started then."""
    with parallel_config(**told):
        return Parallel(n_jobs=jobs, return_as=return_as, batch_size=1, pre_dispatch="all")(delayed(f)(*given) for f, *given in calls)


def watched(calls: list[tuple], engine: Engine, name: str) -> Iterator:
    """The results of calls on a cluster, and None for every look that found it well; Lost where a worker went away, InputError where the
    whole cluster did.

    joblib waits for ever where nobody is left to answer, so it waits in a thread, and the cluster is looked at meanwhile.
    """
    came, left = queue.Queue(), len(calls)

    def wait() -> None:
        try:
            for result in handed_out(calls, *engine[:3]):
                came.put((result, None))
        except BaseException as error:  # whatever it is: raised below, in the caller's thread
            came.put((None, error))

    threading.Thread(target=wait, daemon=True).start()
    while left:
        try:
            result, error = came.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            result = error = None
        if error:
            time.sleep(SECONDS_BETWEEN_LOOKS)  # of a cluster that ends, workers may end first
        if (result is None or error) and not engine.alive():
            raise InputError(gone(name)) from error
        if isinstance(error, engine.lost):
            raise Lost(" ".join(str(error).split())[:200]) from error
        if error:
            raise error
        left -= result is not None
        yield result


def gone(name: str) -> str:
    return f"the {name} cluster has gone away: {SAFE}; start it again, or leave out --backend, and call again to go on"


@contextmanager
def cluster(name: str, address: str | None, jobs: int, device: str) -> Iterator[Callable[[], Engine]]:
    """Connected to a cluster inside; what it yields makes the engine of the machines that are there at the time.

    jobs: runs at once, 0 = as many as there are cores (GPUs where device is cuda; for Dask always as many as there are workers).
    """
    one_of("backend", name, BACKENDS[1:])
    try:
        connected = {"ray": _ray, "dask": _dask}[name](address, jobs, device)
        with connected as engine:
            yield engine
    except ImportError as error:
        raise InputError(f"{name} is not installed ({error}): pip install -e '.[cluster]' on every machine") from error


@contextmanager
def _ray(address: str | None, jobs: int, device: str) -> Iterator[Callable[[], Engine]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.util.joblib import register_ray

    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    if address != "auto" and not _answers(address):
        raise InputError(f"no Ray cluster answers at {address}: start one with ray start --head, and give --address HOST:6379")
    try:
        ray.init(address=address, logging_level="error", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(f"no Ray cluster at {address} ({told}): start one with ray start --head, and give --address HOST:6379") from error
    register_ray()
    on_gpu = device.startswith("cuda")
    head = ray.get_runtime_context().gcs_address

    def engine() -> Engine:
        there = {kind: int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU")}
        if there["CPU"] < 2 or (on_gpu and not there["GPU"]):
            raise InputError(
                f"the Ray cluster at {head} has {there['CPU']} cores and {there['GPU']} GPUs: {SAFE}; add a machine and call again"
            )
        most = there["GPU" if on_gpu else "CPU"]
        at_once = min(max(2, min(jobs or most, most)), there["CPU"])  # a single one joblib would compute here
        needs = dict(num_cpus=1, num_gpus=min(1, there["GPU"] / at_once) if on_gpu else 0, scheduling_strategy="SPREAD")
        told = dict(backend="ray", ray_remote_args=needs)
        return Engine(told, at_once, "list", lambda: _answers(head), (ray.exceptions.RayError,))

    try:
        yield engine
    finally:
        if _answers(head):
            ray.shutdown()


@contextmanager
def _dask(address: str | None, jobs: int, device: str) -> Iterator[Callable[[], Engine]]:
    from distributed import Client
    from distributed.scheduler import KilledWorker

    if not address:
        raise InputError("--backend dask needs --address: tcp://HOST:8786 of the scheduler, or the path of its --scheduler-file")
    for logger in [name for name in logging.root.manager.loggerDict if name.startswith(("distributed", "asyncio"))]:
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what matters is said in a line of our own
    try:
        at = dict(scheduler_file=address) if os.path.exists(address) else dict(address=address)
        client = Client(**at, timeout=SECONDS_TO_REACH, set_as_default=False)
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(f"no Dask scheduler answers at {address} ({told}): start one with dask scheduler, and give its address") from error

    def engine() -> Engine:
        for needed in (1, 2):  # a single one joblib would leave aside, and compute here
            try:
                client.wait_for_workers(needed, timeout=SECONDS_TO_REACH)
            except TimeoutError as error:
                there = f"{len(client.nthreads())} worker(s)"
                raise InputError(f"the Dask cluster at {address} has {there}: start two or more, or leave out --backend") from error
            for worker, threads in client.nthreads().items():
                if threads > 1:  # PyTorch's generator of initial weights is one for all threads of a process
                    raise InputError(f"the worker {worker} has {threads} threads: start it with --nthreads 1, and with more --nworkers")
        return Engine(dict(backend="dask", client=client), -1, "generator_unordered", lambda: client.status == "running", (KilledWorker,))

    try:
        yield engine
    finally:
        client.close(timeout=2)


def _answers(address: str) -> bool:
    """Whether anything listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=SECONDS_TO_REACH):
            return True
    except (OSError, ValueError, OverflowError):
        return False
