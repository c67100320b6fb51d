"""Trials: the tactics of one region on random operands, compared with its nodes and timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.recording import recording
from trtnet.engines.torch.tactics.choices import KEEP, Region, Tactic, extract
from trtnet.engines.torch.tactics.quantized.finish import CODES

_TOLERANCE = 0.01  # of the norm; bfloat16 has three digits
_COMPARED = 1 << 20  # elements that are compared at a time, in float32
_PART = 1 << 25  # bytes of one of the tensors from which a part of a result is computed
_EMULATED_BYTES = 8  # of an element
_HOPELESS = 1.5  # times as long as the best so far: nothing more is measured
_HOST_US = 300.0  # that the host may take for a call whose kernels take none
_SPARE = 1 << 25  # bytes that trials leave in PyTorch's allocator: the next one may need them
_MOST_CALLS, _LEAST_CALLS, _ENOUGH_US, _ROUNDS = 10, 2, 2000.0, 4

Call = Callable[[], Any]
Time = Callable[[Call, float], float]


class Trial:
    """The nodes of a region and tactics of it. Its operands are freed with it, and no result is
    kept longer than it is compared: nodes are computed again for each tactic, which takes less
    time than memory is worth."""

    def __init__(self, region: Region, tactics: Sequence[Tactic], device: torch.device) -> None:
        module, given = extract(region)
        _overwrite(module)
        examples = Examples(device)
        self._nodes = _Nodes(module, [examples.of(node) for node in given], region)
        operands = [examples.operand(node) for node in region.operands]
        self._written: list[Tensor] = []
        if region.into is not None:
            mine = torch.empty_like(examples.of(region.into))
            operands[region.operands.index(region.into)] = mine
            self._written = [examples.of(region.into), mine]
        self._calls: dict[str, Call] = {
            tactic.name: partial(tactic.bound(), *operands) for tactic in tactics
        }

    def times(self, time: Time) -> dict[str, float]:
        """Microseconds of each; infinity where one fails or gives something else, and for nodes
        that emulate. One that is clearly slower than another is measured less exactly."""
        nodes = self._nodes
        found = {KEEP: math.inf if nodes.is_emulated else time(nodes.call, math.inf)}
        for name, call in self._calls.items():
            for tensor in self._written:  # else what was written before would be compared
                tensor.zero_()
            if nodes.nbytes > _PART:  # the graph before took as much, of a pool of its own
                torch.cuda.empty_cache()
            fits = _agrees(call, nodes)
            found[name] = time(call, min(found.values())) if fits else math.inf
        return found


class _Nodes:
    """The nodes of a region as a function of fixed operands.

    Attributes:
        call: what computes all.
        shape: of the result.
        nbytes: of the result.
        is_emulated: see :class:`Region`.
    """

    def __init__(self, module: fx.GraphModule, operands: Sequence[Tensor], region: Region) -> None:
        self.call: Call = partial(module, *operands)
        example = region.nodes[-1].meta["value"]
        self.shape, self.nbytes = tuple(example.shape), example.nbytes
        self.is_emulated = region.is_emulated
        self._last, self._module, self._operands = region.nodes[-1], module, operands

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """The result: one that is large in parts along its first axis."""
        step = self._step
        if not step:
            yield slice(None), self.call()
            return
        for start in range(0, self.shape[0], step):
            rows = slice(start, min(start + step, self.shape[0]))
            yield rows, self._part(rows)

    def _part(self, rows: slice) -> Tensor:
        part: Tensor = self._module(*(x[rows] for x in self._operands))
        return part

    @cached_property
    def _step(self) -> int:
        """Rows of a part; 0 where there is one part, as the nodes do not work row by row."""
        if not self.shape or any(x.shape[:1] != self.shape[:1] for x in self._operands):
            return 0
        if any(map(_may_be_places, (*self._operands, *self._module.buffers()))):
            return 0
        example = self._last.meta["value"]
        item = _EMULATED_BYTES if self.is_emulated else example.itemsize
        largest = max(example.numel(), *(x.numel() for x in self._operands)) * item
        count = 1 << (math.ceil(largest / _PART) - 1).bit_length()  # even parts of most batches
        step = max(1, math.ceil(self.shape[0] / count))
        if largest <= _PART or step == self.shape[0]:
            return 0
        try:
            shape = self._part(slice(0, step)).shape
        except RuntimeError:  # as of a shape that is stated
            return 0
        return step if shape == (step, *self.shape[1:]) else 0


def _may_be_places(x: Tensor) -> bool:
    """Whether `x` may say from which rows of a whole tensor values are taken. In a part these would
    be outside, of which no error can be caught on a GPU: CUDA is of no more use afterwards."""
    return not (x.is_floating_point() or x.dtype in CODES)


def _overwrite(module: fx.GraphModule) -> None:
    """Has a product overwrite the sigmoid that it alone uses, as in SiLU: the same values, and a
    third less memory for what is the largest tensor of many networks."""
    for product in module.graph.find_nodes(op="call_function", target=torch.mul):
        for gate, other in (product.args, product.args[::-1]):
            fits = isinstance(gate, fx.Node) and gate.target is torch.sigmoid
            if fits and len(gate.users) == 1 and _is_alike(gate, product):
                product.target, product.args = Tensor.mul_, (gate, other)
                break
    module.recompile()


def _is_alike(one: fx.Node, other: fx.Node) -> bool:
    a, b = one.meta["value"], other.meta["value"]
    return bool(a.dtype == b.dtype and a.shape == b.shape)


def shaped_calls(region: Region, tactics: Iterable[Tactic]) -> list[Call]:
    """Calls of `tactics` on operands without memory, laid out as the real ones."""
    operands = [shape_of(node) for node in region.operands]
    return [partial(tactic.bound(), *operands) for tactic in tactics]


class Examples:
    """Random values for nodes. PyTorch's own generators, which belong to the whole process, are
    left as they are."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._random = torch.Generator(device).manual_seed(0)
        self._values: dict[fx.Node, Tensor] = {}

    def of(self, node: fx.Node) -> Tensor:
        """The values for `node`, laid out as its own; always the same ones."""
        if node not in self._values:
            self._values[node] = self._made(node)
        return self._values[node]

    def operand(self, node: fx.Node | None) -> Tensor | None:
        """What a tactic is given for `node`: what is stored, else :meth:`of`."""
        if node is None:
            return None
        return _stored(node) if node.op == "get_attr" else self.of(node)

    def _made(self, node: fx.Node) -> Tensor:
        made = _laid_out_as(node.meta["value"], self._device)
        if made.dtype in CODES:  # of which all are as likely
            codes = torch.randint(
                -128, 128, made.shape, device=self._device, generator=self._random
            )
            return made.copy_(codes)
        return made.normal_(generator=self._random) if made.is_floating_point() else made.zero_()


def shape_of(node: fx.Node | None) -> Tensor | None:
    """A tensor without memory, laid out as what a tactic is given for `node`."""
    if node is None:
        return None
    value = _stored(node) if node.op == "get_attr" else node.meta["value"]
    return _laid_out_as(value, torch.device("meta"))


def _stored(node: fx.Node) -> Tensor:
    stored: Tensor = getattr(node.graph.owning_module, str(node.target))
    return stored


def _laid_out_as(value: Tensor, device: torch.device) -> Tensor:
    """An empty tensor of the shape, type and strides of `value`; one without gaps where its
    elements overlap, as of a tensor that is expanded."""
    if 0 in value.stride():
        return torch.empty(value.shape, dtype=value.dtype, device=device)
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)


def _agrees(call: Call, nodes: _Nodes) -> bool:
    """Whether what `call` gives has a distance of at most a hundredth of the norm from what `nodes`
    give."""
    try:
        found = call()
    except Exception:  # of many kinds, as kernels and libraries are
        return False
    if found.shape != nodes.shape:
        return False
    distances, sizes = [], []
    for rows, right in nodes.parts():
        if found.dtype != right.dtype:
            return False
        distances.append(_norm(found[rows] if nodes.shape else found, right))
        sizes.append(_norm(right))
        del right  # before the next part is computed
    return math.hypot(*distances) <= _TOLERANCE * math.hypot(*sizes) < math.inf


def _norm(x: Tensor, other: Tensor | None = None) -> float:
    """The norm of `x`, or of ``x - other``, computed in parts, as float32 values take memory."""
    operands = [y.reshape(1) if y.dim() == 0 else y for y in (x, other) if y is not None]
    shape = operands[0].shape
    axis = max(range(len(shape)), key=shape.__getitem__)
    step = max(1, _COMPARED * shape[axis] // max(1, x.numel()))
    norms = []
    for part in zip(*(y.split(step, axis) for y in operands), strict=True):
        wide = part[0].float()
        norms.append((wide if other is None else wide - part[1].float()).norm())
    return float(torch.stack(norms).norm())


def time_captured(call: Call, limit: float) -> float:
    """Microseconds of one `call` inside of a CUDA graph, on the present stream; infinity where it
    fails. Much more than `limit` is not measured exactly."""
    stream = torch.cuda.current_stream()
    try:
        call()
        alone = _microseconds(call, stream)  # the host has a part in it
        if alone - _HOST_US > _HOPELESS * limit:
            return alone
        count = min(_MOST_CALLS, max(_LEAST_CALLS, int(_ENOUGH_US / max(alone, 1.0))))
        graph = torch.cuda.CUDAGraph()
        with recording(graph, stream, spare=_SPARE):
            for _ in range(count):
                call()
        return _best(graph.replay, stream, count, limit)
    except Exception:  # as above
        return math.inf


def _best(replay: Call, stream: torch.cuda.Stream, count: int, limit: float) -> float:
    """Microseconds of one of `count` calls in the fastest round."""
    best = math.inf
    for done in range(_ROUNDS):
        best = min(best, _microseconds(replay, stream) / count)
        if done and best > _HOPELESS * limit:
            break
    return best


def _microseconds(call: Call, stream: torch.cuda.Stream) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    call()
    end.record(stream)
    end.synchronize()
    return 1e3 * float(start.elapsed_time(end))
