"""How close a measurement comes to what the GPU could do at best."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from trtnet.benchmark.statistics import Summary
from trtnet.graph import Bound, gpus

# Words in a GPU's name that make it another one than the table's of that model.
_VARIANTS = {"laptop", "max", "mig", "nvl", "pcie", "super", "ti", "40gb"}


@dataclass(frozen=True)
class Roofline:
    """A measured execution beside its bound; see :meth:`trtnet.graph.Cost.bound`.

    Attributes:
        measured_ms: of one query.
    """

    bound: Bound
    measured_ms: float

    @property
    def bound_ms(self) -> float:
        return 1e3 * self.bound.seconds

    @property
    def share(self) -> float:
        """Of the bound that is reached, 0 to 1."""
        return self.bound_ms / self.measured_ms if self.measured_ms else math.inf

    @property
    def limit(self) -> str:
        """``"compute"`` or ``"memory"``: what the layers that limits take most of the bound."""
        compute = math.fsum(x.seconds for x in self.bound.layers if x.limit == "compute")
        return "compute" if compute > self.bound.seconds / 2 else "memory"

    @property
    def layers_ms(self) -> dict[str, float]:
        """The least time of each layer, by its name; those fused into it count in it."""
        return {layer.name: 1e3 * layer.seconds for layer in self.bound.layers}


def roofline(bound: Bound, summary: Summary) -> Roofline:
    """`bound`, from :meth:`trtnet.graph.Cost.bound`, beside what was measured."""
    # Queries on several streams overlap: then the throughput tells how long one keeps the GPU.
    return Roofline(bound, min(summary.compute.median, 1e3 / summary.throughput))


def known_gpu(device_name: str) -> str | None:
    """The table's key for a GPU that calls itself `device_name`; None where it has none.

    >>> known_gpu("NVIDIA GeForce RTX 4090"), known_gpu("NVIDIA GeForce RTX 4090 Laptop GPU")
    ('rtx4090', None)
    """
    words = re.split(r"[\s-]+", re.sub(r"\bRTX (\d)", r"RTX\1", device_name).lower())
    if _VARIANTS.intersection(words):
        return None
    return next((key for key in gpus() if key in words), None)


def limited_by(
    summary: Summary, found: Roofline | None, *, asynchronous: bool = True
) -> str | None:
    """What limits the throughput first: ``"enqueue"``, ``"h2d"``, ``"d2h"``, else the term of the
    roofline, ``"compute"`` or ``"memory"``, if it is known."""
    bounds = summary.bounds(asynchronous=asynchronous)
    if bounds:
        return bounds[0]
    return None if found is None else found.limit
