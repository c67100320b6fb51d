"""Compares what a detector finds: box by box, since boxes of nearly equal scores may change places,
and the number of a place in the padded outputs says nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from trtnet.detection.formats import ROWS
from trtnet.detection.matching import NAMES, aligned, boxes_in, is_detection, match_of, pairs_of
from trtnet.detection.reading import PROTOTYPES
from trtnet.verification.comparison import Row, compare, without_metrics

ROW = "detections"
"""The name of the row of all boxes."""


def of_boxes(names: Collection[str]) -> tuple[str, ...]:
    """Those of the outputs `names` that say which boxes there are; none where the network is no
    detector, or gives all its boxes."""
    if not is_detection(names):
        return ()
    return (ROWS,) if ROWS in names else NAMES


def detection_rows(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[Row]:
    """One row for the boxes, called :data:`ROW`, and one for each further output, such as masks: of
    the boxes that are matched, or of the whole image.

    Args:
        ours: the network's outputs, by name.
        theirs: PyTorch's.
    """
    named = of_boxes(ours)
    shapes = {name: (tuple(ours[name].shape), tuple(theirs[name].shape)) for name in named}
    scores = ROWS if ROWS in named else "det_scores"
    shape = tuple(ours[scores].shape[:2])
    for name, (a, b) in shapes.items():
        if a != b:
            note = f"{name}: shape {a} in the network, {b} in PyTorch"
            return [without_metrics(ROW, shape, note)]
    found, wanted = (boxes_in(_arrays(part, named)) for part in (ours, theirs))
    both = [aligned(*pair) for pair in zip(found, wanted, strict=True)]
    row = compare(
        ROW, *(torch.from_numpy(np.concatenate(part)[:, 4]) for part in zip(*both, strict=True))
    )
    rows = [dataclasses.replace(row, shape=shape, boxes=match_of(found, wanted))]
    at = [pairs_of(*pair) for pair in zip(found, wanted, strict=True)]
    for name in (name for name in ours if name not in named):
        pair = ours[name], theirs[name]
        if name != PROTOTYPES:
            pair = _rows_of(ours[name], at, 0), _rows_of(theirs[name], at, 1)
        rows.append(dataclasses.replace(compare(name, *pair), shape=tuple(ours[name].shape)))
    return rows


def _arrays(outputs: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: outputs[name].detach().cpu().numpy() for name in names}


def _rows_of(x: Tensor, pairs: Sequence[Sequence[tuple[int, int]]], side: int) -> Tensor:
    """The rows of `x`, (B, K, …), of the boxes of `pairs`."""
    places = [(image, pair[side]) for image, found in enumerate(pairs) for pair in found]
    return x[[image for image, _ in places], [place for _, place in places]]
