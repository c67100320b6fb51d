"""What a session asks of a backend: engines, contexts, and captured launches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from trtnet.building.profiles import Shapes
from trtnet.errors import TrtnetError


class ExecutionError(TrtnetError):
    """An engine that could not be loaded onto the device, or an execution that failed."""


class OutOfMemoryError(ExecutionError):
    """Too little memory on the device; everything that was there still works."""


class CaptureError(TrtnetError):
    """Work that a CUDA graph cannot hold; the caller goes on without one."""


@dataclass(frozen=True)
class Binding:
    """An input or output of an engine.

    Attributes:
        name: of the tensor.
        dtype: ``"float32"``, ``"float16"``, ``"int64"`` ..., as :class:`trtnet.DType` spells them.
        shape: -1 for an axis that depends on the profile, the input shapes or the data.
        is_input: an input rather than an output.
        on_host: its values are read, or written, in host memory (TensorRT's shape tensors).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool
    on_host: bool = False


class Engine(Protocol):
    """A loaded engine. Its contexts may run at the same time in different threads.

    Attributes:
        backend: ``"tensorrt"``, ``"rtx"`` or ``"torch"``.
        device: where addresses point: ``"cpu"``, or ``"cuda"`` for the current CUDA device.
        bindings: inputs, then outputs, in the network's order.
        profiles: per optimization profile, the range of every input that is not `on_host`;
            at least one, that of a static engine being its fixed shapes.
    """

    backend: str
    device: str
    bindings: tuple[Binding, ...]
    profiles: tuple[Mapping[str, Shapes], ...]

    def create_context(self, profile: int) -> Context:
        """A context of its own for the optimization profile with that index."""

    def close(self) -> None:
        """Releases the engine; its contexts are closed before."""


class Context(Protocol):
    """One execution at a time, in this order: the shapes of all inputs (and addresses of inputs
    `on_host`), :meth:`output_shapes`, the addresses of everything else, then :meth:`execute` or
    :meth:`capture`. Shapes and addresses hold until they are changed."""

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None: ...

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every output for these input shapes; -1 for an axis that depends on the data."""

    def set_tensor_address(self, name: str, address: int) -> None:
        """Where an input is read or an output written; host memory for a binding `on_host`."""

    def set_output_allocator(self, name: str, allocate: Callable[[int], int]) -> None:
        """For an output whose shape depends on the data, instead of an address: called while
        executing with a number of bytes, gives an address."""

    def execute(self, stream: int) -> None:
        """Enqueues one execution on the CUDA stream (0 on a CPU, where it ends before returning).

        Raises:
            ExecutionError: names what failed, with the backend's own words; an
                :class:`OutOfMemoryError` where that is the reason.
        """

    def final_shape(self, name: str) -> tuple[int, ...]:
        """Of an output with an allocator, once the execution has ended."""

    def capture(self, stream: int) -> Replay:
        """The execution as one launch, for these shapes and addresses. `stream` is idle and not
        the default one; the execution has run once before.

        Raises:
            CaptureError: why it cannot be captured. The context can still :meth:`execute`.
        """

    def profile(self, stream: int) -> list[tuple[str, float]]:
        """Executes once and gives each layer's name and milliseconds, in order."""

    def close(self) -> None: ...


class Replay(Protocol):
    """A captured execution.

    Attributes:
        is_standalone: whether it holds its addresses itself, and may be launched on CUDA's default
            stream too; otherwise it executes the context as that now is.
    """

    is_standalone: bool

    def launch(self, stream: int) -> None: ...

    def close(self) -> None: ...
