"""Registers torchvision's detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from trtnet.zoo.registry import Builder, register

if TYPE_CHECKING:
    import torch

IMAGE = (3, 800, 1344)
"""The largest input that images of 4:3 and wider become, torchvision's sizes padded to 32."""


def register_detector(
    input_shape: tuple[int, int, int] = IMAGE, pretrained: Mapping[str, Any] | None = None
) -> Callable[[Builder], Builder]:
    """Registers one of torchvision's detectors.

    Args:
        input_shape: of one image, prepared.
        pretrained: arguments of the builder that torchvision's weights were trained with.
    """

    def add(builder: Builder) -> Builder:
        return register(
            input_shape=input_shape,
            task="detection",
            torchvision=True,
            twin=partial(_twin, builder.__name__),
            pretrained=pretrained,
        )(builder)

    return add


def _twin(name: str, **arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.torch_detectors import make_torch_detector  # imports torch

    return make_torch_detector(name, **arguments)
