"""Stores graphs in safetensors files: weights as tensors, everything else as JSON metadata."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import ELEMENT_TYPES
from trtnet.errors import NetworkError, WeightsError, located
from trtnet.graph.layers import KINDS
from trtnet.graph.reader import sort, weight_shape
from trtnet.graph.types import Graph, Layer, TensorInfo
from trtnet.reading.documents import Source, from_json, shortened
from trtnet.reading.schema import checked
from trtnet.weights import loading, safetensors_writer
from trtnet.weights.container import Weights

if TYPE_CHECKING:
    from trtnet.graph.archive_schema import StoredGraph, StoredLayer

_FORMAT = "trtnet.graph 1"
STRIPPED = "stripped"
"""The entry of an archive's metadata that says that it lacks weights."""
_FIX = "the archive is damaged, or was written by another program: save the graph again"


def save(path: str | os.PathLike[str], graph: Graph) -> None:
    """Writes `graph` to the file `path`, atomically; :func:`load` returns an equal graph.

    Raises:
        WeightsError: the file cannot be written; an existing file is left unchanged.
    """
    safetensors_writer.save(path, *_pack(graph))


def dumps(graph: Graph) -> bytes:
    """`graph` as the bytes of an archive, which :func:`loads` reads and :func:`save` writes."""
    return safetensors_writer.dumps(*_pack(graph))


def _pack(graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of the archive of `graph`."""
    layers = [
        {
            "name": layer.name,
            "type": layer.type,
            "inputs": layer.inputs,
            "outputs": layer.outputs,
            "attributes": dict(layer.attributes),
            "weights": list(layer.weights),
        }
        for layer in graph.layers
    ]
    tensors = [
        {
            "name": info.name,
            "dtype": info.dtype,
            "shape": info.shape,
            "dimension_names": info.dimension_names,
        }
        for info in graph.tensors.values()
    ]
    content = {
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "tensors": tensors,
        "layers": layers,
    }
    state = {
        _key(i, name): array
        for i, layer in enumerate(graph.layers)
        for name, array in layer.weights.items()
    }
    text = json.dumps(content, separators=(",", ":"))
    return state, {"format": _FORMAT, "graph": text}


def load(path: str | os.PathLike[str]) -> Graph:
    """Reads a graph from the file `path`. Its weights are read-only views of what was read:
    the file may change afterwards.

    Raises:
        WeightsError: the file is not an archive of a graph, is damaged, or is cut short.
        NetworkError: the content is not a valid network: tensors or weights that are missing,
            produced twice or of impossible shapes, unknown layer types or dtypes, or a cycle.
    """
    return _unpack(loading.read(Path(path)), str(path))


def loads(content: bytes, name: str = "the archive") -> Graph:
    """Reads a graph from the bytes of an archive, as :func:`load` does from a file.

    The weights are read-only views of `content`.

    Args:
        content: what :func:`dumps` returned.
        name: what messages call the archive.
    """
    return _unpack(loading.loads(content, name), name)


def _unpack(stored: Weights, name: str) -> Graph:
    if stored.metadata.get("format") != _FORMAT:
        raise WeightsError(
            f"{name} holds no graph",
            expected=f"the format {_FORMAT!r}",
            got=stored.metadata.get("format"),
            fix="give a file written by trtnet.graph.save",
        )
    if STRIPPED in stored.metadata:
        raise WeightsError(
            f"{name} holds a network without its weights",
            fix="put them in: trtnet refit ENGINE --weights W -o NEW, or plan.refit(state)",
        )
    from trtnet.graph.archive_schema import StoredGraph  # needs msgspec

    source = Source(name, "an archive of a network", WeightsError, _FIX)
    # An attribute may be infinite, such as the bound of an activation that clips on one side.
    content = from_json(stored.metadata.get("graph", ""), source, infinite=True)
    graph = _graph(checked(content, StoredGraph, source), stored, source)
    _check(graph)
    return graph


def _key(layer: int, name: str) -> str:
    return f"{layer}.{name}"


def _graph(content: StoredGraph, stored: Weights, source: Source) -> Graph:
    tensors: dict[str, TensorInfo] = {}
    for entry in content.tensors:
        info = TensorInfo(entry.name, entry.dtype, entry.shape, entry.dimension_names)
        if info.name in tensors:
            raise NetworkError(
                "two tensors have the same name",
                module=info.name,
                expected="unique tensor names",
                fix=_FIX,
            )
        tensors[info.name] = info
    layers = []
    for i, layer in enumerate(content.layers):
        names = {name: _key(i, name) for name in layer.weights}
        missing = [key for key in names.values() if key not in stored]
        if missing:
            raise WeightsError(
                "weights are missing",
                module=layer.name,
                expected=", ".join(names.values()),
                got=f"all but {', '.join(missing)}",
                fix=_FIX,
            )
        layers.append(
            Layer(
                layer.name,
                layer.type,
                layer.inputs,
                layer.outputs,
                _attributes(layer, source),
                {name: stored[key] for name, key in names.items()},
            )
        )
    return Graph(
        content.name, content.inputs, content.outputs, tuple(layers), tensors, source=stored
    )


def _attributes(layer: StoredLayer, source: Source) -> dict[str, Any]:
    """The attributes of a layer: scalars, and tuples of numbers."""
    from trtnet.graph.archive_schema import attributes_of

    if layer.type not in KINDS:
        raise NetworkError(
            "unknown layer type",
            module=layer.name,
            expected=", ".join(KINDS),
            got=shortened(layer.type),
            fix=_FIX,
        )
    with located(layer.name):
        checked(
            layer.attributes,
            attributes_of(layer.type),
            replace(source, name="", what=(f"the attributes of this {layer.type} layer")),
        )
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in layer.attributes.items()
    }


def _check(graph: Graph) -> None:
    """Raises NetworkError unless `graph` is a valid network."""
    for info in graph.tensors.values():
        _check_tensor(info)
    made = list(graph.inputs)
    for layer in graph.layers:
        _check_layer(layer, graph.tensors)
        made += layer.outputs
    _check_names(graph, made)
    for layer in graph.layers:
        _check_ranks(layer, graph.tensors)
    if sort(graph.layers, graph.inputs) != list(graph.layers):
        raise NetworkError(
            "the layers are not in execution order",
            expected="each layer after the producers of its inputs",
            fix=_FIX,
        )


def _check_tensor(info: TensorInfo) -> None:
    if info.dtype not in ELEMENT_TYPES:
        raise NetworkError(
            "unknown dtype",
            module=info.name,
            expected=", ".join(ELEMENT_TYPES),
            got=info.dtype,
            fix=_FIX,
        )
    if info.dimension_names and len(info.dimension_names) != len(info.shape):
        raise NetworkError(
            "the number of axis names is not the rank",
            module=info.name,
            expected=f"{len(info.shape)} names",
            got=info.dimension_names,
            fix=_FIX,
        )


def _check_layer(layer: Layer, tensors: Mapping[str, TensorInfo]) -> None:
    from trtnet.graph.archive_schema import fewest_outputs, inputs_of

    fewest, most = inputs_of(layer.type)
    connected = [name for name in layer.inputs[:fewest] if name is not None]
    if len(connected) < fewest or len(layer.inputs) > most:
        raise NetworkError(
            f"a {layer.type} layer with a wrong number of inputs",
            module=layer.name,
            expected=f"{fewest} or more" if most > len(layer.inputs) else f"{fewest} to {most}",
            got=len(connected) if len(connected) < fewest else len(layer.inputs),
            fix=_FIX,
        )
    if len(layer.outputs) < fewest_outputs(layer.type):
        raise NetworkError(
            f"a {layer.type} layer with too few outputs",
            module=layer.name,
            expected=fewest_outputs(layer.type),
            got=len(layer.outputs),
            fix=_FIX,
        )
    allowed = KINDS[layer.type].weights
    if not set(layer.weights).issubset(allowed):
        raise NetworkError(
            f"the weights are not those of a {layer.type} layer",
            module=layer.name,
            expected=", ".join(allowed) or "none",
            got=", ".join(layer.weights),
            fix=_FIX,
        )
    if "kernel" in allowed and "kernel" not in layer.weights and None in (*layer.inputs, None)[:2]:
        raise NetworkError(
            f"a {layer.type} layer without a kernel",
            module=layer.name,
            expected="weights, or a second input",
            fix=_FIX,
        )
    for name, array in layer.weights.items():
        _check_weights(layer, name, array)
    if layer.type == "CONSTANT":
        shapes = {tensors[name].shape for name in layer.outputs if name in tensors}
        if shapes != {layer.attributes["shape"]} or "weights" not in layer.weights:
            raise NetworkError(
                "a constant does not have the shape of its tensor",
                module=layer.name,
                expected=", ".join(map(str, shapes)),
                got=layer.attributes["shape"],
                fix=_FIX,
            )


def _check_ranks(layer: Layer, tensors: Mapping[str, TensorInfo]) -> None:
    """Checks the tensors of a convolution, whose number of axes the window gives."""
    window = layer.attributes.get("kernel_size_nd")
    if layer.type not in ("CONVOLUTION", "DECONVOLUTION") or window is None:
        return
    ranks = [len(tensors[name or ""].shape) for name in (layer.inputs[0], layer.outputs[0])]
    if ranks != [len(window) + 2] * 2:
        raise NetworkError(
            "the tensors of a convolution have the wrong number of axes",
            module=layer.name,
            expected=f"{len(window) + 2}: batch, channels, and those of the window",
            got=f"{ranks[0]} and {ranks[1]}",
            fix=_FIX,
        )


def _check_weights(layer: Layer, name: str, array: np.ndarray) -> None:
    try:
        shape = weight_shape(KINDS[layer.type].class_name, name, layer.attributes)
        fits = len(shape) == array.ndim and all(
            want in (-1, n) for want, n in zip(shape, array.shape, strict=True)
        )
    except (TypeError, ZeroDivisionError):
        shape, fits = (), False
    if not fits:
        raise NetworkError(
            f"weights {name!r} have the wrong shape",
            module=layer.name,
            expected=shape,
            got=array.shape,
            fix=_FIX,
        )


def _check_names(graph: Graph, made: list[str]) -> None:
    """Checks that every tensor has one producer, and that no other tensor is read."""
    counts = Counter(made)
    known = set(counts)
    used = {name for layer in graph.layers for name in layer.inputs if name is not None}
    for problem, names in (
        ("made more than once", {name for name in known if counts[name] > 1}),
        ("made, but not described", known - graph.tensors.keys()),
        ("described, but never made", graph.tensors.keys() - known),
        ("used, but never made", (used | set(graph.outputs)) - known),
    ):
        if names:
            raise NetworkError(f"tensors are {problem}", got=", ".join(sorted(names)), fix=_FIX)
