"""Declares the plugins normalize_image (float32) and normalize_image_half (float16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.plugins.decorator import plugin
from trtnet.plugins.shipped.normalize_image import native
from trtnet.plugins.shipped.rows_columns import rows_and_columns
from trtnet.plugins.shipped.triton_launch import TritonLaunch, embedded, require_shapes
from trtnet.tensor import Tensor

if TYPE_CHECKING:
    from trtnet.plugins.examples import Draw
    from trtnet.plugins.spec import TensorSpec

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, torchvision's


def _launch(plugin: Any, images: TensorSpec, output: TensorSpec) -> TritonLaunch:
    from trtnet.plugins.shipped.normalize_image.kernel import plan

    return plan({"images": images.shape, "output": output.shape}, plugin.mean, plugin.std).only


class _Normalize:
    """The parts that both plugins share."""

    formats: Any
    size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    kernel = embedded(
        "trtnet.plugins.shipped.normalize_image.kernel:_resize_and_normalize",
        _launch,
        warps=2,
        registers=48,
    )

    def outputs(self, images: TensorSpec) -> TensorSpec:
        """Returns the spec of the output, (N, C, *size)."""
        mean, _ = self._statistics(images)
        n, *_ = images.shape
        return images.like((n, len(mean), *rows_and_columns(self, "size")), self.formats[0][-1])

    def reference(self, images: Any) -> Any:
        """Computes the operator in PyTorch."""
        import torch

        from trtnet.plugins.shipped.normalize_image.reference import normalize_image

        size, statistics = rows_and_columns(self, "size"), self._statistics(images)
        return normalize_image(images, size, *statistics, torch.float32)

    def native(self, images: Tensor) -> Tensor:
        """Computes the operator by TensorRT's layers."""
        return native.normalize_image(
            images, rows_and_columns(self, "size"), *self._statistics(images)
        )

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        """Returns a plugin with a random size, and random images."""
        mean, std = draw.choice((_MEAN, _STD), ((0.5,), (0.25,)))
        size, other = ([max(1, draw.size()) for _ in range(2)] for _ in range(2))
        shape = (draw.size(), *draw.choice(size, other), len(mean))
        images = draw.rng.integers(0, 256, shape, np.uint8)
        return cls(size=tuple(size), mean=mean, std=std), [images]

    def _statistics(self, images: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns `mean` and `std`.

        Raises:
            UsageError: `mean` and `std` do not fit together.
            ShapeError: `images` are not (N, H, W, channels).
        """
        if len(self.mean) != len(self.std) or 0 in self.std:
            raise UsageError(
                "normalize_image: mean and std do not fit together",
                expected="a number for each channel, and none of std is zero",
                got=f"mean {self.mean}, std {self.std}",
            )
        expected = (*images.shape[:3], len(self.mean))
        require_shapes("normalize_image", {"images": tuple(images.shape)}, {"images": expected})
        return self.mean, self.std


@plugin("trtnet::normalize_image")
class NormalizeImage(_Normalize):
    """``(images / 255 - mean) / std``, resized bilinearly, channels first, in one pass.

    Called with bytes (N, H, W, C) it gives (N, C, *size) in float32. It resizes as
    ``F.interpolate(mode="bilinear")`` does: half-pixel centres, no antialiasing.

    Args:
        size: rows and columns.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1; by default
            torchvision's for ImageNet.

    >>> import trtnet
    >>> net = trtnet.Network("rtx")
    >>> images = net.input("images", ("N", "H", "W", 3), "uint8")
    >>> NormalizeImage(size=(224, 224))(images).shape
    (N, 3, 224, 224)
    """

    size: tuple[int, ...]
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    formats = (("uint8", "->", "fp32"),)


@plugin("trtnet::normalize_image_half")
class NormalizeImageHalf(_Normalize):
    """:class:`NormalizeImage` in float16."""

    size: tuple[int, ...]
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    formats = (("uint8", "->", "fp16"),)
