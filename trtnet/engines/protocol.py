"""Interfaces between a session and the engines of a backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.engines.device import Device
from trtnet.errors import ExecutionError, TrtnetError

if TYPE_CHECKING:
    from trtnet.building.refitting import EngineChange


class CaptureError(TrtnetError):
    """Work that a CUDA graph cannot hold; it is executed without a graph."""


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
        backend: the backend's name, such as ``"tensorrt"``.
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
        """A new context for the optimization profile with that index."""

    def close(self) -> None:
        """Releases the engine; its contexts are closed before."""


class PreparedRefit(Protocol):
    """Other weights for a running engine, ready to be put in.

    Attributes:
        keeps_contexts: whether contexts and captured graphs can be used afterwards; known once it
            was applied.
    """

    @property
    def keeps_contexts(self) -> bool:
        """See above."""

    def apply(self) -> bytes:
        """Puts the weights in, all or none; returns the bytes of the new engine. Nothing executes
        meanwhile, and no interrupt reaches it.

        Raises:
            LostWeightsError: neither all nor none; the engine must not run any more.
            ExecutionError: none.
        """


class RefittableEngine(Engine, Protocol):
    """An engine that can get other weights while it is loaded."""

    def prepare_refit(self, plan: Plan, change: EngineChange) -> PreparedRefit:
        """Prepares `change`; executions go on meanwhile.

        Args:
            plan: that the engine has now.

        Raises:
            PlanError: `change` does not fit the engine.
            ExecutionError: there is too little memory for it.
        """


@dataclass(frozen=True)
class LoadOptions:
    """How an engine is loaded; see the arguments of :class:`trtnet.Session`.

    Attributes:
        backend: the backend's name.
        path: the plan's file, beside which compiled kernels are kept; ``None`` for a plan that
            is only in memory.
        cuda_graph: let the backend launch its work as CUDA graphs.
        compile: apply ``torch.compile``.
        runtime: what runs the engine, see :class:`trtnet.Session`.
        engine_host_code_allowed: the user trusts the code that the engine brings.
        optimization_level: how much the torch backend's builder times, 0 to 5; ``None`` for its
            default.
        timing_cache: the file in which it keeps its choices.
        runtime_cache: the file in which TensorRT-RTX keeps the kernels that it compiles; ``None``
            for ``<path>.cache``.
    """

    backend: str
    path: str | os.PathLike[str] | None = None
    cuda_graph: bool = True
    compile: bool = False
    runtime: str = "torch"
    optimization_level: int | None = None
    timing_cache: str | os.PathLike[str] | None = None
    runtime_cache: str | os.PathLike[str] | None = None
    engine_host_code_allowed: bool = False


class EngineLoader(Protocol):
    """Loads engines of one backend; see :class:`trtnet.backend.BackendDescription`."""

    def __call__(self, plan: Plan, device: Device, options: LoadOptions) -> Engine:
        """The engine of `plan` on `device`, which is the current one.

        Raises:
            BackendError: the backend, or what it needs, is not installed.
            PlanError: the engine is not for this device.
            ExecutionError: the device cannot load the engine.
        """


class Context(Protocol):
    """One execution at a time, in this order: the shapes of all inputs (and addresses of inputs
    `on_host`), :meth:`output_shapes`, the addresses of everything else, then :meth:`execute` or
    :meth:`capture`. Shapes and addresses hold until they are changed.

    Attributes:
        runs_aside: whether :meth:`execute` belongs into :meth:`Device.aside`, because it calls
            Python back, or sets flags of the whole process, so that no interrupt may reach it.
        captures_at_once: whether :meth:`capture` needs no execution before.
    """

    runs_aside: bool
    captures_at_once: bool

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Sets the shape of an input; output shapes must be asked for again afterwards."""

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every output for these input shapes; -1 for an axis that depends on the
        data."""

    def set_tensor_address(self, name: str, address: int) -> None:
        """Sets where an input is read or an output written; in host memory for a binding
        `on_host`."""

    def set_output_allocator(self, name: str, allocate: Callable[[int], int]) -> None:
        """For an output whose shape depends on the data, instead of an address: `allocate` is
        called while executing with a number of bytes, and gives an address."""

    def execute(self, stream: int) -> None:
        """Enqueues one execution on the CUDA stream. On a CPU `stream` is 0, and the execution
        has ended on return.

        Raises:
            ExecutionError: names what failed, with the backend's own words; an
                :class:`trtnet.errors.OutOfMemoryError` where that is the reason.
        """

    def final_shape(self, name: str) -> tuple[int, ...]:
        """The shape of an output with an allocator, once the execution has ended."""

    def capture(self, stream: int) -> Replay:
        """The execution as one launch, for these shapes and addresses. `stream` is idle and not
        the default one; the execution has run once before, unless `captures_at_once`.

        Raises:
            CaptureError: why it cannot be captured. The context can still :meth:`execute`.
        """

    def profile(self, stream: int) -> list[tuple[str, float]]:
        """Executes once and gives each layer's name and milliseconds, in order."""

    def close(self) -> None:
        """Releases the context; nothing is executing any more."""


class LostWeightsError(ExecutionError):
    """An engine got some new weights, and its old ones cannot be set again."""


class Replay(Protocol):
    """A captured execution.

    Attributes:
        is_standalone: whether the captured addresses are part of it, so that it may also be
            launched on CUDA's default stream. Otherwise a launch uses the addresses that are set
            in the context at that time.
    """

    is_standalone: bool

    def launch(self, stream: int) -> None:
        """Enqueues one execution on the CUDA stream; raises
        :class:`trtnet.errors.ExecutionError`."""

    def close(self) -> None:
        """Releases it; a second call does nothing."""
