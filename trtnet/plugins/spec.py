"""What a shape rule takes and returns, and the combinations of element types a plugin takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from trtnet.dtypes import DType, dtype_of, float8
from trtnet.errors import UnsupportedError, UsageError
from trtnet.plugins.symbolic_sizes import AnySize, Size, SymbolicShape, combine

ARROW = "->"


@dataclass(frozen=True)
class TensorSpec:
    """Shape and element type of a tensor, as a shape rule sees them.

    Attributes:
        shape: ints, and :class:`trtnet.plugins.Size` for sizes known only at run time.
        dtype: element type.
    """

    shape: SymbolicShape
    dtype: DType

    def like(self, shape: Iterable[AnySize] | None = None, dtype: object = None) -> TensorSpec:
        """Returns a copy with another shape, another type, or both.

        Args:
            shape: the new shape; ``None`` keeps it.
            dtype: the new element type, or a name such as ``"fp16"``; ``None`` keeps it.
        """
        return replace(
            self,
            shape=self.shape if shape is None else tuple(shape),
            dtype=self.dtype if dtype is None else dtype_of(dtype),
        )

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def numel(self) -> AnySize:
        """Number of elements: an int, or a :class:`Size`."""
        count: AnySize = 1
        for size in self.shape:
            count = combine("PROD", count, size)
        return count

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The shape as ints; raises ``ShapeError`` if a size is known only at run time."""
        return tuple(map(int, self.shape))

    def __str__(self) -> str:
        return f"{self.dtype.value} {self.shape}"


class Format(NamedTuple):
    """A combination of element types that a plugin takes and returns."""

    inputs: tuple[DType, ...]
    outputs: tuple[DType, ...]

    def __str__(self) -> str:
        names = [dtype.value for dtype in self.inputs]
        return " ".join([*names, ARROW, *(dtype.value for dtype in self.outputs)])

    def takes(self, given: Sequence[DType]) -> bool:
        """Whether inputs of the types `given` differ from its own at most in floating types."""
        return len(given) == len(self.inputs) and all(
            a is b or (a.is_floating_point and b.is_floating_point)
            for a, b in zip(self.inputs, given, strict=True)
        )

    @classmethod
    def parse(cls, entry: Sequence[object]) -> Format:
        """Reads a format such as ``("fp16", "fp16", "->", "fp16")``.

        Raises:
            UsageError: the arrow is missing, or a type does not exist or is float8.
        """
        if not isinstance(entry, (tuple, list)) or list(entry).count(ARROW) != 1:
            raise UsageError(
                "a format is the types of the inputs, an arrow and the types of the outputs",
                expected='such as ("fp16", "fp16", "->", "fp16")',
                got=repr(entry),
                fix='formats is a list of them: formats = [("fp32", "->", "fp32")]',
            )
        place = list(entry).index(ARROW)
        try:
            inputs, outputs = (
                tuple(dtype_of(name) for name in part)
                for part in (entry[:place], entry[place + 1 :])
            )
        except UnsupportedError as error:
            raise UsageError("a format has a type that does not exist", got=error.problem) from (
                error
            )
        if float8 in (*inputs, *outputs):
            raise UsageError(
                "a plugin takes and gives no float8 values: they exist only between Q/DQ layers",
                got=entry,
                expected="fp32, fp16, bf16, int64, int32, int8, uint8 or bool",
            )
        return cls(inputs, outputs)


def with_symbolic_sizes(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Returns `specs` with a :class:`Size` for every unknown size.

    Args:
        specs: of all inputs, in order. A size of -1, or one that is not an int, is unknown.
    """
    return tuple(
        spec.like(
            n if isinstance(n, int) and n >= 0 else Size("input", i, axis)
            for axis, n in enumerate(spec.shape)
        )
        for i, spec in enumerate(specs)
    )
