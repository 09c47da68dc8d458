"""The store serves what was written or trains it again; what cannot be written loses nothing that was."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penultimate import InputError, embed, runs
from penultimate.jobs import train_all
from penultimate.runs import Run, load_or_train
from penultimate.study.lookup import look_up
from penultimate.support import files, integrity

PARTS = ("record.json", "weights.safetensors", "sums.json", "features/epoch-0001.safetensors")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    return load_or_train(tiny(epochs=2), store=tmp_path_factory.mktemp("store"))


@pytest.fixture
def copied(whole, tmp_path):
    """The run in a store of its own, to be damaged: its folder."""
    shutil.copytree(whole.folder, tmp_path / whole.folder.name, ignore=shutil.ignore_patterns("lookup"))
    return tmp_path / whole.folder.name


def same(one: Run, two: Run) -> bool:
    """Weights and kept features, to the bit."""
    pairs = [(one.model.state_dict(), two.model.state_dict()), *((one.kept[epoch], two.kept[epoch]) for epoch in one.kept)]
    return one.kept.keys() == two.kept.keys() and all(torch.equal(a[name], b[name]) for a, b in pairs for name in a.keys() | b.keys())


def flip(path, where=0.5, bit=0):
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
}


@pytest.mark.parametrize("kind", [*DAMAGE, "lost"])
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_run_is_trained_again_with_one_line(whole, copied, capfd, kind, part):
    if (part, kind) == ("sums.json", "lost"):
        pytest.skip("then it is a run of an older version")
    if (part, kind) == ("sums.json", "longer"):
        pytest.skip("a blank behind the JSON changes nothing that it says")
    (copied / part).unlink() if kind == "lost" else DAMAGE[kind](copied / part)
    again = load_or_train(whole.config, store=copied.parent)
    assert same(again, whole) and again.record["metrics"] == whole.record["metrics"]
    told = capfd.readouterr().err.splitlines()
    if (part, kind) == ("record.json", "lost"):
        assert told == []  # that is no finished run, and was none
    else:
        assert len(told) == 1 and str(copied) in told[0] and told[0].endswith("; training it again")


def test_a_damaged_run_among_many_is_trained_as_one_that_is_missing(whole, copied, tiny, capsys):
    other = load_or_train(tiny(epochs=1, method="normal"), store=copied.parent)
    flip(copied / "weights.safetensors")
    found = train_all([whole.config, other.config], store=copied.parent)
    assert same(found[0], whole) and "1 of 2 runs loaded" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["record.json", "weights.safetensors"])
def test_a_run_of_an_older_version_is_read_if_it_can_be(whole, copied, capfd, part, monkeypatch):
    (copied / "sums.json").unlink()
    tensors, metadata = files.read_tensors(copied / "weights.safetensors")
    files.write(copied / "weights.safetensors", files.safetensors.torch.save(tensors, metadata))  # without a seal
    with monkeypatch.context() as patched:
        patched.setattr(runs, "train", lambda *given, **named: pytest.fail("trained again"))
        assert same(load_or_train(whole.config, store=copied.parent), whole)
    DAMAGE["cut"](copied / part)
    assert same(load_or_train(whole.config, store=copied.parent), whole)
    assert capfd.readouterr().err.count("training it again") == 1


def test_another_runs_files_are_not_taken_for_this_one(whole, copied, tiny):
    other = load_or_train(dataclasses.replace(whole.config, seed=1), store=copied.parent)
    shutil.rmtree(copied)
    shutil.copytree(other.folder, copied)
    assert same(load_or_train(whole.config, store=copied.parent), whole)


def test_what_was_looked_up_in_damaged_weights_goes_with_them(whole, copied, digits):
    look_up(Run(whole.config, copied, whole.record), digits.test.images[:5])
    flip(copied / "weights.safetensors")
    assert not (load_or_train(whole.config, store=copied.parent).folder / "lookup").exists()


def test_what_a_killed_process_left_half_written_is_swept(tiny, tmp_path):
    config = tiny(epochs=1)
    for place in (tmp_path / config.name, tmp_path / config.name / "features"):
        place.mkdir()
        (place / ".checkpoint.safetensors.x1y2").write_bytes(b"half a file")
    run = load_or_train(config, store=tmp_path)
    assert not list(run.folder.rglob(".*"))


@pytest.mark.parametrize("kind", ["flipped", "cut", "empty"])
def test_a_damaged_checkpoint_is_told_and_the_run_begins_again(whole, tmp_path, capfd, kind):
    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_train(whole.config, store=tmp_path, on_epoch=stop)
    path = tmp_path / whole.config.name / "checkpoint.safetensors"
    DAMAGE[kind](path)
    epochs = []
    run = load_or_train(whole.config, store=tmp_path, on_epoch=lambda row: epochs.append(row["epoch"]))
    (told,) = capfd.readouterr().err.splitlines()
    assert str(path) in told and told.endswith("; beginning again")
    assert epochs == [1, 2] and same(run, whole)


def test_a_checkpoint_of_another_version_is_refused_not_lost(whole, tmp_path):
    path = tmp_path / whole.config.name / "checkpoint.safetensors"
    files.write_tensors(path, {"model/of/old": torch.zeros(2)}, {"history": "[]", "best_epoch": "null"})
    with pytest.raises(InputError, match=f"{path} is no checkpoint of this version of the code: delete it"):
        load_or_train(whole.config, store=tmp_path)
    assert path.exists()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "some.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True), "c": torch.ones(2, dtype=torch.bfloat16)}
    files.write_tensors(path, tensors, {"of": "this"})
    return path, path.read_bytes(), tensors


@given(where=st.floats(0, 1), bit=st.integers(0, 7))
def test_no_flipped_bit_passes_a_seal(sealed, where, bit):
    path, content, tensors = sealed
    path.write_bytes(content)
    flip(path, where, bit)
    try:
        found, _ = files.read_tensors(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:  # the flip hit a blank, or made another word of "sha256": then what is there is whole
        assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


def fails(monkeypatch, error, when):
    """Renaming fails where when(path) says so."""
    replace = os.replace

    def failing(source, target):
        if when(Path(target)):
            raise error
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", failing)


FULL, READ_ONLY = OSError(28, "No space left on device"), OSError(30, "Read-only file system")


@pytest.mark.parametrize("nth", range(8))
def test_wherever_the_disk_fills_the_next_call_finishes(whole, tmp_path, monkeypatch, nth):
    written = []
    with monkeypatch.context() as patched:
        fails(patched, FULL, lambda path: written.append(path) or len(written) > nth)
        with pytest.raises(InputError) as error:
            load_or_train(whole.config, store=tmp_path)
    assert f"cannot write {written[-1]} (No space left on device)" in str(error.value) and "\n" not in str(error.value)
    assert "what was finished before is safe" in str(error.value)
    assert not list(tmp_path.rglob("*/.*")) and not integrity.finished(tmp_path / whole.config.name)
    assert same(load_or_train(whole.config, store=tmp_path), whole)


def test_there_are_eight_writes_in_a_run_of_two_epochs(whole, tmp_path, monkeypatch):
    """So the test above has filled the disk at each of them."""
    written = []
    fails(monkeypatch, FULL, lambda path: written.append(path.name))
    load_or_train(whole.config, store=tmp_path)
    assert len(written) == 8 and written[-2:] == ["sums.json", "record.json"]


def test_a_store_that_cannot_be_written_can_be_read(whole, copied, digits, monkeypatch, capsys):
    run, images = load_or_train(whole.config, store=copied.parent), digits.test.images[:8]
    expected = look_up(whole, images)
    fails(monkeypatch, READ_ONLY, lambda path: True)
    found = look_up(run, images)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    told = capsys.readouterr().err
    assert told.count(f"not kept, and computed again next time: cannot write {run.folder}") == 1 and "Read-only" in told


def test_a_umap_that_cannot_be_kept_is_made(whole, copied, digits, monkeypatch, capsys):
    seen = look_up(whole, digits.test.images[:8])

    class Flat:
        def __init__(self, **options):
            pass

        def fit(self, clean):
            self.embedding_ = clean[:, :2]
            return self

        def transform(self, noisy):
            return noisy[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Flat))
    fails(monkeypatch, READ_ONLY, lambda path: True)
    assert embed.embedding(Run(whole.config, copied, whole.record), seen).shape == (11, 8, 2)
    assert "not kept" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["flipped", "cut", "other"])
def test_a_damaged_lookup_is_made_again(whole, copied, digits, kind, capsys):
    run, images, path = Run(whole.config, copied, whole.record), digits.test.images[:8], copied / "lookup" / "gaussian.safetensors"
    look_up(run, images)
    expected = look_up(run, images)  # as it was read: what happens to the file afterwards does not reach it
    if kind == "other":  # well-formed, named rightly, and of something else
        files.write_tensors(path, {"features": torch.zeros(3)}, files.read_tensors(path)[1])
    else:
        DAMAGE[kind](path)
    assert all(np.array_equal(a, b) for a, b in zip(look_up(run, images), expected, strict=True))
    assert ("making it again" in capsys.readouterr().err) == (kind != "other")
    files.read_tensors(path)
