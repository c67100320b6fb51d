"""The ONNX project's node tests as networks that TensorRT's parser made of them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import onnx

from trtnet import backend, graph

_NUMPY = {"float64": "float32", "bfloat16": "float32", "int4": "int8", "uint4": "uint8"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One test that parses.

    Attributes:
        name: the test's name.
        model: the ONNX model.
        network: what TensorRT's parser made of it.
        inputs: arrays by name.
        expected: arrays by name.
        rtol: relative tolerance of the test.
        atol: absolute tolerance of the test.
    """

    name: str
    model: onnx.ModelProto
    network: graph.Graph
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    rtol: float
    atol: float


@functools.cache
def rtx() -> tuple[backend.Backend, Any]:
    """TensorRT-RTX and a builder of it, loaded once."""
    loaded = backend.load("rtx")
    return loaded, loaded.builder()


def parse(model: onnx.ModelProto) -> graph.Graph | None:
    """The network of `model`, read back; None if the parser refuses the model."""
    loaded, builder = rtx()
    network = loaded.create_network(builder)
    parser = loaded.trt.OnnxParser(network, loaded.logger)
    try:
        parsed = parser.parse(model.SerializeToString())
    except ValueError:  # the parser reports some types it lacks like this
        return None
    return graph.read(network) if parsed else None


def load_cases(test: Any) -> list[Case]:
    """A case for each data set of `test`; none if it does not parse."""
    network = parse(test.model)
    if network is None:
        return []
    cases = []
    for inputs, expected in test.data_sets:
        targets = test.model.graph.output  # the parser may rename inputs, but keeps their order
        arrays = {
            name: plain(array(value)) for name, value in zip(network.inputs, inputs, strict=True)
        }
        wanted = {t.name: array(value) for t, value in zip(targets, expected, strict=True)}
        cases.append(Case(test.name, test.model, network, arrays, wanted, test.rtol, test.atol))
    return cases


def array(value: Any) -> np.ndarray:
    """`value`, a tensor of ONNX or anything like an array, as an array."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def plain(values: np.ndarray) -> np.ndarray:
    """`values` in a type of NumPy's own that holds each of them."""
    name = _NUMPY.get(values.dtype.name, values.dtype.name)
    return values.astype("float32" if name.startswith("float") and "_" in name else name)
