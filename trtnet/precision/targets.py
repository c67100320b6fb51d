"""GPUs to build for: those of the wanted ones that have every precision of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtnet.errors import UnsupportedError
from trtnet.precision.table import TABLE, Precision


@dataclass(frozen=True)
class Targets:
    """The GPUs that an engine is built for.

    Attributes:
        capabilities: their compute capabilities, such as ``("8.9", "12.0")``; empty for the
            backend's default.
        lacking: those of the backend's default that are left out.
        precisions: the names of the precisions that those lack.
    """

    capabilities: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """What is left out, in words; ``None`` where nothing is."""
        if not self.lacking:
            return None
        return (
            f"{' and '.join(self.precisions)}: built for compute capability "
            f"{', '.join(self.capabilities)}; {_listed(self.lacking)} "
            f"{'lack' if len(self.lacking) > 1 else 'lacks'} it"
        )


def choose_targets(
    asked: Sequence[str], default: Sequence[str], occurs: Callable[[Precision], bool]
) -> Targets:
    """The GPUs to build a network for.

    Args:
        asked: compute capabilities that the user names; none for the default.
        default: those that the backend builds for by itself; none where it cannot choose.
        occurs: whether a precision occurs in the network; only called for those that a GPU of
            the two lists lacks.

    Raises:
        UnsupportedError: `asked` has GPUs that lack a precision of the network, or all of the
            default lack it.
    """
    wanted = tuple(asked or default)
    missed = [p for p in TABLE.values() if not all(map(p.runs_on, wanted)) and occurs(p)]
    lacking = tuple(gpu for gpu in wanted if not all(p.runs_on(gpu) for p in missed))
    left = tuple(gpu for gpu in wanted if gpu not in lacking)
    if lacking and (asked or not left):
        raise _refusal(missed[-1], lacking, left or [*filter(missed[-1].runs_on, default)])
    if not lacking:
        return Targets(tuple(asked))
    return Targets(left, lacking, tuple(p.name for p in missed))


def _refusal(
    precision: Precision, lacking: Sequence[str], better: Sequence[str]
) -> UnsupportedError:
    better = better or [precision.capability or ""]
    return UnsupportedError(
        f"{precision.name.upper()} needs GPUs of compute capability {precision.capability} or "
        f"later: {precision.gpus}",
        got=f"targets {', '.join(lacking)}",
        fix=f"--compute-capability {','.join(better)} or "
        f"BuildConfig(compute_capabilities={tuple(better)}); if no target is named, those that "
        f"have {precision.name.upper()} are taken",
    )


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, or ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
