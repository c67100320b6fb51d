"""Measuring a network on data against the same network in FP32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from trtnet.graph import Graph
from trtnet.reference.compiler import compile
from trtnet.reference.runner import execute, prepare, to_numpy
from trtnet.search.data import Data
from trtnet.search.metrics import Metrics, Tally

Outputs = Mapping[str, np.ndarray]


def outputs(read: Graph, data: Data) -> Iterator[Outputs]:
    """The outputs of the network `read` for each batch of `data`."""
    module = compile(read)
    for batch in data.batches:
        found = execute(module, prepare(read, batch))
        yield {name: to_numpy(value) for name, value in found.items()}


def measure(read: Graph, wanted: Iterable[Outputs], data: Data) -> Metrics:
    """The metrics of the network `read` over all of `data`.

    Args:
        wanted: :func:`outputs` of the same network in FP32.
    """
    tally = Tally()
    for index, (ours, theirs) in enumerate(zip(outputs(read, data), wanted, strict=True)):
        tally.add(ours, theirs, *data.known(index))
    return tally.metrics
