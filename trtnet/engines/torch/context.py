"""Contexts of the torch backend: one execution at a time, on memory given by address."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from trtnet.engines.protocol import CaptureError, Replay
from trtnet.engines.torch.compiled import CompiledGraph, Forward, Shapes
from trtnet.errors import ExecutionError, NetworkError, OutOfMemoryError, TrtnetError
from trtnet.plugins.tensor_views import tensor_at
from trtnet.reference.dtypes import DTYPES
from trtnet.reference.runner import execute

_CPU = torch.device("cpu")
_FAILURES = (RuntimeError, IndexError, ValueError, TypeError, AssertionError)


class Contexts(Protocol):
    """Makes the contexts of one engine, and owns what they share."""

    @property
    def built(self) -> Sequence[tuple[Shapes, fx.GraphModule]]:
        """The modules that were built for input shapes, and may still run."""

    def create(self) -> TorchContext:
        """A new context."""

    def building(self) -> AbstractContextManager[None]:
        """Inside of it modules are built as contexts build them, and no context works."""

    def forget(self) -> None:
        """Forgets what was built, for an engine whose module is replaced."""

    def close(self) -> None:
        """Releases what the contexts share; they are closed before."""


class CpuContexts:
    """Makes contexts that run on the CPU; they share the compiled graph only."""

    built: Sequence[tuple[Shapes, fx.GraphModule]] = ()

    def __init__(self, compiled: CompiledGraph) -> None:
        self._compiled = compiled

    def create(self) -> TorchContext:
        """A new context."""
        return TorchContext(self._compiled)

    def building(self) -> AbstractContextManager[None]:
        """Does nothing."""
        return nullcontext()

    def forget(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class TorchContext:
    """Runs on the CPU; see :class:`trtnet.engines.protocol.Context`.

    Attributes:
        compiled: the graph it runs.
    """

    runs_aside = False
    captures_at_once = True

    def __init__(self, compiled: CompiledGraph) -> None:
        self.compiled = compiled
        self._inputs = tuple(binding for binding in compiled.bindings if binding.is_input)
        self._dtypes = {binding.name: DTYPES[binding.dtype] for binding in compiled.bindings}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Callable[[int], int]] = {}
        self._final: dict[str, tuple[int, ...]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Sets the shape of an input for the executions that follow."""
        self._shapes[name] = tuple(shape)

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every output for these input shapes; -1 for an axis that depends on the data."""
        values = {
            binding.name: tuple(self._view(binding.name, _CPU).flatten().tolist())
            for binding in self._inputs
            if binding.on_host
        }
        found = self.compiled.output_shapes(self._shapes, values)
        self._final = dict(found)
        return found

    def set_tensor_address(self, name: str, address: int) -> None:
        """Sets where an input is read or an output written."""
        self._addresses[name] = address
        self._allocators.pop(name, None)

    def set_output_allocator(self, name: str, allocate: Callable[[int], int]) -> None:
        """Has `allocate` called with the bytes of an output once its size is known; it returns
        the address to write it to."""
        self._allocators[name] = allocate

    def final_shape(self, name: str) -> tuple[int, ...]:
        """The shape that output `name` has after the execution."""
        return self._final[name]

    def execute(self, stream: int) -> None:
        """Runs once.

        Raises:
            ExecutionError: a layer that fails, by name; :class:`OutOfMemoryError` where memory is
                the reason.
        """
        with self._on(stream), self._named():
            self._run()

    def capture(self, stream: int) -> Replay:
        """Always raises :class:`CaptureError`."""
        raise CaptureError("there are no CUDA graphs on a CPU")

    def profile(self, stream: int) -> list[tuple[str, float]]:
        """Runs once; returns the milliseconds of each layer, by name, in execution order."""
        timer = _Timer(self.compiled.module, self._mark)
        with self._on(stream), self._named():
            self._deliver(timer.run(*self._arguments()))
        return timer.rows(self._milliseconds)

    def close(self) -> None:
        """Forgets shapes and addresses."""
        self._shapes, self._addresses, self._allocators = {}, {}, {}

    @contextmanager
    def _on(self, stream: int) -> Iterator[None]:
        """Enqueues the work done inside on `stream`."""
        with torch.inference_mode():
            yield

    def _mark(self) -> Any:
        """The moment between the work enqueued before and after it."""
        return time.perf_counter()

    def _milliseconds(self, start: Any, end: Any) -> float:
        return float(1e3 * (end - start))

    def _run(self, forward: Forward | None = None) -> None:
        forward = self.compiled.forward if forward is None else forward
        self._deliver(forward(*self._arguments()))

    def _arguments(self) -> list[Tensor]:
        return [
            self._view(binding.name, _CPU if binding.on_host else self.compiled.device)
            for binding in self._inputs
        ]

    def _view(
        self, name: str, device: torch.device, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        shape = self._shapes[name] if shape is None else shape
        return tensor_at(self._addresses[name], shape, self._dtypes[name], device)

    def _deliver(self, results: dict[str, Tensor]) -> None:
        """Copies the results to the addresses of the outputs."""
        for name, value in results.items():
            shape = tuple(value.shape)
            if name in self._allocators:
                nbytes = math.prod(shape) * self._dtypes[name].itemsize
                self._addresses[name] = self._allocators[name](nbytes)
            elif shape != self._final[name]:
                raise ExecutionError(
                    "the output has another shape than the inputs' shapes promise",
                    module=name,
                    expected=self._final[name],
                    got=shape,
                )
            self._final[name] = shape
            self._view(name, self.compiled.device, shape).copy_(value)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turns PyTorch's errors into errors that name the layer."""
        try:
            yield
        except TrtnetError:
            raise
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(error) from error
        except _FAILURES as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ExecutionError:
        """The error for `error`; finds the layer that fails by running layer by layer."""
        where, words = None, str(error)
        if not isinstance(error, getattr(torch, "AcceleratorError", ())):  # nothing runs after it
            try:
                execute(self.compiled.module, self._arguments())
            except NetworkError as found:
                where, words = found.module, str(found.got)
            except torch.OutOfMemoryError as found:
                return _out_of_memory(found)
            except _FAILURES:
                pass  # another failure; the first one is reported
        return ExecutionError("the layer fails on these inputs", module=where, got=words)


def _out_of_memory(error: Exception) -> OutOfMemoryError:
    return OutOfMemoryError(
        "PyTorch is out of memory",
        got=str(error).partition(" If reserved")[0],
        fix="use a smaller batch or image, or free memory; the session can still be used",
    )


class _Timer(fx.Interpreter):
    """Runs a module and records the time after every node."""

    def __init__(self, module: fx.GraphModule, mark: Callable[[], Any]) -> None:
        super().__init__(module)
        self.extra_traceback = False  # errors name the layer instead of a line of generated code
        self._mark = mark
        self._marks: list[tuple[str, Any]] = []

    def run_node(self, n: fx.Node) -> Any:
        if not self._marks:
            self._marks.append(("", self._mark()))
        result = super().run_node(n)
        if n.op.startswith("call"):
            self._marks.append((_layer(n), self._mark()))
        return result

    def rows(self, milliseconds: Callable[[Any, Any], float]) -> list[tuple[str, float]]:
        """The milliseconds of each layer, in the order of their first nodes."""
        found: dict[str, float] = {}
        for (_, start), (name, end) in zip(self._marks, self._marks[1:], strict=False):
            found[name] = found.get(name, 0.0) + milliseconds(start, end)
        return list(found.items())


def _layer(node: fx.Node) -> str:
    """The layer that `node` computes; a conversion belongs to the layer that uses its result."""
    while "layer" not in node.meta and node.users:
        node = next(iter(node.users))
    return str(node.meta.get("layer", node.name))
