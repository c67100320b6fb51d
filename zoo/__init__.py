"""Models built with ``trtnet.nn``. Importing this loads neither torch nor TensorRT."""

from trtnet.zoo import (  # noqa: F401
    alexnet,
    convnext,
    densenet,
    efficientnet,
    googlenet,
    inception,
    lenet,
    maxvit,
    mnasnet,
    mobilenet,
    mobilenet_v3,
    regnet,
    resnet,
    resnet_digits,
    segmentation,
    shufflenet,
    squeezenet,
    swin_transformer,
    vgg,
    vision_transformer,
)
from trtnet.zoo.cards import Card, card
from trtnet.zoo.entry import Entry
from trtnet.zoo.registry import get_entry, get_model, list_models, register

__all__ = ["Card", "Entry", "card", "get_entry", "get_model", "list_models", "register"]
