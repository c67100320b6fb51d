"""What a plugin's shape rule sees and gives, and the combinations of types it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

from trtnet.dtypes import DType, dtype_of
from trtnet.errors import UnsupportedError, UsageError
from trtnet.plugins.sizes import Size, join

ARROW = "->"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as far as it is known before anything runs.

    Attributes:
        shape: ints, and :class:`trtnet.plugins.Size` for what is known only at run time.
        dtype: its element type.
    """

    shape: tuple[Any, ...]
    dtype: DType

    def like(self, shape: Iterable[Any] | None = None, dtype: object = None) -> TensorSpec:
        """This, with another shape or type."""
        return replace(
            self,
            shape=self.shape if shape is None else tuple(shape),
            dtype=self.dtype if dtype is None else dtype_of(dtype),
        )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Any:
        """The number of elements: an int, or a :class:`Size`."""
        return reduce(lambda a, b: join("PROD", a, b), self.shape, 1)

    def __str__(self) -> str:
        return f"{self.dtype.value} {self.shape}"


class Format(NamedTuple):
    """Types that go in and come out together."""

    inputs: tuple[DType, ...]
    outputs: tuple[DType, ...]

    def __str__(self) -> str:
        names = [dtype.value for dtype in self.inputs]
        return " ".join([*names, ARROW, *(dtype.value for dtype in self.outputs)])

    @classmethod
    def parse(cls, entry: Sequence[str], plugin: str) -> Format:
        """From ``("fp16", "fp16", "->", "fp16")``.

        Raises:
            UsageError: no arrow, or a type that does not exist.
        """
        if isinstance(entry, str) or list(entry).count(ARROW) != 1:
            raise UsageError(
                "a format is the types of the inputs, an arrow and the types of the outputs",
                module=plugin,
                expected='such as ("fp16", "fp16", "->", "fp16")',
                got=entry,
            )
        place = list(entry).index(ARROW)
        try:
            inputs, outputs = (
                tuple(dtype_of(name) for name in part)
                for part in (entry[:place], entry[place + 1 :])
            )
        except UnsupportedError as error:
            raise UsageError(
                "a format has a type that does not exist", module=plugin, got=error.problem
            ) from error
        return cls(inputs, outputs)


def numbered(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """`specs` whose unknown sizes (-1, or anything but an int) are :class:`Size`s of the input
    they belong to."""
    return tuple(
        spec.like(
            n if isinstance(n, int) and n >= 0 else Size("input", i, axis)
            for axis, n in enumerate(spec.shape)
        )
        for i, spec in enumerate(specs)
    )
