"""The plugins that come with trtnet, for what people write by hand again and again.

Each folder holds one: ``reference`` is PyTorch, ``native`` the same from TensorRT's layers,
``kernel`` the same in Triton, a function of CUDA tensors whose ``plan`` says what is launched, and
``declaration`` makes a plugin of them. Plugins are imported on first use.

>>> from trtnet.plugins.shipped import ClassMap
>>> ClassMap(size=(512, 512))
ClassMap(size=(512, 512))
"""

from __future__ import annotations

import importlib
from typing import Any

# Where each is declared, by its name without the namespace "trtnet".
PLACES = {
    "class_map": "trtnet.plugins.shipped.class_map.declaration:ClassMap",
    "deform_conv2d": "trtnet.plugins.shipped.deform_conv2d.declaration:DeformConv2d",
    "normalize_image": "trtnet.plugins.shipped.normalize_image.declaration:NormalizeImage",
    "normalize_image_half": "trtnet.plugins.shipped.normalize_image.declaration:NormalizeImageHalf",
    "roi_align": "trtnet.plugins.shipped.roi_align.declaration:RoIAlign",
    "yolo_decode": "trtnet.plugins.shipped.yolo_decode.declaration:YoloDecode",
}
_HOME_OF = {name: home for home, _, name in (path.partition(":") for path in PLACES.values())}

__all__ = ["PLACES", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
