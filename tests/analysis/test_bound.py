"""Roofline bounds, the table of GPUs, and costs of the zoo's networks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import graph, zoo
from trtnet.errors import UsageError
from trtnet.graph.kernels import group_into_kernels

GPU = graph.Gpu("toy", "Toy", 100.0, {"fp16": 1000.0, "fp32": 10.0}, "made up")


def test_the_bound_is_the_slower_of_arithmetic_and_traffic(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (10, 1000))
    weights = np.ones((1000, 10), np.float16)
    weight = raw.add_constant(weights.shape, weights).get_output(0)
    none = trt.MatrixOperation.NONE
    y = raw.add_matrix_multiply(x, none, weight, none).get_output(0)
    raw.mark_output(raw.add_softmax(y).get_output(0))
    bound = graph.cost(graph.read(raw)).bound(GPU)
    product, softmax = bound.layers
    assert product.compute == pytest.approx(2 * 10 * 1000 * 10 / 1000)
    assert product.memory == pytest.approx(2 * (10_000 + 10_000 + 100) / 100)
    assert (product.limit, product.seconds) == ("memory", product.memory)
    assert (softmax.compute, softmax.memory) == (0, pytest.approx(2 * 200 / 100))
    assert bound.seconds == pytest.approx(402 + 4)
    slow = graph.cost(graph.read(raw)).bound(GPU, "fp32")
    assert (slow.layers[0].limit, slow.layers[0].seconds) == ("compute", pytest.approx(20_000))


def test_a_precision_without_a_ceiling_is_refused(raw: Any, trt: ModuleType) -> None:
    x, kernel = raw.add_input("x", trt.float32, (1, 8, 4, 4)), np.ones((8, 8, 1, 1), np.float32)
    raw.mark_output(raw.add_convolution_nd(x, 8, (1, 1), kernel).get_output(0))
    cost = graph.cost(graph.read(raw))
    with pytest.raises(UsageError, match="no tf32 ceiling is known for Toy") as caught:
        cost.bound(GPU)
    assert caught.value.expected == "fp16, fp32"
    assert cost.bound("H200").gpu.name == "NVIDIA H200 SXM"
    with pytest.raises(UsageError, match="no GPU 'h20O'") as caught:
        cost.bound("h20O")
    assert "h200" in str(caught.value.fix)


def test_the_table_of_gpus_is_complete_and_in_order() -> None:
    for key, gpu in graph.gpus().items():
        assert gpu.source, key
        assert 1e11 < gpu.bandwidth < 1e13, key
        order = [gpu.flops[p] for p in ("fp32", "tf32", "fp16", "int8") if p in gpu.flops]
        assert order, key
        assert order == sorted(order), key
        assert 1e12 < order[0] <= order[-1] < 1e16, key


@pytest.mark.parametrize(
    ("key", "bandwidth", "fp16"),  # as published: TB/s, TFLOP/s without sparsity
    [
        ("a100", 2.039, 312),
        ("h200", 4.8, 1979 / 2),
        ("h200-measured", 4.3, 790),
        ("l4", 0.3, 242 / 2),
        ("t4", 0.32, 65),
        ("rtx4090", 1.008, 330.3 / 2),
    ],
)
def test_ceilings_are_those_published(key: str, bandwidth: float, fp16: float) -> None:
    gpu = graph.find_gpu(key)
    assert gpu.bandwidth == pytest.approx(bandwidth * 1e12)
    assert gpu.flops_in("fp16") == pytest.approx(fp16 * 1e12, rel=1e-3)


@pytest.fixture
def zoo_network() -> Callable[..., trtnet.Network]:
    def define(name: str, batch: int, precision: str = "fp16") -> trtnet.Network:
        model = zoo.get_model(name)
        entries = [*model.named_parameters(), *model.named_buffers()]
        model.load_state_dict({key: np.ones(entry.shape, np.float32) for key, entry in entries})
        net = trtnet.Network("rtx", precision=precision)
        net.output("logits", model(net.input("input", (batch, 3, 224, 224))))
        return net

    return define


# Worked out apart from this code for the same ceilings: 0.026 ms, and 59,170 images per second.
@pytest.mark.parametrize(("batch", "seconds"), [(1, 0.026e-3), (256, 256 / 59_170)])
def test_bound_of_resnet50_on_an_h200(
    batch: int, seconds: float, zoo_network: Callable[..., trtnet.Network]
) -> None:
    net = zoo_network("resnet50", batch)
    cost = graph.cost(graph.read(net.definition))
    assert cost.macs == pytest.approx(4.089e9 * batch, rel=0.0005)
    assert len(cost.layers) == 53 + 3  # convolutions, two poolings, one linear
    assert cost.bound("h200-measured").seconds == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "resnet18", "vit_b_16"])
def test_every_tensor_is_written_before_it_is_read(
    name: str, zoo_network: Callable[..., trtnet.Network]
) -> None:
    net = zoo_network(name, 1)
    read = graph.read(net.definition)
    shapes = {key: info.shape for key, info in read.tensors.items()}
    constants = {out for layer in read.layers if layer.type == "CONSTANT" for out in layer.outputs}
    there, layers = {*read.inputs, *constants}, []
    for kernel in group_into_kernels(read, shapes):
        assert there.issuperset(kernel.reads)
        assert not there & set(kernel.writes)
        there.update(kernel.writes)
        layers += [layer.name for layer in kernel.layers]
    assert there.issuperset(read.outputs)
    assert len(layers) == len(set(layers))
    found = graph.cost(read)
    assert found.macs == graph.macs(read)
    read_by_rows = sum(row.parameters for row in found.layers)  # a scalar may be read twice
    assert read_by_rows == pytest.approx(found.parameters, rel=1e-6)
