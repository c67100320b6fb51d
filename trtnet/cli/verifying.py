"""Verification on several batches, as one result."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet.cli.report import worst_row
from trtnet.cli.shapes import INPUT

if TYPE_CHECKING:
    import torch

    from trtnet.network import Network
    from trtnet.quantization import Batches
    from trtnet.verification import Verification
    from trtnet.zoo import Entry


def batches(
    shapes: Sequence[tuple[int, ...]], images: int, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Seeded normal inputs, at least `images` of them for each shape, in whole batches.

    Yields:
        How many images, and the batch that holds them.
    """
    random = np.random.default_rng(seed)
    for shape in shapes:
        for _ in range(math.ceil(images / shape[0])):
            yield shape[0], random.standard_normal(shape, dtype=np.float32)


def data_batches(
    shapes: Sequence[tuple[int, ...]], images: int, data: Batches
) -> Iterator[tuple[int, np.ndarray]]:
    """The first images of `data`, at least `images` of them for each batch size in `shapes`, in
    whole batches; from the start again where there are too few. Yields as :func:`batches` do."""
    for size, *_ in shapes:
        for start in range(0, images, size):
            places = (i % data.items for i in range(start, start + size))
            yield size, np.concatenate([data.read(range(i, i + 1))[INPUT] for i in places])


def verify_batches(
    network: Network,
    torch_model: torch.nn.Module,
    shapes: Sequence[tuple[int, ...]],
    images: int,
    seed: int,
    data: Batches | None = None,
) -> tuple[Verification, int]:
    """:func:`trtnet.verify` on all :func:`batches`, or on `data`: a quantized network is only
    right on inputs like those it was calibrated on. Also the number of images.

    Modules are judged on the network's own input with the first batch alone: what they compute
    is the same for all, and it takes time and much memory.
    """
    from trtnet.verification import verify  # needs torch

    results: list[Verification] = []
    counts = []
    noise = batches(shapes, images, seed)
    for count, batch in noise if data is None else data_batches(shapes, images, data):
        results.append(verify(network, torch_model, {INPUT: batch}, local=not results))
        counts.append(count)
    return worst(results, counts), sum(counts)


def worst(results: Sequence[Verification], counts: Sequence[int]) -> Verification:
    """The first result that failed, or the first of all, with each module's worst row over all
    `results`; argmax agreement is the mean over the images."""
    shares = [result.argmax_agreement for result in results]
    known = [(share, n) for share, n in zip(shares, counts, strict=True) if share is not None]
    mean = sum(share * n for share, n in known) / sum(n for _, n in known) if known else None
    return dataclasses.replace(
        next((result for result in results if not result.passed), results[0]),
        rows=tuple(map(worst_row, zip(*(result.rows for result in results), strict=True))),
        outputs=tuple(map(worst_row, zip(*(result.outputs for result in results), strict=True))),
        argmax_agreement=mean,
    )


def against(entry: Entry) -> str:
    """What a network is compared with, for the report."""
    package = "torch" if entry.twin is not None else "torchvision"
    return f"{entry.name} of {package} {importlib.metadata.version(package)}"
