"""The study's notebooks get the parameters that they know, one that fails is named, and a stop is not waited for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from penultimate import InputError
from penultimate.commands import execution


def notebook(folder, name, body):
    cells = [nbformat.v4.new_code_cell('dataset = "none"', metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(body)]
    (folder / "notebooks").mkdir(exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / name)


def test_parameters_arrive_where_the_notebook_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "HOME", tmp_path)
    notebook(tmp_path, "00_good.ipynb", 'print(dataset, "preset" in globals())')
    execution.run(tmp_path / "out", {"dataset": "cifar10", "preset": "small"})
    executed = nbformat.read(tmp_path / "out" / "notebooks" / "00_good.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "cifar10 False\n"


def test_a_notebook_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "HOME", tmp_path)
    notebook(tmp_path, "00_bad.ipynb", "raise RuntimeError(dataset)")
    with pytest.raises(InputError, match="notebook 00_bad.ipynb failed: RuntimeError: cifar10") as error:
        execution.run(tmp_path / "out", {"dataset": "cifar10", "preset": "small"})
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_sigterm_ends_the_notebooks_that_run(tmp_path):
    """Two notebooks sleep for an hour, two wait: within seconds of the signal nothing of them runs, and none was begun."""
    for name in ("00_a", "00_b", "00_c", "00_d"):
        notebook(
            tmp_path, f"{name}.ipynb", f"import os, time; open({str(tmp_path / name)!r}, 'w').write(str(os.getpid())); time.sleep(3600)"
        )
    program = (
        "import pathlib, sys; from penultimate.commands import cli, execution; execution.HOME = pathlib.Path(sys.argv[1])\n"
        "cli.app = lambda: execution.run(execution.HOME / 'out', {})\ncli.main()"
    )
    study = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.PIPE, text=True, env=os.environ)
    begun = lambda: [path for path in tmp_path.glob("00_?") if path.read_text()]  # noqa: E731
    wait_until(lambda: len(begun()) == 2, 120)
    kernels = [int(path.read_text()) for path in begun()]
    study.send_signal(signal.SIGTERM)
    _, said = study.communicate(timeout=240)
    assert study.returncode == 128 + signal.SIGTERM and said.startswith("terminated: finished runs and epochs are kept"), said
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in kernels), 30)
    assert len(begun()) == 2


def wait_until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.1)


def test_notebooks_have_the_cache_of_the_study(tmp_path, monkeypatch):
    """A relative PENULTIMATE_CACHE would lead elsewhere from the folder that they run in."""
    monkeypatch.setattr(execution, "HOME", tmp_path)
    monkeypatch.setattr(execution, "CACHE", tmp_path / "mine")
    monkeypatch.setenv("PENULTIMATE_CACHE", "mine")
    notebook(tmp_path, "00_where.ipynb", 'import os; print(os.environ["PENULTIMATE_CACHE"])')
    execution.run(tmp_path / "out", {"dataset": "cifar10", "preset": "small"})
    executed = nbformat.read(tmp_path / "out" / "notebooks" / "00_where.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"{tmp_path / 'mine'}\n"
