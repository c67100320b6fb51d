"""How many kernels run in detectors for what is computed element by element, counted without a GPU.

What they compute is tested in kernels/test_elements.py.
"""

from __future__ import annotations

import pytest
import torch
from tactics.networks import CPU
from tactics.test_device import network

from trtnet.engines.torch import engine, greedy
from trtnet.engines.torch.suppressions import recognize_suppressions
from trtnet.engines.torch.tactics.elements.rewrite import write_kernels
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.selection import select_by_kernel, select_largest
from trtnet.engines.torch.tactics.simplify import simplify
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.reference.module_builder import is_kept

NETWORK = {"conv2d", "convolution_relu", "linear_of_columns", "multiply"}
OWN = {select_largest: 2, greedy.kept: 3, greedy.count_better: 1}


def name_of(node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__


def launches(node) -> int:
    """The kernels of a node, at least: none where its value is a view, or one of several."""
    value = node.meta["value"]
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()._cdata
        sources = [x.meta["value"] for x in node.all_input_nodes]
        given = [x.untyped_storage()._cdata for x in sources if isinstance(x, torch.Tensor)]
        if storage in given:
            return 0
        if name_of(node) in ("_item", "getitem"):
            return 0
    return OWN.get(node.target, 1)


def called(module):
    return [node for node in module.graph.nodes if node.op.startswith("call")]


def after_the_network(module) -> int:
    """The kernels behind the last convolution or product."""
    nodes = called(module)
    last = max(i for i, node in enumerate(nodes) if name_of(node) in NETWORK)
    return sum(map(launches, nodes[last + 1 :]))


def made(name, shape, as_on_a_gpu):
    """A detector as it is, and with kernels written for it; of the rewrites those of nodes alone,
    without tactics of products."""
    read = recognize_suppressions(network(name, shape))
    module = engine.compile_graph(read, device=CPU)
    engine.fold(module)
    engine.optimize(module)
    before = specialize(module, [(shape, torch.float32)])
    after = specialize(module, [(shape, torch.float32)])
    gather_rows(after, CPU)
    simplify(after)
    select_by_kernel(after)
    write_kernels(after, CPU)
    return before, after


@pytest.mark.parametrize("name", ["yolov8n", "yolox_s", "yolo11m"])
def test_a_detector_with_suppression_ends_in_ten_launches(name, as_on_a_gpu):
    before, after = made(name, (2, 3, 64, 96), as_on_a_gpu)
    assert after_the_network(before) > 40
    assert after_the_network(after) <= 10
    assert all(node.users or is_kept(node) for node in after.graph.nodes)


def is_of_images(node) -> bool:
    """Whether a launch is one of an activation, which without tactics is not its product's."""
    return any(x.dim() == 4 and x.dtype is torch.float16 for x in node.meta["value"])


def test_a_transformer_samples_in_two_launches_a_layer(as_on_a_gpu):
    before, after = made("rtdetr_r18", (1, 3, 160, 160), as_on_a_gpu)
    names = list(map(name_of, called(after)))
    assert (
        sum(name_of(node) == "elements" and not is_of_images(node) for node in called(after)) <= 30
    )
    assert {"grid_sample", "log", "exp", "div", "where", "sum"}.isdisjoint(names)
    assert after_the_network(before) > 25
    assert after_the_network(after) <= 4
    assert sum(map(launches, called(before))) > sum(map(launches, called(after))) + 100
