"""The native form of roi_align: two matrix products of TensorRT, and no gather.

The samples of a bin lie on a grid, and a bilinear weight is the product of a weight for the row and
one for the column. The mean over a bin is therefore ``rows @ image @ columns.T``, where `rows`
holds the weight of each image row in each bin, and `columns` that of each image column.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import UnsupportedError
from trtnet.plugins.shipped.axis_positions import axis_positions
from trtnet.tensor import Tensor


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Returns ``torchvision.ops.roi_align``.

    The batch and the number of boxes may be Dims; with a fixed sampling ratio, height and width
    too. A tensor of ``boxes * output height * C * W`` elements is in memory. With an adaptive
    sampling ratio, boxes larger than `input` get fewer samples than in torchvision; boxes clipped
    to the image are not larger.

    Raises:
        UnsupportedError: the sampling ratio is adaptive (not positive), and height or width is
            known only at run time.
    """
    n, channels, height, width = input.shape
    count, (pooled_h, pooled_w) = boxes.shape[0], output_size
    wide = boxes.to(float32)
    image, corners = wide[:, 0:1], wide[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    rows, columns = (
        _weights(corners[:, i], corners[:, i + 2], bins, size, sampling_ratio, aligned)
        for i, bins, size in ((1, pooled_h, height), (0, pooled_w, width))
    )
    chosen = (image - axis_positions(input.network, n)).abs() < 0.5
    rows = rows.reshape(count, pooled_h, 1, height) * chosen.to(float32).reshape(count, 1, n, 1)
    rows = rows.reshape(count * pooled_h, n * height).to(input.dtype)
    strips = rows @ input.permute(0, 2, 1, 3).reshape(n * height, channels * width)
    strips = strips.reshape(count, pooled_h * channels, width)
    pooled = strips @ columns.to(input.dtype).transpose(1, 2)
    return pooled.reshape(count, pooled_h, channels, pooled_w).permute(0, 2, 1, 3)


def _weights(
    first: Tensor, last: Tensor, bins: int, size: Any, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Returns the weight of each position on an axis in each bin, (boxes, bins, size)."""
    network, boxes = first.network, first.shape[0]
    length = last - first
    if not aligned:
        length = length.maximum(1.0)
    first, length = first.reshape(boxes, 1, 1), length.reshape(boxes, 1, 1)
    samples: Any = sampling_ratio
    most = sampling_ratio
    if sampling_ratio <= 0:
        most = _most_samples(size, bins)
        samples = (length / bins).ceil().minimum(most).maximum(1)
    index = np.arange(most, dtype=np.float32)
    bin_index = np.arange(bins, dtype=np.float32)[:, None]
    step = length / bins
    place = first + step * bin_index + step / samples * (index + 0.5)
    inside = ((place >= -1) & (place <= size)).to(float32)
    if sampling_ratio <= 0:
        inside = inside * ((samples > index) & (length > 0)).to(float32)
    place = place.maximum(0).minimum(size - 1).reshape(boxes, bins, most, 1)
    weight: Tensor = (1 - (place - axis_positions(network, size)).abs()).maximum(0)
    weight = weight * (inside / samples).reshape(boxes, bins, most, 1)
    mean: Tensor = weight.sum(2)
    return mean


def _most_samples(size: Any, bins: int) -> int:
    """Returns the number of samples in a bin of a box as large as the axis."""
    if isinstance(size, int):
        return -(-size // bins)
    raise UnsupportedError(
        "roi_align: without the plugin's kernel, an adaptive sampling ratio needs a fixed size",
        got=f"a size of {size}",
        fix="give sampling_ratio=2, or give height and width a fixed size in network.input(...)",
    )
