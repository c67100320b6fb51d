"""Suppression by TensorRT's own layer for it, ``INMSLayer``."""

from __future__ import annotations

import math

import numpy as np

from trtnet.detection.overlap import below
from trtnet.detection.suppression import Kept, positions
from trtnet.dtypes import float32, int32
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import eq, ge, ne, where
from trtnet.ops.joining import cat, unbind
from trtnet.ops.scatter import scatter
from trtnet.ops.shape import flatten, reshape, unsqueeze
from trtnet.tensor import Tensor

LIMIT = 5000
"""The most candidates of an image, over all groups, that the layer considers."""


def keep_by_layer(
    boxes: Tensor,
    candidates: Tensor,
    scores: Tensor,
    iou_threshold: float,
    groups: Tensor | None,
    group_count: int | None,
) -> Kept:
    """The boxes that ``INMSLayer`` keeps; see :func:`trtnet.detection.keeping.keep`.

    They are those of the native form, but: of equal scores any may come first; and corners that
    are exchanged are put in order before areas are computed. How many rows the layer gives depends
    on the data, so that an engine with it synchronises, and cannot be captured in a CUDA graph.

    Raises:
        UnsupportedError: a backend without the layer; more than 5000 candidates, or a number of
            them, or of groups, that is known only at run time.
    """
    network, count = scores.network, scores.shape[1]
    if not network.builds("add_nms"):
        raise UnsupportedError(
            "this backend cannot build TensorRT's NMS layer",
            got='nms="layer"',
            fix='nms="native" (--nms native), or the backend tensorrt',
        )
    if not isinstance(count, int) or count > LIMIT:
        raise too_many(f"{count} boxes")
    values = unsqueeze(where(candidates, scores, -math.inf), 2)
    if groups is not None:
        if not isinstance(group_count, int):
            raise too_many(f"{group_count} classes")
        names = network.constant(np.arange(group_count, dtype=np.int32).reshape(1, 1, -1))
        values = where(eq(unsqueeze(groups.to(int32), 2), names), values, -math.inf)
    selected, _ = network.emit_all(
        "nms",
        "add_nms",
        boxes.to(float32),
        values,
        network.constant(np.array(count), int32),
        dims=[[-1, 3], None],
        inputs={
            3: network.constant(np.array(below(iou_threshold)), float32),
            4: network.constant(np.array(np.finfo(np.float32).min), float32),
        },
        topk_box_limit=count,
    )
    # Each image has one place more, which a row that is always there writes to: no tensor is empty.
    image, _, box = unbind(cat([selected, network.constant([[0, 0, count]], int32)], 0), -1)
    none = flatten(cat([candidates.to(int32), candidates[:, :1].to(int32)], 1) * 0, 0)
    marked = scatter(none, 0, image * (count + 1) + box, value=1)
    mask = ne(reshape(marked, scores.shape[0], count + 1)[:, :count], 0)
    first = positions(scores)[:, :1] + mask[:, :1].to(int32)
    return Kept(mask, ge(first, 0).squeeze(1))


def too_many(got: str) -> UnsupportedError:
    """The error for candidates that the layer cannot take."""
    return UnsupportedError(
        f"TensorRT's NMS layer takes no more than {LIMIT} candidates",
        expected=f"a number of them up to {LIMIT}, known when the network is defined",
        got=got,
        fix='a number of candidates, or nms="native"',
    )
