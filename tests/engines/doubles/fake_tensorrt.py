"""A TensorRT that records every call, in order, and computes ``2 x + 1`` on host memory.

The classes have the names, methods and parameters of the real bindings (test_doubles.py holds them
against four of those). Any call can be made to fail. Objects go when nobody holds them any more, as
the real ones do, and that is recorded too.
"""

from __future__ import annotations

import ctypes
import functools
from enum import IntEnum
from typing import Any

import numpy as np

from trtnet import backend
from trtnet.backend.callbacks import make_logger
from trtnet.building.plan import Plan

from . import engines, enums
from .recording import Call, Recorded, Recorder, recorded


class ILogger:
    Severity = enums.Severity


class IOutputAllocator:
    pass


class IProfiler:
    pass


class IHostMemory:
    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def nbytes(self) -> int:
        return len(self._content)

    def __bytes__(self) -> bytes:
        return self._content


class Weights:
    """As the binding's: an address, a type and a count."""

    def __init__(self, type: Any, ptr: int, count: int) -> None:
        self.dtype, self.size = type, count
        self._address = ptr

    def __bytes__(self) -> bytes:
        return ctypes.string_at(self._address, self.size * enums.BYTES[self.dtype])


_FLAGS: Any = IntEnum(
    "SerializationFlag", "EXCLUDE_WEIGHTS EXCLUDE_LEAN_RUNTIME INCLUDE_REFIT", start=0
)


class ISerializationConfig(Recorded):
    def __init__(self, recorder: Recorder, flags: set[Any]) -> None:
        super().__init__(recorder)
        self._flags = flags

    @recorded
    def clear_flag(self, flag: Any) -> bool:
        self._flags.discard(flag)
        return True

    @recorded
    def set_flag(self, flag: Any) -> bool:
        self._flags.add(flag)
        return True


class Refitter(Recorded):
    """Puts weights into an engine at once, all that were set. That of TensorRT-RTX never says that
    some are missing."""

    def __init__(self, recorder: Recorder, engine: ICudaEngine) -> None:
        super().__init__(recorder)
        self._engine, self._set = engine, dict[str, bytes]()

    @recorded
    def get_all_weights(self) -> list[str]:
        return list(self._engine.held)

    @recorded
    def get_missing_weights(self) -> list[str]:
        fake = self._engine._fake
        left = [n for n in self._engine.held if n not in self._set]
        return left if self._engine.is_stripped and fake.name != "rtx" else []

    @recorded
    def get_weights_prototype(self, weights_name: str) -> Weights:
        kind, content = self._engine.held[weights_name]
        return Weights(kind, 0, len(content) // enums.BYTES[kind])

    @recorded
    def get_named_weights(self, weights_name: str) -> Any:
        kind, content = self._engine.held[weights_name]
        return np.frombuffer(content, {enums.DataType.HALF: "f2"}.get(kind, "f4"))

    @recorded
    def set_named_weights(self, name: str, weights: Any) -> bool:
        self._set[name] = bytes(weights)
        return True

    @recorded
    def refit_cuda_engine(self) -> bool:
        for name, content in self._set.items():
            self._engine.held[name] = self._engine.held[name][0], content
        self._engine.is_stripped = False
        return True


class Runtime(Recorded):
    engine_host_code_allowed = False

    def __init__(self, recorder: Recorder, fake: Any) -> None:
        super().__init__(recorder)
        self._fake = fake

    @recorded
    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        described = engines.read(serialized_engine, self._fake.name, self._fake.__version__)
        if isinstance(described, str):
            self._recorder.log(described)
            return None
        return ICudaEngine(self._recorder, self, described)


class RuntimeRTX(Runtime):
    engine_header_size = 64

    @recorded
    def get_engine_validity(self, buffer: bytes) -> tuple[Any, int]:
        found = self._fake.validity
        return (enums.EngineValidity.INVALID if found else enums.EngineValidity.VALID, found)


class ICudaEngine(Recorded):
    def __init__(self, recorder: Recorder, runtime: Runtime, described: engines.Described) -> None:
        super().__init__(recorder)
        self._runtime, self._described, self._fake = runtime, described, runtime._fake
        self.held = {name: (enums.DataType[kind], bytes.fromhex(content))
                     for name, (kind, content) in described.weights.items()}  # fmt: skip
        self.is_stripped = described.is_stripped

    @recorded
    def create_serialization_config(self) -> Any:
        flags = {enums.SerializationFlag.EXCLUDE_WEIGHTS} if self._described.is_stripped else set()
        return ISerializationConfig(self._recorder, flags)

    @recorded
    def serialize_with_config(self, arg0: Any) -> Any:
        without = enums.SerializationFlag.EXCLUDE_WEIGHTS in arg0._flags
        held = {name: (kind.name, bytes(len(content)).hex() if without else content.hex())
                for name, (kind, content) in self.held.items()}  # fmt: skip
        return IHostMemory(engines.write(self._fake.name, weights=held, is_stripped=without))

    @property
    def num_io_tensors(self) -> int:
        return len(self._described.tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return max(len(self._described.profiles), 1)

    def get_tensor_name(self, index: int) -> str:
        return self._described.tensors[index].name

    def get_tensor_mode(self, name: str) -> Any:
        is_input = self._described.tensor(name).is_input
        return enums.TensorIOMode.INPUT if is_input else enums.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return enums.DataType[self._described.tensor(name).dtype]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._described.tensor(name).shape

    def get_tensor_location(self, name: str) -> Any:
        on_host = self._described.tensor(name).on_host
        return enums.TensorLocation.HOST if on_host else enums.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        if profile_index >= len(self._described.profiles):
            return []
        return [tuple(sizes) for sizes in self._described.profiles[profile_index][name]]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return 1_000_000

    @recorded
    def create_runtime_config(self) -> Any:
        kind = IRuntimeConfigRTX if self._fake.name == "rtx" else IRuntimeConfig
        return kind(self._recorder, self)

    @recorded
    def create_execution_context(self, runtime_config: Any = None) -> Any:
        kind = IExecutionContextRTX if self._fake.name == "rtx" else IExecutionContext
        return kind(self._recorder, self, runtime_config)


class IRuntimeConfig(Recorded):
    def __init__(self, recorder: Recorder, engine: ICudaEngine) -> None:
        super().__init__(recorder)
        self._engine = engine


class IRuntimeConfigRTX(IRuntimeConfig):
    def __init__(self, recorder: Recorder, engine: ICudaEngine) -> None:
        super().__init__(recorder, engine)
        self._cache: IRuntimeCache | None = None
        self._strategy = enums.CudaGraphStrategy.DISABLED

    @property
    def cuda_graph_strategy(self) -> Any:
        return self._strategy

    @cuda_graph_strategy.setter
    def cuda_graph_strategy(self, strategy: Any) -> None:
        self._recorder.add(self, "cuda_graph_strategy", (strategy,))
        self._strategy = strategy

    @recorded
    def create_runtime_cache(self) -> Any:
        return IRuntimeCache(self._recorder)

    @recorded
    def set_runtime_cache(self, cache: Any = None) -> bool:
        self._cache = cache
        return True


class IRuntimeCache(Recorded):
    """Holds the names of compiled kernels."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.kernels: list[str] = []

    @recorded
    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"kernels:"):
            self._recorder.log("the runtime cache is of another release")
            return False
        self.kernels = blob.decode().removeprefix("kernels:").split()
        return True

    @recorded
    def serialize(self) -> Any:
        return IHostMemory(f"kernels:{' '.join(self.kernels)}".encode())


class IExecutionContext(Recorded):
    profiler: Any = None

    def __init__(self, recorder: Recorder, engine: ICudaEngine, config: Any) -> None:
        super().__init__(recorder)
        self._engine, self._config, self._described = engine, config, engine._described
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {
            t.name: t.shape for t in self._described.tensors if t.is_input and -1 not in t.shape
        }
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}

    @recorded
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._profile = profile_index
        return profile_index < self._engine.num_optimization_profiles

    @recorded
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        tensor = self._described.find(name)
        if tensor is None or not tensor.is_input or self._profile is None:
            return self._refuse(f"set_input_shape: {name} is no input, or there is no profile")
        if not self._described.allows(self._profile, name, tuple(shape)):
            return self._refuse(f"set_input_shape: {name} {shape} is outside the profile")
        self._shapes[name] = tuple(shape)
        return True

    @recorded
    def infer_shapes(self) -> list[str]:
        inputs = [t for t in self._described.tensors if t.is_input]
        return [
            t.name
            for t in inputs
            if t.name not in self._shapes or (t.on_host and t.name not in self._addresses)
        ]

    @recorded
    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name) or self._described.output_shape(self._shapes, self._read)

    @recorded
    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._described.find(name) is None or not memory:
            return self._refuse(f"set_tensor_address: {name} at {memory}")
        self._addresses[name] = memory
        return True

    @recorded
    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return True

    @recorded
    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.infer_shapes.__wrapped__(self):
            return self._refuse("execute_async_v3: shapes are missing")
        for tensor in self._described.tensors:
            if tensor.name not in self._addresses and tensor.name not in self._allocators:
                return self._refuse(f"execute_async_v3: {tensor.name} has no address")
        x, y = self._described.input, self._described.output
        values = self._described.compute(self._read(x.name), self._shapes, self._read)
        target = self._addresses.get(y.name, 0)
        if y.name in self._allocators:
            allocator = self._allocators[y.name]
            target = allocator.reallocate_output_async(y.name, 0, values.nbytes, 256, stream_handle)
            if not target:
                return self._refuse("execute_async_v3: OutOfMemory, no memory for the output")
            allocator.notify_shape(y.name, values.shape)
        # Like a kernel: the addresses of now, the values of when it runs.
        work = functools.partial(
            _compute, self._described, dict(self._shapes), dict(self._addresses), target
        )
        self._engine._fake.cuda.enqueue(stream_handle, work)
        self._compiled()
        if self.profiler is not None:
            for name, ms in self._engine._fake.layer_times:
                self.profiler.report_layer_time(name, ms)
        return True

    def _read(self, name: str) -> np.ndarray:
        return _array(self._described.tensor(name), self._shapes[name], self._addresses[name])

    def _compiled(self) -> None:
        cache = getattr(self._config, "_cache", None)
        kernel = "x".join(str(size) for size in self._shapes[self._described.input.name])
        if cache is not None and kernel not in cache.kernels:
            cache.kernels.append(kernel)

    def _refuse(self, text: str) -> bool:
        self._recorder.log(text)
        return False


class IExecutionContextRTX(IExecutionContext):
    @recorded
    def is_stream_capturable(self, stream: int) -> bool:
        return True


def _compute(
    described: engines.Described,
    shapes: dict[str, tuple[int, ...]],
    addresses: dict[str, int],
    target: int,
) -> None:
    def read(name: str) -> np.ndarray:
        return _array(described.tensor(name), shapes[name], addresses[name])

    values = np.ascontiguousarray(described.compute(read("x"), shapes, read))
    ctypes.memmove(target, values.ctypes.data, values.nbytes)


def _array(tensor: engines.Tensor, shape: tuple[int, ...], address: int) -> np.ndarray:
    dtype = np.dtype({"FLOAT": "float32", "INT64": "int64"}[tensor.dtype])
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype).reshape(shape)


class FakeTensorRT:
    """In the place of the imported package.

    Args:
        name: ``"tensorrt"`` or ``"rtx"``.
        cuda: a :class:`FakeCuda`, on whose streams executions run; its `calls` hold TensorRT's
            too, in their order among CUDA's.

    Attributes:
        backend: the :class:`trtnet.backend.Backend` around this.
        calls: everything that happened, in order, and when which object was released.
        layer_times: what a profiler is told.
        validity: what `Runtime.get_engine_validity` finds, as a bit mask.
    """

    ILogger, IOutputAllocator, IProfiler = ILogger, IOutputAllocator, IProfiler
    ICudaEngine, IExecutionContext, IRuntimeConfig = ICudaEngine, IExecutionContext, IRuntimeConfig
    DataType, TensorIOMode = enums.DataType, enums.TensorIOMode
    SerializationFlag, Weights = enums.SerializationFlag, Weights
    TensorLocation = enums.TensorLocation

    def __init__(self, name: str, cuda: Any) -> None:
        self.name, self.cuda, self.validity = name, cuda, 0
        self.layer_times = (("scale/mul + scale/add", 0.25), ("head/matmul", 0.5))
        self.__version__ = engines.VERSION[name]
        if name == "rtx":
            self.CudaGraphStrategy = enums.CudaGraphStrategy
            self.SerializationFlag = _FLAGS  # as TensorRT from 10.14 on
            self.EngineValidity = enums.EngineValidity
            self.EngineInvalidityDiagnostics = enums.EngineInvalidityDiagnostics
            self.IExecutionContext, self.IRuntimeCache = IExecutionContextRTX, IRuntimeCache
            self.IRuntimeConfig = IRuntimeConfigRTX
        kind = RuntimeRTX if name == "rtx" else Runtime
        self._recorder = Recorder(cuda)

        class OwnRuntime(kind):  # type: ignore[misc, valid-type]
            def __init__(own, logger: Any) -> None:  # noqa: N805
                self._recorder.logger = logger
                super().__init__(self._recorder, self)

        OwnRuntime.__name__ = "Runtime"
        self.Runtime = OwnRuntime
        self.Refitter = lambda engine, logger: Refitter(self._recorder, engine)
        self.backend = backend.Backend(backend.description(name), self, make_logger(self))

    @property
    def calls(self) -> list[Call]:
        return self._recorder.calls

    def methods(self, owner: str | None = None) -> list[str]:
        """The methods called, in order, of all objects or of those of one class."""
        return [call.method for call in self.calls if owner in (None, call.owner)]

    def fail(self, method: str, result: Any = False) -> None:
        """Lets the next call of `method` log an error and return `result`, or raise it."""
        self._recorder.planned.setdefault(method, []).append(result)

    def plan(self, *, sidecar: dict[str, Any] | None = None, **described: Any) -> Plan:
        """A plan for this backend; see :func:`engines.write`."""
        return Plan(engines.write(self.name, **described), sidecar or {})
