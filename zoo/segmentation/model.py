"""What torchvision's segmentation models have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.nn import functional as F
from trtnet.zoo.registry import Builder, register
from trtnet.zoo.segmentation.heads import class_map

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor


class SegmentationModel(nn.Module):
    """A backbone, a head on its features, and maybe a second, auxiliary one.

    Input (N, 3, H, W) of any size; outputs by name, of the input's size:

    - ``out``, logits (N, num_classes, H, W), or with `argmax` in its place ``classes``, INT32
      (N, H, W): the class of every pixel;
    - ``aux``, further logits, where there is an auxiliary head.

    Args:
        backbone: returns features by name: ``out``, and ``aux`` for the auxiliary head.
        aux_classifier: serves training; without it its weights in a state_dict are ignored.
    """

    ignored_keys = ("aux_classifier.*",)

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        aux_classifier: nn.Module | None = None,
        argmax: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self.argmax = argmax

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)
        result = named(enlarge(self.classifier(features["out"]), x), self.argmax)
        if self.aux_classifier is not None:
            result["aux"] = enlarge(self.aux_classifier(features["aux"]), x)
        return result


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def named(logits: Any, argmax: bool) -> dict[str, Any]:
    """The outputs that a model's `logits`, ours or PyTorch's, become."""
    return {"classes": class_map(logits)} if argmax else {"out": logits}


def with_class_map(model: torch.nn.Module) -> torch.nn.Module:
    """torchvision's `model`, to return what ours does with ``argmax=True``."""
    model.register_forward_hook(_replace_logits)
    return model


def _replace_logits(module: torch.nn.Module, args: Any, result: dict[str, Any]) -> dict[str, Any]:
    others = {name: tensor for name, tensor in result.items() if name != "out"}
    return {**named(result["out"], argmax=True), **others}


def register_segmentation(builder: Builder) -> Builder:
    """Registers one of torchvision's segmentation models; images have the size of its presets."""
    return register(
        input_shape=(3, 520, 520),
        task="segmentation",
        torchvision=True,
        switches={"argmax": with_class_map},
    )(builder)
