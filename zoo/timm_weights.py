"""timm's checkpoints as weights of torchvision's architectures, where the two compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from trtnet import nn
from trtnet.errors import UnsupportedError, UsageError, WeightsError
from trtnet.module import Module
from trtnet.names import did_you_mean
from trtnet.weights.container import Weights
from trtnet.zoo import timm_keys
from trtnet.zoo.registry import get_entry
from trtnet.zoo.settling import settle
from trtnet.zoo.timm_keys import State

PREFIX = "timm/"  # of a model's name: as on huggingface.co
_EPS = 1e-5  # of every BatchNorm in the architectures below
_TENSORFLOW = "tf_"


class Architecture(NamedTuple):
    """`model` of the zoo, what gives timm's weights its keys, and arguments for its builder."""

    model: str
    keys: Callable[[State], State]
    model_args: Mapping[str, Any] = {}


def _vit(model: str, image_size: int) -> Architecture:
    return Architecture(model, timm_keys.vit, {"image_size": image_size})


_NAMED_ALIKE = {
    timm_keys.same: (
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
        "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
        "densenet121", "densenet161", "densenet169", "densenet201",
    ),
    timm_keys.vgg: (
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    ),
    timm_keys.convnext: ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    timm_keys.efficientnet: tuple(f"efficientnet_b{size}" for size in range(8)),
}  # fmt: skip
ARCHITECTURES = {
    **{name: Architecture(name, keys) for keys, names in _NAMED_ALIKE.items() for name in names},
    "efficientnetv2_s": Architecture("efficientnet_v2_s", timm_keys.efficientnet),
    "efficientnetv2_m": Architecture("efficientnet_v2_m", timm_keys.efficientnet),
    "efficientnetv2_l": Architecture("efficientnet_v2_l", timm_keys.efficientnet),
    "mobilenetv3_small_100": Architecture("mobilenet_v3_small", timm_keys.mobilenet_v3),
    "mobilenetv3_large_100": Architecture("mobilenet_v3_large", timm_keys.mobilenet_v3),
    "vit_base_patch16_224": _vit("vit_b_16", 224),
    "vit_base_patch16_384": _vit("vit_b_16", 384),
    "vit_base_patch32_224": _vit("vit_b_32", 224),
    "vit_base_patch32_384": _vit("vit_b_32", 384),
    "vit_large_patch16_224": _vit("vit_l_16", 224),
    "vit_large_patch16_384": _vit("vit_l_16", 384),
    "vit_large_patch32_224": _vit("vit_l_32", 224),
    "vit_large_patch32_384": _vit("vit_l_32", 384),
    "vit_huge_patch14_224": _vit("vit_h_14", 224),
    "deit_base_patch16_224": _vit("vit_b_16", 224),
    "deit_base_patch16_384": _vit("vit_b_16", 384),
    "swin_tiny_patch4_window7_224": Architecture("swin_t", partial(timm_keys.swin, window=7)),
    "swin_small_patch4_window7_224": Architecture("swin_s", partial(timm_keys.swin, window=7)),
    "swin_base_patch4_window7_224": Architecture("swin_b", partial(timm_keys.swin, window=7)),
    "swinv2_tiny_window8_256": Architecture("swin_v2_t", partial(timm_keys.swin_v2, window=8)),
    "swinv2_small_window8_256": Architecture("swin_v2_s", partial(timm_keys.swin_v2, window=8)),
    "swinv2_base_window8_256": Architecture("swin_v2_b", partial(timm_keys.swin_v2, window=8)),
}
"""timm's names of the architectures that the zoo has."""


def from_timm(state: Mapping[str, Any], name: str, **model_args: Any) -> Weights:
    """timm's weights under torchvision's keys, checked to be all that the zoo's model needs.

    timm's BatchNorms add 1e-5 to the variance in every architecture here, torchvision's add 1e-3
    in MobileNetV3, EfficientNet-B5 to -B7 and EfficientNetV2. There the scales are multiplied by
    ``sqrt((var + 1e-3) / (var + 1e-5))``, so that the networks compute the same.

    Args:
        state: arrays, or tensors that numpy can represent, by timm's keys.
        name: timm's name of the architecture, with or without ``timm/`` and the tag of the
            weights: ``vit_base_patch16_224``, ``timm/resnet50.a1_in1k``.
        **model_args: for the builder of the zoo's model, where the weights were trained with
            others: ``num_classes``, ``image_size``.

    Returns:
        the weights; their metadata name the zoo's model as ``architecture``.

    Raises:
        UsageError: the zoo does not have this architecture.
        UnsupportedError: it has one that computes something else.
        WeightsError: keys or shapes are not those of this architecture; all are listed.
    """
    architecture = _find(name)
    source = state if isinstance(state, Weights) else Weights({})
    arrays = {key: np.asarray(value) for key, value in state.items()}
    renamed = Weights(architecture.keys(arrays), flat=source.flat)
    model = _fitted(renamed, name, architecture, model_args)
    held = model.state_dict()
    fitted = {key: held[key] for key in renamed if key in held}
    return source.replaced(
        {**fitted, **_rescaled(held, model)},
        architecture=architecture.model,
        weights=PREFIX + name.removeprefix(PREFIX),
    )


def _find(name: str) -> Architecture:
    plain = name.removeprefix(PREFIX).partition(".")[0]
    if plain in ARCHITECTURES:
        return ARCHITECTURES[plain]
    if plain.startswith(_TENSORFLOW):
        raise UnsupportedError(
            f"timm's {plain} pads images as TensorFlow does, unevenly where it halves them",
            expected="an architecture that pads as PyTorch does",
            got=plain,
            fix=_nearest(plain),
        )
    raise UsageError(
        f"the zoo has no counterpart of timm's {plain!r}",
        got=plain,
        fix=_nearest(plain),
    )


def _nearest(plain: str) -> str:
    near = did_you_mean(plain.removeprefix(_TENSORFLOW), ARCHITECTURES, cutoff=0.7)
    return near or f"choose {', '.join(ARCHITECTURES)}"


def _fitted(
    renamed: Weights, name: str, architecture: Architecture, model_args: dict[str, Any]
) -> Module:
    """The zoo's model with the weights, which must be all that it needs."""
    entry = get_entry(architecture.model)
    arguments = {**architecture.model_args, **model_args}
    settled = settle(entry, entry.build(**arguments), renamed, arguments, set(model_args))
    model = settled.module
    try:
        model.load_state_dict(renamed)
    except WeightsError as error:
        raise WeightsError(
            f"the weights, renamed as those of timm's {name}, do not fit {architecture.model}",
            got=error.problem,
            fix="name the architecture they belong to, and num_classes or image_size if the "
            "weights were trained with others",
        ) from error
    return model


def _rescaled(arrays: State, model: Module) -> State:
    """The scales of the BatchNorms that add another number to the variance than timm's."""
    scales = {}
    for path, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.eps != _EPS:
            variance = arrays[f"{path}.running_var"].astype(np.float64)
            factor = np.sqrt((variance + norm.eps) / (variance + _EPS))
            scales[f"{path}.weight"] = (arrays[f"{path}.weight"] * factor).astype(np.float32)
    return scales
