"""Ledger: notes, while a network is defined, how its weights come from state_dict keys."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from trtnet.recipes.memory import Extent, Memory, Region
from trtnet.recipes.operations import OPERATIONS
from trtnet.recipes.steps import KEY, LOST, RANGE, VIEW, Placed, Step
from trtnet.weights.places import entries

# Which weights of a layer the arguments of a method of INetworkDefinition are, in their order.
_ROLES: Mapping[str, tuple[str, ...]] = {
    "add_constant": ("weights",),
    "add_convolution_nd": ("kernel", "bias"),
    "add_deconvolution_nd": ("kernel", "bias"),
    "add_scale_nd": ("shift", "scale", "power"),
}

_BECAME = "it became a size, an index, or a number in the model's code"
_UNKNOWN = f"{_BECAME}, or values that are computed in a way that recipes do not have"
_TAKEN = "Parameter.array or np.asarray"
_CONVERTED = f"the model's code takes its values by {_TAKEN}, and recipes see PyTorch only"


class _Counts(NamedTuple):
    """How often the values of a parameter were taken, and given to numpy."""

    reads: int
    conversions: int


class Ledger:
    """The recipes of one network.

    Attributes:
        steps: all steps; each is computed of earlier ones.
        keys: state_dict key to the step that has its values, in the order of the modules.
        ties: keys that share the memory of another one: to the step that has their values.
        clashes: keys that two modules have, or whose values were replaced between two calls.
        lost: key to why a value that depends on it cannot be computed again.
        placed: the weights of the network that come from keys or ranges.
        buffers: their ``trt.Weights`` and the address of these, by layer and role.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.keys: dict[str, int] = {}
        self.ties: dict[str, int] = {}
        self.clashes: set[str] = set()
        self.lost: dict[str, str] = {}
        self.placed: list[Placed] = []
        self._memory = Memory()
        self.buffers: dict[tuple[str, str], tuple[Any, int]] = {}
        self._made: list[tuple[Any, int, int, str, str]] = []
        self._views: dict[tuple[Any, ...], int] = {}
        self._entries: dict[str, Any] = {}  # the parameters, by key
        self._extents: dict[str, Extent | None] = {}
        self._touched: set[int] = set()

    def forget_layers(self) -> None:
        """Forgets the weights that were placed, for a network that begins again."""
        self.placed, self._made, self.buffers = [], [], {}

    # Sources

    @contextmanager
    def noting(self, module: Any, path: str) -> Iterator[None]:
        """Notes what a module at `path` does with its parameters inside the block."""
        reads = self._enter(entries(module, path))
        watching: AbstractContextManager[Any] = nullcontext()
        leaving: AbstractContextManager[Any] = nullcontext()
        if sys.modules.get("torch") is not None:
            from trtnet.recipes.watch import Leaving, Watch  # needs torch

            watching, leaving = Watch(self), Leaving(self)
        with watching, leaving:
            yield
        for key, before in reads.items():
            entry, step = self._entries[key], self.keys.get(key, self.ties.get(key))
            if step is not None and _counts(entry).reads > before.reads:
                self._touched.add(step)
            if step is not None and _counts(entry).conversions > before.conversions:
                self._lose([step], _CONVERTED)

    def _enter(self, parameters: Iterable[tuple[str, Any]]) -> dict[str, _Counts]:
        """Notes where the values of `parameters` lie; how often each was read before."""
        reads = {}
        for key, entry in parameters:
            reads[key] = _counts(entry)
            extent, owner = _extent_of(entry)
            if key not in self._entries:
                self._entries[key], self._extents[key] = entry, extent
                if extent is not None:
                    self._add_key(key, extent, owner)
            elif self._entries[key] is not entry or self._extents[key] != extent:
                self.clashes.add(key)  # of two models, or two times other weights
        return reads

    def _add_key(self, key: str, extent: Extent, owner: Any) -> None:
        low, high = extent.bounds
        known = None if extent.is_empty else self._memory.find((low, high))
        if known is not None:
            self.ties[key] = self._view(known, extent)
            return
        options: dict[str, Any] = {"key": key}
        if not _is_dense(extent):
            options["strides"] = list(extent.strides)
        self.keys[key] = number = self._add(Step(KEY, (), options))
        if extent.is_empty:
            return
        overlapping = self._memory.touching((low, high))
        if overlapping:
            self._lose([number, *(region.step for region in overlapping)], "memory that overlaps")
            return
        self._memory.add(Region(low, high, number, owner))

    def range(self, tensor: str, amax: np.ndarray) -> np.ndarray:
        """`amax`, the range of a tensor in the calibration; noted."""
        self._hold(amax, self._add(Step(RANGE, (), {"tensor": tensor, "amax": float(amax)})))
        return amax

    # Values

    def derive(
        self, op: str, *arrays: np.ndarray | None, out: np.ndarray | None = None, **options: Any
    ) -> np.ndarray:
        """What the operation `op` of :data:`OPERATIONS` computes of `arrays`; noted where one of
        these comes from a key or a range.

        Args:
            out: memory for the result, of operations that take it.
        """
        into = {} if out is None else {"out": out}
        result = OPERATIONS[op](*arrays, **into, **options)
        steps = tuple(None if array is None else self.find(array) for array in arrays)
        if any(step is not None for step in steps):
            if any(s is None and a is not None for s, a in zip(steps, arrays, strict=True)):
                why = f"{op} of it and of values that belong to no module"
                self._hold(result, self._add(Step(LOST, steps, {"why": why})))
            else:
                self._hold(result, self._add(Step(op, steps, options)))
        return result

    def release(self, array: np.ndarray) -> None:
        """Lets `array`, which :meth:`derive` gave, go: its weights are made, and nothing else is
        computed of it."""
        region = self._memory.find(Extent.of(array).bounds) if array.size else None
        if region is not None and self.steps[region.step].op != KEY:
            self._memory.remove(region)

    def decided_by(self, array: np.ndarray) -> None:
        """Notes that which layers there are, or their sizes, depends on the values of `array`."""
        step = self.find(array)
        if step is not None:
            self.lose([step], _BECAME)

    def copied(self, source: np.ndarray, copy: np.ndarray) -> None:
        """Notes that `copy`, in C order, has the values and sizes of `source`."""
        step = self.find(source)
        if step is not None:
            self._hold(copy, self._add(Step("dense", (step,))))

    def find(self, array: np.ndarray) -> int | None:
        """The step that has the values of `array`; ``None`` where they come from no key."""
        return self.find_extent(Extent.of(array))

    def find_extent(self, extent: Extent) -> int | None:
        """The step that has the values at `extent`."""
        if extent.is_empty:
            return None
        region = self._memory.find(extent.bounds)
        return None if region is None else self._view(region, extent)

    def note(self, step: Step, extent: Extent, owner: Any) -> None:
        """Notes that `step` gives what lies at `extent`, which `owner` keeps there."""
        number, (low, high) = self._add(step), extent.bounds
        found = self._memory.touching((low, high))
        for region in found:  # written over, as an operation in place does
            mixed = Step(LOST, (region.step, number), {"why": "memory that is written over"})
            self._memory.replace(region, Region(region.low, region.high, self._add(mixed), owner))
        if not found:
            self._memory.add(Region(low, high, number, owner))

    def lose(self, steps: Iterable[int], why: str) -> None:
        """Notes that the network depends on the values of `steps` in a way that nobody can repeat:
        `why` is a part of a sentence."""
        self._lose(steps, why)

    def touch(self, step: int) -> None:
        """Notes that something was computed of a step."""
        self._touched.add(step)

    # Weights

    def made(self, weights: Any, address: int, array: np.ndarray, dtype: str, name: str) -> None:
        """Notes that ``trt.Weights``, whose values lie at `address`, were made of `array`."""
        step = self.find(array)
        if step is not None:
            self._made.append((weights, address, step, dtype, name))

    def place(self, layer: str, method: str, arguments: Iterable[Any]) -> None:
        """Notes that `method` of ``INetworkDefinition`` added `layer` with `arguments`."""
        if not self._made or method not in _ROLES:
            return
        kind = type(self._made[0][0])
        given = [argument for argument in arguments if isinstance(argument, kind)]
        roles = {id(weights): r for r, weights in zip(_ROLES[method], given, strict=False)}
        left = []  # of layers that are added later
        for made in self._made:
            weights, address, step, dtype, name = made
            if id(weights) in roles:
                self.placed.append(Placed(layer, roles[id(weights)], step, dtype, name))
                self.buffers[layer, roles[id(weights)]] = weights, address
            else:
                left.append(made)
        self._made = left

    # Conclusions

    def settle(self) -> None:
        """Concludes, of a finished network, which keys are lost, and drops the weights that nobody
        can compute again."""
        kept = []
        for weight in self.placed:
            sources = sorted(self.sources([weight.step]))
            broken = [number for number in sources if self.steps[number].op == LOST]
            for number in broken:
                self._lose([number], str(self.steps[number].options["why"]))
            if not broken:
                kept.append(weight)
        self.placed = kept
        used = self.sources(weight.step for weight in kept)
        read = self.sources(self._touched)
        for key, number in self.keys.items():
            if number in read and number not in used and key not in self.lost:
                self.lost[key] = _UNKNOWN

    def sources(self, steps: Iterable[int]) -> set[int]:
        """`steps` and all that they are computed of."""
        found: set[int] = set()
        waiting = list(steps)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting += [source for source in self.steps[number].of if source is not None]
        return found

    def _lose(self, steps: Iterable[int], why: str) -> None:
        for number in self.sources(steps):
            step = self.steps[number]
            if step.op == KEY:
                self.lost.setdefault(str(step.options["key"]), why)

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _hold(self, array: np.ndarray, step: int) -> None:
        extent = Extent.of(array)
        if extent.is_empty:
            return
        self._memory.add(Region(*extent.bounds, step, array))

    def _view(self, region: Region, extent: Extent) -> int:
        """The step for the elements at `extent` of the memory of `region`."""
        step = region.step
        offset = extent.address - region.low
        key = (step, offset, extent.shape, extent.strides, extent.dtype)
        if key not in self._views:
            options = {"offset": offset, "shape": list(extent.shape),
                       "strides": list(extent.strides), "dtype": extent.dtype}  # fmt: skip
            self._views[key] = self._add(Step(VIEW, (step,), options))
        return self._views[key]


def _counts(entry: Any) -> _Counts:
    return _Counts(entry.reads, getattr(entry, "conversions", 0))


def _is_dense(extent: Extent) -> bool:
    """Whether the elements follow each other in C order."""
    wanted = extent.itemsize
    for size, stride in zip(reversed(extent.shape), reversed(extent.strides), strict=True):
        if size != 1 and stride != wanted:
            return False
        wanted *= size
    return True


def _extent_of(entry: Any) -> tuple[Extent | None, Any]:
    """Where the values of a parameter lie, and what keeps them there; ``None`` for none."""
    if not entry.has_values:
        return None, None
    if hasattr(type(entry), "tensor"):  # an entry itself may compute any attribute by PyTorch
        tensor = entry.tensor
        from trtnet.recipes.watch import extent_of  # needs torch

        return extent_of(tensor), tensor
    array = entry.memory
    return (None, None) if array is None else (Extent.of(array), array)
