"""Steps recorded as a CUDA graph: their rules on a machine without a GPU, by a graph made of PyTorch's operations, and the thing itself."""

import contextlib
import functools
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from penultimate import checkpoints
from penultimate.methods import METHODS
from penultimate.support import graphs
from penultimate.support.graphs import WARM_UP, Recording
from penultimate.train import Trainer

LIB = Path(graphs.__file__).parents[2]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: a CUDA graph is recorded and replayed there alone")


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Operations(TorchDispatchMode):
    """What a CUDA graph is, of operations in place of kernels: each with the tensors it read and wrote, to be run on the same memory again.

    As on a GPU a recording computes nothing: afterwards every tensor from before is what it was, and those made in it hold no number.
    """

    def __init__(self, breaks_at=None, error=None):
        super().__init__()
        self.calls, self.before, self.made, self.replays, self.breaks_at, self.error = [], {}, {}, 0, breaks_at, error

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for tensor in tensors((args, kwargs)):
            if tensor.data_ptr() not in self.made:
                self.before.setdefault(tensor.data_ptr(), (tensor.detach(), tensor.detach().clone()))
        out = function(*args, **kwargs)
        self.made |= {tensor.data_ptr(): tensor for tensor in tensors(out) if tensor.data_ptr() not in self.before}
        self.calls.append((function, args, kwargs, out))
        if len(self.calls) == self.breaks_at:
            raise self.error("operation not permitted\nwhen stream is capturing")
        return out

    @torch.no_grad()
    def forget(self):
        for tensor in self.made.values():
            tensor.fill_(torch.nan if tensor.is_floating_point() else 0)
        for tensor, was in self.before.values():
            tensor.copy_(was)

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for function, args, kwargs, out in self.calls:
            for kept, new in zip(tensors(out), tensors(function(*args, **kwargs)), strict=True):
                if kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


class Stream:
    def __init__(self, device=None):
        self.device = device

    def wait_stream(self, other):
        pass


@pytest.fixture
def recorded(monkeypatch):
    """Stand-ins for what PyTorch needs a GPU for; the graphs that were begun. `breaks`, a number and an error, ends a recording after so
    many calls."""
    begun, breaks = [], []

    def graph():
        begun.append(Operations(*breaks))
        return begun[-1]

    @contextlib.contextmanager
    def recording(one, stream):
        assert not gc.isenabled()
        try:
            with one:
                yield
        finally:
            one.forget()

    monkeypatch.setattr(Recording, "failed", None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    yield begun, breaks
    assert gc.isenabled()


def epochs(trainer, number=2):
    """Train, and look at the network in between, as a run does."""
    for epoch in range(number):
        trainer.features()
        trainer.epoch(epoch)
    return {name: value for name, value in trainer.history[-1].items() if name != "seconds"}


def same_state(one, other):
    found, expected = checkpoints.state(one), checkpoints.state(other)
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bn", ["joint", "separate", "clean"])
def test_recorded_steps_train_as_written_ones_do(tiny, digits, recorded, method, bn):
    """To the bit: weights, statistics, centroids, momenta and every term, with a last batch of another size in each epoch."""
    config = tiny(method=method, bn=bn, images=100, batch=16, tracking="partial")
    plain, trainer = (Trainer(config, digits, "cpu") for _ in range(2))
    trainer.recording = Recording(trainer.device)
    assert epochs(plain) == epochs(trainer) and same_state(trainer, plain)
    (graph,), _ = recorded
    assert graph.replays == 2 * (100 // 16) - WARM_UP and len(trainer.train) % 16
    assert trainer.loss.tracker.seen.all() == (method in ("discriminative", "proposed"))


@pytest.mark.parametrize("breaks_at, error", [(1, RuntimeError), (40, AssertionError), (200, RuntimeError)])
def test_where_recording_fails_steps_run_as_written(tiny, digits, recorded, capsys, breaks_at, error):
    config = tiny(method="proposed", images=100, batch=16)
    plain, trainer = (Trainer(config, digits, "cpu") for _ in range(2))
    begun, breaks = recorded
    breaks += [breaks_at, error]
    trainer.recording = Recording(trainer.device)
    assert epochs(plain) == epochs(trainer) and same_state(trainer, plain)
    assert len(begun) == 1 and not begun[0].replays and len(begun[0].calls) == breaks_at
    told = "no CUDA graph of a step is recorded, which makes training slower: operation not permitted when stream is capturing\n"
    assert capsys.readouterr().err == told
    another = Trainer(config, digits, "cpu")
    another.recording = Recording(another.device)
    assert epochs(another) == epochs(Trainer(config, digits, "cpu")) and len(begun) == 1  # not tried again in this process


def test_what_a_function_keeps_is_read_and_written_where_it_lies(recorded):
    """A sum that grows in place: by hand, with a call of another shape in between."""
    total, recording = torch.zeros(2), Recording(torch.device("cpu"))
    grow = lambda given: (total.add_(given.sum()), total * 2)[1]  # noqa: E731
    for step in range(1, WARM_UP + 4):
        assert recording(grow, torch.full((3,), float(step))).tolist() == [step * (step + 1) * 3.0] * 2
    assert recording(grow, torch.ones(1)).tolist() == [2 * (total[0].item())] * 2  # run as written
    assert recording(grow, torch.zeros(3)).tolist() == (2 * total).tolist()
    assert recorded[0][0].replays == 4


def replayed_and_written(trainer):
    """What a replayed step gives and leaves, and the same step as written, from the same state: name -> (one, the other)."""
    recording, state = trainer.recording, {**trainer.model.state_dict(), **trainer.loss.state_dict()}  # tensors that a step writes into
    start = {name: tensor.clone() for name, tensor in state.items()}
    batch, found = [given.clone() for given in recording.inputs], []
    for step in (functools.partial(recording, trainer._backward), trainer._backward):
        for name, tensor in start.items():
            state[name].copy_(tensor)
        terms, largest, gradients = step(*batch)
        given = terms | {"largest": largest} | {f"gradient {i}": gradient for i, gradient in enumerate(gradients)} | state
        found.append({name: tensor.clone() for name, tensor in given.items()})
    assert any(not torch.equal(found[1][name], tensor) for name, tensor in start.items())  # BatchNorm's averages, at least
    return {name: (tensor, found[1][name]) for name, tensor in found[0].items()}


def test_a_replayed_step_gives_and_leaves_what_the_written_one_does(tiny, digits, recorded):
    trainer = Trainer(tiny(method="proposed", images=100, batch=16), digits, "cpu")
    trainer.recording = Recording(trainer.device)
    epochs(trainer)
    assert trainer.recording.graph and all(torch.equal(*both) for both in replayed_and_written(trainer).values())


@needs_gpu
@pytest.mark.parametrize(
    "method, bn, compiled",
    [(*one, False) for one in (("normal", "joint"), ("both", "separate"), ("stability", "joint"), ("proposed", "joint"))]
    + [("proposed", "clean", False), ("proposed", "joint", True), ("proposed", "clean", True)],
)
def test_on_a_gpu_a_replayed_step_gives_and_leaves_what_the_written_one_does(tiny, digits, method, bn, compiled, capsys):
    """Up to rounding, where a kernel adds in no fixed order. One step: over many, bfloat16's last bits grow to differences of weights."""
    plain, trainer = (Trainer(tiny(method=method, bn=bn, images=100, batch=16), digits, "cuda") for _ in range(2))
    trainer.compile() if compiled else setattr(trainer, "recording", Recording(trainer.device))
    expected, found = epochs(plain), epochs(trainer)
    assert trainer.recording.graph and not Recording.failed and "CUDA graph" not in capsys.readouterr().err
    assert found["total"] == pytest.approx(expected["total"], rel=0.05)
    for name, (replayed, written) in replayed_and_written(trainer).items():
        if not written.is_floating_point():
            assert torch.equal(replayed, written), name
        else:
            apart, size = (replayed - written).float().norm(), written.float().norm()
            assert apart <= (0.05 if name.startswith("gradient") else 1e-3) * size + 1e-6, (name, float(apart), float(size))


LOOKING = """
import torch
from penultimate.support.graphs import Recording
recording, total = Recording(torch.device("cuda")), torch.zeros(3, device="cuda")
def look(given):
    if given.sum().item() < 0:  # what no recorded step may do: the device is waited for
        return given
    return total.add_(given).clone()
for step in range(1, 8):
    found = recording(look, torch.ones(3, device="cuda"))
    assert found.tolist() == [step] * 3, (step, found)
assert Recording.failed
"""


@needs_gpu
def test_on_a_gpu_what_cannot_be_recorded_runs_as_written():
    """In a process of its own, which a failed recording does not leave as it was."""
    done = subprocess.run([sys.executable, "-c", LOOKING], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(LIB)})
    assert done.returncode == 0 and "no CUDA graph of a step is recorded" in done.stderr, done.stderr
