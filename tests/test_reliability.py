"""Short versions of `make soak` (see tests/soak): killed, waited for, damaged, fed with odd files; nothing is lost, nothing let in."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from soak import disk, fuzz, malice, runs

from penultimate.data import HOME

CASES = {"npz": 2500, "records": 800, "films": 700, "curvature records": 700, "weights": 4000, "weights of an older version": 400,
         "checkpoints": 400, "lookups": 60, "folders of pictures": 400, "what was settled": 600,
         "command line": 200, "notebooks' parameters": 300}  # fmt: skip


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        yield Path(folder)


def test_killed_runs_end_equal_to_the_bit(place):
    assert runs.kills(6, place, per_run=3).lost == "nothing"


def test_eight_processes_train_a_run_once_and_take_over_from_a_dead_one(place):
    assert runs.together(2, place).lost == "nothing"


def test_two_runs_do_not_wait_for_each_other_and_a_budget_ends_a_wait(place):
    assert runs.apart(1, place).lost == "nothing"


def test_no_damaged_run_is_served(place):
    assert runs.damage(30, place).lost == "nothing"


@pytest.mark.skipif(not disk.mountable(), reason="mounting a small disk takes root")
def test_a_real_disk_that_fills_then_is_read_only(place):
    try:
        assert disk.disks([60, 300], place).lost == "nothing"
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted here: {error}")


def test_nothing_planted_runs_or_writes_elsewhere(place):
    assert malice.malice(place / "malice").lost == "nothing"


@pytest.fixture(scope="module")
def readers(place):
    return fuzz.readers(place / "fuzz")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_odd_input_ends_in_a_result_or_in_one_line(readers, name):
    assert fuzz.fuzz(name, readers[name], CASES[name]).lost == "nothing"


def test_every_reader_is_tried_ten_thousand_times_in_all(readers):
    assert CASES.keys() == readers.keys() and sum(CASES.values()) >= 10_000


def test_the_library_reads_no_pickle_and_no_yaml():
    unsafe = r"(?<!safetensors\.)torch\.load\(|\bpickle\b\.|import pickle|allow_pickle=True|joblib\.load|yaml|marshal|shelve"
    for path in (HOME / "lib").rglob("*.py"):
        found = re.findall(unsafe, path.read_text())
        assert not found, f"{path.name}: {found}"
    assert all("allow_pickle=False" in line for line in (HOME / "lib/penultimate/data.py").read_text().splitlines() if "np.load(" in line)


def test_make_lab_listens_on_loopback_and_leaves_the_token_on():
    lab = re.search(r"^lab:.*\n((?:\t.*\n)+)", (HOME / "Makefile").read_text(), re.M)[1]
    assert "--ServerApp.ip=127.0.0.1" in lab and not re.search("token|password|allow_origin|disable_check_xsrf", lab)


def test_make_audit_leaves_the_pins_alone():
    audit = re.search(r"^audit:.*\n((?:\t.*\n)+)", (HOME / "Makefile").read_text(), re.M)[1]
    assert "pip-audit" in audit and ".venv" not in audit and "pip-audit" not in (HOME / "requirements.txt").read_text()
