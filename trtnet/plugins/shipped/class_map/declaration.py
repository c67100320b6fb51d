"""Declares the plugin class_map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import trtnet
from trtnet.plugins.shipped.class_map import native
from trtnet.plugins.shipped.rows_columns import rows_and_columns
from trtnet.plugins.shipped.triton_launch import TritonLaunch, embedded

if TYPE_CHECKING:
    from trtnet.plugins import Draw, TensorSpec


def _launch(plugin: Any, logits: TensorSpec, classes: TensorSpec) -> TritonLaunch:
    from trtnet.plugins.shipped.class_map.kernel import plan

    return plan({"logits": logits.shape, "classes": classes.shape}).only


@trtnet.plugin("trtnet::class_map")
class ClassMap:
    """The class of every pixel, without the logits at full size in memory.

    That is ``F.interpolate(logits, size, mode="bilinear").argmax(1)`` as int32. Called with logits
    (N, C, h, w), float32 or float16, it gives (N, *size). Of equal logits the first class wins.

    Args:
        size: rows and columns.

    >>> net = trtnet.Network("rtx")
    >>> ClassMap(size=(512, 1024))(net.input("logits", ("N", 19, 64, 128))).shape
    (N, 512, 1024)
    """

    size: tuple[int, ...]

    formats = (("fp32", "->", "int32"), ("fp16", "->", "int32"))
    kernel = embedded("trtnet.plugins.shipped.class_map.kernel:_class_map", _launch)

    def outputs(self, logits: TensorSpec) -> TensorSpec:
        n, *_ = logits.shape
        return logits.like((n, *rows_and_columns(self, "size")), "int32")

    def reference(self, logits: Any) -> Any:
        from trtnet.plugins.shipped.class_map.reference import class_map

        return class_map(logits, rows_and_columns(self, "size"))

    def native(self, logits: trtnet.Tensor) -> trtnet.Tensor:
        return native.class_map(logits, rows_and_columns(self, "size"))

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        size, low = ([max(1, draw.size()) for _ in range(2)] for _ in range(2))
        logits = draw.array(draw.size(high=3), max(1, draw.size()), *low)
        return cls(size=tuple(size)), [logits]
