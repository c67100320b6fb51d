"""Verification of a model on several batches, as one result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet.pipeline.inputs import data_batches, seeded_batches
from trtnet.pipeline.progress import Update, ignore
from trtnet.pipeline.recipe import INPUT
from trtnet.pipeline.report import worst_row

if TYPE_CHECKING:
    import torch

    from trtnet.network import Network
    from trtnet.quantization import Batches
    from trtnet.verification import Tolerance, Verification


def verify_batches(
    network: Network,
    torch_model: torch.nn.Module,
    shapes: Sequence[tuple[int, ...]],
    images: int,
    seed: int,
    data: Batches | None = None,
    name: str = INPUT,
    tolerance: Tolerance | None = None,
    update: Update = ignore,
) -> tuple[Verification, int]:
    """:func:`trtnet.verify` on several batches, as one result; also the number of images.

    Modules are judged on the network's own input with the first batch alone: what they compute
    is the same for all, and it takes time and much memory.

    Args:
        shapes: of the batches.
        images: how many at least, for each shape.
        seed: of normal inputs.
        data: images to take instead: a quantized network is only right on inputs like those it
            was calibrated on.
        name: of the network's input.
        tolerance: limits from end to end; by default those of the network's precision.
        update: receives the progress.

    Raises:
        UsageError: `images` is not positive.
    """
    from trtnet.verification import verify  # needs torch

    results: list[Verification] = []
    counts = []
    for count, batch in batches(shapes, images, seed, data, name):
        first = not results
        results.append(
            verify(network, torch_model, {name: batch}, tolerance=tolerance, local=first)
        )
        counts.append(count)
        update(f"{sum(counts)} {'image' if sum(counts) == 1 else 'images'} compared")
    return worst(results, counts), sum(counts)


def verify_in_float64(
    network: Network,
    exact: Network,
    shapes: Sequence[tuple[int, ...]],
    images: int,
    seed: int,
    data: Batches | None = None,
    name: str = INPUT,
    tolerance: Tolerance | None = None,
    update: Update = ignore,
) -> tuple[Verification, int]:
    """Compares the outputs of `network`, in its own precision, with those of `exact` in float64;
    also the number of images. It is what remains for a model without a PyTorch counterpart.

    Args:
        exact: the same model, defined in FP32.

    Otherwise as :func:`verify_batches`.
    """
    from trtnet.pipeline.float64 import compare_with_float64  # needs torch

    results, counts = [], []
    for count, batch in batches(shapes, images, seed, data, name):
        results.append(compare_with_float64(network, exact, {name: batch}, tolerance))
        counts.append(count)
        update(f"{sum(counts)} {'image' if sum(counts) == 1 else 'images'} compared")
    return worst(results, counts), sum(counts)


def batches(
    shapes: Sequence[tuple[int, ...]],
    images: int,
    seed: int,
    data: Batches | None = None,
    name: str = INPUT,
) -> Iterator[tuple[int, np.ndarray]]:
    """Batches of `data`, or without any seeded ones."""
    if data is None:
        return seeded_batches(shapes, images, seed)
    return data_batches(shapes, images, data, name)


def worst(results: Sequence[Verification], counts: Sequence[int]) -> Verification:
    """The first result that failed, or the first of all, with each module's worst row over all
    `results`; argmax agreement is the mean over the images.

    Args:
        results: at least one.
        counts: the number of images of each.
    """
    shares = [result.argmax_agreement for result in results]
    known = [(share, n) for share, n in zip(shares, counts, strict=True) if share is not None]
    mean = sum(share * n for share, n in known) / sum(n for _, n in known) if known else None
    return dataclasses.replace(
        next((result for result in results if not result.passed), results[0]),
        rows=tuple(map(worst_row, zip(*(result.rows for result in results), strict=True))),
        outputs=tuple(map(worst_row, zip(*(result.outputs for result in results), strict=True))),
        argmax_agreement=mean,
    )
