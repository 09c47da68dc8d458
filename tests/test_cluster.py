"""The same grid on real clusters, all on this machine: two Ray nodes, a Dask scheduler with two workers; and when they go away.

The cache folder is all that they share. Runs end equal, to the bit, to those trained in this process.
"""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import typer

from penultimate import InputError, data, jobs
from penultimate.commands.cli import app
from penultimate.data import HOME
from penultimate.jobs import train_all
from penultimate.runs import load_or_train
from penultimate.support import engines
from penultimate.support.machine import CODE_VERSION

EPOCHS = 30  # long enough to be killed in the middle
SECONDS = 120  # a machine under load takes its time


def wait_for(there):
    deadline = time.time() + SECONDS
    while not (found := there()):
        assert time.time() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def configs(tiny):
    return [tiny(seed=seed, epochs=EPOCHS, method=method, width=4) for seed in (0, 1) for method in ("normal", "proposed")]


@pytest.fixture(scope="module")
def here(configs, tmp_path_factory):
    return [load_or_train(config, store=tmp_path_factory.mktemp("here")).record["metrics"] for config in configs]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A cache folder of its own, of which the workers learn from the call."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "shared")
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared" / "runs"


@pytest.fixture
def trail(tmp_path, monkeypatch):
    """Lines (process, run, epoch), one for every epoch that any worker trained."""
    path = tmp_path / "trail"
    path.touch()

    def trailed(config, *given):
        from penultimate import checkpoints, jobs, train

        epoch, quick = train.Trainer.epoch, checkpoints.QUICK
        checkpoints.QUICK = SECONDS  # on a busy disk too every epoch has its checkpoint

        def noted(self, number):
            epoch(self, number)
            with open(path, "a") as file:
                file.write(f"{os.getpid()} {config.name} {number}\n")

        train.Trainer.epoch = noted
        try:
            return jobs._work_elsewhere(config, *given)
        finally:
            train.Trainer.epoch, checkpoints.QUICK = epoch, quick

    monkeypatch.setattr(jobs, "_work_elsewhere", trailed)
    return lambda: [(int(pid), name, int(epoch)) for pid, name, epoch in (line.split() for line in path.read_text().splitlines())]


def environment():
    return os.environ | {"PYTHONPATH": str(HOME / "lib"), "RAY_USAGE_STATS_ENABLED": "0"}


class Ray:
    """Two nodes; a run on each at once."""

    name = "ray"

    def __init__(self, folder):
        cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs pip install -e '.[cluster]'")
        patient = {"RAY_agent_register_timeout_ms": "120000", "RAY_worker_register_timeout_seconds": "120"}  # on a machine under load
        os.environ.update(environment() | patient)  # the nodes' processes inherit it
        node = dict(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False, include_log_monitor=False, no_monitor=True)
        for attempt in range(3):  # Ray gives a node's helpers 15 seconds to start; under load the first attempt only warms the disk's cache
            self.cluster = cluster_utils.Cluster(initialize_head=False)
            try:
                self.cluster.add_node(**node | {"num_cpus": 2})  # so that two are left when the other node is gone
                self.second = self.cluster.add_node(**node)
                break
            except Exception:
                self.cluster.shutdown()
                if attempt == 2:
                    raise
        self.address = self.cluster.address

    def mend(self):
        """Two cores are left."""

    def lose_a_worker(self, pids):
        self.cluster.remove_node(self.second, allow_graceful=False)  # a whole machine with its worker

    def end(self):
        self.cluster.shutdown()


class Dask:
    """A scheduler and two workers of one thread."""

    name = "dask"

    def __init__(self, folder):
        pytest.importorskip("distributed", reason="needs pip install -e '.[cluster]'")
        self.folder, self.address = folder, str(folder / "scheduler.json")
        self.processes = [self.start("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")]
        wait_for(lambda: os.path.exists(self.address))
        self.processes += [self.start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]

    def start(self, kind, *words):
        call = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--scheduler-file", self.address]
        return subprocess.Popen(call, cwd=self.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def mend(self):
        from distributed import Client

        self.processes.append(self.start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"))
        with Client(scheduler_file=self.address) as client:
            client.wait_for_workers(2, timeout=SECONDS)

    def lose_a_worker(self, pids):
        next(process for process in self.processes if process.pid in pids).kill()

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=[Ray, Dask], ids=["ray", "dask"])
def cluster(request, tmp_path_factory):
    made = request.param(tmp_path_factory.mktemp("cluster"))
    yield made
    made.end()


def train_there(configs, cluster, store):
    return [run.record["metrics"] for run in train_all(configs, store=store, jobs=2, backend=cluster.name, address=cluster.address)]


@pytest.mark.slow
def test_all_runs_arrive_and_each_epoch_is_trained_once(cluster, configs, here, store, trail, capfd, monkeypatch):
    monkeypatch.setattr(engines, "SECONDS_TO_REACH", SECONDS)
    assert train_there(configs, cluster, store) == here
    assert Counter((name, epoch) for _, name, epoch in trail()) == Counter((c.name, e) for c in configs for e in range(EPOCHS))
    assert len({pid for pid, *_ in trail()} - {os.getpid()}) == 2
    assert "[4/4] digits-digits-" in capfd.readouterr().out
    train_there(configs, cluster, store)
    assert len(trail()) == 4 * EPOCHS  # from the store


@pytest.mark.slow
def test_a_killed_workers_runs_are_done_again_elsewhere(cluster, configs, here, store, trail):
    """Its last epoch may be trained again: it was not in the checkpoint yet. Everything before it is not."""
    found = []
    working = threading.Thread(target=lambda: found.extend(train_there(configs, cluster, store)), daemon=True)
    working.start()
    wait_for(lambda: len({pid for pid, *_ in trail()}) == 2 and trail()[-1][2] < EPOCHS // 2)
    cluster.lose_a_worker({pid for pid, *_ in trail()})
    working.join(SECONDS)
    assert found == here
    counts, of_run = Counter((name, epoch) for _, name, epoch in trail()), {}
    for pid, name, _ in trail():
        of_run.setdefault(name, set()).add(pid)
    assert counts.keys() == {(c.name, e) for c in configs for e in range(EPOCHS)}
    assert any(len(pids) == 2 for pids in of_run.values())  # begun in one process, ended in another
    again = Counter(name for (name, _), count in counts.items() if count > 1)
    assert max(counts.values()) <= 2 and sum(again.values()) <= 2 and max(again.values(), default=0) <= 1


@pytest.mark.slow
def test_a_cluster_that_goes_away_is_one_line_and_the_next_call_goes_on(cluster, configs, here, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    cluster.mend()
    words = ["--methods", "normal,proposed", "--seeds", "0-1", "--width", "4", "--dim", "16", "--epochs", EPOCHS, "--images", "128"]
    words += ["--batch", "64", "--lr", "0.05"]
    call = [sys.executable, "-m", "penultimate", "train", *map(str, words)]
    options = dict(env=environment() | {"PENULTIMATE_CACHE": str(shared)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    away = subprocess.Popen([*call, "--backend", cluster.name, "--address", cluster.address], **options)
    wait_for(lambda: list(shared.glob("runs/*/checkpoint.safetensors")) or away.poll() is not None)
    cluster.end()
    out, errors = away.communicate(timeout=SECONDS)
    assert away.returncode == 1 and errors.strip() == f"error: {engines.gone(cluster.name)}", out + errors
    done = subprocess.run(call, **options)
    assert done.returncode == 0, done.stderr
    assert [load_or_train(config, store=shared / "runs").record["metrics"] for config in configs] == here


@pytest.mark.parametrize(
    "backend, address, said",
    [
        ("mpi", None, "unknown backend 'mpi': choose one of processes, ray, dask"),
        ("dask", None, "--backend dask needs --address"),
        ("dask", "tcp://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9 .* start one with dask scheduler"),
        ("ray", "127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9: start one with ray start --head"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(configs, store, monkeypatch, backend, address, said):
    pytest.importorskip({"dask": "distributed"}.get(backend, "joblib"), reason="needs pip install -e '.[cluster]'")
    monkeypatch.setattr(engines, "SECONDS_TO_REACH", 1)
    with pytest.raises(InputError, match=said) as no:
        train_all(configs, store=store, backend=backend, address=address)
    assert "\n" not in str(no.value)


def test_a_cluster_engine_that_is_not_installed_is_named(configs, store, monkeypatch):
    for module, backend in (("ray", "ray"), ("distributed", "dask")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=rf"{backend} is not installed .*pip install -e '.\[cluster\]' on every machine"):
            train_all(configs, store=store, backend=backend, address="127.0.0.1:9")


def test_a_dask_worker_of_several_threads_is_refused(configs, store):
    distributed = pytest.importorskip("distributed", reason="needs pip install -e '.[cluster]'")
    said = "has 2 threads: start it with --nthreads 1, and with more --nworkers"
    two = distributed.LocalCluster(2, threads_per_worker=2, processes=False, dashboard_address=None)
    with two, pytest.raises(InputError, match=said):
        train_all(configs, store=store, backend="dask", address=two.scheduler_address)


def test_a_single_dask_worker_is_refused(configs, store, monkeypatch):
    """joblib would compute here instead, without a word."""
    distributed = pytest.importorskip("distributed", reason="needs pip install -e '.[cluster]'")
    monkeypatch.setattr(engines, "SECONDS_TO_REACH", 1)
    one = distributed.LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None)
    with one, pytest.raises(InputError, match="has 1 worker.*: start two or more, or leave out --backend"):
        train_all(configs, store=store, backend="dask", address=one.scheduler_address)


def test_a_machine_with_other_code_or_without_the_shared_folder_refuses(configs, tmp_path):
    _, other = jobs._work_elsewhere(configs[0], {}, tmp_path, "0123456789")
    assert "has other code of penultimate" in str(other) and "install the same there" in str(other)
    _, apart = jobs._work_elsewhere(configs[0], {}, tmp_path / "none", CODE_VERSION)
    assert f"has no folder {tmp_path / 'none'}: put it on a disk that all machines share" in str(apart)


def test_what_a_worker_takes_with_it_is_handed_out_again_until_nothing_ends(configs, store, monkeypatch, capsys):
    """An engine whose workers die after a first result, then at once: by a stand-in for the cluster, so that every turn is seen."""
    turns = []

    def stand_in(calls, engine, name):
        turns.append(len(calls))
        if len(turns) == 1:
            yield calls[0][1], None
        raise engines.Lost("gone")

    monkeypatch.setattr(engines, "watched", stand_in)
    monkeypatch.setattr(engines, "cluster", lambda *given: contextlib.nullcontext(lambda: None))
    monkeypatch.setattr(jobs, "PAUSES", (0, 0))
    with pytest.raises(InputError, match="workers go away again and again with nothing finished"):
        train_all(configs, store=store, backend="ray")
    assert turns == [4, 3, 3, 3] and "the 3 runs that are not finished are handed out again" in capsys.readouterr().out


def test_the_pages_scripts_are_bash_and_name_real_options():
    page = (HOME / "CLUSTER.md").read_text()
    (script,) = re.findall(r"```bash\n(.*?)```", page, re.S)
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    assert script.startswith("#!/bin/bash\n#SBATCH ") and "set -euo pipefail" in script
    commands = re.findall(r"-m penultimate (\w+)(.*)", page)
    assert len(commands) == 3
    for name, words in commands:
        options = {word for parameter in typer.main.get_command(app).commands[name].params for word in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= options, words
