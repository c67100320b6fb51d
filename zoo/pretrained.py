"""Weights of torchvision that were trained with other arguments than the builder's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pretrained:
    """Weights of torchvision and what its builder does when it loads them.

    Attributes:
        name: in torchvision's enum, such as ``COCO_V1``.
        sha256: how the hash of torchvision's file begins, which its name says.
        arguments: of our builder, where those of the model's weights differ.
    """

    name: str
    sha256: str
    arguments: Mapping[str, Any]
