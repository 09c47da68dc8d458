"""Configurations and their hashes; the store: trains once, loads ever after, waits for others, fails in one line."""

import dataclasses
import gc
import json
import math
import shutil
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from penultimate import InputError, data, jobs, metrics, progress, runs
from penultimate.configs import DEFAULTS
from penultimate.data import to_unit
from penultimate.evaluate import unpack
from penultimate.methods import METHODS
from penultimate.model import predict
from penultimate.runs import PRESETS, Config, load_or_train
from penultimate.support import files
from penultimate.train import OutOfTime, Trainer


def test_a_field_given_with_its_default_does_not_change_the_hash():
    plain = Config(preset="tuned", dataset="cifar10")
    assert Config(preset="tuned", dataset="cifar10", delta_v=0.5, width=64, tracking="partial").hash == plain.hash
    assert {field.name for field in dataclasses.fields(Config)} == {"dataset", "preset", "method", "seed", *DEFAULTS}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_field_given_with_its_value_does_not_change_the_hash(preset):
    plain = Config(preset=preset, method="normal")
    assert Config(preset=preset, method="normal", **PRESETS[preset]) == plain
    assert Config(preset=preset, method="normal", **PRESETS[preset]).hash == plain.hash


def test_the_order_of_fields_does_not_change_the_hash():
    assert Config(epochs=3, lr=0.1, sigma=0.2).hash == Config(sigma=0.2, lr=0.1, epochs=3).hash
    assert Config(schedule="multistep", milestones=[1, 2]).hash == Config(schedule="multistep", milestones=(1, 2)).hash


@pytest.mark.parametrize(
    "field",
    [dict(method="both"), dict(seed=1), dict(preset="small"), dict(dataset="cifar10"), dict(epochs=3), dict(sigma=0.31), dict(mu=0.9),
     dict(flip=True), dict(schedule="multistep"), dict(noise="laplace"), dict(bn="clean"), dict(best_on_test=True), dict(width=64)],
)  # fmt: skip
def test_every_other_value_changes_the_hash(field):
    assert Config(**field).hash != Config().hash and Config(**field).name != Config().name


@pytest.mark.parametrize("field", [dict(milestones=(1,)), dict(gamma=0.5)])
def test_the_fields_of_a_schedule_change_the_hash_with_it(field):
    assert Config(schedule="multistep", **field).hash != Config(schedule="multistep").hash


def test_a_field_added_later_orphans_no_run(monkeypatch):
    before = Config(epochs=3).hash
    monkeypatch.setitem(DEFAULTS, "later", 7)
    monkeypatch.setattr(Config, "later", 7, raising=False)
    assert Config(epochs=3).hash == before


def test_a_configuration_survives_its_record():
    config = Config(method="both", schedule="multistep", milestones=(1, 2), lr=0.3)
    assert Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_defaults_are_the_authors_settings():
    paper = Config(dataset="cifar10", preset="paper")
    expected = dict(
        network="resnet18", width=64, dim=128, delta_v=0.5, delta_d=5.0, compact=0.5, noisy=0.5, margin=1.0, reg=0.001, mu=0.99,
        sigma=0.06, batch=64, lr=0.001,
        momentum=0.9, weight_decay=5e-4, schedule="multistep", milestones=(60, 120, 160), gamma=0.2, epochs=200, pad=4, flip=True,
        crops="independent", bn="separate", train_on_all=True, best_on_test=True,
    )  # fmt: skip
    assert {name: getattr(paper, name) for name in expected} == expected
    for preset in ("digits", "small", "tuned", "brief"):  # the sound choice of every switch
        sound = Config(preset=preset)
        assert (sound.crops, sound.bn, sound.train_on_all, sound.best_on_test) == ("shared", "joint", False, False)


def test_discriminative_puts_the_whole_weight_on_the_clean_view():
    alone = Config(method="discriminative")
    assert (alone.compact, alone.noisy) == (1.0, 0.0) and Config(method="discriminative", compact=0.3).compact == 0.3


@pytest.mark.parametrize(
    "field, message",
    [
        (dict(method="normal2"), "unknown method 'normal2': choose one of normal, noisy, both, stability, discriminative, proposed"),
        (dict(preset="large"), "unknown preset 'large': choose one of digits, small, paper, tuned, brief"),
        (dict(noise="gauss"), "unknown noise 'gauss': choose one of gaussian"),
        (dict(bn="split"), "unknown bn 'split': choose one of joint, separate, clean"),
        (dict(network="vgg"), "unknown network 'vgg'"),
        (dict(schedule="step"), "unknown schedule 'step': choose one of multistep, cosine, onecycle"),
        (dict(crops="random"), "unknown crops 'random': choose one of shared, independent"),
        (dict(tracking="mean"), "unknown centroid tracking 'mean'"),
        (dict(ce_noisy=1.5), "ce_noisy = 1.5 must lie in"),
        (dict(margin=0.0, delta_d=2.0), "delta_d = 2.0 changes nothing with margin = 0: leave it out, or give the margin a weight"),
        (dict(milestones=(1,)), r"milestones = \(1,\) changes nothing with schedule cosine: only multistep has milestones"),
        (dict(gamma=0.5), "gamma = 0.5 changes nothing with schedule cosine: only multistep has gamma"),
        (dict(epochs=0), "epochs = 0 must be positive"),
        (dict(batch=-1), "batch = -1: BatchNorm needs at least 2 images"),
        (dict(width=0), "width = 0 must be positive"),
        (dict(dim=0), "dim = 0 must be positive"),
        (dict(lr=0.0), "lr = 0.0 must be positive"),
        (dict(lr=math.nan), "lr = nan is not a finite float"),
        (dict(sigma=-0.1), "sigma = -0.1 must not be negative"),
        (dict(images=-5), "images = -5 must not be negative"),
        (dict(pad=-1), "pad = -1 must not be negative"),
        (dict(seed=-1), r"seed = -1 is not a whole number from 0 to 2\^63 - 1"),
        (dict(stability=-1.0), "stability = -1.0 must not be negative"),
        (dict(weight_decay=-1e-4), "weight_decay = -0.0001 must not be negative"),
        (dict(delta_v=0.0), "delta_v = 0.0 must be positive"),
        (dict(margin=-1.0), "margin = -1.0 must not be negative"),
        (dict(momentum=-1.0), r"momentum = -1.0 must lie in \[0, 1\)"),
        (dict(batch=1), "batch = 1: BatchNorm needs at least 2 images"),
        (dict(epochs=2.5), "epochs = 2.5 is not a int"),
        (dict(lr="0.1"), "lr = '0.1' is not a finite float"),
        (dict(sigma=math.inf), "sigma = inf is not a finite float"),
        (dict(milestones=(1.5,)), r"milestones = \(1.5,\) is not a tuple of int"),
        (dict(milestones=(2, 2)), r"milestones = \(2, 2\) must rise, from 1 on"),
        (dict(milestones=(0, 2)), r"milestones = \(0, 2\) must rise, from 1 on"),
        (dict(gamma=0.0), "gamma = 0.0 must be positive"),
        (dict(mu=1.0), r"mu = 1.0 must lie in \[0, 1\)"),
    ],
)
def test_a_bad_value_is_named(field, message):
    with pytest.raises(InputError, match=message) as error:
        Config(**field)
    assert "\n" not in str(error.value)


def test_a_grid_pairs_methods_by_seed():
    made = runs.grid(["normal", "both"], [0, 1], epochs=2)
    assert [(c.method, c.seed, c.epochs) for c in made] == [("normal", 0, 2), ("both", 0, 2), ("normal", 1, 2), ("both", 1, 2)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def stored(tiny, store):
    return load_or_train(tiny(epochs=4, best_on_test=True), store=store)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(runs, "train", lambda *given, **named: pytest.fail("trained again"))


def test_a_stored_run_is_loaded(stored, store, no_training, monkeypatch):
    monkeypatch.setattr(runs, "_lock", lambda *given: pytest.fail("wrote to the store"))
    again = load_or_train(stored.config, store=store)
    assert again.record == stored.record and again.history == stored.history
    assert all(torch.equal(a, b) for a, b in zip(again.model.state_dict().values(), stored.model.state_dict().values(), strict=True))


def test_the_record_holds_all_that_a_table_needs(stored, digits):
    record = stored.record
    assert {"name", "config", "environment", "data", "seconds", "metrics", "history"} <= set(record)
    assert record["config"] == json.loads(json.dumps(dataclasses.asdict(stored.config)))
    assert record["data"]["fingerprint"] == digits.fingerprint and record["data"]["provenance"] == digits.provenance
    assert record["data"]["images"] == {"train": 128, "validation": 135, "test": 450} and record["data"]["exact_test"] == 450
    assert {"python", "torch", "device", "threads", "code"} <= set(record["environment"])
    assert record["environment"]["torch"] == torch.__version__ and record["environment"]["threads"] == 1
    assert [row["epoch"] for row in record["history"]] == [1, 2, 3, 4] and record["seconds"]["training"] > 0
    assert set(record["metrics"]) == {"last", "best_on_test"}


def test_the_record_is_strict_json(stored):
    text = (stored.folder / "record.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    json.dumps(stored.record, allow_nan=False)


def test_a_geometry_without_a_value_is_null(tiny, keras_npz, tmp_path):
    path, _ = keras_npz(channels=3, test=3)  # one test image a class: no spread, so radius 0 and an infinite gap
    run = load_or_train(tiny(dataset=str(path), images=0, epochs=1), store=tmp_path)
    geometry = run.record["metrics"]["last"]["geometry"]
    assert geometry["radius"] == 0 and geometry["ratio"] is None and geometry["gap"] is None
    json.dumps(run.record, allow_nan=False)


def test_the_record_tells_what_the_weights_do(stored, digits):
    gaussian = stored.record["metrics"]["last"]["gaussian"]
    right = predict(stored.model, to_unit(digits.test.images)) == digits.test.labels
    correct = unpack(gaussian["correct"])
    assert gaussian["levels"][0] == 0 and correct.shape == (len(gaussian["levels"]), metrics.DRAWS, 450)
    assert (correct[0] == right.numpy()).all()
    assert gaussian["accuracy"][0] == pytest.approx([float(right.float().mean())] * metrics.DRAWS, abs=1e-6)
    for accuracy, of_level in zip(gaussian["accuracy"], correct, strict=True):
        assert accuracy == pytest.approx(of_level.mean(1).tolist(), abs=1e-6)


def test_best_on_test_stands_beside_the_last_epoch(stored):
    best, tests = stored.record["metrics"]["best_on_test"], [row["test"] for row in stored.history]
    assert best["epoch"] == 1 + tests.index(max(tests))
    assert best["gaussian"]["accuracy"][0][0] == pytest.approx(max(tests), abs=1e-5)
    assert stored.record["metrics"]["last"]["gaussian"]["accuracy"][0][0] == pytest.approx(tests[-1], abs=1e-5)


def test_the_store_holds_safetensors_and_json_only(stored):
    assert sorted(path.name for path in stored.folder.iterdir()) == ["features", "record.json", "sums.json", "weights.safetensors"]
    tensors, _ = files.read_tensors(stored.folder / "weights.safetensors")
    assert tensors.keys() == stored.model.state_dict().keys() and not stored.model.training


def test_a_run_interrupted_goes_on_from_its_checkpoint(tiny, tmp_path, stored):
    with pytest.raises(OutOfTime):
        load_or_train(stored.config, store=tmp_path, deadline=1.0)

    def press(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_train(stored.config, store=tmp_path, on_epoch=press)
    epochs = []
    run = load_or_train(stored.config, store=tmp_path, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [3, 4] and run.record["metrics"] == stored.record["metrics"]


def test_who_waits_for_another_process_loads_its_run(stored, tmp_path, capfd, no_training):
    folder, waiting, found = tmp_path / stored.config.name, threading.Event(), []
    lock = FileLock(f"{folder}.lock", thread_local=False)
    with lock:
        reader = threading.Thread(target=lambda: (waiting.set(), found.append(load_or_train(stored.config, store=tmp_path))))
        reader.start()
        assert waiting.wait(5)
        reader.join(0.5)
        assert reader.is_alive() and not found
        shutil.copytree(stored.folder, folder, dirs_exist_ok=True)  # the other process finishes
    reader.join(10)
    assert found[0].record == stored.record
    assert f"{folder.name}: another process is training this run; waiting for it" in capfd.readouterr().err


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_store_that_cannot_be_written_is_named(tiny, tmp_path, below):
    (tmp_path / "file").write_text("in the way")  # root ignores permission bits, but no one can make a folder in a file
    with pytest.raises(InputError, match=f"cannot write the run to {tmp_path}/file.*: free space or make it writable") as error:
        load_or_train(tiny(), store=tmp_path / "file" / below)
    assert "\n" not in str(error.value)


def test_a_full_disk_keeps_the_last_checkpoint(tiny, tmp_path, monkeypatch, stored):
    calls, replace = [], files.os.replace

    def full(*paths):
        calls.append(Path(paths[1]).name)
        if calls.count("checkpoint.safetensors") == 2:
            raise OSError(28, "No space left on device")
        replace(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "replace", full)
        with pytest.raises(InputError, match="cannot write .*checkpoint.safetensors .No space left on device"):
            load_or_train(stored.config, store=tmp_path)
    assert [path.name for path in (tmp_path / stored.config.name).iterdir() if path.is_file()] == [
        "checkpoint.safetensors"
    ]  # and no debris
    assert load_or_train(stored.config, store=tmp_path).record["metrics"] == stored.record["metrics"]


def test_unknown_dataset_is_named(tiny, tmp_path):
    with pytest.raises(InputError, match="unknown dataset 'mnist': choose one of digits, cifar10, svhn"):
        load_or_train(tiny(dataset="mnist"), store=tmp_path)


def test_a_narrow_resnet_trains_on_real_colour_images(tmp_path):
    """A few hundred of CIFAR-10's own images, so that measuring takes seconds."""
    if not (data.CACHE / "cifar10.npz").exists():
        pytest.skip(f"no cifar10.npz in {data.CACHE}")
    cifar, rows = data.load("cifar10"), slice(None, None, 40)
    arrays = {f"x_{part}": getattr(cifar, part).images[rows].permute(0, 2, 3, 1).numpy() for part in ("train", "test")}
    arrays |= {f"y_{part}": getattr(cifar, part).labels[rows].numpy() for part in ("train", "test")}
    np.savez(tmp_path / "some.npz", **arrays)
    run = load_or_train(Config(dataset=str(tmp_path / "some.npz"), preset="small", epochs=8, images=1000, lr=0.01), store=tmp_path)
    clean = np.mean(run.record["metrics"]["last"]["gaussian"]["accuracy"][0])
    assert clean > 0.16  # chance is 0.1, and 250 test images make its standard error 0.02; three epochs are a matter of luck
    assert run.history[-1]["total"] < run.history[0]["total"]


def test_paper_has_every_switch_of_the_authors():
    for method in METHODS:
        config = Config(dataset="cifar10", preset="paper", method=method)
        assert (config.crops, config.best_on_test, config.train_on_all, config.lr) == ("independent", True, True, 0.001)
        assert config.bn == ("joint" if method == "both" else "separate")  # their `both` is one concatenated pass
    assert (Config(dataset="cifar10", preset="paper").sigma, Config(dataset="svhn", preset="paper").sigma) == (0.06, 0.15)


@pytest.mark.parametrize("preset", ["digits", "small", "tuned", "brief"])
def test_the_other_presets_have_the_sound_switches(preset):
    config = Config(dataset="cifar10", preset=preset)
    assert (config.crops, config.bn, config.best_on_test, config.train_on_all) == ("shared", "joint", False, False)


def test_a_preset_left_out_follows_the_data_set():
    assert (Config().preset, Config(dataset="cifar10").preset) == ("digits", "small")


def test_an_npz_of_ones_own_is_trained_and_its_rebuilt_images_told(tiny, keras_npz, tmp_path):
    path, _ = keras_npz(channels=3, train=120, exact_test=[True] * 8 + [False] * 4)
    run = load_or_train(tiny(dataset=str(path), images=0, epochs=1), store=tmp_path)
    gaussian = run.record["metrics"]["last"]["gaussian"]
    assert run.record["data"]["exact_test"] == 8 and gaussian["levels"] == [round(n / 255, 6) for n in (0, 8, 15.3, 16, 24, 32)] + [0.3]
    for accuracy, of_level in zip(gaussian["accuracy_exact"], unpack(gaussian["correct"]), strict=True):
        assert accuracy == pytest.approx(of_level[:, :8].mean(1).tolist(), abs=1e-6)
    assert run.config.name.startswith("set-small-proposed-s0-")


def test_each_run_is_handed_over_as_soon_as_it_is_there(tiny, tmp_path):
    """One from the store, one trained, and then one fails: the others were handed over, and are told to be finished."""
    first, second, wild = tiny(epochs=1), tiny(epochs=1, seed=1), tiny(epochs=1, lr=1e30)
    jobs.train_all([first], store=tmp_path)
    seen, lost = [], []
    with pytest.raises(jobs.RunsFailed, match="1 of 3 runs failed") as error:
        jobs.train_all(
            [second, wild, first], store=tmp_path, on_run=lambda run: seen.append(run.config), on_failure=lambda *given: lost.append(given)
        )
    assert seen == [first, second] and [run.config for run in error.value.finished] == [second, first]
    ((config, reason),) = lost
    assert [config] == list(error.value.reasons) == [wild] and isinstance(reason, FloatingPointError)


def test_an_error_of_the_device_stops_one_run_alone(tiny, tmp_path, monkeypatch, capsys):
    one, other, original = tiny(epochs=1, seed=1), tiny(epochs=1), Trainer.epoch

    def fail(self, epoch):
        if self.config == one:
            raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED\nand a lot more")
        original(self, epoch)

    monkeypatch.setattr(Trainer, "epoch", fail)
    with pytest.raises(jobs.RunsFailed, match="RuntimeError: CUDNN_STATUS_NOT_SUPPORTED$") as error:
        jobs.train_all([one, other], store=tmp_path)
    assert [run.config for run in error.value.finished] == [other]
    assert "Traceback" in capsys.readouterr().err  # a mistake in the code would end here as well


def test_runs_that_memory_is_too_small_for_are_told_once_with_the_mend(tiny, tmp_path, monkeypatch, capsys):
    """On a CPU by PyTorch's own allocator, for which a layer of 10^15 numbers is too much anywhere."""
    monkeypatch.setattr(Trainer, "epoch", lambda self, epoch: torch.empty(10**15))
    with pytest.raises(jobs.RunsFailed) as error:
        jobs.train_all([tiny(seed=0), tiny(seed=1)], store=tmp_path)
    reason = "out of memory on cpu: take a smaller batch (64) or width (8)"
    assert str(error.value).endswith(f"; {tiny(seed=0).name}, {tiny(seed=1).name}: {reason}")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [FloatingPointError, torch.OutOfMemoryError, OSError])
def test_what_stopped_a_run_does_not_keep_its_memory(tiny, tmp_path, monkeypatch, error):
    """Four runs that fail: at the most the last one's trainer is still there."""
    trainers = []

    def fail(self, epoch):
        trainers.append(weakref.ref(self))
        raise error("stopped")

    monkeypatch.setattr(Trainer, "epoch", fail)
    with pytest.raises(jobs.RunsFailed, match="4 of 4 runs failed"):
        jobs.train_all([tiny(seed=seed) for seed in range(4)], store=tmp_path)
    gc.collect()
    assert sum(trainer() is not None for trainer in trainers[:-1]) == 0


def test_a_run_that_is_asked_for_twice_is_trained_and_counted_once(tiny, tmp_path, capsys):
    one, other = tiny(seed=0), tiny(seed=1)
    found = jobs.train_all([one, other, one], store=tmp_path)
    assert [run.config for run in found] == [one, other, one]
    jobs.train_all([one, other, one], store=tmp_path)
    assert "2 of 2 runs loaded from the store" in capsys.readouterr().out
    jobs.train_all([tiny(seed=2), tiny(seed=2)], store=tmp_path, budget=0)
    assert "1 of 1 runs are left" in capsys.readouterr().out


def test_without_a_terminal_two_runs_in_step_both_tell_where_they_are(tiny, monkeypatch, capsys):
    """Epochs 1, 2 and 3 end after 0, 4 and 8 seconds: of each run the first and the third."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "time", lambda: 100 + now[0])
    pair = [tiny(seed=seed, epochs=3) for seed in (0, 1)]
    told = progress.Progress(pair)
    for epoch, now[0] in ((1, 0.0), (2, 4.0), (3, 8.0)):
        for config in pair:
            told.epoch(config, {"epoch": epoch, "total": 0.5, "test": 0.25})
    lines = [f"  {config.name}: epoch {epoch}/3, loss 0.500, test 25.0 %" for epoch in (1, 3) for config in pair]
    assert capsys.readouterr().out.splitlines() == lines


def test_narrow_networks_compute_on_one_thread_however_many_processes_there_are(tiny, tmp_path):
    """So a run stopped under two processes goes on under one to the bit, on a machine of many cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = [
            jobs.train_all(
                [tiny(method=method, epochs=1) for method in ("normal", "both")], store=tmp_path / str(processes), jobs=processes
            )
            for processes in (1, 2)
        ]
    finally:
        torch.set_num_threads(before)
    assert [run.record["environment"]["threads"] for runs in found for run in runs] == [1] * 4
    for one, two in zip(*found, strict=True):
        assert all(torch.equal(one.model.state_dict()[name], tensor) for name, tensor in two.model.state_dict().items())
