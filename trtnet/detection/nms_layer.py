"""Detections by TensorRT's own layer for non-maximum suppression, ``INMSLayer``."""

from __future__ import annotations

import math

import numpy as np

from trtnet.detection.overlap import below
from trtnet.detection.places import Rows, padded, pick, with_places
from trtnet.detection.settings import Detections, Suppression
from trtnet.dtypes import float32, int32
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import eq, gt, lt, where
from trtnet.ops.indexing import gather_elements
from trtnet.ops.joining import cat, unbind
from trtnet.ops.reduction import sum as sum_of
from trtnet.ops.shape import expand, flatten, transpose, unsqueeze
from trtnet.ops.top_k import top_k
from trtnet.ops.windows import positions
from trtnet.tensor import Tensor

LIMIT = 5000
"""Of each image the layer takes the best boxes, over all classes, and no more than these."""
_NO_IMAGE = 1 << 30


def detections_by_layer(boxes: Tensor, scores: Tensor, how: Suppression) -> Detections:
    """:func:`trtnet.detection.detections` by ``INMSLayer``.

    The boxes are those of the native form, but: of equal scores any may come first; and corners
    that are exchanged are put in order before areas are computed. How many rows the layer gives
    depends on the data, so that an engine with it synchronises, and cannot be captured in a CUDA
    graph. ``how.form``, ``rounds`` and ``images`` mean nothing to it.

    Raises:
        UnsupportedError: a backend without the layer; more than 5000 candidates, or a number that
            is known only at run time; `max_per_class` where classes suppress each other.
    """
    network = scores.network
    if not network.builds("add_nms"):
        raise UnsupportedError(
            "this backend cannot build TensorRT's NMS layer",
            got='nms="layer"',
            fix='nms="native" (--nms native), or the backend tensorrt',
        )
    limit = _candidates(scores, how)
    scores = where(gt(scores, below(how.score_threshold)), scores, -math.inf)  # NaN goes too
    if not how.across_classes:
        return _rows(boxes, scores, how, limit)
    if how.max_per_class is not None:
        raise UnsupportedError(
            "TensorRT's NMS layer cannot count by class where classes suppress each other",
            got=f"across_classes=True, max_per_class={how.max_per_class}",
            fix='nms="native", or max_per_class=None',
        )
    count, classes = scores.shape[1:]
    flat = with_places(flatten(transpose(scores, 1, 2), 1), limit)
    values, order = top_k(flat, limit, 1, largest=True)
    order = where(gt(values, -math.inf), order, 0)
    label = order // count
    index = order - label * count
    at = index if boxes.ndim == 3 else index * classes + label
    one_class = _rows(pick(flatten(boxes, 1, -2), at), unsqueeze(values, 2), how, limit)
    chosen = one_class.det_indices
    is_one = lt(expand_positions(chosen), one_class.num_dets)
    label, index = (where(is_one, pick(x.to(int32), chosen), 0) for x in (label, index))
    return one_class._replace(det_classes=label, det_indices=index)


def expand_positions(like: Tensor) -> Tensor:
    """(1, K) int32 for `like` (B, K): 0, 1, …"""
    return unsqueeze(positions(like.network, like.shape[1]), 0).to(int32)


def _candidates(scores: Tensor, how: Suppression) -> int:
    """How many pairs of a box and a class of an image take part."""
    if how.candidates is not None:
        return how.candidates
    count, classes = scores.shape[1:]
    total = count * classes
    if isinstance(total, int) and total <= LIMIT:
        return total
    raise UnsupportedError(
        f"TensorRT's NMS layer takes no more than {LIMIT} candidates",
        expected=f"candidates=1..{LIMIT}",
        got=f"candidates=None, which is {count} boxes of {classes} classes",
        fix='a number of candidates, or nms="native"',
    )


def _rows(boxes: Tensor, scores: Tensor, how: Suppression, limit: int) -> Detections:
    """The layer's rows (image, class, box), in a fixed number of places for each image."""
    network, places = scores.network, how.max_detections
    most = min(how.max_per_class or places, places)
    selected, _ = network.emit_all(
        "nms",
        "add_nms",
        boxes,
        scores,
        network.constant(np.array(most), int32),
        dims=[[-1, 3], None],
        inputs={
            3: network.constant(np.array(below(how.iou_threshold)), float32),
            4: network.constant(np.array(below(how.score_threshold)), float32),
        },
        topk_box_limit=limit,
    )
    # Behind the rows one for each place, so that there is something to gather in any case.
    nothing = network.constant(np.full((places, 3), [_NO_IMAGE, 0, 0], np.int32))
    image, label, box = unbind(cat([selected, nothing], 0), -1)
    images = unsqueeze(positions(network, scores.shape[0]), 1).to(int32)
    of_image = unsqueeze(image, 0)
    number, first = (
        sum_of(x.to(int32), dim=1, keepdim=True).to(int32)
        for x in (eq(of_image, images), lt(of_image, images))
    )
    place = unsqueeze(positions(network, places), 0).to(int32)
    is_one = lt(place, number)
    at = place + first
    label, box = (
        where(is_one, gather_elements(expand(unsqueeze(x, 0), at.shape[0], x.shape[0]), 1, at), 0)
        for x in (label, box)
    )
    classes = scores.shape[2]
    pair = box * classes + label
    corner = pick(flatten(boxes, 1, -2), box if boxes.ndim == 3 else pair)
    converged = eq(first, first).squeeze(1)
    return padded(Rows(at, is_one), converged, corner, pick(flatten(scores, 1), pair), label, box)
