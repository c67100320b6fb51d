"""Stores graphs in safetensors files: weights as tensors, everything else as JSON metadata."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from trtnet.dtypes import ELEMENT_TYPES
from trtnet.errors import NetworkError, WeightsError
from trtnet.graph.layers import KINDS, NO_INPUTS, NO_OUTPUTS, TWO_INPUTS
from trtnet.graph.reader import sort, weight_shape
from trtnet.graph.types import Graph, Layer, TensorInfo
from trtnet.weights import loading, safetensors_writer
from trtnet.weights.container import Weights

_FORMAT = "trtnet.graph 1"
_MAX_RANK = 8  # TensorRT's own limit
_FIX = "the archive is damaged, or was written by another program: save the graph again"

T = TypeVar("T")


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
    """Reads a graph from the file `path`. Its weights are read-only views of the file.

    Raises:
        WeightsError: the file is not an archive of a graph, is damaged, or is cut short.
        NetworkError: the content is not a valid network: tensors or weights that are missing,
            produced twice or of impossible shapes, unknown layer types or dtypes, or a cycle.
    """
    return _unpack(loading.load(path), str(path))


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
    try:
        content = json.loads(stored.metadata.get("graph", ""))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: the graph cannot be read", got=error, fix=_FIX) from error
    graph = _graph(_Object(content, name), stored)
    _check(graph)
    return graph


def _key(layer: int, name: str) -> str:
    return f"{layer}.{name}"


class _Object:
    """A JSON object that checks the type of each entry on access.

    Args:
        content: the parsed JSON.
        path: position of the object in the file, for messages.
    """

    def __init__(self, content: object, path: str) -> None:
        self.path = path
        self._content: dict[str, object] = self._expect(dict, content)

    def _expect(self, kind: type[T], value: object, key: str = "") -> T:
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        raise self._wrong(kind.__name__, value, key)

    def _wrong(self, expected: str, value: object, key: str) -> WeightsError:
        where = f"{self.path}: entry {key!r}" if key else self.path
        return WeightsError(
            f"{where} cannot be read", expected=expected, got=f"{value!a:.80}", fix=_FIX
        )

    def text(self, key: str) -> str:
        """The string at `key`."""
        return self._expect(str, self._content.get(key), key)

    def entries(self, key: str, kind: type[T]) -> tuple[T, ...]:
        """The elements, all of type `kind`, of the list at `key`."""
        found = self._expect(list, self._content.get(key), key)
        return tuple(self._expect(kind, value, key) for value in found)

    def optional_texts(self, key: str) -> tuple[str | None, ...]:
        """The elements, strings or nulls, of the list at `key`."""
        found = self._expect(list, self._content.get(key), key)
        return tuple(None if value is None else self._expect(str, value, key) for value in found)

    def objects(self, key: str) -> list[_Object]:
        """The elements, all JSON objects, of the list at `key`."""
        return [
            _Object(value, f"{self.path}, {key} {i}")
            for i, value in enumerate(self.entries(key, dict))
        ]

    def attributes(self, key: str) -> dict[str, Any]:
        """The layer attributes at `key`: scalars, and tuples of numbers."""
        found = self._expect(dict, self._content.get(key), key)
        return {name: self._attribute(key, value) for name, value in found.items()}

    def _attribute(self, key: str, value: object) -> Any:
        if isinstance(value, list):
            for item in value:
                if not isinstance(item, (int, float)):
                    raise self._wrong("int or float", item, key)
            return tuple(value)
        if value is None or isinstance(value, (int, float, str)):
            return value
        raise self._wrong("int, float, str, bool, null or a list of numbers", value, key)


def _graph(content: _Object, stored: Weights) -> Graph:
    tensors: dict[str, TensorInfo] = {}
    for entry in content.objects("tensors"):
        info = TensorInfo(
            entry.text("name"),
            entry.text("dtype"),
            entry.entries("shape", int),
            entry.optional_texts("dimension_names"),
        )
        if info.name in tensors:
            raise NetworkError(
                "two tensors have the same name",
                module=info.name,
                expected="unique tensor names",
                fix=_FIX,
            )
        tensors[info.name] = info
    layers = []
    for i, entry in enumerate(content.objects("layers")):
        names = {name: _key(i, name) for name in entry.entries("weights", str)}
        missing = [key for key in names.values() if key not in stored]
        if missing:
            raise WeightsError(
                "weights are missing",
                module=entry.text("name"),
                expected=", ".join(names.values()),
                got=f"all but {', '.join(missing)}",
                fix=_FIX,
            )
        layers.append(
            Layer(
                entry.text("name"),
                entry.text("type"),
                entry.optional_texts("inputs"),
                entry.entries("outputs", str),
                entry.attributes("attributes"),
                {name: stored[key] for name, key in names.items()},
            )
        )
    return Graph(
        content.text("name"),
        content.entries("inputs", str),
        content.entries("outputs", str),
        tuple(layers),
        tensors,
        source=stored,
    )


def _check(graph: Graph) -> None:
    """Raises NetworkError unless `graph` is a valid network."""
    for info in graph.tensors.values():
        _check_tensor(info)
    made = list(graph.inputs)
    for layer in graph.layers:
        _check_layer(layer, graph.tensors)
        made += layer.outputs
    _check_names(graph, made)
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
    if len(info.shape) > _MAX_RANK or any(not -1 <= n < 2**63 for n in info.shape):
        raise NetworkError(
            "impossible shape",
            module=info.name,
            expected=f"at most {_MAX_RANK} sizes, -1 where unknown",
            got=info.shape,
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
    kind = KINDS.get(layer.type)
    if kind is None:
        raise NetworkError(
            "unknown layer type",
            module=layer.name,
            expected=", ".join(KINDS),
            got=layer.type,
            fix=_FIX,
        )
    wanted = {entry.partition("=")[0] for entry in kind.attributes}
    for what, allowed, got in (
        ("attributes", wanted | {*kind.marked}, layer.attributes),
        ("weights", set(kind.weights), layer.weights),
    ):
        if not allowed.issuperset(got) or (what == "attributes" and not wanted.issubset(got)):
            raise NetworkError(
                f"the {what} are not those of a {layer.type} layer",
                module=layer.name,
                expected=", ".join(sorted(allowed)) or "none",
                got=", ".join(sorted(got)) or "none",
                fix=_FIX,
            )
    _check_ends(layer)
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


def _check_ends(layer: Layer) -> None:
    """Checks that a layer has the inputs and outputs that none of its type is without."""
    inputs = 0 if layer.type in NO_INPUTS else 2 if layer.type in TWO_INPUTS else 1
    outputs = 0 if layer.type in NO_OUTPUTS else 1
    given = sum(name is not None for name in layer.inputs[: max(inputs, 1)])
    for what, least, got in (("inputs", inputs, given), ("outputs", outputs, len(layer.outputs))):
        if got < least:
            raise NetworkError(
                f"a {layer.type} layer has too few {what}",
                module=layer.name,
                expected=f"at least {least}",
                got=got,
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
