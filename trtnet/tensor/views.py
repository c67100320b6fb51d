"""Tensors that share memory in PyTorch: a write to one of them changes the others.

A view remembers the tensor that it was taken from and the steps that lead to it. A write is noted
in the memory that the tensors share, and nothing else happens: what another tensor of that memory
becomes by it is computed when that tensor is used again. So ``q, k, v = qkv.unbind(0); q *= scale``
adds one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trtnet.errors import NetworkError


class Step(Protocol):
    """One operation that makes a view, such as a transpose."""

    @property
    def name(self) -> str:
        """The operation, for errors."""

    @property
    def is_certain(self) -> bool:
        """Whether PyTorch certainly makes a view. ``reshape`` copies some tensors."""

    def view(self, x: Any) -> Any:
        """The view of the tensor `x`."""

    def written(self, x: Any, value: Any) -> Any:
        """`x` after its view became `value`."""

    def is_same(self, other: Step) -> bool:
        """Whether the views are the same elements in the same order."""

    def is_apart(self, other: Step) -> bool:
        """Whether the views of one tensor certainly share no element."""

    def strides(self, strides: Sequence[int]) -> tuple[int, ...] | None:
        """The strides of the view in memory, where they can be told from those of the tensor."""


Path = tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Write:
    """One write: the elements at `path` became `value` by the operation `name`."""

    path: Path
    value: Any
    name: str


class Memory:
    """What a tensor and its views share.

    Args:
        whole: the tensor that the first view was taken from, as it was then.

    Attributes:
        writes: every write since, in order.
    """

    __slots__ = ("_applied", "_whole", "writes")

    def __init__(self, whole: Any) -> None:
        self._whole, self._applied = whole, 0
        self.writes: list[Write] = []

    def whole(self) -> Any:
        """The tensor after all writes; adds their layers."""
        while self._applied < len(self.writes):
            write = self.writes[self._applied]
            self._whole = _written(self._whole, write.path, write.value)
            self._applied += 1
        return self._whole


def _written(x: Any, path: Path, value: Any) -> Any:
    """`x` after its view at `path`, which may be as long as a network is deep, became `value`."""
    wholes = [x]
    for step in path[:-1]:
        wholes.append(step.view(wholes[-1]))
    for step in reversed(path):
        value = step.written(wholes.pop(), value)
    return value


class Place:
    """Where in a memory the elements of one tensor are.

    Args:
        memory: the memory.
        steps: from the tensor `above`, or without one from the whole, to this tensor.
        strides: in PyTorch's memory, where known.
        above: the place of the tensor that this one is a view of.

    Attributes:
        seen: how many of the memory's writes the tensor's value has.
    """

    __slots__ = ("_above", "_steps", "memory", "seen", "strides")

    def __init__(
        self,
        memory: Memory,
        steps: Path,
        strides: tuple[int, ...] | None,
        above: Place | None = None,
    ) -> None:
        self.memory, self._steps, self.strides = memory, steps, strides
        self._above = above  # the whole path in each place would take memory with the square
        self.seen = len(memory.writes)

    @property
    def path(self) -> Path:
        """The steps from the whole to this tensor."""
        parts: list[Path] = []
        place: Place | None = self
        while place is not None:
            parts.append(place._steps)
            place = place._above
        return tuple(step for part in reversed(parts) for step in part)

    @property
    def is_behind(self) -> bool:
        """Whether there are writes that the tensor's value may lack."""
        return self.seen < len(self.memory.writes)

    def later(self, steps: Path) -> Place:
        """The place of a view of this tensor."""
        strides = self.strides
        for step in steps:
            strides = None if strides is None else step.strides(strides)
        return Place(self.memory, steps, strides, self)

    def written(self, value: Any, name: str) -> None:
        """Notes that the tensor became `value` by the operation `name`."""
        self.memory.writes.append(Write(self.path, value, name))
        self.seen = len(self.memory.writes)

    def update(self) -> Any:
        """The tensor's value after the writes since `seen`, or ``None`` where none reaches it.

        Raises:
            NetworkError: one reaches it only if PyTorch made no copy in between, which cannot be
                told.
        """
        writes, path = self.memory.writes, self.path
        reaching = [write for write in writes[self.seen :] if _meet(path, write.path)]
        for write in reaching:
            _require_certain(path, write)
        result = self._after(path, reaching[-1]) if reaching else None
        self.seen = len(writes)
        return result

    def _after(self, path: Path, last: Write) -> Any:
        if is_same_path(path, last.path):
            return last.value
        x = self.memory.whole()
        for step in path:
            x = step.view(x)
        return x


class MaybeCopied:
    """The step to a tensor with the same elements, which PyTorch copies or not.

    Args:
        name: the operation.
        is_certain: whether it certainly makes no copy.
    """

    __slots__ = ("is_certain", "name")

    def __init__(self, name: str, is_certain: bool = False) -> None:
        self.name, self.is_certain = name, is_certain

    def view(self, x: Any) -> Any:
        """`x`."""
        return x

    def written(self, x: Any, value: Any) -> Any:
        """`value`."""
        return value

    def is_same(self, other: object) -> bool:
        """Whether `other` makes the same elements of a tensor."""
        return isinstance(other, MaybeCopied)

    def is_apart(self, other: object) -> bool:
        """``False``: all elements are in it."""
        return False

    def strides(self, strides: Any) -> None:
        """Not known."""
        return None


def is_same_path(a: Path, b: Path) -> bool:
    """Whether both lead to the same elements in the same order."""
    return len(a) == len(b) and all(x is y or x.is_same(y) for x, y in zip(a, b, strict=True))


def _meet(a: Path, b: Path) -> bool:
    """Whether tensors at two paths may share an element."""
    for x, y in zip(a, b, strict=False):
        if x is not y and not x.is_same(y):
            return not x.is_apart(y)
    return True


def _require_certain(path: Path, write: Write) -> None:
    common = 0
    for x, y in zip(path, write.path, strict=False):
        if x is not y:
            break
        common += 1
    for step in (*path[common:], *write.path[common:]):
        if not step.is_certain:
            raise NetworkError(
                f"a tensor was changed in place ({write.name}) and is used again through "
                f"{step.name}(), or the other way round: PyTorch's {step.name}() copies some "
                "tensors and shares the memory of others, and which it does here is not known",
                fix=f"use .view(...) for a tensor that shares memory, or .clone() after "
                f".{step.name}(...) for one of its own",
            )


def dense_strides(sizes: Sequence[Any]) -> tuple[int, ...] | None:
    """The strides of a contiguous tensor, where all sizes are known."""
    strides: list[int] = []
    step = 1
    for size in reversed(sizes):
        if not isinstance(size, int):
            return None
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def are_dense(strides: Sequence[int], sizes: Sequence[Any]) -> bool:
    """Whether `strides` are those of a contiguous tensor; that of an axis of size one is any."""
    dense = dense_strides(sizes)
    if dense is None:
        return False
    pairs = zip(strides, dense, sizes, strict=True)
    return 0 in sizes or all(a == b or size == 1 for a, b, size in pairs)


def reshaped_strides(
    sizes: Sequence[int], strides: Sequence[int], wanted: Sequence[int]
) -> tuple[int, ...] | None:
    """The strides of a view with other sizes of a tensor that is not empty; ``None`` where
    PyTorch has to copy.

    Neighbouring axes whose elements follow each other in memory are one run; the wanted sizes
    must divide the runs.
    """
    runs: list[tuple[int, int]] = []  # number of elements, stride of the last axis
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    found = [1] * len(wanted)
    axis = len(wanted) - 1
    for count, stride in reversed(runs):
        inside = 1
        while axis >= 0 and (inside < count or wanted[axis] == 1):
            found[axis] = stride * inside
            inside *= wanted[axis]
            axis -= 1
        if inside != count:
            return None
    return tuple(found)
