"""Declares the plugin class_map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.plugins.decorator import plugin
from trtnet.plugins.shipped.class_map import native
from trtnet.plugins.shipped.rows_columns import rows_and_columns
from trtnet.plugins.shipped.triton_launch import TritonLaunch, embedded
from trtnet.tensor import Tensor

if TYPE_CHECKING:
    from trtnet.plugins.examples import Draw
    from trtnet.plugins.spec import TensorSpec


def _launch(plugin: Any, logits: TensorSpec, classes: TensorSpec) -> TritonLaunch:
    from trtnet.plugins.shipped.class_map.kernel import plan

    return plan({"logits": logits.shape, "classes": classes.shape}).only


@plugin("trtnet::class_map")
class ClassMap:
    """The class of every pixel, without the logits at full size in memory.

    That is ``F.interpolate(logits, size, mode="bilinear").argmax(1)`` as int32. Called with logits
    (N, C, h, w), float32 or float16, it gives (N, *size). Of equal logits the first class wins.

    Args:
        size: rows and columns.

    >>> import trtnet
    >>> net = trtnet.Network("rtx")
    >>> ClassMap(size=(512, 1024))(net.input("logits", ("N", 19, 64, 128))).shape
    (N, 512, 1024)
    """

    size: tuple[int, ...]

    formats = (("fp32", "->", "int32"), ("fp16", "->", "int32"))
    kernel = embedded("trtnet.plugins.shipped.class_map.kernel:_class_map", _launch)

    def outputs(self, logits: TensorSpec) -> TensorSpec:
        """Returns the spec of the classes, (N, *size) int32."""
        n, *_ = logits.shape
        return logits.like((n, *rows_and_columns(self, "size")), "int32")

    def reference(self, logits: Any) -> Any:
        """Computes the classes in PyTorch."""
        from trtnet.plugins.shipped.class_map.reference import class_map

        return class_map(logits, rows_and_columns(self, "size"))

    def native(self, logits: Tensor) -> Tensor:
        """Computes the classes by TensorRT's layers."""
        return native.class_map(logits, rows_and_columns(self, "size"))

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        """Returns a plugin with a random size, and random logits."""
        size, low = ([max(1, draw.size()) for _ in range(2)] for _ in range(2))
        logits = draw.array(draw.size(high=3), max(1, draw.size()), *low)
        return cls(size=tuple(size)), [logits]
