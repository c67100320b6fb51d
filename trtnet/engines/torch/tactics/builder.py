"""Makes modules for inputs of fixed shapes fast: looks for regions, and times their tactics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import triton
from torch import fx

from trtnet.engines.torch.constants import drop_unused
from trtnet.engines.torch.tactics.choices import KEEP, Region, apply
from trtnet.engines.torch.tactics.launching import compile_ahead
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.regions import find
from trtnet.engines.torch.tactics.simplify import simplify
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.engines.torch.tactics.trials import Time, Trial, shaped_calls
from trtnet.reference.module_builder import is_kept

COUNTS = (0, 1, 2, 4, 8, 16)  # tactics of a region that are timed, at each optimization level
_MARGIN = 0.98  # of the time of the nodes as they are, above which they are kept


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
        """`time` gives the microseconds of one call on the device; it need not be exact about one
        that takes much longer than the given limit."""
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
        if self.level:
            self._replace(list(find(made, COUNTS[self.level], self._device)))
        made.graph.eliminate_dead_code(is_kept)
        drop_unused(made)
        made.recompile()
        return made

    def _replace(self, regions: Sequence[Region]) -> None:
        """Replaces `regions` by the fastest of their tactics."""
        by_problem = {region.problem: region for region in regions}
        unknown = {p: r for p, r in by_problem.items() if self.cache.get(p) not in _names(r)}
        if self._device.type == "cuda":
            self._compile(by_problem, unknown)
        for problem, region in unknown.items():
            self._try(problem, region)
        if unknown and self._device.type == "cuda":
            torch.cuda.empty_cache()  # what the last trial took
        replaced: dict[fx.Node, fx.Node] = {}
        for region in regions:
            by_name = {tactic.name: tactic for tactic in region.tactics}
            chosen = by_name.get(self.cache.get(region.problem) or KEEP)
            if chosen is not None:
                replaced[region.nodes[-1]] = apply(region, chosen, replaced)

    def _compile(self, regions: Mapping[str, Region], unknown: Mapping[str, Region]) -> None:
        """Compiles the kernels of all tactics of what is `unknown`, else those of the choices."""
        calls = []
        for problem, region in regions.items():
            chosen = [self.cache.get(problem) or KEEP]
            calls += shaped_calls(region, _names(region) if problem in unknown else chosen)
        compile_ahead(calls)

    def _try(self, problem: str, region: Region) -> None:
        """Times the tactics of a region that stands for its problem, and keeps the choice."""
        times = Trial(region, self._device).times(self._time)
        best = min(times, key=times.__getitem__)
        self.cache.put(problem, best if times[best] <= _MARGIN * times[KEEP] else KEEP, times)


def _names(region: Region) -> tuple[str, ...]:
    return (KEEP, *(tactic.name for tactic in region.tactics))
