"""Makes modules for inputs of fixed shapes fast: looks for regions, and times their tactics."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor, fx

from trtnet.engines.torch.constants import drop_unused
from trtnet.engines.torch.tactics.choices import KEEP, Region, apply, extract
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.quantized.finish import CODES
from trtnet.engines.torch.tactics.quantized.pooling import encode_before_pooling
from trtnet.engines.torch.tactics.regions import find
from trtnet.engines.torch.tactics.simplify import simplify
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.reference.module_builder import is_kept

COUNTS = (0, 1, 2, 4, 8, 16)  # tactics of a region that are timed, at each optimization level
_BYTES = 1 << 28  # of operands that are in memory together
_CALLS, _ROUNDS = 10, 4
_TOLERANCE = 0.01  # of the norm; bfloat16 has three digits
_MARGIN = 0.98  # of the time of the nodes as they are, above which they are kept

Time = Callable[[Callable[[], Any]], float]


def machine() -> dict[str, str]:
    """The GPU and the versions on which times depend."""
    major, minor = torch.cuda.get_device_capability()
    return {
        "gpu": torch.cuda.get_device_name(),
        "compute capability": f"{major}.{minor}",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": str(torch.backends.cudnn.version()),
    }


class Builder:
    """Builds modules for one device.

    Attributes:
        level: the optimization level, 0 to 5; at 0 nothing is timed and nothing replaced.
        cache: the choices.
    """

    def __init__(self, level: int, cache: TimingCache, device: torch.device, time: Time) -> None:
        """`time` gives the microseconds of one call on the device."""
        self.level, self.cache = level, cache
        self._device, self._time = device, time

    def build(
        self, module: fx.GraphModule, inputs: Sequence[tuple[Sequence[int], torch.dtype]]
    ) -> fx.GraphModule:
        """`module` for `inputs` of these shapes and types, made fast.

        Raises:
            SpecializationError: a loop, a conditional, or sizes that depend on the data.
        """
        made = specialize(module, inputs)
        gather_rows(made, self._device)
        simplify(made)
        encode_before_pooling(made)
        if self.level:
            self._replace(list(find(made, COUNTS[self.level], self._device)))
        made.graph.eliminate_dead_code(is_kept)
        drop_unused(made)
        made.recompile()
        return made

    def _replace(self, regions: Sequence[Region]) -> None:
        """Replaces `regions` by the fastest of their tactics."""
        unknown = {r.problem: r for r in regions if self.cache.get(r.problem) not in _names(r)}
        for some in _by_size(unknown):
            self._try(some)
        replaced: dict[fx.Node, fx.Node] = {}
        for region in regions:
            by_name = {tactic.name: tactic for tactic in region.tactics}
            chosen = by_name.get(self.cache.get(region.problem) or KEEP)
            if chosen is not None:
                replaced[region.nodes[-1]] = apply(region, chosen, replaced)

    def _try(self, unknown: Mapping[str, Region]) -> None:
        """Times the tactics of regions that stand for their problems, and keeps the choices."""
        trials = {problem: self._trial(region) for problem, region in unknown.items()}
        self._compile([call for trial in trials.values() for call in trial.calls.values()])
        for problem, trial in trials.items():
            times = trial.times(self._time)
            best = min(times, key=times.__getitem__)
            self.cache.put(problem, best if times[best] <= _MARGIN * times[KEEP] else KEEP, times)
        trials.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # what the operands took

    def _compile(self, calls: Sequence[Callable[[], Any]]) -> None:
        """Has Triton compile what `calls` need, several at a time; what fails, fails again later,
        when it is timed."""
        stream = torch.cuda.current_stream() if self._device.type == "cuda" else None

        def begin() -> None:
            if stream is not None:
                torch.cuda.set_device(self._device)  # of this thread, which cuBLAS asks for

        def run(call: Callable[[], Any]) -> None:
            with torch.inference_mode(), torch.cuda.stream(stream), suppress(Exception):
                call()

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), initializer=begin) as pool:
            list(pool.map(run, calls))

    def _trial(self, region: Region) -> _Trial:
        """The nodes of `region` as they are and its tactics, with random operands."""
        module, given = extract(region)
        values = {node: _example(node, self._device) for node in given}
        operands = [self._operand(node, values) for node in region.operands]
        arguments = [values[node] for node in given]
        calls: dict[str, Callable[[], Tensor]] = {
            tactic.name: partial(tactic.bound(), *operands) for tactic in region.tactics
        }
        return _Trial(partial(module, *arguments), calls)

    def _operand(self, node: fx.Node | None, values: dict[fx.Node, Tensor]) -> Tensor | None:
        if node is None:
            return None
        if node.op == "get_attr":
            stored: Tensor = getattr(node.graph.owning_module, str(node.target))
            return stored
        if node not in values:
            values[node] = _example(node, self._device)
        return values[node]


class _Trial(NamedTuple):
    """What is timed for one problem.

    Attributes:
        keep: the nodes as they are.
        calls: the tactics, by name.
    """

    keep: Callable[[], Tensor]
    calls: dict[str, Callable[[], Tensor]]

    def times(self, time: Time) -> dict[str, float]:
        """Microseconds of each; infinity where one fails or gives something else."""
        right = self.keep()
        found = {KEEP: time(self.keep)}
        for name, call in self.calls.items():
            found[name] = time(call) if _agrees(call, right) else math.inf
        return found


def _by_size(regions: Mapping[str, Region]) -> Iterator[dict[str, Region]]:
    """`regions` in parts whose random operands fit into :data:`_BYTES`, or of one region."""
    part: dict[str, Region] = {}
    total = 0
    for problem, region in regions.items():
        nodes = {source for node in region.nodes for source in node.all_input_nodes}
        size = sum(_bytes(node) for node in nodes | set(region.nodes))
        if part and total + size > _BYTES:
            yield part
            part, total = {}, 0
        part[problem] = region
        total += size
    if part:
        yield part


def _bytes(node: fx.Node) -> int:
    value = node.meta.get("value")
    return value.nbytes if isinstance(value, Tensor) and node.op != "get_attr" else 0


def _names(region: Region) -> tuple[str, ...]:
    return (KEEP, *(tactic.name for tactic in region.tactics))


def _agrees(call: Callable[[], Tensor], right: Tensor) -> bool:
    """Whether `call` gives `right` within the rounding of half precision."""
    try:
        found = call()
    except Exception:  # of many kinds, as kernels and libraries are
        return False
    if found.shape != right.shape or found.dtype != right.dtype:
        return False
    found, right = found.float(), right.float()
    return bool((found - right).norm() <= _TOLERANCE * right.norm())


def _example(node: fx.Node, device: torch.device) -> Tensor:
    """Random values, laid out as those of `node`."""
    value: Tensor = node.meta["value"]
    overlaps = 0 in value.stride()  # as of a tensor that is expanded
    made = (
        torch.empty(value.shape, dtype=value.dtype, device=device)
        if overlaps
        else torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    )
    if value.dtype in CODES:  # of which all are as likely
        return made.copy_(torch.randint(-128, 128, made.shape, device=device))
    return made.normal_() if made.is_floating_point() else made.zero_()


def time_captured(call: Callable[[], Any]) -> float:
    """Microseconds of one `call` inside of a CUDA graph, on the present stream; infinity where it
    fails."""
    try:
        call()
        call()
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for _ in range(_CALLS):
                call()
        return min(_replayed(graph, stream) for _ in range(_ROUNDS)) / _CALLS
    except (RuntimeError, ValueError, AssertionError):
        return math.inf


def _replayed(graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    graph.replay()
    end.record(stream)
    end.synchronize()
    return 1e3 * float(start.elapsed_time(end))
