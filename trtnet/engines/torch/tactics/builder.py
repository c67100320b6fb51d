"""Makes modules for inputs of fixed shapes fast: looks for regions, and times their tactics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set

import torch
import triton
from torch import fx

from trtnet.engines.torch.constants import drop_unused
from trtnet.engines.torch.memory import take_workspace
from trtnet.engines.torch.tactics.affine import gather_factors
from trtnet.engines.torch.tactics.choices import KEEP, Region, Tactic, apply
from trtnet.engines.torch.tactics.concatenations import join_in_place
from trtnet.engines.torch.tactics.elements.rewrite import write_kernels
from trtnet.engines.torch.tactics.joins import Join, join_products
from trtnet.engines.torch.tactics.joins import regions as regions_of
from trtnet.engines.torch.tactics.launching import compile_ahead
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.placement import place_channels
from trtnet.engines.torch.tactics.quantized.pooling import encode_before_pooling
from trtnet.engines.torch.tactics.regions import find
from trtnet.engines.torch.tactics.selection import select_by_kernel
from trtnet.engines.torch.tactics.sharing import compiled_for_several
from trtnet.engines.torch.tactics.simplify import simplify
from trtnet.engines.torch.tactics.specialize import lay_out, specialize
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.engines.torch.tactics.trials import Time, Trial, shaped_calls
from trtnet.reference.module_builder import is_kept

COUNTS = (0, 1, 2, 4, 8, 16)  # tactics of a region that are timed, at each optimization level
_SHARED_LEVEL = 3  # at which kernels are compiled that many regions share
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
        """`module` for `inputs` of these shapes and types, made fast. In ``meta["saved_us"]`` are
        the microseconds that this saves, says the time of each region; infinity where nodes
        emulate.

        Raises:
            SpecializationError: as :func:`specialize`.
        """
        made = specialize(module, inputs)
        gather_rows(made, self._device)
        simplify(made)
        encode_before_pooling(made)
        if self.level:
            place_channels(made, self._device)
            gather_factors(made, self._device)
        joins = join_products(made) if self.level else []
        select_by_kernel(made)
        regions = list(self._regions(made, joins))
        lay_out(made, self._replace(regions, {join.whole: join for join in joins}))
        made.meta["saved_us"] = math.fsum(map(self._saved, regions))
        if self.level:
            write_kernels(made, self._device)
            join_in_place(made, self._device)
        made.graph.eliminate_dead_code(is_kept)
        drop_unused(made)
        made.recompile()
        return made

    def _regions(self, module: fx.GraphModule, joins: Sequence[Join]) -> Iterator[Region]:
        if not self.level:
            return
        joined = list(regions_of(module, joins, COUNTS[-1]))
        yield from joined
        known = {node for region in joined for node in region.nodes}
        yield from find(module, COUNTS[-1], known)

    def _replace(self, regions: Sequence[Region], joins: Mapping[fx.Node, Join]) -> Set[fx.Node]:
        """Replaces `regions` by the fastest of their tactics; `joins` by the last nodes of theirs,
        of which those that are not faster are undone. Returns the new nodes."""
        by_problem = {region.problem: region for region in regions}
        unknown = self._promising(
            {key: region for key, region in by_problem.items() if not self._is_known(region)}
        )
        if self._device.type == "cuda":
            self._compile(by_problem, unknown)
            if unknown:
                take_workspace(self._device)
        for problem, tactics in unknown.items():
            self._try(by_problem[problem], tactics)
        if unknown and self._device.type == "cuda":
            torch.cuda.empty_cache()  # what the last trial took
        replaced: dict[fx.Node, fx.Node] = {}
        for region in regions:
            last, chosen = region.nodes[-1], self._chosen(region)
            for tactic in chosen:
                replaced[last] = apply(region, tactic, replaced)
            if last in joins and not chosen:
                replaced.update(joins[last].undo())
        return set(replaced.values())

    def _promising(self, regions: Mapping[str, Region]) -> dict[str, tuple[Tactic, ...]]:
        """The tactics of `regions` that are timed at this level, by problem."""
        count = COUNTS[self.level]
        found = {problem: region.most_promising(count) for problem, region in regions.items()}
        if self.level != _SHARED_LEVEL or self._device.type != "cuda":
            return found
        return compiled_for_several(regions, found)

    def _is_known(self, region: Region) -> bool:
        return self.cache.get(region.problem) == KEEP or bool(self._chosen(region))

    def _chosen(self, region: Region) -> tuple[Tactic, ...]:
        """The tactic that the cache has for `region`, of any level; none for the nodes as they
        are."""
        name = self.cache.get(region.problem)
        return tuple(tactic for tactic in region.tactics if tactic.name == name)

    def _saved(self, region: Region) -> float:
        """Microseconds that the chosen tactic takes less than the nodes as they are."""
        times = self.cache.times(region.problem)
        chosen = times.get(self.cache.get(region.problem) or KEEP, math.inf)
        saved = times.get(KEEP, 0.0) - chosen
        return saved if saved > 0 else 0.0  # neither less nor NaN, of a file that says so

    def _compile(
        self, regions: Mapping[str, Region], unknown: Mapping[str, Sequence[Tactic]]
    ) -> None:
        """Compiles the kernels that are timed for what is `unknown`, else those of the choices."""
        calls = []
        for problem, region in regions.items():
            calls += shaped_calls(region, unknown.get(problem) or self._chosen(region))
        compile_ahead(calls)

    def _try(self, region: Region, tactics: Sequence[Tactic]) -> None:
        """Times `tactics` of a region that stands for its problem, and keeps the choice."""
        times = Trial(region, tactics, self._device).times(self._time)
        best = min(times, key=times.__getitem__)
        is_faster = times[best] <= _MARGIN * times[KEEP]
        self.cache.put(region.problem, best if is_faster else KEEP, times)
