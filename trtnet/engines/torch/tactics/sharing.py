"""Which tactics are timed where a kernel takes much longer to compile than to time: those whose
kernels several regions share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence, Set

from trtnet.engines.torch.tactics.choices import Region, Tactic
from trtnet.engines.torch.tactics.launching import kernels_of
from trtnet.engines.torch.tactics.trials import shaped_calls

_LEAST = 2  # tactics of a problem that are compiled
Kernels = frozenset[Hashable]
"""What one tactic has compiled; see :func:`trtnet.engines.torch.tactics.launching.kernels_of`."""


def compiled_for_several(
    regions: Mapping[str, Region], tactics: Mapping[str, Sequence[Tactic]]
) -> dict[str, tuple[Tactic, ...]]:
    """Of the `tactics` of each problem, those that promise most first, those that are timed.

    Args:
        regions: one of each problem.
    """
    ranked = {
        problem: [
            (tactic, kernels_of(call))
            for tactic, call in zip(found, shaped_calls(regions[problem], found), strict=True)
        ]
        for problem, found in tactics.items()
    }
    return sharing(ranked, _LEAST)


def sharing(
    ranked: Mapping[str, Sequence[tuple[Tactic, Kernels]]], least: int
) -> dict[str, tuple[Tactic, ...]]:
    """Of the tactics of each problem those that are compiled, in their order.

    The first of each problem is, and those that are always timed; then one after the other, the
    most wanted first, until each problem has `least` of its tactics, or all that are not doubtful.
    What needs no other kernels than these is taken too.

    Args:
        ranked: the tactics of each problem, those that promise most first, with their kernels.
        least: tactics of a problem, where it has so many; those that are always timed not counted.
    """
    compiled: set[Hashable] = set()
    counted = []
    for tactics in ranked.values():
        chosen = [pair for pair in tactics if not pair[0].always]
        given = [*chosen[:1], *(pair for pair in tactics if pair[0].always)]
        compiled.update(*(kernels for _, kernels in given))
        counted.append(chosen)
    while wanted := _wanted(counted, compiled, least):
        compiled |= wanted.most_common(1)[0][0]  # of equal ones the first
    return {
        problem: tuple(tactic for tactic, kernels in tactics if kernels <= compiled)
        for problem, tactics in ranked.items()
    }


def _wanted(
    problems: Sequence[Sequence[tuple[Tactic, Kernels]]], compiled: Set[Hashable], least: int
) -> Counter[Kernels]:
    """By how many of the problems that have less than `least` tactics kernels are wanted that are
    not compiled, and not those of doubtful ones."""
    found: Counter[Kernels] = Counter()
    for tactics in problems:
        missing = [pair for pair in tactics if not pair[1] <= compiled]
        if len(tactics) - len(missing) < least:
            found.update(kernels for tactic, kernels in missing if not tactic.is_doubtful)
    return found
