"""The training loop: learning rates, exact resume, shared draws, losses that are not finite."""

import dataclasses
import math
import platform
import re
import subprocess
import sys
import time

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, OneCycleLR
from torch.utils._python_dispatch import TorchDispatchMode

from penultimate import InputError, checkpoints, data
from penultimate.batches import learning_rate, stream, training_set, views
from penultimate.data import to_unit
from penultimate.methods import METHODS
from penultimate.model import predict
from penultimate.noise import NOISES
from penultimate.runs import Config, record
from penultimate.study import replication
from penultimate.support import files, machine
from penultimate.support.devices import compiles
from penultimate.train import WORTH_COMPILING, OutOfTime, Trainer, train


def state(trained):
    return trained.model.state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("schedule", ["multistep", "cosine", "onecycle"])
@pytest.mark.parametrize("epochs, steps", [(7, 5), (1, 1), (3, 1), (10, 16)])
def test_learning_rate_equals_torchs_schedulers(tiny, schedule, epochs, steps):
    config = tiny(schedule=schedule, epochs=epochs, lr=0.3, **dict(milestones=(2, 3, 6)) if schedule == "multistep" else {})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = {
        "multistep": lambda: MultiStepLR(optimizer, [m * steps for m in (2, 3, 6)], 0.2),
        "cosine": lambda: CosineAnnealingLR(optimizer, epochs * steps),
        "onecycle": lambda: OneCycleLR(optimizer, 0.3, total_steps=epochs * steps, cycle_momentum=False),
    }[schedule]()
    for step in range(epochs * steps):
        assert learning_rate(config, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-12)
        optimizer.step()
        if step + 1 < epochs * steps:
            scheduler.step()


def test_training_uses_these_rates(tiny, digits):
    history = train(tiny(schedule="multistep", milestones=(1, 2), gamma=0.1, lr=0.05), digits).history
    assert [row["lr"] for row in history] == pytest.approx([0.05, 0.005, 0.0005])


@pytest.fixture(scope="module")
def uninterrupted(tiny, digits, tmp_path_factory):
    """A run, and what its last checkpoint holds: weights, centroids, momenta, best weights."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint"
    return train(tiny(best_on_test=True), digits, checkpoint=path), files.read_tensors(path)[0]


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_resumed_at_the_deadline_equals_uninterrupted(tiny, digits, tmp_path, monkeypatch, uninterrupted, epochs_before):
    clock = iter([0.0] * epochs_before + [2.0] * 9)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: next(clock))
        with pytest.raises(OutOfTime, match=f"{epochs_before} of 3 epochs done"):
            train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c", deadline=1.0)
    torch.manual_seed(99)  # the global generator has no say
    resumed = train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c")
    whole, tensors = uninterrupted
    assert same(state(resumed), state(whole)) and same(files.read_tensors(tmp_path / "c")[0], tensors)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert resumed.best_epoch == whole.best_epoch and same(resumed.best, whole.best)


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_resumed_after_ctrl_c_equals_uninterrupted(tiny, digits, tmp_path, uninterrupted, epochs_before):
    def press(row):
        if row["epoch"] == epochs_before:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c", on_epoch=press)
    seen = []
    resumed = train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c", on_epoch=lambda row: seen.append(row["epoch"]))
    assert seen == list(range(epochs_before + 1, 4))
    assert same(state(resumed), state(uninterrupted[0])) and same(files.read_tensors(tmp_path / "c")[0], uninterrupted[1])


def test_ctrl_c_within_an_epoch_keeps_the_checkpoint_before(tiny, digits, tmp_path, monkeypatch, uninterrupted):
    calls, original = [], METHODS["proposed"]

    def press(*given, **switches):
        calls.append(1)
        if len(calls) == 4:  # 2 steps an epoch: the second step of epoch 2
            raise KeyboardInterrupt
        return original(*given, **switches)

    with monkeypatch.context() as patched:
        patched.setitem(METHODS, "proposed", press)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c")
    assert same(state(train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c")), state(uninterrupted[0]))


def test_a_run_tells_of_every_version_of_the_code_that_trained_it(tiny, digits, tmp_path, monkeypatch):
    def press(row):
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "CODE_VERSION", "earlier")
    for _ in range(2):  # twice in the same place: named once
        with pytest.raises(KeyboardInterrupt):
            train(tiny(epochs=4), digits, checkpoint=tmp_path / "c", on_epoch=press)
    monkeypatch.setattr(machine, "CODE_VERSION", "later")
    trained = train(tiny(epochs=4), digits, checkpoint=tmp_path / "c")
    assert [where["code"] for where in trained.environments] == ["earlier", "later"]
    told = record(tiny(epochs=4), digits, trained, "cpu")
    assert told["environment"]["code"] == "later" and [where["code"] for where in told["earlier_environments"]] == ["earlier"]
    assert "earlier_environments" not in record(tiny(epochs=1), digits, train(tiny(epochs=1), digits), "cpu")


def test_a_finished_checkpoint_needs_no_time(tiny, digits, tmp_path, uninterrupted):
    train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c")
    again = train(tiny(best_on_test=True), digits, checkpoint=tmp_path / "c", deadline=1.0)
    assert same(state(again), state(uninterrupted[0]))


@pytest.mark.parametrize("method", METHODS)
def test_the_configuration_decides_the_weights(tiny, digits, method):
    torch.manual_seed(1)
    one = train(tiny(method=method, epochs=2), digits)
    torch.manual_seed(2)
    assert same(state(one), state(train(tiny(method=method, epochs=2), digits)))
    other = state(train(tiny(method=method, epochs=2, seed=1), digits))
    assert not any(torch.equal(state(one)[name], other[name]) for name in ("backbone.0.0.weight", "embed.weight", "head.weight"))


@pytest.mark.parametrize(
    "switch, value", [("sigma", 0.1), ("noise", "uniform"), ("bn", "clean"), ("delta_v", 0.1), ("mu", 0.5), ("tracking", "naive")]
)
def test_every_switch_reaches_the_training(tiny, digits, switch, value):
    assert not same(state(train(tiny(epochs=2), digits)), state(train(tiny(epochs=2, **{switch: value}), digits)))


def images_of(digits):
    return digits.train.images[:200]


def two(config, images):
    return views(config, images, stream(0, "crop", 0), stream(0, "noise", 0))


@pytest.mark.parametrize("name", ["gaussian", "salt_pepper"])
def test_shared_crops_differ_by_the_noise_alone(tiny, digits, name):
    images = images_of(digits)
    clean, same_view = two(tiny(crops="shared", sigma=0.0, pad=2, flip=True), images)
    assert torch.equal(clean, same_view) and not torch.equal(clean, to_unit(images))
    cropped, noisy = two(tiny(crops="shared", sigma=0.3, pad=2, flip=True, noise=name), images)
    assert torch.equal(cropped, clean)
    assert torch.equal(noisy, NOISES[name](clean, 0.3, stream(0, "noise", 0)).clamp(0, 1)) and not torch.equal(noisy, clean)


def test_independent_crops_are_drawn_for_each_view(tiny, digits):
    clean, other = two(tiny(crops="independent", sigma=0.0, pad=2, flip=True), images_of(digits))
    moved = (clean != other).flatten(1).any(1).float().mean()
    assert float(moved) > 0.9  # 49 in 50 pairs, but for blank borders


def test_views_lie_in_the_unit_range(tiny, digits):
    for view in two(tiny(sigma=1.0), images_of(digits)):
        assert view.dtype == torch.float32 and view.min() >= 0 and view.max() <= 1


def test_methods_share_initial_weights_order_crops_and_noise(tiny, digits, monkeypatch):
    seen = {}
    for method in METHODS:

        def record(model, clean, noisy, labels, *rest, name=method, original=METHODS[method], **switches):  # fmt: skip
            start = [p.detach().clone() for p in model.parameters()] if name not in seen else []
            seen.setdefault(name, start).extend([clean, noisy, labels])
            return original(model, clean, noisy, labels, *rest, **switches)

        monkeypatch.setitem(METHODS, method, record)
        train(tiny(method=method, epochs=2, pad=1, flip=True), digits)
    assert len(seen["normal"]) > 12
    for method in METHODS:
        assert all(torch.equal(a, b) for a, b in zip(seen["normal"], seen[method], strict=True))


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(tiny, digits, monkeypatch):
    seen, original = [], METHODS["normal"]
    monkeypatch.setitem(
        METHODS, "normal", lambda model, clean, *rest, **switches: (seen.append(clean), original(model, clean, *rest, **switches))[1]
    )
    config = tiny(method="normal", epochs=2, batch=50)
    train(config, digits)
    assert [len(batch) for batch in seen] == [50, 50, 28] * 2
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    expected = sorted(image.numpy().tobytes() for image in to_unit(training_set(config, digits).images))
    assert sorted(i.numpy().tobytes() for i in first) == sorted(i.numpy().tobytes() for i in second) == expected
    assert not torch.equal(first, second)


def test_streams_differ_by_seed_use_and_epoch():
    seeds = {stream(seed, name, epoch).initial_seed() for seed in range(5) for name in ("order", "crop", "noise") for epoch in range(20)}
    assert len(seeds) == 5 * 3 * 20


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [("margin",), ("noisy", "ce"), ()])
def test_a_loss_that_is_not_finite_names_step_term_and_batch_and_keeps_the_checkpoint(
    tiny, digits, tmp_path, monkeypatch, bad, which, uninterrupted
):
    config, calls, original, batches = tiny(best_on_test=True, batch=64), [], METHODS["proposed"], []

    def spoil(model, clean, *given, **switches):
        terms = original(model, clean, *given, **switches)
        calls.append(1)
        batches.append(clean)
        return {name: term * (bad if len(calls) == 4 and name in (*which, "total") else 1) for name, term in terms.items()}

    with monkeypatch.context() as patched:
        patched.setitem(METHODS, "proposed", spoil)
        with pytest.raises(FloatingPointError, match=r"not finite at epoch 2, step 2, the batch of .*: lower lr \(0.05\)") as error:
            train(config, digits, checkpoint=tmp_path / "c")
    assert f"the loss ({', '.join(which) or 'total'}) is" in str(error.value)
    rows = [int(row) for row in re.search(r"images ([\d, ]+), \.\.\. \(64 of them\)", str(error.value))[1].split(", ")]
    assert torch.equal(to_unit(training_set(config, digits).images[rows]), batches[3][: len(rows)])
    assert "the checkpoint of epoch 1 is kept" in str(error.value) and "\n" not in str(error.value)
    assert all(t.isfinite().all() for t in files.read_tensors(tmp_path / "c")[0].values())
    assert same(state(train(config, digits, checkpoint=tmp_path / "c")), state(uninterrupted[0]))


@pytest.mark.parametrize("step", [1, 2])
def test_a_gradient_that_is_not_finite_does_not_replace_the_last_good_weights(tiny, digits, tmp_path, monkeypatch, step):
    """Of a finite loss, in epoch 2."""
    calls, original = [], METHODS["proposed"]

    def spoil(*given, **switches):
        terms = original(*given, **switches)
        calls.append(1)
        if len(calls) == 2 + step:
            terms["total"].register_hook(lambda gradient: gradient * float("nan"))
        return terms

    monkeypatch.setitem(METHODS, "proposed", spoil)
    with pytest.raises(FloatingPointError, match=f"the gradient is not finite at epoch 2, step {step}, the batch"):
        train(tiny(), digits, checkpoint=tmp_path / "c")
    assert all(t.isfinite().all() for t in files.read_tensors(tmp_path / "c")[0].values())


def test_weights_that_overflow_do_not_replace_the_last_good_ones(tiny, digits, tmp_path, monkeypatch):
    """A finite gradient that the rate makes too large for float32, in the last step of epoch 2."""
    monkeypatch.setattr("penultimate.train.learning_rate", lambda config, step, steps: 1e38 if step == 3 else 0.05)
    with pytest.raises(FloatingPointError, match="weights are not finite after epoch 2: lower lr"):
        train(tiny(mu=0.0, momentum=0.99, weight_decay=10.0), digits, checkpoint=tmp_path / "c")
    assert all(t.isfinite().all() for t in files.read_tensors(tmp_path / "c")[0].values())


def test_a_constant_channel_and_a_last_batch_of_one_image(tiny, digits):
    blank = dataclasses.replace(digits.train, images=torch.zeros_like(digits.train.images))
    constant = dataclasses.replace(digits, train=blank)
    history = train(tiny(method="normal", images=65, epochs=1), constant).history
    assert history[0]["total"] == pytest.approx(2.3, abs=0.3)  # nothing to see: chance level, ln 10


def test_a_device_that_is_not_there_is_named(tiny, digits):
    with pytest.raises(InputError, match="device 'quantum' cannot be used here"):
        train(tiny(), digits, device="quantum")


def test_a_rate_far_too_high_is_an_error(tiny, digits):
    with pytest.raises(FloatingPointError, match=r"the loss \(ce\) is not finite at epoch \d, step \d, .*: lower lr \(1e\+20\)"):
        train(tiny(method="normal", lr=1e20), digits)


def test_training_set_takes_the_first_of_a_fixed_shuffle(tiny, digits):
    fewer, more = training_set(tiny(images=50), digits), training_set(tiny(images=100, seed=3), digits)
    assert len(fewer) == 50 and torch.equal(fewer.images, more.images[:50]) and torch.equal(fewer.labels, more.labels[:50])
    assert len(more.labels.unique()) == 10
    assert training_set(tiny(images=0), digits) is digits.train


def test_train_on_all_adds_the_validation_images(tiny, digits):
    everything = training_set(tiny(images=0, train_on_all=True), digits)
    assert len(everything) == len(digits.train) + len(digits.validation)
    assert torch.equal(everything.images[-135:], digits.validation.images)
    assert torch.equal(everything.labels[-135:], digits.validation.labels)
    assert not any(name.startswith("validation") for name in train(tiny(train_on_all=True, epochs=1), digits).history[0])


def test_more_images_than_there_are_means_all(tiny, digits):
    assert len(training_set(tiny(images=5000), digits)) == 1212


def test_best_on_test_keeps_the_epoch_of_highest_test_accuracy(tiny, digits):
    trained = train(tiny(method="normal", best_on_test=True, epochs=6, lr=0.3), digits)
    accuracies = [row["test"] for row in trained.history]
    assert trained.best_epoch == 1 + accuracies.index(max(accuracies))
    trained.model.load_state_dict(trained.best)
    assert float((predict(trained.model, to_unit(digits.test.images)) == digits.test.labels).float().mean()) == max(accuracies)


def test_best_on_test_is_not_the_last_epoch_by_construction(tiny, digits, monkeypatch):
    trainer, accuracies = Trainer(tiny(best_on_test=True, epochs=4), digits, "cpu"), iter([0.2, 0.6, 0.6, 0.4])
    right = {}

    def predicted(model, pixels):  # as many right answers on clean test images as the list says
        if len(pixels) == len(digits.test) and pixels.eq(to_unit(digits.test.images)).all():
            right["now"] = next(accuracies)
        wrong = torch.full((len(pixels),), -1)
        if len(pixels) == len(digits.test):
            n = round(right["now"] * len(pixels))
            wrong[:n] = digits.test.labels[:n]
        return wrong

    monkeypatch.setattr("penultimate.train.predict", predicted)
    weights = []
    for epoch in range(4):
        trainer.epoch(epoch)
        weights.append({name: t.clone() for name, t in trainer.model.state_dict().items()})
    assert trainer.best_epoch == 2 and same(trainer.best, weights[1])


def test_without_best_on_test_the_test_images_are_never_looked_at(tiny, digits):
    blank = dataclasses.replace(digits, test=digits.test[:0])
    trained = train(tiny(epochs=2), blank)
    assert not trained.best and trained.best_epoch is None and not any("test" in row for row in trained.history)


def test_history_has_a_row_per_epoch_with_every_term(uninterrupted):
    history = uninterrupted[0].history
    assert [row["epoch"] for row in history] == [1, 2, 3]
    accuracies = {"validation", "validation_noisy", "test", "test_noisy"}
    assert set(history[0]) == {"epoch", "lr", "seconds", "total", "ce", "compact", "noisy", "margin", "reg"} | accuracies
    assert all(0 <= row[name] <= 1 for row in history for name in accuracies)


def test_training_moves_the_centroids_and_ends_in_evaluation_mode(uninterrupted):
    trained, tensors = uninterrupted
    assert not trained.model.training and tensors["loss/tracker.seen"].all()
    assert float(tensors["loss/tracker.centroids"].norm(dim=1).min()) > 0


def test_images_and_weights_are_contiguous_on_the_cpu(tiny, digits):
    """Channels-last corrupts memory there: PyTorch 2.13, a strided 1x1 convolution of fewer than 8 channels."""
    config = tiny(pad=1, flip=True)
    assert all(view.is_contiguous() for view in two(config, images_of(digits)))
    assert all(p.is_contiguous() for p in Trainer(config, digits, "cpu").model.parameters())


@pytest.mark.slow
def test_the_papers_network_takes_ten_steps_on_real_images():
    """Full width, every switch of the authors: ten steps of `proposed` on CIFAR-10 images move all weights and stay finite."""
    if not (data.CACHE / "cifar10.npz").exists():
        pytest.skip(f"no cifar10.npz in {data.CACHE}")
    config = Config(dataset="cifar10", preset="paper", method="proposed", images=80, batch=8, epochs=1, best_on_test=False)
    trainer = Trainer(config, data.load("cifar10"), "cpu")
    assert trainer.batches == 10 and sum(p.numel() for p in trainer.model.parameters()) > 11_000_000
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.epoch(0)
    assert all(not torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))
    assert {"ce", "compact", "noisy", "margin", "reg"} <= set(trainer.history[0]) and math.isfinite(trainer.history[0]["total"])


FAULTS = """import resource, statistics, sys, torch
from penultimate.bench.loss import step
from penultimate.losses import DiscriminativeLoss
from penultimate.support.memory import keep_freed
torch.set_num_threads(1)
if "keep" in sys.argv:
    assert keep_freed()
run, faults = step(DiscriminativeLoss(1000, 128), 1000), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults()]
for _ in range(30):
    run()
    counts.append(faults())
print(statistics.median(b - a for a, b in zip(counts[10:], counts[11:])))"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_memory_saves_the_page_faults_of_a_step():
    """The median of 20 steps, as now and then a step lets the heap grow; some 3,700 a step without, hardly any with."""
    plain, kept = (float(subprocess.check_output([sys.executable, "-c", FAULTS, word], text=True)) for word in ("", "keep"))
    assert kept < plain / 20


@pytest.mark.parametrize(
    "method, bn, passes", [("normal", "joint", 1), ("proposed", "joint", 1), ("proposed", "separate", 2), ("proposed", "clean", 2)]
)
def test_compiled_for_training_alone_in_whole_graphs(tiny, digits, method, bn, passes):
    """As on a GPU, but with a compiler that counts and hands the graph back: every step runs whole graphs, evaluation none."""
    config, ran, graphs = tiny(method=method, bn=bn, images=100), [], []

    def counting(graph, inputs):
        graphs.append(graph)
        return lambda *given: ran.append(len(graphs)) or graph(*given)

    plain, trainer = (Trainer(config, digits, "cpu") for _ in range(2))
    trainer.compile(backend=counting)
    for one in (plain, trainer):
        one.features()
        one.epoch(0)
        one.features()
        one.epoch(1)
    lost = method == "proposed"
    sizes = len({len(rows) for rows in torch.arange(len(trainer.train)).split(config.batch)})
    assert sizes == 2 and torch._dynamo.utils.counters["graph_break"] == {}
    assert len(ran) == 2 * trainer.batches * (passes + lost)  # a graph for the backbone's pass and one for the loss: not one for each block
    assert len(graphs) <= sizes * (passes + 2 * lost) + 2 * lost
    for a, b in zip(plain.model.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert without_seconds(plain.history)[-1]["total"] == pytest.approx(trainer.history[-1]["total"], rel=1e-4)
    torch.compiler.reset()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bn", ["joint", "separate", "clean"])
def test_no_step_looks_at_a_value(tiny, digits, monkeypatch, method, bn):
    """On a GPU a look waits for the device: the first of an epoch is `_check`, after the last step. (On the CPU the loss looks at labels;
    that look is the one thing taken out here.)"""
    looks, steps, plain = [], [], Trainer._descend

    class Looking(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function._opname in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique2"):
                looks.append(function._opname)
            return function(*args, **(kwargs or {}))

    class Checked(Exception):
        pass

    def check(*given):
        raise Checked

    monkeypatch.setattr(Trainer, "_check", check)
    monkeypatch.setattr(Trainer, "_descend", lambda self, *given: steps.append(plain(self, *given)))
    monkeypatch.setattr("penultimate.losses.DiscriminativeLoss._check", lambda *given: None)
    trainer = Trainer(tiny(method=method, bn=bn, crops="independent"), digits, "cpu")
    with Looking(), pytest.raises(Checked):
        trainer.epoch(0)
    assert len(steps) == trainer.batches and looks == []
    with Looking():
        bool(torch.ones(1))
    assert looks  # it would have been seen


def test_runs_of_one_size_share_what_was_compiled(tiny, digits):
    """A second run of the same method compiles nothing, other methods what they add, a run of other sizes all of it again."""
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph

    def compiled(**fields) -> int:
        trainer, before = Trainer(tiny(**fields), digits, "cpu"), len(graphs)
        assert trainer.batches * trainer.config.batch == 128  # no smaller last batch
        trainer.compile(backend=counting)
        trainer.epoch(0)
        return len(graphs) - before

    assert compiled(method="normal") == 1 and compiled(method="noisy", seed=1, lr=0.01) == 0
    assert compiled(method="both") == 1 and compiled(method="proposed") > 0  # two views; the loss
    assert compiled(method="proposed", seed=2, lr=0.01) == compiled(method="stability") == compiled(method="normal", seed=3) == 0
    assert compiled(method="normal", batch=32) == 1 and compiled(method="normal") == 1
    torch.compiler.reset()


def test_what_the_compiler_fails_at_runs_as_it_is_written(tiny, digits):
    def broken(graph, inputs):
        raise RuntimeError("no kernel for this graph")

    plain, trainer = (Trainer(tiny(), digits, "cpu") for _ in range(2))
    trainer.compile(backend=broken)
    for one in (plain, trainer):
        one.epoch(0)
    assert without_seconds(plain.history) == without_seconds(trainer.history)
    torch.compiler.reset()


def test_without_a_working_compiler_training_goes_on_and_a_line_says_so(monkeypatch, capsys):
    def broken(*given, **options):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr("torch.compile", broken)
    assert not compiles.__wrapped__(torch.device("cpu"))
    assert capsys.readouterr().err == "nothing is compiled, which makes training slower: Failed to find C compiler. Please specify via CC\n"


def test_no_epoch_is_begun_that_would_end_after_the_deadline(tiny, digits, tmp_path, monkeypatch):
    """By the epoch before: a first one of 30 s, which compiles, then of 10 s each. A call's first epoch is begun whatever is left."""
    clock, epoch, first = [1000.0], Trainer.epoch, []

    def slow(self, number):
        clock[0] += 10 if self in first else 30
        first.append(self)
        epoch(self, number)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "epoch", slow)
        for name in ("time", "monotonic"):
            patched.setattr(time, name, lambda: clock[0])
        for name, budget, done in (("long", 65, 4), ("less", 59, 1), ("short", 8, 1)):
            with pytest.raises(OutOfTime, match=f"{done} of 5 epochs done"):
                train(tiny(epochs=5), digits, checkpoint=tmp_path / name, deadline=clock[0] + budget)


def test_a_slow_checkpoint_is_written_seldom_and_where_a_call_ends(tiny, digits, tmp_path, monkeypatch, uninterrupted):
    """Where every write counts as slow: the first epoch's, none within SPARSE seconds of it, at the deadline, after the last epoch."""
    monkeypatch.setattr("penultimate.checkpoints.QUICK", -1.0)
    config, written, began = tiny(best_on_test=True), [], []
    save = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda trainer, path: (save(trainer, path), written.append(len(trainer.history))))

    def press(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, digits, checkpoint=tmp_path / "c", on_epoch=press)
    assert written == [1]
    clock = iter([0.0, 2.0])
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: next(clock))
        with pytest.raises(OutOfTime, match="2 of 3 epochs done"):
            train(config, digits, checkpoint=tmp_path / "c", deadline=1.0, on_epoch=lambda row: began.append(row["epoch"]))
    resumed = train(config, digits, checkpoint=tmp_path / "c", on_epoch=lambda row: began.append(row["epoch"]))
    assert began == [2, 3] and written == [1, 2, 3]
    assert same(state(resumed), state(uninterrupted[0])) and same(files.read_tensors(tmp_path / "c")[0], uninterrupted[1])


def test_a_smoke_run_is_long_enough_to_be_compiled_and_a_run_of_digits_is_not():
    def steps(config: Config, images: int) -> int:
        return config.epochs * math.ceil(images / config.batch)

    (smoke,) = {(c.epochs, c.images, c.batch) for c in replication.steps({})[0].configs}
    assert smoke[0] * smoke[1] / smoke[2] >= WORTH_COMPILING > steps(Config(), 1212)
    assert steps(Config(dataset="cifar10", preset="small"), 20_000) > WORTH_COMPILING
