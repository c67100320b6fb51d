"""The faults that ``tools/plant_faults.py`` plants: what changes, in which module of which model.

Each mutation changes one trtnet module after its weights were loaded; the PyTorch model stays as
it is. :data:`CATALOGUE` says where each kind is planted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import trtnet
from trtnet import nn

Mutation = Callable[[trtnet.Module, str], None]


@dataclass(frozen=True)
class Fault:
    """`mutate` is applied to the module `path` of `model`; `verify` has to name `named`, which is
    `path` unless PyTorch calls that module only inside of another."""

    kind: str
    model: str
    path: str
    mutate: Mutation
    named: str


def at(model: trtnet.Module, path: str) -> Any:
    """The module `path` below `model`."""
    for name in filter(None, path.split(".")):
        model = getattr(model, name)
    return model


def _put(model: trtnet.Module, path: str, module: trtnet.Module) -> None:
    parent, _, name = path.rpartition(".")
    at(model, parent).add_module(name, module)


def _set(**attributes: Any) -> Mutation:
    def mutate(model: trtnet.Module, path: str) -> None:
        for name, value in attributes.items():
            setattr(at(model, path), name, value)

    return mutate


def _swap(make: Callable[[], trtnet.Module]) -> Mutation:
    return lambda model, path: _put(model, path, make())


def _wrap(wrapper: Callable[[Any], trtnet.Module]) -> Mutation:
    return lambda model, path: _put(model, path, wrapper(at(model, path)))


def _weights(change: Callable[[np.ndarray], np.ndarray], name: str = "weight") -> Mutation:
    def mutate(model: trtnet.Module, path: str) -> None:
        parameter = getattr(at(model, path), name)
        parameter.data = np.ascontiguousarray(change(parameter.require(path)))

    return mutate


def _larger_eps(model: trtnet.Module, path: str) -> None:
    """Raises eps by a tenth of the mean variance, or to 0.2 where the variance is the input's."""
    module = at(model, path)
    variance = getattr(module, "running_var", None)
    module.eps = 0.2 if variance is None else module.eps + 0.1 * float(variance.data.mean())


def _double_one_channel(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[len(array) // 2] *= 2
    return array


def _halve_groups(model: trtnet.Module, path: str) -> None:
    """Each output channel sees the inputs of two groups, with the same weights for both."""
    conv = at(model, path)
    conv.groups //= 2
    widened = np.repeat(conv.weight.require(path), 2, axis=1)
    conv.weight = nn.Parameter(widened)


def _drop_bias(model: trtnet.Module, path: str) -> None:
    at(model, path).register_parameter("bias", None)


class _Altered(nn.Module):
    """Has the children of `original`, and another ``forward``."""

    def __init__(self, original: trtnet.Module) -> None:
        super().__init__()
        for name, child in original.named_children():
            self.add_module(name, child)


class _ResidualOfItself(_Altered):
    """A ResNet block that adds its branch to itself instead of to its input."""

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + out)


class _ResidualWithoutShortcut(_Altered):
    """A MobileNetV2 block that forgets its shortcut."""

    def forward(self, x: Any) -> Any:
        return self.conv(x)


class _ResidualOfBlockInput(_Altered):
    """A transformer block whose second shortcut starts at the block's input."""

    def forward(self, x: Any) -> Any:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        return x + self.mlp(self.ln_2(x + self.dropout(y)))


class _ConcatenatedBackwards(_Altered):
    """A DenseNet layer that joins the features in the opposite order."""

    def forward(self, features: Any) -> Any:
        x = self.conv1(self.relu1(self.norm1(trtnet.cat(list(reversed(features)), 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class _Transposed(nn.Module):
    """`original`, its last two axes swapped."""

    def __init__(self, original: trtnet.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Any) -> Any:
        return trtnet.transpose(self.original(x), -1, -2)


_IDENTITY = _swap(nn.Identity)
_BLOCK = "encoder.layers.encoder_layer_1"

# kind, mutation, and where: "model path", or "model path named".
_ENTRIES: tuple[tuple[str, Mutation, tuple[str, ...]], ...] = (
    ("eps", _larger_eps, (
        "resnet18 bn1", "resnet18 layer3.0.downsample.1", "mobilenet_v2 features.3.conv.1.1",
        "small_densenet features.norm5", "small_densenet features.denseblock2.denselayer3.norm1",
        f"small_vit {_BLOCK}.ln_2", "segmenter norm", "segmenter block.bn2", "densenet121 "
        "features.denseblock3.denselayer9.norm2")),
    ("padding mode", _set(padding_mode="replicate"), (
        "resnet18 layer1.0.conv1", "mobilenet_v2 features.1.conv.0.0",
        "small_densenet features.conv0", "small_resnext layer2.0.conv2", "segmenter grouped")),
    ("padding", _set(padding=(0, 0)), (
        "resnet18 maxpool", "small_densenet features.pool0", "mobilenet_v2 features.2.conv.1.0")),
    ("stride", _set(stride=(1, 1)), (
        "resnet18 conv1", "mobilenet_v2 features.0.0", "mobilenet_v2 features.7.conv.1.0",
        "small_densenet features.conv0", "small_densenet features.transition1.pool")),
    ("dilation", _set(dilation=(2, 2), padding=(2, 2)), (
        "resnet18 layer2.1.conv2", "mobilenet_v2 features.4.conv.1.0", "segmenter block.conv2",
        "small_densenet features.denseblock1.denselayer2.conv2")),
    ("transposed kernel", _weights(lambda w: w.swapaxes(-1, -2)), (
        "resnet18 layer1.1.conv2", "mobilenet_v2 features.9.conv.1.0", "lenet5 c3",
        "small_resnext layer1.0.conv2")),
    ("transposed weights", _weights(lambda w: w.swapaxes(0, 1)), (
        "resnet18 layer4.1.conv1", "segmenter gate.score",
        f"small_vit {_BLOCK}.self_attention.out_proj {_BLOCK}.self_attention")),
    ("permuted outputs", _weights(lambda w: np.roll(w, 1, axis=0)), (
        "resnet18 layer3.0.conv2", "mobilenet_v2 features.18.0", "lenet5 c5",
        f"small_vit {_BLOCK}.mlp.0", "small_densenet classifier")),
    ("permuted inputs", _weights(lambda w: w[:, ::-1]), (
        "resnet18 layer2.0.downsample.0", "lenet5 f6", "segmenter mix", "small_vit conv_proj",
        "small_densenet features.denseblock2.denselayer2.conv1")),
    ("missing activation", _IDENTITY, (
        "resnet18 relu", "resnet18 layer2.0.relu", "mobilenet_v2 features.0.2", "lenet5 tanh",
        "small_densenet features.denseblock1.denselayer2.relu1", f"small_vit {_BLOCK}.mlp.1",
        "segmenter act")),
    ("wrong activation", _swap(nn.SiLU), (
        "resnet18 layer3.1.relu", "mobilenet_v2 features.5.conv.0.2", "lenet5 tanh",
        "small_densenet features.transition1.relu", f"small_vit {_BLOCK}.mlp.1",
        "vit_b_16 encoder.layers.encoder_layer_6.mlp.1")),
    ("missing norm", _IDENTITY, (
        "resnet18 layer2.1.bn1", "mobilenet_v2 features.6.conv.3", "segmenter norm",
        "small_densenet features.norm0", f"small_vit {_BLOCK}.ln_1")),
    ("wrong pooling", _swap(lambda: nn.MaxPool2d(2)), (
        "lenet5 s2", "small_densenet features.transition1.pool")),
    ("count_include_pad", _set(count_include_pad=False), ("segmenter pool",) * 3),
    ("align_corners", _set(align_corners=True), ("segmenter up", "segmenter", "segmenter up",
                                                 "segmenter")),
    ("axis", _set(axis=2), ("segmenter gate", "segmenter gate")),
    ("swapped axes", _wrap(_Transposed), ("small_vit conv_proj", "segmenter grouped")),
    ("concatenation order", _wrap(_ConcatenatedBackwards), (
        "small_densenet features.denseblock1.denselayer2",
        "small_densenet features.denseblock2.denselayer3")),
    ("residual source", _wrap(_ResidualOfItself), (
        "resnet18 layer1.0", "resnet18 layer3.1", "segmenter block")),
    ("residual source", _wrap(_ResidualWithoutShortcut), (
        "mobilenet_v2 features.3", "mobilenet_v2 features.12")),
    ("residual source", _wrap(_ResidualOfBlockInput), (f"small_vit {_BLOCK}",)),
    ("scale of one channel", _weights(_double_one_channel), (
        "resnet18 layer2.0.bn2", "mobilenet_v2 features.12.conv.0.1", "lenet5 c1",
        "small_densenet features.norm0", f"small_vit {_BLOCK}.ln_1", "segmenter head")),
    ("missing bias", _drop_bias, (
        "lenet5 c3", "lenet5 f6", "resnet18 fc", "small_vit heads.head", "segmenter stem",
        "segmenter grouped", "small_densenet classifier")),
    ("groups", _halve_groups, (
        "small_resnext layer2.0.conv2", "small_resnext layer4.0.conv2", "segmenter grouped",
        "mobilenet_v2 features.6.conv.1.0", "resnext50_32x4d layer2.1.conv2")),
    ("attention heads", _set(num_heads=2), (f"small_vit {_BLOCK}.self_attention",)),
    ("argmax axis", _set(labels_axis=2), ("segmenter", "segmenter")),
)  # fmt: skip


def _fault(kind: str, mutate: Mutation, where: str) -> Fault:
    model, path, named = [*where.split(), "", ""][:3]
    return Fault(kind, model, path, mutate, named or path)


CATALOGUE: tuple[Fault, ...] = tuple(
    _fault(kind, mutate, where) for kind, mutate, places in _ENTRIES for where in places
)
