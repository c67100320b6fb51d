"""Compares measurements with the roofline bound of the GPU."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from trtnet.benchmark.statistics import Summary
from trtnet.graph import Bound, gpus

# Words in a GPU's name that mean another variant than the one in the table.
_VARIANTS = {"laptop", "max", "mig", "nvl", "pcie", "super", "ti", "40gb"}


@dataclass(frozen=True)
class Roofline:
    """A measured time and its bound.

    Attributes:
        bound: from :meth:`trtnet.graph.Cost.bound`.
        measured_ms: milliseconds of one query.
    """

    bound: Bound
    measured_ms: float

    @property
    def bound_ms(self) -> float:
        """The bound in milliseconds."""
        return 1e3 * self.bound.seconds

    @property
    def share(self) -> float:
        """The bound over the measured time: 1 where the bound is reached; infinite for 0 ms."""
        return self.bound_ms / self.measured_ms if self.measured_ms else math.inf

    @property
    def limit(self) -> str:
        """``"compute"`` or ``"memory"``: the term that limits most of the bound's time."""
        compute = math.fsum(x.seconds for x in self.bound.layers if x.limit == "compute")
        return "compute" if compute > self.bound.seconds / 2 else "memory"

    @property
    def layers_ms(self) -> dict[str, float]:
        """The bound of each layer in milliseconds by name; it includes layers fused into it."""
        return {layer.name: 1e3 * layer.seconds for layer in self.bound.layers}


def roofline(bound: Bound, summary: Summary) -> Roofline:
    """The measured time of a query in `summary`, and `bound`.

    Args:
        bound: from :meth:`trtnet.graph.Cost.bound`.
        summary: the measurement.
    """
    # Queries on several streams overlap: then the throughput gives the GPU time of one.
    return Roofline(bound, min(summary.compute.median, 1e3 / summary.throughput))


def known_gpu(device_name: str) -> str | None:
    """The key in :func:`trtnet.graph.gpus` of the GPU `device_name`; None where it has none.

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
    """What limits the throughput: ``"enqueue"``, ``"h2d"`` or ``"d2h"``, else the limiting term
    of the roofline, ``"compute"`` or ``"memory"``; None where that is unknown.

    Args:
        summary: the measurement.
        found: its roofline, if known.
        asynchronous: see :meth:`Summary.warnings`.
    """
    bounds = summary.bounds(asynchronous=asynchronous)
    if bounds:
        return bounds[0]
    return None if found is None else found.limit
