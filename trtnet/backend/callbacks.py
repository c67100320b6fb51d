"""Objects that TensorRT calls back, made from the base classes of the imported package."""

from __future__ import annotations

from collections import deque
from types import ModuleType
from typing import Any, Protocol


class ErrorLogger(Protocol):
    """What :func:`make_logger` makes.

    Attributes:
        errors: the messages of the last 32 errors that TensorRT logged.
    """

    errors: deque[str]


class BuildMonitor(Protocol):
    """What :func:`make_monitor` makes.

    Attributes:
        phase: name of the build's current phase.
        cancelled: when this is set, the build stops at its next step.
    """

    phase: str
    cancelled: bool


# Logged by TensorRT-RTX at nearly every call on a machine without a driver; never a cause.
_NOISE = ("cudaError 35", "CUDA driver version is insufficient")


def make_logger(trt: ModuleType) -> ErrorLogger:
    """A ``trt.ILogger`` that keeps errors and drops everything else."""

    class Logger(trt.ILogger):  # type: ignore[name-defined]  # the module is only known at run time
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=32)

        def log(self, severity: Any, message: str) -> None:
            if any(noise in message for noise in _NOISE):
                return
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    logger: ErrorLogger = Logger()
    return logger


def make_monitor(trt: ModuleType) -> BuildMonitor:
    """A ``trt.IProgressMonitor`` for one build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]  # known only at run time
        def __init__(self) -> None:
            super().__init__()
            self.phase = "starting"
            self.cancelled = False
            self._parents: dict[str, str] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._parents[phase_name] = parent_phase or "finishing"
            self.phase = phase_name

        def phase_finish(self, phase_name: str) -> None:
            self.phase = self._parents.pop(phase_name, "finishing")

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not self.cancelled

    monitor: BuildMonitor = Monitor()
    return monitor
