"""Declares the plugin roi_align."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.plugins.decorator import plugin
from trtnet.plugins.shipped.roi_align import native
from trtnet.plugins.shipped.rows_columns import rows_and_columns
from trtnet.plugins.shipped.triton_launch import Shape
from trtnet.tensor import Tensor

if TYPE_CHECKING:
    from trtnet.plugins.examples import Draw
    from trtnet.plugins.spec import TensorSpec


@plugin("trtnet::roi_align")
class RoIAlign:
    """``torchvision.ops.RoIAlign``: features of boxes whose corners are not rounded.

    Called with features (N, C, H, W) and boxes (K, 5), each an image index and left, top, right,
    bottom, it gives (K, C, *output_size) in the type of the features. Boxes of float16 features
    may be float32, because float16 cannot hold the corners of large images.

    Args:
        output_size: rows and columns.
        spatial_scale: pixels of the features per pixel of the boxes.
        sampling_ratio: samples of a bin along each axis; if it is not positive, one for each pixel
            of a bin.
        aligned: whether pixel centres lie at half coordinates.

    >>> import trtnet
    >>> net = trtnet.Network("rtx")
    >>> x, boxes = net.input("x", ("N", 256, "H", "W")), net.input("boxes", ("K", 5))
    >>> RoIAlign((7, 7), spatial_scale=0.25, sampling_ratio=2, aligned=True)(x, boxes).shape
    (K, 256, 7, 7)
    """

    output_size: tuple[int, ...]
    spatial_scale: float = 1.0
    sampling_ratio: int = -1
    aligned: bool = False

    formats = (
        ("fp32", "fp32", "->", "fp32"),
        ("fp16", "fp32", "->", "fp16"),
        ("fp16", "fp16", "->", "fp16"),
    )

    def outputs(self, input: TensorSpec, boxes: TensorSpec) -> TensorSpec:
        """Returns the spec of the output, (K, C, *output_size)."""
        return input.like((boxes.shape[0], input.shape[1], *rows_and_columns(self, "output_size")))

    def reference(self, input: Any, boxes: Any) -> Any:
        """Computes the operator in PyTorch, by torchvision."""
        from trtnet.plugins.shipped.roi_align.reference import roi_align

        # torchvision takes tensors of one type only.
        return roi_align(input, boxes.to(input.dtype), *self._arguments())

    def kernel(self, input: Any, boxes: Any, output: Any) -> None:
        """Writes the result to `output`, (K, C, *output_size), on the GPU."""
        from trtnet.plugins.shipped.roi_align.kernel import roi_align

        roi_align(input, boxes, *self._arguments(), out=output)

    def native(self, input: Tensor, boxes: Tensor) -> Tensor:
        """Computes the operator by TensorRT's layers."""
        return native.roi_align(input, boxes, *self._arguments())

    def cost(self, input: Shape, boxes: Shape) -> int:
        """Returns four for each sample and channel; adaptive sampling counts as ratio 1."""
        bins = math.prod(rows_and_columns(self, "output_size"))
        return 4 * boxes[0] * input[1] * bins * max(self.sampling_ratio, 1) ** 2

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        """Returns a plugin with random arguments, and random features and boxes."""
        n, channels, height, width = (max(1, draw.size()) for _ in range(4))
        count, scale = draw.size(), draw.choice(0.25, 0.5, 1.0)
        reach = np.array([width, height]) / scale
        first = (draw.rng.random((count, 2)) - 0.2) * reach
        last = first + 0.99 * draw.rng.random((count, 2)) * reach
        boxes = np.concatenate([draw.rng.integers(0, n, (count, 1)), first, last], 1)
        size = draw.choice((7, 7), (1, 1), (2, 5))
        plugin = cls(size, scale, draw.choice(2, 3, 0, -1), draw.choice(True, False))
        return plugin, [draw.array(n, channels, height, width), boxes]

    def _arguments(self) -> tuple[tuple[int, int], float, int, bool]:
        """Returns the arguments that follow the tensors in all three forms."""
        size = rows_and_columns(self, "output_size")
        return size, self.spatial_scale, self.sampling_ratio, self.aligned
