"""read(): any strongly typed ``INetworkDefinition`` as a :class:`Graph`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np

from trtnet.dtypes import tensorrt_dtype_name
from trtnet.errors import NetworkError, UnsupportedError
from trtnet.graph.layers import CONTROL, KINDS, LayerKind
from trtnet.graph.plugins import Mark, StandIns, mark_of
from trtnet.graph.types import Graph, Layer, TensorInfo
from trtnet.graph.weights import as_array
from trtnet.network import Network

WeightsMap = Mapping[tuple[str, str], np.ndarray]


class Unit(Protocol):
    """An element that :func:`sort` can order: a layer, or a group of layers."""

    @property
    def name(self) -> str:
        """Unique name."""

    @property
    def type(self) -> str:
        """Layer type; recurrences are ordered by their first input alone."""

    @property
    def inputs(self) -> tuple[str | None, ...]:
        """Tensor names, ``None`` for an input that is not connected."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensor names."""


AnyUnit = TypeVar("AnyUnit", bound=Unit)


def read(network: Any, weights: WeightsMap | None = None) -> Graph:
    """The layers, tensors and weights of `network` as plain data.

    Args:
        network: a ``trt.INetworkDefinition`` of any backend, defined by hand, by trtnet or by
            ``OnnxParser``; or a :class:`trtnet.Network`, whose definition is read.
        weights: flat arrays by (layer name, attribute), used instead of the layer's own weights.

    Returns:
        A graph whose weights are views of the network's memory wherever the binding has a numpy
        type for them; it keeps `network` alive. Loops and conditionals stay flat: the attribute
        ``loop`` or ``conditional`` of each boundary layer names its loop or conditional, which
        is all the structure that TensorRT keeps.

    Raises:
        UnsupportedError: a layer type that this version cannot read; the message names the layer.
        NetworkError: a tensor without a valid shape, a name used twice, or a cycle.
    """
    network = _definition_of(network)
    trt = _module_of(network)
    tensors: dict[str, TensorInfo] = {}
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        names = tuple(_dimension_name(tensor, axis) for axis in range(len(tensor.shape)))
        _add(tensors, _tensor_info(tensor, "network input", names))
    layers, owners, stand_ins = [], _Owners(), StandIns()
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        mark = mark_of(layer)
        if mark is None or mark.is_visible:
            for k in range(layer.num_outputs):
                _add(tensors, _tensor_info(layer.get_output(k), layer.name))
        if mark is None or mark.is_layer:
            layers.append(_read_layer(trt, layer, weights or {}, owners, mark))
        else:
            layers += stand_ins.take(mark, layer)
    outputs = tuple(network.get_output(i).name for i in range(network.num_outputs))
    layers = stand_ins.without_shape_layers(layers, tensors, outputs)
    return Graph(
        name=network.name,
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=outputs,
        layers=tuple(sort(layers, (tensor.name for tensor in inputs))),
        tensors=tensors,
        source=network,
    )


def _definition_of(given: Any) -> Any:
    return given.definition if isinstance(given, Network) else given


def sort(layers: Iterable[AnyUnit], available: Iterable[str]) -> list[AnyUnit]:
    """`layers` in execution order: each after its producers, otherwise in the given order.

    The value that a recurrence takes from the previous iteration is not a dependency.

    Args:
        layers: in any order.
        available: names of the tensors that exist from the start.

    Raises:
        NetworkError: a layer that depends on its own output, or on a tensor without a producer.
    """
    ready, waiting = set(available), list(layers)
    ordered: list[AnyUnit] = []
    while waiting:
        blocked = []
        for layer in waiting:
            if all(name is None or name in ready for name in dependencies(layer)):
                ready.update(layer.outputs)
                ordered.append(layer)
            else:
                blocked.append(layer)
        if len(blocked) == len(waiting):
            layer = blocked[0]
            missing = [name for name in dependencies(layer) if name and name not in ready]
            raise NetworkError(
                "an input is never produced, or only by a layer that depends on this one",
                module=layer.name,
                expected="inputs that the network's inputs or earlier layers produce",
                got=", ".join(missing),
                fix="add the layer that produces it, or break the cycle",
            )
        waiting = blocked
    return ordered


def dependencies(layer: Unit) -> tuple[str | None, ...]:
    """The inputs that must exist before `layer` runs; of a recurrence only the first."""
    return layer.inputs[:1] if layer.type == "RECURRENCE" else layer.inputs


class _Owners:
    """Gives each loop and conditional of a network a unique name."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, str]] = []

    def name(self, owner: Any) -> str:
        """The unique name of the ``ILoop`` or ``IIfConditional`` `owner`."""
        for known, name in self._known:
            if known is owner:
                return name
        taken, name, tail = {name for _, name in self._known}, str(owner.name), 1
        while name in taken:
            name, tail = f"{owner.name}#{tail}", tail + 1
        self._known.append((owner, name))
        return name


def _module_of(network: Any) -> ModuleType:
    """The binding module that defines `network`'s class; it is already imported."""
    return sys.modules[type(network).__module__]


def _read_layer(
    trt: ModuleType, layer: Any, given: WeightsMap, owners: _Owners, mark: Mark | None = None
) -> Layer:
    # Some classes have a `type` of their own, and `layer` may already be of such a class.
    type_name = trt.ILayer.type.fget(layer).name
    kind = KINDS.get(type_name)
    if kind is None:
        raise UnsupportedError(
            f"layers of type {type_name} cannot be read back",
            module=layer.name,
            expected=f"one of {', '.join(sorted(KINDS))}",
            got=type_name,
            fix="define the network without this layer",
        )
    # get_layer() gives the base class; only the layer's own class has its attributes.
    layer.__class__ = getattr(trt, kind.class_name)
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    holder = _plugin(trt, layer) if type_name.startswith("PLUGIN") else layer
    attributes = {
        name: _attribute(trt, holder, source or name, owners)
        for name, _, source in (entry.partition("=") for entry in kind.attributes)
    }
    if mark is not None:
        attributes |= mark.attributes
    return Layer(
        name=layer.name,
        type=type_name,
        inputs=tuple(tensor.name if tensor is not None else None for tensor in inputs),
        outputs=tuple(layer.get_output(i).name for i in range(layer.num_outputs)),
        attributes=attributes,
        weights=_read_weights(layer, kind, attributes, given),
    )


def _attribute(trt: ModuleType, holder: Any, path: str, owners: _Owners) -> Any:
    """The property at `path` of `holder`; None where the binding lacks it or it is not set."""
    value = holder
    for part in path.split("."):
        try:
            value = getattr(value, part, None)
        except RuntimeError:  # raised by the binding for block shapes that were never set
            value = None
    return owners.name(value) if path in CONTROL else _plain(trt, value)


def _plugin(trt: ModuleType, layer: Any) -> Any:
    """The object that has the plugin's name, version and namespace."""
    plugin = getattr(layer, "plugin", None)
    if plugin is not None and hasattr(plugin, "get_capability_interface"):
        return plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    return plugin


def _read_weights(
    layer: Any, kind: LayerKind, attributes: Mapping[str, Any], given: WeightsMap
) -> dict[str, np.ndarray]:
    found = {}
    for name in kind.weights:
        array = given.get((layer.name, name))
        if array is None:
            array = as_array(getattr(layer, name), layer.name)
        if array.size or kind.class_name == "IConstantLayer":
            found[name] = array.reshape(weight_shape(kind.class_name, name, attributes))
    return found


def weight_shape(class_name: str, name: str, attributes: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of a layer's weights, -1 for an axis that follows from the number of values.

    Args:
        class_name: the binding's class of the layer.
        name: the attribute that holds the weights, such as ``"kernel"``.
        attributes: the layer's attributes.
    """
    if class_name == "IConstantLayer":
        return tuple(attributes["shape"])
    if name == "kernel" and class_name == "IConvolutionLayer":
        return (attributes["num_output_maps"], -1, *attributes["kernel_size_nd"])
    if name == "kernel":
        per_group = attributes["num_output_maps"] // attributes["num_groups"]
        return (-1, per_group, *attributes["kernel_size_nd"])
    return (-1,)


def _plain(trt: ModuleType, value: Any) -> Any:
    """`value` without types of the binding: an enum as its name, a sequence as a tuple."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, trt.DataType):
        return tensorrt_dtype_name(value.name)
    if hasattr(value, "__members__"):
        return str(value.name)
    return tuple(value)


def _tensor_info(tensor: Any, owner: str, names: tuple[str | None, ...] = ()) -> TensorInfo:
    try:
        shape = tuple(tensor.shape)
    except (RuntimeError, ValueError) as error:
        raise NetworkError(
            f"TensorRT gives no shape for tensor {tensor.name!r}: its layer's inputs do not fit",
            module=owner,
            got=error,
            fix="read the shape directly after adding the layer: TensorRT logs the reason then",
        ) from error
    return TensorInfo(tensor.name, tensorrt_dtype_name(tensor.dtype.name), shape, names)


def _dimension_name(tensor: Any, axis: int) -> str | None:
    return tensor.get_dimension_name(axis) or None


def _add(tensors: dict[str, TensorInfo], info: TensorInfo) -> None:
    if info.name in tensors:
        raise NetworkError(
            "two tensors have the same name",
            module=info.name,
            expected="unique tensor names",
            fix="rename one of the tensors",
        )
    tensors[info.name] = info
