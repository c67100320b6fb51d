"""Registers torchvision's detectors; how they prepare images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from trtnet.zoo.pretrained import Pretrained
from trtnet.zoo.registry import Builder, register

if TYPE_CHECKING:
    import torch

IMAGE = (3, 800, 1344)
"""The largest input that images become that are wider than high, padded to a multiple of 32."""

_AS_IT_IS = {"interpolation": "bilinear", "antialias": False, "rounding": False}
ANY_SIZE = {
    "resize_size": [800],
    "max_size": 1333,
    "size_divisor": 32,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    **_AS_IT_IS,
}
"""How most of torchvision's detectors prepare images: its ``GeneralizedRCNNTransform``."""


def of_one_size(edge: int, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    """How torchvision's detectors of one size prepare images: stretched to a square."""
    return {"resize_size": [edge, edge], "mean": [*mean], "std": [*std], **_AS_IT_IS}


def levels_of_vgg(edge: int) -> dict[str, Any]:
    """How the SSD on VGG-16 prepares images: stretched to a square, levels of 0 to 255 less the
    means that the features were trained with."""
    return of_one_size(edge, (0.48235, 0.45882, 0.40784), (1 / 255,) * 3)


def without_eps(sha256: str) -> Pretrained:
    """torchvision's first weights ``COCO_V1``, which were trained with 0 added to variances.

    Args:
        sha256: see :class:`Pretrained`.
    """
    return Pretrained("COCO_V1", sha256, {"norm_eps": 0.0})


def register_detector(
    input_shape: tuple[int, int, int] = IMAGE,
    preprocessing: Mapping[str, Any] = ANY_SIZE,
    pretrained: Sequence[Pretrained] = (),
) -> Callable[[Builder], Builder]:
    """Registers one of torchvision's detectors.

    Args:
        input_shape: of one image, prepared.
        preprocessing: torchvision's own, a part of its models.
        pretrained: see :class:`trtnet.zoo.entry.Entry`.
    """

    def add(builder: Builder) -> Builder:
        return register(
            input_shape=input_shape,
            task="detection",
            torchvision=True,
            twin=partial(_twin, builder.__name__),
            pretrained=pretrained,
            preprocessing=preprocessing,
        )(builder)

    return add


def _twin(name: str, **arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.torch_detectors import make_torch_detector  # imports torch

    return make_torch_detector(name, **arguments)
