"""What every command says whose result random weights make meaningless."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtnet.building.sidecar import StatedWeights

RANDOM_WEIGHTS = (
    "these are random: the network has learned nothing; its answers, and the errors of a "
    "precision, mean nothing"
)


def random_note(are_random: bool) -> list[str]:
    """The line below that of the weights' source; none for other weights."""
    return [f"{'':10}{RANDOM_WEIGHTS}"] if are_random else []


def weights_lines(source: str | None, are_random: bool) -> list[str]:
    """Where the weights are from, and that they are random if they are."""
    told = [] if source is None else [f"{'weights':10}{source}"]
    return told + random_note(are_random)


def stated_random(stated: StatedWeights | str | None) -> bool:
    """Whether a sidecar says that its engine's weights are random."""
    if isinstance(stated, str | None):
        return str(stated).partition(" (")[0] == "random"
    return "random" in (stated.origin, str(stated.source).partition(" (")[0])
