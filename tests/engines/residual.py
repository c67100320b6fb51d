"""A residual network as a graph made by hand, so that it needs no TensorRT, and its oracle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from trtnet import graph
from trtnet.building.plan import Plan
from trtnet.graph import Graph, Layer, TensorInfo

CHANNELS, CLASSES = 8, 10
SHAPES = {
    "stem.kernel": (CHANNELS, 3, 3, 3),
    "left.kernel": (2 * CHANNELS, CHANNELS, 3, 3),
    "right.kernel": (2 * CHANNELS, CHANNELS, 1, 1),
    "stem.bias": (CHANNELS,),
    "left.bias": (2 * CHANNELS,),
    "right.bias": (2 * CHANNELS,),
    "fc.weight": (CLASSES, 2 * CHANNELS),
    "fc.bias": (1, CLASSES),
}


def parameters() -> dict[str, np.ndarray]:
    """Float32 values that float16 holds exactly."""
    rng = np.random.default_rng(5)
    scaled = {name: rng.standard_normal(shape) / 4 for name, shape in SHAPES.items()}
    return {name: value.astype("float16").astype("float32") for name, value in scaled.items()}


def expected(x: np.ndarray) -> np.ndarray:
    """What PyTorch computes in double precision."""
    p = {name: torch.from_numpy(value).double() for name, value in parameters().items()}
    y = torch.from_numpy(x).double()
    y = F.relu(F.conv2d(y, p["stem.kernel"], p["stem.bias"], 2, 1))
    y = F.max_pool2d(y, 3, 2, 1)
    left = F.conv2d(y, p["left.kernel"], p["left.bias"], 1, 1)
    right = F.conv2d(y, p["right.kernel"], p["right.bias"])
    y = F.relu(left + right).mean((2, 3))
    return F.linear(y, p["fc.weight"], p["fc.bias"][0]).numpy()


def plan(dtype: str = "float16", batch: int = -1, size: int = -1, **sidecar: Any) -> Plan:
    """The network as an engine of the torch backend, computing in `dtype`."""
    return Plan(graph.dumps(network(dtype, batch, size)), sidecar)


def network(dtype: str, batch: int, size: int) -> Graph:
    """Convolution, pooling, two convolutions side by side that are added, mean, linear."""
    p = {name: value.astype(dtype) for name, value in parameters().items()}
    unknown = (batch, -1, -1, -1)
    image = TensorInfo("x", "float32", (batch, 3, size, size))
    layers = [
        Layer("cast", "CAST", ("x",), ("narrow",), {"to_type": dtype}),
        _convolution("stem", "narrow", p, stride=2, padding=1),
        _relu("stem_relu", "stem"),
        _pool("pool", "stem_relu"),
        _convolution("left", "pool", p, padding=1),
        _convolution("right", "pool", p),
        Layer("add", "ELEMENTWISE", ("left", "right"), ("add",), {"op": "SUM"}),
        _relu("relu", "add"),
        Layer(
            "mean", "REDUCE", ("relu",), ("mean",), {"op": "AVG", "axes": 12, "keep_dims": False}
        ),
        _constant("weight", p["fc.weight"]),
        _constant("bias", p["fc.bias"]),
        Layer(
            *("matmul", "MATRIX_MULTIPLY", ("mean", "weight"), ("matmul",)),
            {"op0": "NONE", "op1": "TRANSPOSE"},
        ),
        Layer("fc", "ELEMENTWISE", ("matmul", "bias"), ("fc",), {"op": "SUM"}),
        Layer("widen", "CAST", ("fc",), ("y",), {"to_type": "float32"}),
    ]
    infos = [
        image,
        *(TensorInfo(name, dtype, unknown) for name in ("narrow", "stem", "stem_relu", "pool")),
        *(TensorInfo(name, dtype, unknown) for name in ("left", "right", "add", "relu")),
        TensorInfo("mean", dtype, (batch, 2 * CHANNELS)),
        TensorInfo("weight", dtype, SHAPES["fc.weight"]),
        TensorInfo("bias", dtype, SHAPES["fc.bias"]),
        *(TensorInfo(name, dtype, (batch, CLASSES)) for name in ("matmul", "fc")),
        TensorInfo("y", "float32", (batch, CLASSES)),
    ]
    return make(layers, infos, ["x"], ["y"])


def make(
    layers: Iterable[Layer],
    infos: Iterable[TensorInfo],
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> Graph:
    tensors = {info.name: info for info in infos}
    return Graph("net", tuple(inputs), tuple(outputs), tuple(layers), tensors)


def _convolution(
    name: str, source: str, p: dict[str, np.ndarray], stride: int = 1, padding: int = 0
) -> Layer:
    kernel = p[f"{name}.kernel"]
    attributes = {
        "num_output_maps": kernel.shape[0],
        "kernel_size_nd": kernel.shape[2:],
        "dilation_nd": (1, 1),
        "num_groups": 1,
        **_window(stride, padding),
    }
    weights = {"kernel": kernel, "bias": p[f"{name}.bias"]}
    return Layer(name, "CONVOLUTION", (source,), (name,), attributes, weights)


def _pool(name: str, source: str) -> Layer:
    attributes = {
        "op": "MAX",
        "window_size_nd": (3, 3),
        "blend_factor": 0.0,
        "average_count_excludes_padding": True,
        **_window(2, 1),
    }
    return Layer(name, "POOLING", (source,), (name,), attributes)


def _window(stride: int, padding: int) -> dict[str, Any]:
    return {
        "stride_nd": (stride, stride),
        "pre_padding": (padding, padding),
        "post_padding": (padding, padding),
        "padding_mode": "EXPLICIT_ROUND_DOWN",
    }


def _relu(name: str, source: str) -> Layer:
    attributes = {"op": "RELU", "alpha": 0.0, "beta": 0.0}
    return Layer(name, "ACTIVATION", (source,), (name,), attributes)


def _constant(name: str, value: np.ndarray) -> Layer:
    return Layer(name, "CONSTANT", (), (name,), {"shape": value.shape}, {"weights": value})
