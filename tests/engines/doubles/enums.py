"""TensorRT's enumerations, as far as the runtime touches them; the values are not the real ones."""

from __future__ import annotations

from enum import IntEnum, IntFlag, auto


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = auto()
    WARNING = auto()
    INFO = auto()
    VERBOSE = auto()


class DataType(IntEnum):
    FLOAT = 0
    HALF = auto()
    INT32 = auto()
    INT64 = auto()
    INT8 = auto()
    BF16 = auto()


BYTES = {DataType.FLOAT: 4, DataType.HALF: 2, DataType.INT32: 4, DataType.INT64: 8,
         DataType.INT8: 1, DataType.BF16: 2}  # fmt: skip


class SerializationFlag(IntEnum):
    EXCLUDE_WEIGHTS = 0
    EXCLUDE_LEAN_RUNTIME = auto()


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = auto()
    OUTPUT = auto()


class TensorLocation(IntEnum):
    DEVICE = 0
    HOST = auto()


class CudaGraphStrategy(IntEnum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = auto()


class EngineValidity(IntEnum):
    VALID = 0
    SUBOPTIMAL = auto()
    INVALID = auto()


class EngineInvalidityDiagnostics(IntFlag):
    VERSION_MISMATCH = auto()
    UNSUPPORTED_CC = auto()
    OLD_CUDA_DRIVER = auto()
    OLD_CUDA_RUNTIME = auto()
    INSUFFICIENT_GPU_MEMORY = auto()
    MALFORMED_ENGINE = auto()
    CUDA_ERROR = auto()
