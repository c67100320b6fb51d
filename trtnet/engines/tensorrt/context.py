"""TensorRTContext: executes an engine of TensorRT or TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from trtnet import cuda
from trtnet.backend import Backend
from trtnet.engines.cuda_graph import capture
from trtnet.engines.device import DEFAULT_STREAMS
from trtnet.engines.protocol import Binding, CaptureError, Context, Replay
from trtnet.engines.tensorrt import callbacks as tensorrt_callbacks
from trtnet.errors import ExecutionError, OutOfMemoryError


def failure(backend: Backend, problem: str, **details: Any) -> ExecutionError:
    """The error `problem` with what TensorRT logged about it; an :class:`OutOfMemoryError` if that
    is what it logged.

    Args:
        details: further arguments of the error.
    """
    words = backend.take_errors()
    short = any(sign in words.lower() for sign in ("outofmemory", "out of memory"))
    kind = OutOfMemoryError if short else ExecutionError
    return kind(problem, **{"got": words or "TensorRT gives no reason", **details})


class TensorRTContext(Context):
    """An ``IExecutionContext``. Calls out of order, and after :meth:`close`, raise.

    Args:
        backend: of the engine.
        context: the ``IExecutionContext``.
        bindings: of the engine.
        captures_itself: TensorRT-RTX already launches its work as CUDA graphs.
    """

    def __init__(
        self,
        backend: Backend,
        context: Any,
        bindings: Collection[Binding],
        captures_itself: bool,
    ) -> None:
        self._backend, self._context, self._captures_itself = backend, context, captures_itself
        self._outputs = [binding.name for binding in bindings if not binding.is_input]
        self._on_host = [binding.name for binding in bindings if binding.on_host]
        self._allocators: dict[str, tensorrt_callbacks.OutputAllocator] = {}
        self._has_shapes = self.runs_aside = self.captures_at_once = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        context = self._open()
        self._has_shapes = False
        if not context.set_input_shape(name, tuple(shape)):
            raise failure(
                self._backend,
                f"TensorRT refuses the shape {tuple(shape)}",
                module=name,
                fix="choose sizes inside the optimization profile",
            )

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        context = self._open()
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise failure(self._backend, "TensorRT cannot infer the output shapes") from error
        if missing:
            raise failure(
                self._backend,
                "TensorRT cannot infer the output shapes",
                expected="the shape of every input, and the address of every input on the host",
                got=f"nothing for {', '.join(missing)}",
            )
        self._has_shapes = True
        return {name: self._shape(context, name) for name in self._outputs}

    def set_tensor_address(self, name: str, address: int) -> None:
        context = self._open()
        if name not in self._on_host:
            self._require_shapes()
        if not context.set_tensor_address(name, address):
            raise failure(self._backend, "TensorRT refuses the address", module=name)

    def set_output_allocator(self, name: str, allocate: Callable[[int], int]) -> None:
        context = self._open()
        self._require_shapes()
        allocator = tensorrt_callbacks.output_allocator(self._backend.trt, allocate)
        if not context.set_output_allocator(name, allocator):
            raise failure(self._backend, "TensorRT refuses the output allocator", module=name)
        self._allocators[name] = allocator  # TensorRT holds no reference
        self.runs_aside = True  # the allocator is Python

    def execute(self, stream: int) -> None:
        context = self._open()
        if not self._has_shapes:
            self._require_shapes()
        _require_own(stream)
        if not context.execute_async_v3(stream):
            raise self._execution_failure()

    def final_shape(self, name: str) -> tuple[int, ...]:
        self._open()
        shape = self._allocators[name].shape if name in self._allocators else None
        if shape is None:
            raise ExecutionError(
                "the shape of the output is not known", module=name, fix="execute the engine first"
            )
        return shape

    def capture(self, stream: int) -> Replay:
        context = self._open()
        _require_own(stream)
        if self._captures_itself:
            return _ContextReplay(self)
        if self._allocators or self._on_host:
            raise CaptureError(
                "a CUDA graph cannot hold shapes that depend on the data",
                got=", ".join([*self._allocators, *self._on_host]),
                fix="it runs without one",
            )
        if self._backend.has("stream_capturable") and not context.is_stream_capturable(stream):
            raise CaptureError(
                "TensorRT-RTX cannot capture this engine as a CUDA graph",
                got=self._backend.take_errors() or None,
                fix="it runs without one",
            )
        return capture(stream, lambda: self.execute(stream))

    def profile(self, stream: int) -> list[tuple[str, float]]:
        context = self._open()
        profiler = context.profiler = tensorrt_callbacks.profiler(self._backend.trt)
        try:
            self.execute(stream)
            cuda.call("cudaStreamSynchronize", stream)
        finally:
            context.profiler = None
        if not profiler.times:
            raise failure(
                self._backend,
                f"{self._backend.name} reports no layer times",
                fix="with TensorRT-RTX, open the session with cuda_graph=False",
            )
        return profiler.times

    def close(self) -> None:
        """Releases the context; the work it enqueued has ended before."""
        self._context = None
        self._allocators.clear()

    def _open(self) -> Any:
        if self._context is None:
            raise ExecutionError("the context is closed", fix="create another one")
        return self._context

    def _require_shapes(self) -> None:
        if not self._has_shapes:
            raise ExecutionError(
                "the shapes of the inputs changed since the output shapes were read",
                expected="set_input_shape(), output_shapes(), then addresses, then execute()",
            )

    def _shape(self, context: Any, name: str) -> tuple[int, ...]:
        try:
            return tuple(context.get_tensor_shape(name))
        except ValueError as error:  # TensorRT's rank of -1
            raise failure(self._backend, "TensorRT knows no shape", module=name) from error

    def _execution_failure(self) -> ExecutionError:
        for name, allocator in self._allocators.items():
            error, allocator.error = allocator.error, None
            if isinstance(error, ExecutionError):
                self._backend.clear_errors()
                return error
            if error is not None:
                return failure(
                    self._backend, "no memory for the output", module=name, got=repr(error)
                )
        return failure(self._backend, "TensorRT could not execute the engine")


class _ContextReplay(Replay):
    """An execution by TensorRT-RTX, which keeps the CUDA graph itself."""

    is_standalone = False

    def __init__(self, context: TensorRTContext) -> None:
        self._context: TensorRTContext | None = context

    def launch(self, stream: int) -> None:
        if self._context is None:
            raise ExecutionError("the CUDA graph is closed", fix="capture the execution again")
        self._context.execute(stream)

    def close(self) -> None:
        self._context = None


def _require_own(stream: int) -> None:
    if stream in DEFAULT_STREAMS:
        raise ExecutionError(
            "TensorRT must not run on the default CUDA stream, where it waits for everything",
            expected="a stream of its own",
            got=f"stream {stream}",
        )
