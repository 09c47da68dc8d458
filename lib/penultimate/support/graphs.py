"""On a GPU, a step of training as one CUDA graph: its hundreds of kernels are launched together."""

import contextlib
import gc
import sys
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # calls, in which PyTorch, its compiler and cuDNN prepare what cannot be prepared while a graph is recorded


class Recording:
    """A function of tensors, run as written in its first WARM_UP calls, recorded as a CUDA graph in the next, replayed from then on.

    Inputs of other shapes than the first call's run as written, and everything does where recording fails, which a line says. The function
    is the same in every call, and what it changes stays where it is: a replay reads and writes the memory that the recorded call did. What
    a replay returns is overwritten by the next.
    """

    failed = None  # in this process, the graph whose recording failed: PyTorch is not left as it was, may still look at that graph, and no
    # other is tried

    def __init__(self, device: torch.device):
        self.stream, self.calls = torch.cuda.Stream(device), 0
        self.inputs: list[Tensor] = []
        self.graph, self.outputs = None, None

    def __call__(self, function: Callable, *inputs: Tensor):
        self.inputs = self.inputs or [given.clone() for given in inputs]
        if self.failed or any(kept.shape != given.shape for kept, given in zip(self.inputs, inputs, strict=True)):
            return function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.calls += 1
        if self.calls <= WARM_UP:
            with self._aside():
                return function(*self.inputs)
        if self.graph is None and not self._record(function):
            return function(*self.inputs)
        self.graph.replay()
        return self.outputs

    @contextlib.contextmanager
    def _aside(self):
        """On the stream that is recorded later: the default one cannot be."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def _record(self, function: Callable) -> bool:
        """Record a call, which computes nothing yet; whether that went well."""
        graph, collecting = torch.cuda.CUDAGraph(), gc.isenabled()
        gc.disable()  # a graph of before that is collected meanwhile would end the recording
        try:
            # The outer context gives the current stream back where a recording ends in an error.
            with torch.cuda.stream(torch.cuda.current_stream(self.stream.device)), torch.cuda.graph(graph, stream=self.stream):
                self.outputs = function(*self.inputs)
        except Exception as error:  # a compiler's errors too: what failed runs as written next, where an error of its own shows again
            told = " ".join(str(error.__context__ or error).split())[:200]  # the cause, where ending the recording failed as well
            print(f"no CUDA graph of a step is recorded, which makes training slower: {told}", file=sys.stderr, flush=True)
            Recording.failed, self.outputs = graph, None
            return False
        finally:
            if collecting:
                gc.enable()
        self.graph = graph
        return True
