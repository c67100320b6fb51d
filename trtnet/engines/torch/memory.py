"""The memory that an execution takes of a GPU: what is alive when, and how that takes little.

PyTorch's allocator takes segments from the device and gives parts of them to tensors. A segment of
a captured graph stays as it is, so where tensors grow from layer to layer each needs another one,
and the graph takes much more than is alive at a time. A few segments of the right sizes, taken
first, serve all of its tensors.
"""

from __future__ import annotations

import heapq
import math
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trtnet.engines.torch.compiled import Forward

_MIB = 1 << 20

# Of PyTorch's c10/cuda/CUDACachingAllocator.
_UNIT = 512  # of which tensors take a multiple
_SMALL = _MIB  # up to which tensors lie in segments of their own kind, which are small
_MEDIUM, _SEGMENT = 10 * _MIB, 20 * _MIB  # below the one a segment of the other is taken
_STEP = 2 * _MIB  # of which larger segments are a multiple
_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING")

_UNUSED = 32 * _MIB  # that a watched execution leaves in the allocator
_SHARE = 8  # of what was alive at a time, the part that it may leave as well
_LEAST = 16 * _MIB  # that segments have to save
_SAVED = 0.02  # of all, which they have to save as well
_LARGEST, _TRIED = 4, 24  # sizes of tensors, and of segments for all others, that are tried
_EVENTS = 4_000  # that are looked at for the sizes beside one tensor's; of more, none
_OPERAND, _WORKSPACE = 2 * _MIB, 32 * _MIB  # that an operation may take beside its result
_PRODUCTS = {
    *("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "linear", "matmul", "einsum"),
    "scaled_dot_product_attention",
}

Event = tuple[int, int]
"""The number of a tensor and its bytes when it is made; the number negated, and 0, when freed."""


class TooMuchMemoryError(Exception):
    """An execution that is watched would take more memory than it may."""


class Watch(TorchDispatchMode):
    """Inside, notes when tensors of a device are made and freed, and gives unused memory back to
    the device, so that hardly more is taken than is alive. What one operation takes beside its
    results, as a library's workspace, is not seen.

    Attributes:
        events: in order.
        peak: the most bytes alive at a time.
    """

    def __init__(self, device: torch.device, most: float = math.inf) -> None:
        """More than `most` bytes at a time raise :class:`TooMuchMemoryError`."""
        super().__init__()
        self.events: list[Event] = []
        self.peak = 0
        self._device, self._most = device, most
        self._alive: dict[int, int] = {}  # numbers, by the address of the storage
        self._live = self._unused = 0
        self._multiplied = False

    def run(self, forward: Forward) -> Forward:
        """`forward`, watched."""

        def call(*arguments: Tensor) -> dict[str, Tensor]:
            with self:
                return forward(*arguments)

        return call

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._give_back(func.overloadpacket.__name__)
        result = func(*args, **(kwargs or {}))
        given = {_key(x) for x in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            if tensor.device == self._device and _key(tensor) not in given:
                self._note(tensor.untyped_storage())
        return result

    def _give_back(self, operation: str) -> None:
        """Before the first product too: cuBLAS's workspace, which stays, would keep a larger block
        of which it takes a part."""
        is_first = operation in _PRODUCTS and not self._multiplied
        self._multiplied |= is_first
        if is_first or self._unused > max(_UNUSED, self.peak // _SHARE):
            torch.cuda.empty_cache()
            self._unused = 0

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, nbytes = storage._cdata, storage.nbytes()
        if key in self._alive or not nbytes:
            return
        number = self._alive[key] = len(self.events) + 1
        self.events.append((number, nbytes))
        weakref.finalize(storage, self._freed, key, number, nbytes).atexit = False
        self._live += nbytes
        self.peak = max(self.peak, self._live)
        if self._live > self._most:
            raise TooMuchMemoryError(f"{self._live} bytes at a time are more than {self._most:.0f}")

    def _freed(self, key: int, number: int, nbytes: int) -> None:
        del self._alive[key]
        self.events.append((-number, 0))
        self._live -= nbytes
        self._unused += nbytes


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in the arguments or the results of an operation."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def take_workspace(device: torch.device) -> None:
    """Has cuBLAS take its workspace for this thread and the present stream, where it has none yet.

    It stays as long as the process, so it is taken while no larger block is unused of which it
    would keep all by taking a part.
    """
    torch.cuda.empty_cache()
    x = torch.zeros((16, 16), dtype=torch.float16, device=device)
    torch.mm(x, x)


def reserve(sizes: Sequence[int], device: torch.device) -> None:
    """Takes segments of these bytes from the device, for what is allocated next."""
    held = [torch.empty(size, dtype=torch.uint8, device=device) for size in sizes]
    del held  # not one after the other: the next would lie in the one before


class Segments(NamedTuple):
    """Segments that are taken first.

    Attributes:
        sizes: their bytes; none where they would save little.
        without: about the bytes that are taken where there are none; 0 where that is not known.
    """

    sizes: tuple[int, ...]
    without: int


def segments(events: Sequence[Event]) -> Segments:
    """The segments that make PyTorch's allocator take least for `events`; none where it is set to
    work in another way.

    They take no more than is taken without them either where operations take some memory beside
    their results, which is not among `events`.
    """
    large = _large(events)
    if len(large) > _EVENTS or any(os.environ.get(name) for name in _SETTINGS):
        return Segments((), 0)
    cases = _cases(large)
    as_it_is = [_Allocator().run(case).taken for case in cases]
    most = [min(as_it_is[0] - _LEAST, (1 - _SAVED) * as_it_is[0]), *as_it_is[1:]]
    best: tuple[int, ...] = ()
    for sizes in _candidates(large, as_it_is[0]):
        pairs = zip(cases, most, strict=True)
        if all(_Allocator(sizes).run(case, limit).taken <= limit for case, limit in pairs):
            best, most[0] = sizes, _Allocator(sizes).run(large).taken - 1
    return Segments(best, as_it_is[0] + _taken_by_small(events))


def _taken_by_small(events: Sequence[Event]) -> int:
    """About the bytes of the segments of small tensors."""
    alive: dict[int, int] = {}
    live = peak = 0
    for number, nbytes in events:
        if 0 < nbytes <= _SMALL:
            alive[number] = nbytes
            live += nbytes
            peak = max(peak, live)
        else:
            live -= alive.pop(-number, 0)
    return _multiple(2 * peak, _STEP)


def _cases(events: Sequence[Event]) -> list[list[Event]]:
    """`events`; and those with memory that each operation takes and frees: before its result, as
    for an operand in another layout, or after it, as for a library's workspace."""
    hidden = 1 + max((number for number, _ in events), default=0)
    before: list[Event] = []
    after: list[Event] = []
    for event in events:
        if event[0] > 0:
            before += [(hidden, _OPERAND), event, (-hidden, 0)]
            after += [event, (hidden, _WORKSPACE), (-hidden, 0)]
        else:
            before.append(event)
            after.append(event)
    return [list(events), before, after]


def _large(events: Sequence[Event]) -> list[Event]:
    """Those of large tensors, by the bytes that these take."""
    found, numbers = [], set()
    for number, nbytes in events:
        if nbytes > _SMALL:
            numbers.add(number)
            found.append((number, _multiple(nbytes, _UNIT)))
        elif -number in numbers:
            found.append((number, 0))
    return found


def _candidates(events: Sequence[Event], taken: int) -> Iterator[tuple[int, ...]]:
    """Segments: one for all, or one of the size of a tensor and one for the rest. Together they
    have at least what is alive at a time, and less than `taken`."""
    alive: dict[int, int] = {}
    sizes, peak = set(), 0
    for number, nbytes in events:
        if number > 0:
            alive[number] = nbytes
            sizes.add(_multiple(nbytes, _STEP))
            peak = max(peak, sum(alive.values()))
        else:
            del alive[-number]
    wide = [size for size in sizes if size >= _MEDIUM]
    count = max(1, min(_TRIED, _EVENTS // max(len(events), 1)))
    for one in (0, *heapq.nlargest(_LARGEST, wide)):
        first = _multiple(max(peak - one, _MEDIUM), _STEP)
        step = _multiple(max(taken - one - first, 1), count * _STEP) // count
        for rest in range(first, taken - one, step):
            yield (one, rest) if one else (rest,)


@dataclass(eq=False, slots=True)
class _Block:
    """A part of a segment; its neighbours in it."""

    size: int
    is_used: bool = False
    before: _Block | None = None
    after: _Block | None = None


class _Allocator:
    """What PyTorch's allocator takes for large tensors that are made and freed in order.

    Attributes:
        taken: bytes of the device.
    """

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        """`sizes` are those of the segments that are there first."""
        self.taken = 0
        self._unused: list[_Block] = [self._segment(size) for size in sizes]

    def run(self, events: Sequence[Event], most: float = math.inf) -> _Allocator:
        """Makes and frees tensors, whose bytes are multiples of the allocator's unit, until it has
        taken more than `most`."""
        blocks: dict[int, _Block] = {}
        for number, nbytes in events:
            if self.taken > most:
                break
            if number > 0:
                blocks[number] = self._made(nbytes)
            else:
                self._free(blocks.pop(-number))
        return self

    def _segment(self, nbytes: int) -> _Block:
        size = _SEGMENT if nbytes < _MEDIUM else _multiple(nbytes, _STEP)
        self.taken += size
        return _Block(size)

    def _made(self, nbytes: int) -> _Block:
        fitting = [block for block in self._unused if block.size >= nbytes]
        if fitting:
            block = min(fitting, key=lambda one: one.size)
            self._unused.remove(block)
        else:
            block = self._segment(nbytes)
        rest = block.size - nbytes
        if rest > _SMALL:
            block.size = nbytes
            after = block.after
            block.after = _Block(rest, before=block, after=after)
            if after is not None:
                after.before = block.after
            self._unused.append(block.after)
        block.is_used = True
        return block

    def _free(self, block: _Block) -> None:
        block.is_used = False
        for one, other in ((block, block.after), (block.before, block)):
            if one is not None and other is not None and not (one.is_used or other.is_used):
                self._join(one, other)
                block = one
        self._unused.append(block)

    def _join(self, one: _Block, other: _Block) -> None:
        """Makes `other`, which stands behind `one`, a part of it."""
        for block in (one, other):
            if block in self._unused:
                self._unused.remove(block)
        one.size += other.size
        one.after = other.after
        if other.after is not None:
            other.after.before = one


def _multiple(nbytes: int, unit: int) -> int:
    return -(-nbytes // unit) * unit
