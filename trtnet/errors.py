"""The errors trtnet raises: what is wrong, where, what was expected, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trtnet.escaping import printable


class TrtnetError(Exception):
    """Base of every error trtnet raises on purpose.

    Args:
        problem: one sentence that says what is wrong.
        module: path of the module (or name of the tensor) it happened in, such as
            ``layer1.0.conv1``.
        expected: what would have been accepted.
        got: what came instead.
        fix: what the user can do about it.

    Attributes:
        line: ``file:line: code`` of the user's code that asked for it, where that is known.
    """

    def __init__(
        self,
        problem: str,
        *,
        module: str | None = None,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem, self.module, self.fix = problem, module, fix
        self.expected, self.got = expected, got
        self.line: str | None = None

    def locate(self, module: str) -> None:
        """Says that it happened in `module`, unless it names a module already."""
        self.module = self.module or module or None

    def locate_line(self, line: str | None) -> None:
        """Says that `line` of the user's code asked for it, unless it names a line already."""
        self.line = self.line or line

    def settle(self) -> None:
        """Keeps the text of what was expected and came in place of the objects themselves, which
        may be sizes and tensors of a network that is about to be dropped."""
        self.expected, self.got = (
            None if value is None else str(value) for value in (self.expected, self.got)
        )

    def __str__(self) -> str:
        """What a person sees: escaped, and each part indented, so that none passes for another."""
        problem = _part(self.problem)
        lines = [f"{printable(self.module)}: {problem}" if self.module else problem]
        details = (
            ("expected", self.expected),
            ("got", self.got),
            ("at", self.line),
            ("fix", self.fix),
        )
        lines += [f"{k}: {_part(v)}" for k, v in details if v is not None]
        return "\n  ".join(lines)


def _part(value: object) -> str:
    return printable(value, keep="\n").replace("\n", "\n    ")


@contextmanager
def located(module: str) -> Iterator[None]:
    """Context manager and decorator: errors of trtnet raised inside that name no module get
    `module`, a module's path or the name of a layer, tensor or plugin.

    >>> with located("layer1.act"):
    ...     raise UsageError("too many anchors")
    Traceback (most recent call last):
    trtnet.errors.UsageError: layer1.act: too many anchors
    """
    try:
        yield
    except TrtnetError as error:
        error.locate(module)
        raise


class BackendError(TrtnetError):
    """No usable TensorRT backend, or one that lacks what was asked for."""


class ShapeError(TrtnetError):
    """Shapes, ranks or dtypes that do not fit together."""


class UnsupportedError(TrtnetError):
    """An argument or operation that TensorRT cannot honour."""


class WeightsError(TrtnetError):
    """Weights that are missing, damaged, mis-shaped, not finite, or unsafe to load."""


class NetworkError(TrtnetError):
    """TensorRT refused a layer, or a network was put together wrongly."""


class BuildError(TrtnetError):
    """An engine could not be built or written."""


class PlanError(TrtnetError):
    """An engine file or its sidecar cannot be used."""


class ExecutionError(TrtnetError):
    """An engine could not be loaded onto the device, or an execution failed."""


class CudaError(ExecutionError):
    """A call of CUDA failed."""


class OutOfMemoryError(ExecutionError):
    """Too little memory on the device; what was allocated before still works."""


class VerificationError(TrtnetError):
    """A network could not be compared with its reference, or differs from it."""


class UsageError(TrtnetError):
    """A command line, or a name, that cannot be understood."""
