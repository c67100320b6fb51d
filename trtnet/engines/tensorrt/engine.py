"""TensorRTEngine: engines of TensorRT and TensorRT-RTX for sessions."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet import cuda
from trtnet.backend import Backend
from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.dtypes import tensorrt_dtype_name
from trtnet.engines import compatibility
from trtnet.engines.protocol import Binding, Engine
from trtnet.engines.tensorrt.context import TensorRTContext, failure
from trtnet.engines.tensorrt.refit import LiveRefit
from trtnet.errors import ExecutionError, PlanError, TrtnetError
from trtnet.escaping import printable
from trtnet.files import atomic_write
from trtnet.hardware import missing_gpu
from trtnet.reading.files import read_bytes

if TYPE_CHECKING:
    from trtnet.building.refitting import EngineChange

_TRUST = (
    "the engine brings a runtime of its own, which is code and was not loaded: for an engine that "
    "you trust --engineHostCodeAllowed (engine_host_code_allowed=True)"
)
_LARGEST_CACHE = 4 << 30  # bytes of a runtime cache


def load(
    plan: Plan,
    backend: Backend,
    *,
    runtime_cache: Path | None = None,
    cuda_graph: bool = True,
    host_code: bool = False,
) -> TensorRTEngine:
    """The engine of `plan` on the current CUDA device.

    Args:
        runtime_cache: where TensorRT-RTX keeps the kernels it compiles on this GPU: read if it
            exists and fits, written when the engine is closed. TensorRT has none.
        cuda_graph: let TensorRT-RTX launch its work as CUDA graphs.
        host_code: the user trusts the code in the engine: the runtime that a version-compatible one
            brings. Without this TensorRT loads no such code.

    Raises:
        BackendError: TensorRT does not work on this machine.
        PlanError: the engine is not for this GPU.
        ExecutionError: TensorRT cannot load the engine; carries its words.
    """
    compatibility.check_gpu(plan, backend)
    return TensorRTEngine(plan, backend, runtime_cache, cuda_graph, host_code)


class TensorRTEngine(Engine):
    """An ``ICudaEngine`` with its runtime and its runtime cache; see :func:`load`."""

    device = "cuda"

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        runtime_cache: Path | None,
        cuda_graph: bool,
        host_code: bool = False,
    ) -> None:
        self.backend, self._backend = backend.name, backend
        small = "" if backend.small is None else f" {backend.small.name}"
        self.runtime = f"{backend.name}{small} {backend.version}"
        self._contexts: weakref.WeakSet[TensorRTContext] = weakref.WeakSet()
        self._runtime = backend.runtime()
        self._engine = _deserialize(self._runtime, plan, backend, host_code)
        self.bindings = _bindings(backend, self._engine)
        self.profiles: tuple[Mapping[str, Shapes], ...] = _profiles(self._engine, self.bindings)
        # One for all contexts: they share the compiled kernels.
        self._config = self._engine.create_runtime_config()
        if self._config is None:
            raise failure(backend, "TensorRT gives no runtime configuration")
        self._kernels: _RuntimeCache | None = None
        if runtime_cache is not None and backend.has("runtime_cache"):
            self._kernels = _RuntimeCache(backend, self._config, runtime_cache)
        self._captures_itself = cuda_graph and backend.has("cuda_graph_strategy")
        if self._captures_itself:
            self._config.cuda_graph_strategy = backend.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE

    def create_context(self, profile: int) -> TensorRTContext:
        """A new context, with the device memory that the profile's largest shapes need.

        Raises:
            OutOfMemoryError: says how much that is.
            ExecutionError: the engine is closed, or TensorRT refuses.
        """
        if self._engine is None:
            raise ExecutionError("the engine is closed", fix="load it again")
        self._backend.clear_errors()
        context = self._engine.create_execution_context(runtime_config=self._config)
        if context is None:
            needed = self._engine.get_device_memory_size_for_profile_v2(profile)
            raise failure(
                self._backend,
                "TensorRT cannot create an execution context",
                expected=f"{needed / 1e6:.1f} MB of device memory for profile {profile}",
                fix="free device memory, or build with smaller maximal shapes",
            )
        _set_profile(self._backend, context, profile)
        made = TensorRTContext(self._backend, context, self.bindings, self._captures_itself)
        self._contexts.add(made)
        return made

    def prepare_refit(self, plan: Plan, change: EngineChange) -> LiveRefit:
        """See :meth:`trtnet.engines.protocol.RefittableEngine.prepare_refit`."""
        if self._engine is None:
            raise ExecutionError("the engine is closed", fix="load it again")
        return LiveRefit(self._backend, self._engine, change)

    def close(self) -> None:
        """Releases the contexts that are still open, writes the runtime cache, and releases the
        engine, then the runtime. A second call does nothing."""
        if self._engine is None:
            return
        for made in tuple(self._contexts):
            made.close()
        try:
            if self._kernels is not None:
                self._kernels.save()
        finally:
            self._kernels = self._config = None
            self._engine = None
            self._runtime = None


class _RuntimeCache:
    """The kernels TensorRT-RTX has compiled, on disk at `path`."""

    def __init__(self, backend: Backend, config: Any, path: Path) -> None:
        self._backend, self._path = backend, path
        self._cache = config.create_runtime_cache()
        if self._cache is None:
            raise failure(backend, "TensorRT-RTX gives no runtime cache")
        self._saved = b""
        with contextlib.suppress(TrtnetError):  # there is none yet, or none that can be read
            self._saved = read_bytes(path, "a runtime cache", _LARGEST_CACHE)
        if self._saved and not self._cache.deserialize(self._saved):
            backend.clear_errors()  # of another release or GPU, or damaged: it is replaced
        if not config.set_runtime_cache(self._cache):
            raise failure(backend, "TensorRT-RTX refuses the runtime cache", module=str(path))

    def save(self) -> None:
        """Writes the cache if it has changed. A failure is a warning only: the kernels are compiled
        again next time."""
        serialized = self._cache.serialize()
        if serialized is None:
            self._warn(self._backend.take_errors() or "TensorRT-RTX cannot serialize it")
            return
        content = bytes(serialized)
        if content == self._saved:
            return
        try:
            with atomic_write(self._path) as file:
                file.write(content)
        except OSError as error:
            self._warn(error)

    def _warn(self, reason: object) -> None:
        warnings.warn(
            f"the runtime cache {printable(self._path)} is not written ({printable(reason)}): "
            "TensorRT-RTX compiles its kernels again when the engine is next loaded",
            RuntimeWarning,
            stacklevel=4,
        )


def _deserialize(runtime: Any, plan: Plan, backend: Backend, host_code: bool) -> Any:
    """The ``ICudaEngine`` of `plan`. The runtime inside of an engine is never loaded unless the
    user has said `host_code`, whatever a sidecar says: whoever wrote it would decide what runs."""
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan.engine)
    if engine is None:
        raise failure(
            backend,
            f"{backend.name} {backend.version} cannot load the engine",
            fix=missing_gpu()
            or compatibility.mismatches(plan, backend)
            or (_TRUST if compatibility.outlives_its_release(plan) and not host_code else None)
            or "build it again on this machine",
        )
    return engine


def _bindings(backend: Backend, engine: Any) -> tuple[Binding, ...]:
    trt = backend.trt
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = [
        Binding(
            name=name,
            dtype=tensorrt_dtype_name(engine.get_tensor_dtype(name).name),
            shape=tuple(engine.get_tensor_shape(name)),
            is_input=engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            on_host=engine.get_tensor_location(name) == trt.TensorLocation.HOST,
        )
        for name in names
    ]
    return tuple(sorted(found, key=lambda binding: not binding.is_input))


def _profiles(engine: Any, bindings: tuple[Binding, ...]) -> tuple[dict[str, Shapes], ...]:
    inputs = [binding for binding in bindings if binding.is_input and not binding.on_host]
    return tuple(
        {binding.name: _range(engine, binding, index) for binding in inputs}
        for index in range(engine.num_optimization_profiles)
    )


def _range(engine: Any, binding: Binding, profile: int) -> Shapes:
    if -1 not in binding.shape:
        return Shapes.fixed(binding.shape)
    ranges = engine.get_tensor_profile_shape(binding.name, profile)
    if len(ranges) != 3:
        raise PlanError(
            f"the engine has no shapes for optimization profile {profile}", module=binding.name
        )
    return Shapes(*(tuple(sizes) for sizes in ranges))


def _set_profile(backend: Backend, context: Any, profile: int) -> None:
    """Sets the profile, and waits until that has ended: it may copy on a stream."""
    stream = cuda.call("cudaStreamCreateWithFlags", cuda.runtime().cudaStreamNonBlocking)
    try:
        if not context.set_optimization_profile_async(profile, int(stream)):
            raise failure(backend, f"TensorRT refuses optimization profile {profile}")
        cuda.call("cudaStreamSynchronize", stream)
    finally:
        cuda.call("cudaStreamDestroy", stream)
