"""Graphs as bytes: one safetensors file with the weights as tensors and the rest as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from trtnet import weights
from trtnet.dtypes import ELEMENT_TYPES
from trtnet.errors import NetworkError, WeightsError
from trtnet.graph.layers import KINDS
from trtnet.graph.reader import sort, weight_shape
from trtnet.graph.types import Graph, Layer, TensorInfo

_FORMAT = "trtnet.graph 1"
_MAX_RANK = 8  # TensorRT's own limit
_FIX = "the archive is damaged, or was made by another program: save the graph again"


def save(path: str | os.PathLike[str], graph: Graph) -> None:
    """Writes `graph`, atomically; :func:`load` gives an equal one.

    Raises:
        WeightsError: the file cannot be written; an old one is intact.
    """
    weights.save(path, *_pack(graph))


def dumps(graph: Graph) -> bytes:
    """The bytes of an archive: what :func:`save` writes and :func:`loads` reads."""
    return weights.dumps(*_pack(graph))


def _pack(graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of the archive."""
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
    """The graph in the file `path`. Its weights are read-only views of the file.

    Raises:
        WeightsError: not an archive of a graph, damaged, or cut short.
        NetworkError: what it holds is not a network: tensors or weights that are missing, made
            twice or of impossible shapes, unknown layer types or dtypes, or a cycle.
    """
    return _unpack(weights.load(path), str(path))


def loads(content: bytes, name: str = "the archive") -> Graph:
    """The graph in the bytes of an archive; `name` is theirs, for messages. See :func:`load`.

    The weights are read-only views of `content`.
    """
    return _unpack(weights.loads(content, name), name)


def _unpack(stored: weights.Weights, name: str) -> Graph:
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
    """A JSON object whose entries are checked as they are taken."""

    def __init__(self, content: Any, path: str) -> None:
        self.path = path
        self._content = self._expect(dict, content)

    def _expect(self, kind: type | tuple[type, ...], value: Any, key: str = "") -> Any:
        fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        if fits:
            return value
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        where = f"{self.path}: entry {key!r}" if key else self.path
        raise WeightsError(
            f"{where} cannot be read", expected=names, got=f"{value!a:.80}", fix=_FIX
        )

    def text(self, key: str) -> str:
        return self._expect(str, self._content.get(key), key)

    def entries(self, key: str, kind: type | tuple[type, ...]) -> tuple[Any, ...]:
        found = self._expect(list, self._content.get(key), key)
        return tuple(self._expect(kind, value, key) for value in found)

    def objects(self, key: str) -> list[_Object]:
        return [
            _Object(value, f"{self.path}, {key} {i}")
            for i, value in enumerate(self.entries(key, dict))
        ]

    def attributes(self, key: str) -> dict[str, Any]:
        found = self._expect(dict, self._content.get(key), key)
        return {name: self._attribute(key, value) for name, value in found.items()}

    def _attribute(self, key: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._expect((int, float), item, key) for item in value)
        return self._expect((int, float, str, bool, type(None)), value, key)


def _graph(content: _Object, stored: weights.Weights) -> Graph:
    optional = (str, type(None))
    tensors: dict[str, TensorInfo] = {}
    for entry in content.objects("tensors"):
        info = TensorInfo(
            entry.text("name"),
            entry.text("dtype"),
            entry.entries("shape", int),
            entry.entries("dimension_names", optional),
        )
        if info.name in tensors:
            raise NetworkError("two tensors have the same name", module=info.name, fix=_FIX)
        tensors[info.name] = info
    layers = []
    for i, entry in enumerate(content.objects("layers")):
        names = {name: _key(i, name) for name in entry.entries("weights", str)}
        missing = [key for key in names.values() if key not in stored]
        if missing:
            raise WeightsError(
                "weights are missing", module=entry.text("name"), got=", ".join(missing), fix=_FIX
            )
        layers.append(
            Layer(
                entry.text("name"),
                entry.text("type"),
                entry.entries("inputs", optional),
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
    for info in graph.tensors.values():
        _check_tensor(info)
    made = list(graph.inputs)
    for layer in graph.layers:
        _check_layer(layer, graph.tensors)
        made += layer.outputs
    _check_names(graph, made)
    if sort(graph.layers, graph.inputs) != list(graph.layers):
        raise NetworkError("the layers are not in an order in which they can run", fix=_FIX)


def _check_tensor(info: TensorInfo) -> None:
    if info.dtype not in ELEMENT_TYPES:
        raise NetworkError(
            "unknown dtype", module=info.name, expected=", ".join(ELEMENT_TYPES), got=info.dtype
        )
    if len(info.shape) > _MAX_RANK or any(not -1 <= n < 2**63 for n in info.shape):
        raise NetworkError(
            "impossible shape",
            module=info.name,
            expected=f"at most {_MAX_RANK} sizes, -1 where unknown",
            got=info.shape,
        )
    if info.dimension_names and len(info.dimension_names) != len(info.shape):
        raise NetworkError("not one name per axis", module=info.name, got=info.dimension_names)


def _check_layer(layer: Layer, tensors: Mapping[str, TensorInfo]) -> None:
    kind = KINDS.get(layer.type)
    if kind is None:
        raise NetworkError(
            "unknown layer type", module=layer.name, expected=", ".join(KINDS), got=layer.type
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
            )
    for name, array in layer.weights.items():
        _check_weights(layer, name, array)
    if layer.type == "CONSTANT":
        shapes = {tensors[name].shape for name in layer.outputs if name in tensors}
        if shapes != {layer.attributes["shape"]} or "weights" not in layer.weights:
            raise NetworkError("a constant does not fit its tensor", module=layer.name, fix=_FIX)


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
    """Every tensor is made once, and nothing else is used."""
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
