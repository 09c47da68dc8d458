"""What is measured side by side computes the same: otherwise a ratio says nothing."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from penultimate.bench import card, compare, gpu, hessian, loss, pipeline, startup, step
from penultimate.bench.loss import LoopLoss
from penultimate.curvature import hessian as exact_hessian
from penultimate.curvature import input_curvature
from penultimate.data import HOME
from penultimate.evaluate import correctness
from penultimate.losses import DiscriminativeLoss
from penultimate.runs import Config
from penultimate.train import Trainer, train


def test_the_loop_over_classes_is_the_loss_over_several_steps(random_batch):
    ours, plain = DiscriminativeLoss(5, 3).double(), LoopLoss()
    for seed in range(4):
        b = random_batch(seed)
        leaves = [t.requires_grad_() for t in (b.q, b.noisy, b.weight, b.bias)]
        found, wanted = (loss(b.q, b.labels, SimpleNamespace(weight=b.weight, bias=b.bias), b.noisy) for loss in (ours, plain))
        assert found.total.item() == pytest.approx(wanted.item(), rel=1e-10)
        for mine, its in zip(torch.autograd.grad(found.total, leaves), torch.autograd.grad(wanted, leaves), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-12)


def test_the_plain_epoch_ends_with_the_same_weights():
    fast, plain = (Trainer(step.config(4, 16, bn="separate"), step.random_images(48), "cpu") for _ in range(2))
    for trainer in (fast, plain):
        trainer.model.double(), trainer.loss.double()
    plain_loss, optimizer = LoopLoss(), step.plain_optimizer(plain.model, plain.config)
    for epoch in range(2):
        with pytest.MonkeyPatch.context() as patch:
            for module in ("penultimate.train", "penultimate.bench.step"):
                views = sys.modules[module].views
                patch.setattr(f"{module}.views", lambda *given, views=views: tuple(v.double() for v in views(*given)))
            fast.epoch(epoch)
            step.plain_epoch(plain, optimizer, plain_loss, epoch)
    for (name, mine), its in zip(fast.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.slow
def test_training_in_bfloat16_ends_within_the_interval_of_float32_seeds(digits, monkeypatch):
    """Autocast as on a GPU, forced on the CPU: accuracies on clean and noisy test images in the 95 % prediction interval of 5 seeds."""

    def trained(seed):
        model = train(Config(method="proposed", seed=seed, width=8, epochs=4), digits).model
        return model, correctness(model, digits.test.images, digits.test.labels, "gaussian", (0.0, 0.3), 3).mean((1, 2))

    runs = [trained(seed) for seed in range(5)]
    accuracies = np.array([found for _, found in runs])
    reach = stats.t.ppf(0.975, 4) * accuracies.std(0, ddof=1) * (1 + 1 / 5) ** 0.5
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, *dtype, enabled: autocast(device, *dtype, enabled=enabled or bool(dtype)))
    model, found = trained(0)
    assert not torch.equal(model.head.weight, runs[0][0].head.weight), "autocast was off"
    assert (abs(found - accuracies.mean(0)) < reach).all(), (found, accuracies.mean(0), reach)


def test_the_plain_curvature_and_hessian_are_the_same():
    model, (images, labels) = hessian.network("small", 4, 1).double(), hessian._batch(1, 8, 4)
    images = images.double()
    found = input_curvature(model, images, labels, probes=3)
    assert hessian.plain_curvature(model, images, labels, probes=3).tolist() == pytest.approx(found.tolist(), rel=1e-10)
    rows = hessian.plain_hessian(model, images, labels)
    torch.testing.assert_close(exact_hessian(model, images, labels), rows, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(exact_hessian(model, images, labels, method="piecewise_linear"), rows, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(not loss.compiles(), reason="no C++ compiler, which torch.compile takes on a CPU")
def test_the_compiled_loss_is_the_loss(random_batch):
    plain, quick = (DiscriminativeLoss(5, 3).double() for _ in range(2))
    compiled = torch.compile(quick, fullgraph=True, dynamic=False)
    for seed in range(3):
        b = random_batch(seed)
        head = torch.nn.Linear(3, 5).double()
        torch.nn.utils.vector_to_parameters(torch.cat([b.weight.flatten(), b.bias]), head.parameters())
        leaves = [b.q.requires_grad_(), b.noisy.requires_grad_(), head.weight, head.bias]
        found, wanted = (one(b.q, b.labels, head, b.noisy) for one in (compiled, plain))
        torch.testing.assert_close(tuple(found), tuple(wanted), rtol=1e-10, atol=1e-12)
        for mine, its in zip(torch.autograd.grad(found.total, leaves), torch.autograd.grad(wanted.total, leaves), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(quick.tracker.centroids, plain.tracker.centroids, rtol=1e-10, atol=1e-12)


def test_every_missed_row_has_its_reason():
    """Measured within it: a part that took longer than the whole would be none. A step's reason is where its time goes."""
    for name in ("loss", "step", "pipeline", "noise_sweep", "hessian", "startup"):
        record = json.loads((HOME / "data" / "records" / "bench" / f"{name}.json").read_text())
        missed = {row["what"]: row for row in record["rows"] if not row["kept"]}
        if "shares" in record:
            assert all(sum(parts.values()) == pytest.approx(1) for parts in record["shares"].values())
        else:
            assert missed.keys() <= record.get("reasons", {}).keys(), name
            assert all(0 < record["reasons"][what][1] <= row["ours"] for what, row in missed.items() if row["unit"] == "ms"), name


def test_the_common_pipeline_gives_the_same_kind_of_views():
    clean, noisy = pipeline.TwoViews(step.random_images(2).train.images, sigma=0.06)[1]
    assert clean.shape == noisy.shape == (3, 32, 32) and 0 <= noisy.min() <= noisy.max() <= 1
    assert 0.02 < float((noisy - clean).std()) < 0.06  # clamped


def test_the_shares_of_a_step_make_a_whole():
    (parts,) = step.shares({"tiny": (8, 16, 2)}).values()
    assert list(parts) == ["convolutions", "batch norm", "the loss", "the rest"] and sum(parts.values()) == pytest.approx(1)
    assert all(0 < share < 1 for share in parts.values()) and parts["convolutions"] > parts["batch norm"]


def test_the_faster_of_two_is_seen_and_a_missed_target_is_called_missed():
    slow, quick = lambda: sum(range(20_000)), lambda: sum(range(1000))
    row = compare.faster("few", "many", 2, quick, slow, rounds=3)
    assert row.kept and row.ratio > 2 and row.ours < row.theirs
    missed = compare.faster("many", "few", 2, slow, quick, rounds=3)
    around = {"device": "CPU", "threads": 1, "cores": 2, "load": 0.1, "torch": "2"}
    table = compare.markdown({"x": {"environment": around, "rows": [row._asdict(), missed._asdict()]}})
    assert table.count("kept") == 1 and table.count("missed") == 1 and "load 0.1" in table and "profiler" not in table
    shared = {"environment": around, "rows": [row._asdict()], "shares": {"narrow": {"convolutions": 0.625, "the rest": 0.375}}}
    assert compare.markdown({"x": shared}).endswith("profiler. narrow: convolutions 62.5%, the rest 37.5%.*")
    told = {"environment": around, "rows": [row._asdict(), missed._asdict()], "reasons": {"many": ("its first half", missed.ours / 2)}}
    assert compare.markdown({"x": told}).endswith(
        f"many: its first half {compare.number(missed.ours / 2)} ms, all of it {compare.number(missed.ours)}.*"
    )
    assert "missed rows" not in compare.markdown({"x": told | {"reasons": {"few": ("of a kept row", 1.0)}}})


def test_the_cold_start_ends_at_the_first_training_step(tmp_path):
    startup.wall("-c", startup.UNTIL_FIRST_STEP, *startup.TRAIN, PENULTIMATE_CACHE=str(tmp_path))
    written = sorted(path.name for path in tmp_path.rglob("*.*") if path.is_file() and path.suffix != ".lock")
    assert written == ["epoch-0000.safetensors"]  # features before training: no epoch was finished, nothing was measured


def test_the_rows_of_a_gpu_on_the_cpu():
    rows = gpu.epochs("cpu", images=48, width=2, batch=16, small_batch=8, rounds=1, workers=0, side=64)
    assert [row.unit for row in rows] == ["s", "TFLOP/s", "TFLOP/s"] and all(row.ours > 0 and row.theirs > 0 for row in rows)
    assert rows[1].ours == pytest.approx(2 * 48 * gpu.flops(2) / rows[0].ours / 1e12) and rows[1].ratio == pytest.approx(
        rows[1].ours / rows[1].theirs
    )


def test_the_rows_of_a_card_on_the_cpu(monkeypatch, capsys):
    rows = card.epochs("cpu", images=48, width=2, rounds=1, side=64, backend="eager", batch=16)
    assert [row.unit for row in rows] == ["images/s", "TFLOP/s"] * 2 and all(row.ours > 0 and row.theirs > 0 for row in rows)
    for row, share in (rows[:2], rows[2:]):
        assert row.ratio == pytest.approx(row.ours / row.theirs)  # one round
        assert share.ours == pytest.approx(max(row.ours, row.theirs) * card.flops(2) / 1e12)
        assert share.ratio == pytest.approx(share.ours / share.theirs)
    for few in ("metrics.DRAWS", "metrics.PROBES"):
        monkeypatch.setattr(f"penultimate.{few}", 1)
    monkeypatch.setattr("penultimate.metrics.CURVED", 8)
    row = card.measuring(2.0, "cpu", images=40, width=2)
    assert row.theirs == 2 and row.ratio == pytest.approx(2 / row.ours) and row.kept == (row.ours < 8)
    told = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in told[:2]] == ["card: normal", "card: proposed"] and told[2].startswith("card: accuracies ")


def test_flops_are_those_of_the_layers_by_hand():
    """Multiply-adds of a convolution: outputs x inputs x 9 a pixel; twice as many FLOPs, thrice with the backward pass."""
    w, total, last = 4, 0, 4
    stem = 32 * 32 * w * 3 * 9
    for side, width in ((32, w), (16, 2 * w), (8, 4 * w), (4, 8 * w)):
        total += side**2 * 9 * (last * width + 3 * width**2) + side**2 * last * width * (last != width)
        last = width
    total += 8 * w * 128 + 128 * 10
    assert gpu.flops(w) == 2 * (2 * stem + 3 * total)  # the images need no gradient


@pytest.mark.slow
def test_seeds_together_and_one_after_another():
    row = gpu.seeds("cpu", count=2, images=100, epochs=1, width=2)
    assert min(row.ours, row.theirs) > 0.05, "loaded, not trained"
    assert row.what.startswith("2 seeds of proposed") and row.ratio == pytest.approx(row.theirs / row.ours)


@pytest.mark.slow
def test_the_command_measures_and_names_what_it_does_not_know(tmp_path):
    call = [sys.executable, "-m", "penultimate", "bench", "--records", str(tmp_path), "--names"]
    done = subprocess.run([*call, "loss"], capture_output=True, text=True)
    assert done.returncode == 0 and "10 classes" in done.stdout
    assert json.loads((tmp_path / "loss.json").read_text())["environment"]["threads"] == 1
    if not torch.cuda.is_available():
        bare = subprocess.run([*call, "card,gpu"], capture_output=True, text=True)
        assert bare.returncode == 0 and not bare.stdout
        assert bare.stderr.splitlines() == [f"{name}: its rows need a CUDA GPU, and are left out" for name in ("card", "gpu")]
    wrong = subprocess.run([*call, "speed"], capture_output=True, text=True)
    assert wrong.returncode and "unknown measurement 'speed'" in wrong.stderr and "Traceback" not in wrong.stderr


def test_every_committed_measurement_is_whole():
    for name in ("loss", "step", "pipeline", "noise_sweep", "hessian", "startup"):
        record = json.loads((HOME / "data" / "records" / "bench" / f"{name}.json").read_text())
        assert record["rows"] and all(compare.Row(**row).ratio > 0 for row in record["rows"])
        assert {"device", "threads", "cores", "load", "torch"} <= record["environment"].keys()
