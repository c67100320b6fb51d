"""Which layer gets the cost of a kernel: against figures counted by hand."""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trtnet import graph
from trtnet.analysis import ATTRIBUTIONS, attribute
from trtnet.analysis.counting import known_shapes
from trtnet.errors import UsageError
from trtnet.graph.kernels import group_into_kernels

GPU = graph.Gpu("toy", "Toy", 100.0, {"tf32": 1e9, "fp16": 1e9}, "made up")
IMAGE = 4 * 8 * 6 * 6  # bytes of one activation: float32, 8 channels, 6 x 6
KERNEL = 4 * 8 * 8


@pytest.fixture
def kernel(raw: Any, trt: ModuleType) -> graph.Graph:
    """A convolution, an addition of the input, an activation, and a cast: one kernel."""
    x = raw.add_input("x", trt.float32, (1, 8, 6, 6))
    conv = raw.add_convolution_nd(x, 8, (1, 1), np.ones((8, 8, 1, 1), np.float32))
    added = raw.add_elementwise(conv.get_output(0), x, trt.ElementWiseOperation.SUM)
    act = raw.add_activation(added.get_output(0), trt.ActivationType.RELU)
    cast = raw.add_cast(act.get_output(0), trt.float16)
    for layer, name in zip((conv, added, act, cast), ("a/conv", "/add", "b/relu", "c/cast"),
                           strict=True):  # fmt: skip
        layer.name = name
    raw.mark_output(cast.get_output(0))
    return graph.read(raw)


@pytest.mark.parametrize(
    ("to", "seconds"),
    [
        ("producer", {"a/conv": (IMAGE + KERNEL + IMAGE / 2) / 100}),
        ("consumer", {"b/relu": (IMAGE + KERNEL + IMAGE / 2) / 100}),
        # The addition reads what the convolution has read already; the cast halves what is written.
        ("marginal", {"a/conv": (2 * IMAGE + KERNEL) / 100, "c/cast": -IMAGE / 2 / 100}),
    ],
)
def test_shares_of_one_kernel(kernel: graph.Graph, to: str, seconds: dict[str, float]) -> None:
    cost = graph.cost(kernel)
    (layer,) = cost.layers
    assert layer.fused == ("/add", "b/relu", "c/cast")
    shares = attribute(cost, cost.bound(GPU), to)
    assert {*shares} == {"a/conv", "/add", "b/relu", "c/cast"}
    assert {share.kernel for share in shares.values()} == {"a/conv"}
    found = {name: share.seconds for name, share in shares.items() if share.seconds}
    assert found == pytest.approx(seconds)
    macs = {name: share.macs for name, share in shares.items() if share.macs}
    assert macs == {"b/relu" if to == "consumer" else "a/conv": 8 * 8 * 36}


def test_an_operand_from_memory_is_the_cost_of_its_layer(raw: Any, trt: ModuleType) -> None:
    x, other = (raw.add_input(name, trt.float32, (1, 8, 6, 6)) for name in ("x", "other"))
    conv = raw.add_convolution_nd(x, 8, (1, 1), np.ones((8, 8, 1, 1), np.float32))
    added = raw.add_elementwise(conv.get_output(0), other, trt.ElementWiseOperation.SUM)
    conv.name, added.name = "a/conv", "/add"
    raw.mark_output(added.get_output(0))
    cost = graph.cost(graph.read(raw))
    shares = attribute(cost, cost.bound(GPU), "marginal")
    assert shares["/add"].bytes_read == IMAGE
    assert shares["/add"].bytes_written == 0
    assert shares["/add"].seconds == pytest.approx(IMAGE / 100)


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "vit_b_32"])
def test_totals_are_equal_and_parts_add_up(model: str) -> None:
    from trtnet import pipeline

    recipe = pipeline.Recipe(model, "fp16", backend="rtx")
    read = pipeline.find_target(recipe, values=False).graph
    for kernel in group_into_kernels(read, known_shapes(read, None)):
        steps = [*kernel.steps()]
        assert sorted(name for step in steps for name in step.reads) == sorted(kernel.reads)
        written = Counter(name for step in steps for name in step.writes)
        written.subtract(name for step in steps for name in step.kept)
        assert sorted(written.elements()) == sorted(kernel.writes)
    cost = graph.cost(read)
    bound = cost.bound("h200")
    for layer in cost.layers:
        for key in ("macs", "parameters", "bytes_read", "bytes_written"):
            assert sum(getattr(part, key) for part in layer.parts) == getattr(layer, key)
    for to in ATTRIBUTIONS:
        shares = attribute(cost, bound, to)
        for total, key in (
            (bound.seconds, "seconds"),
            (cost.macs, "macs"),
            (cost.bytes_read, "bytes_read"),
            (cost.bytes_written, "bytes_written"),
        ):
            assert sum(getattr(s, key) for s in shares.values()) == pytest.approx(total, rel=1e-12)


def test_no_other_attribution(kernel: graph.Graph) -> None:
    with pytest.raises(UsageError, match="cannot be attributed") as caught:
        attribute(graph.cost(kernel), None, "reader")
    assert caught.value.expected == "producer, consumer, marginal"


def test_rows_of_cost_and_bound_join(kernel: graph.Graph) -> None:
    cost = graph.cost(kernel)
    (row,), (bound,) = cost.rows(), cost.bound(GPU).rows()
    identity = {"layer": "a/conv", "module": "a", "call": 0, "op": "conv", "kernel": "a/conv"}
    assert row == identity | {
        "type": "CONVOLUTION", "rate": "tf32", "fused": 3, "macs": 2304, "parameters": 64,
        "bytes_read": IMAGE + KERNEL, "bytes_written": IMAGE // 2,
        "intensity": 2 * 2304 / (IMAGE + KERNEL + IMAGE // 2),
    }  # fmt: skip
    seconds = (IMAGE + KERNEL + IMAGE / 2) / 100
    assert bound == identity | {
        "compute_s": pytest.approx(2 * 2304 / 1e9), "memory_s": pytest.approx(seconds),
        "bound_s": pytest.approx(seconds), "bound_share": 1.0, "limit": "memory",
    }  # fmt: skip
