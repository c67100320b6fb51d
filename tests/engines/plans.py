"""Small networks as plans of the torch backend, kept in tests/data/plans: they run where TensorRT
is not installed. ``python tests/engines/plans.py`` writes them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import trtnet
from trtnet import nn
from trtnet.nn import functional as F

FOLDER = Path(__file__).parent.parent / "data" / "plans"


def parameters() -> dict[str, np.ndarray]:
    """Of the convolution in the first two networks, whose padding is 1."""
    rng = np.random.default_rng(0)
    shapes = {"weight": (4, 3, 3, 3), "bias": (4,)}
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def _convolution() -> nn.Conv2d:
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    convolution.load_state_dict(parameters())
    return convolution


def _static(net: trtnet.Network) -> None:
    """relu(conv(x)) for batches of 4."""
    net.output("y", F.relu(_convolution()(net.input("x", (4, 3, 8, 8)))))


def _dynamic(net: trtnet.Network) -> None:
    """relu(conv(x)) for any batch and size, and its mean."""
    y = F.relu(_convolution()(net.input("x", ("N", 3, "H", "W"))))
    net.output("y", y)
    net.output("mean", trtnet.mean(y, dim=(1, 2, 3)))


def _two_inputs(net: trtnet.Network) -> None:
    """x + 2 y in float16, and the 64-bit k + 1."""
    x, y = net.input("x", ("N", 5), "float16"), net.input("y", ("N", 5), "float16")
    net.output("sum", x + y * 2, dtype="float16")
    net.output("next", net.input("k", ("N",), "int64") + 1)


def _bfloat16(net: trtnet.Network) -> None:
    net.output("y", net.input("x", (2, 3)).to("bfloat16"), dtype="bfloat16")


def _nonzero(net: trtnet.Network) -> None:
    """Where x is positive: a shape that depends on the data."""
    positive = net.input("x", ("N", 6)) > 0
    layer = net.definition.add_non_zero(positive.itensor, net.trt.DataType.INT64)
    net.output("where", net.tensor(layer.get_output(0)))


def _total(net: trtnet.Network) -> None:
    """A fixed batch whose output has no batch axis."""
    net.output("total", trtnet.sum(net.input("x", (4, 3)), dim=(0, 1)))


_BATCHES = {"x": trtnet.Shapes((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 16, 16))}
_LARGE = {"x": trtnet.Shapes((1, 3, 32, 32), (1, 3, 32, 32), (2, 3, 64, 64))}
_ROWS = trtnet.Shapes((1, 5), (2, 5), (8, 5))
_COUNT = trtnet.Shapes((1,), (2,), (8,))

NETWORKS: dict[str, tuple[Callable[[trtnet.Network], None], object]] = {
    "static": (_static, None),
    "dynamic": (_dynamic, [_BATCHES, _LARGE]),
    "two_inputs": (_two_inputs, {"x": _ROWS, "y": _ROWS, "k": _COUNT}),
    "bfloat16": (_bfloat16, None),
    "nonzero": (_nonzero, {"x": trtnet.Shapes((1, 6), (4, 6), (8, 6))}),
    "total": (_total, None),
}


def build(name: str) -> trtnet.Plan:
    """The plan, from the definition."""
    define, shapes = NETWORKS[name]
    net = trtnet.Network("torch")
    define(net)
    return trtnet.build(net, shapes)


def path(name: str) -> Path:
    return FOLDER / f"{name}.engine"


if __name__ == "__main__":
    for name in NETWORKS:
        build(name).save(path(name))
