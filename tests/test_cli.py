"""The command line as a user meets it: results, and one line for whatever can be mended."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from penultimate import data, jobs, runs
from penultimate.commands import cli, report
from penultimate.data import HOME
from penultimate.study import curvature_records, measured
from penultimate.support import files

TINY = ("--methods", "proposed", "--width", "8", "--epochs", "2", "--images", "128")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(cache):
    environment = os.environ | {"PENULTIMATE_CACHE": str(cache), "PYTHONPATH": str(HOME / "lib"), "OMP_NUM_THREADS": "1"}

    def run(*words, start=False):
        call = [sys.executable, "-m", "penultimate", *map(str, words)]
        if start:
            # A process that a shell put in the background hands on that it ignores Ctrl-C.
            heard = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
            return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
        return subprocess.run(call, env=environment, capture_output=True, text=True)

    return run


def test_train_then_reuse_then_sweep(command, cache, tmp_path):
    first = command("train", *TINY, "--records", tmp_path)
    assert first.returncode == 0 and "trained" in first.stdout and "accuracy (%)" in first.stdout, first.stderr
    assert len(list(tmp_path.glob("digits-digits/*.json"))) == 1
    assert "1 of 1 runs loaded" in command("train", *TINY).stdout
    swept = command("sweep", *TINY, "--perturbation", "occlusion+gaussian", "--levels", "0,0.25+0.1", "--out", tmp_path / "o.csv")
    assert swept.returncode == 0 and "0.25+0.1" in swept.stdout, swept.stderr
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 1 + 2 * 5
    assert "draws" in one_line(command("sweep", *TINY, "--draws", "0"))
    assert "no records of digits with preset digits" in one_line(command("report", "--records", tmp_path))  # these runs changed a field


def one_line(done) -> str:
    """What a command said that was refused: one line, no traceback, nothing done."""
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_several_processes_and_a_budget(command):
    words = ("train", "--methods", "normal,both", "--width", "8", "--epochs", "3", "--images", "128", "--jobs", "2")
    stopped = command(*words, "--budget", "0s")
    assert stopped.returncode == 0 and "2 of 2 runs are left" in stopped.stdout, stopped.stderr
    assert command(*words).stdout.count("trained") == 2


STOPS = {signal.SIGINT: (130, "interrupted: finished runs"), signal.SIGTERM: (143, "terminated: finished runs")}


@pytest.mark.parametrize("sent, jobs", [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)])
def test_ctrl_c_and_sigterm_stop_at_once_and_the_next_call_goes_on(command, cache, sent, jobs):
    seed = 10 * sent + jobs
    words = ("train", "--methods", "proposed,normal"[: None if jobs > 1 else 8], "--epochs", "200", "--images", "128", "--seeds", seed)
    process = command(*words, "--jobs", jobs, start=True)
    wanted = time.time() + 240  # three processes import PyTorch first, on however busy a machine
    while len(list(cache.glob(f"runs/*-s{seed}-*/checkpoint.safetensors"))) < jobs and time.time() < wanted:
        time.sleep(0.05)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=240)
    code, line = STOPS[sent]
    assert process.returncode == code and errors.count("\n") <= 2 and errors.strip().startswith(line), errors
    kept = list(cache.glob(f"runs/*-s{seed}-*/checkpoint.safetensors"))
    assert len(kept) == jobs and all(json.loads(files.read_tensors(path)[1]["history"]) for path in kept)
    if sent == signal.SIGINT:
        again = command(*words, "--budget", "0s")
        assert "1 of 1 runs are left" in again.stdout


def test_ctrl_c_during_the_imports_is_no_traceback(monkeypatch):
    def stopped(name):
        raise KeyboardInterrupt

    importing = types.ModuleType("penultimate.commands.cli")
    importing.__getattr__ = stopped
    monkeypatch.setitem(sys.modules, importing.__name__, importing)
    with pytest.raises(SystemExit, match="130"):
        runpy.run_module("penultimate", run_name="__main__")


@pytest.mark.parametrize("sent", STOPS)
@pytest.mark.parametrize("slow", [0, 0.3])
def test_a_signal_that_comes_while_an_object_is_finalised_is_not_lost(sent, slow):
    """Python ignores an exception there; seen once in a temporary file's. A busy machine takes `slow` seconds to start a thread."""
    stop = f"""
import os, signal, threading, time
from penultimate.commands import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background process would hand on as ignored
start = threading.Thread.start
threading.Thread.start = lambda thread: (start(thread), time.sleep({slow}))

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), {int(sent)})
        time.sleep(0.1)

def app():
    Finalised()
    time.sleep(30)
    print("went on")

cli.app = app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", stop], capture_output=True, text=True, timeout=60)
    assert "went on" not in done.stdout and done.returncode == (143 if sent == signal.SIGTERM else -signal.SIGINT)
    if sent == signal.SIGTERM:
        assert done.stderr.splitlines() == ["terminated: finished runs and epochs are kept; call again to go on"]


@pytest.fixture
def here(monkeypatch, cache, capsys):
    """The same in this process, which has paid for its imports: (exit code, what was said)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["penultimate", *map(str, words)])
        monkeypatch.setattr(runs, "STORE", cache / "runs")
        monkeypatch.setattr(jobs, "STORE", cache / "runs")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return stopped.value.code, said.out + said.err

    return run


@pytest.mark.parametrize("name", ["train", "sweep", "study", "report", "adversary", "replay"])
def test_help_has_an_example(here, name):
    code, said = here(name, "--help")
    told = " ".join(said.replace("│", " ").split())
    assert code == 0 and "Example: python -m penultimate" in told and "(default: digits for digits, small for others)" in told


def npz(path, labels=(0, 1)):
    images = np.zeros((40, 8, 8), np.uint8)
    np.savez(path, x_train=images, y_train=np.resize(labels, 40), x_test=images, y_test=np.resize(labels, 40))
    return path


BAD = {
    "dataset": (("train", "--dataset", "mnist"), "unknown dataset 'mnist': choose one of digits, cifar10, svhn"),
    "method": (("train", "--methods", "best"), "unknown method 'best': choose one of normal, noisy"),
    "noise": (("train", "--noise", "fog"), "unknown noise 'fog': choose one of gaussian"),
    "preset": (("train", "--preset", "huge"), "unknown preset 'huge': choose one of digits"),
    "seeds": (("train", "--seeds", "one"), "seeds 'one'"),
    "budget": (("train", "--budget", "soon"), "budget 'soon'"),
    "epochs": (("train", "--epochs", "0"), "epochs = 0 must be positive"),
    "device": (("train", "--device", "quantum"), "device 'quantum'"),
    "skipped digits": (("study", "--skip-bad"), "skip_bad is for one's own pictures: leave it out with digits"),
    "skipped nothing": (("train", "--dataset", "cifr10", "--skip-bad"), "unknown dataset 'cifr10': choose one of digits"),
    "curvature": (("curvature", *TINY, "--level", "inf"), "level = inf must be a finite number above 0"),
    "experiments": (("experiments", "--preset", "paper"), "preset paper trains on the validation images too"),
    "published": (("report", "--publish", "--records", "."), "--publish and --notebooks renew what is committed: give each alone"),
    "milestones": (("train", "--milestones", "3.5"), "milestones '3.5': give epochs joined by commas"),
    "falling milestones": (("train", "--milestones", "3,2"), "milestones = (3, 2) must rise, from 1 on"),
    "added milestones": (("train", "--milestones", "1+2"), "milestones '1+2': give epochs joined by commas"),
    "adversary": (("adversary", *TINY, "--test-images", "0"), "images = 0: a whole number of at least 1"),
    "study": (("study", "--methods", "normal"), "a study compares at least normal, both and proposed"),
    "perturbation": (("sweep", *TINY, "--perturbation", "fog"), "unknown noise 'fog'"),
    "occlusion": (("sweep", *TINY, "--perturbation", "occlusion", "--levels", "70"), "patches of 560 px in a 8x8 image"),
    "levels": (("sweep", *TINY, "--levels", "low"), "levels 'low'"),
    "levels alike": (("sweep", *TINY, "--levels", "0.1,0.10000001"), "two of them are the same in the four digits that tables have"),
    "records": (("report", "--records", "nowhere"), "nowhere"),
    "address": (("train", *TINY, "--address", "here:1"), "address = here:1 is of a cluster: say of which, backend = ray or dask"),
    "unreadably large": (("train", *TINY, "--image-size", "1000000"), "image_size = 1000000: 1,797 pictures of 1,000,000x1,000,000 take"),
    "batch": (("train", "--batch", "9223372036854775808"), "batch = 9223372036854775808 must be below 2^31"),
    "study of no seeds": (("study", "--seeds", "5-3"), "seeds '5-3' are empty"),
    "diverging": (("train", *TINY, "--lr", "1e30", "--seeds", "5"), "not finite at epoch 1, step"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(here, case):
    words, message = BAD[case]
    code, _ = here(*words)
    assert code.startswith("error: ") and message in code and "\n" not in code and len(code) < 400


def test_a_name_that_is_no_data_set_has_no_settings(here):
    here("train", "--dataset", "cifr10", "--skip-bad")
    assert data.settings("cifr10") == {}


def test_a_curvature_level_may_be_a_quotient(here, monkeypatch):
    asked = []
    monkeypatch.setattr(measured, "missing", lambda configs, *given, **options: [("run", "path")])
    monkeypatch.setattr(curvature_records, "measure", lambda run, device, images, level, root: asked.append(level) or {})
    monkeypatch.setattr(files, "write_json", lambda path, content: None)
    here("curvature", *TINY, "--level", "7/255")
    assert asked == [7 / 255]


@pytest.mark.parametrize("dataset, preset", [("digits", "digits"), ("my digits", "small"), ("cifar10", "small")])
def test_make_takes_the_preset_of_the_whole_name(dataset, preset):
    told = subprocess.run(["make", "-n", "study", f"DATASET={dataset}"], cwd=HOME, capture_output=True, text=True, check=True).stdout
    assert f'--dataset "{dataset}" --preset {preset} ' in told


def test_a_report_takes_the_folder_that_a_study_wrote(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(report, "page", lambda out, folder, *rest: seen.append(folder))
    (tmp_path / "study" / "records").mkdir(parents=True)
    for given in (tmp_path / "study", tmp_path / "study" / "records"):
        cli.app(["report", "--records", str(given)], standalone_mode=False)
    assert seen == [tmp_path / "study" / "records"] * 2


def test_a_level_may_be_a_quotient(here, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "train_all", lambda configs, *given, **options: asked.extend(configs) or [])
    cli.app(["train", "--sigma", "51/255", "--methods", "normal"], standalone_mode=False)
    assert [config.sigma for config in asked] == [0.2]
    for text in ("51/0", "51/255,0.1", "low"):
        code, said = here("train", "--sigma", text)
        told = " ".join(said.replace("│", " ").split())
        assert code == 2 and f"sigma '{text}': give a number, such as 0.06 or 8/255" in told


def test_bad_input_from_a_shell(command):
    done = command(*BAD["method"][0])
    assert done.returncode == 1 and done.stderr.startswith("error: unknown method") and len(done.stderr.splitlines()) == 1


def test_files_that_cannot_be_used(here, tmp_path):
    (tmp_path / "cut.npz").write_bytes(npz(tmp_path / "whole.npz").read_bytes()[:200])
    for name, message in (
        ("absent.npz", "does not exist"),
        ("cut.npz", "damaged"),
        (npz(tmp_path / "labels.npz", (-1, 3)).name, "labels run from -1"),
    ):
        code, _ = here("train", "--dataset", tmp_path / name, "--methods", "normal")
        assert message in code and name.removesuffix(".npz") in code and "\n" not in code


def test_a_store_that_cannot_be_written(cache, tmp_path):
    """Root may write anywhere, so a file stands where the folder should be."""
    (tmp_path / "runs").write_text("in the way")
    environment = os.environ | {"PENULTIMATE_CACHE": str(tmp_path), "PYTHONPATH": str(HOME / "lib")}
    done = subprocess.run([sys.executable, "-m", "penultimate", "train", *TINY], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr


def test_the_library_runs_headless():
    """Up to records nothing is imported that a bare machine with PyTorch lacks."""
    forbidden = ["plotly", "umap", "ipywidgets", "IPython", "jupyterlab", "papermill", "kaleido", "matplotlib"]
    imports = "import sys; from penultimate import jobs, records, runs; from penultimate.commands import cli"
    program = f"{imports}; print([m for m in {forbidden} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(HOME / "lib")}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "words, told",
    [
        (("adversary", "--autoattack-images", "-3"), "autoattack_images = -3 must not be negative"),
        (("replicate", "--attacked", "-5"), "attacked = -5 must not be negative"),
        (("sweep", "--draws", "5000"), "draws = 5,000: at most 1,000 can be drawn"),
        (("train", "--skip-bad"), "skip_bad is for one's own pictures: leave it out with digits"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(command, words, told):
    assert told in one_line(command(*words))


def test_the_runs_that_did_not_fail_have_their_records(command, tmp_path):
    words = ("--methods", "normal,proposed", "--width", "4", "--dim", "8", "--images", "128", "--epochs", "3", "--lr", "5")
    done = command("train", *words, "--records", tmp_path)
    assert done.returncode == 1 and "1 of 2 runs failed" in done.stderr, done.stderr
    assert [files.read_json(path)["config"]["method"] for path in tmp_path.glob("digits-digits/*.json")] == ["normal"]
