"""Models built with ``trtnet.nn``. Importing this loads neither torch nor TensorRT."""

from trtnet.zoo import densenet, lenet, mobilenet, resnet, vision_transformer  # noqa: F401
from trtnet.zoo.registry import Entry, get_entry, get_model, list_models, register

__all__ = ["Entry", "get_entry", "get_model", "list_models", "register"]
