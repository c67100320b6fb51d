"""Values of the torch backend that are known before an execution."""

from __future__ import annotations

import pytest
import torch
from torch import fx

import trtnet
from trtnet.engines.torch.constants import copy_by_call, fold, given, recorded, to_device
from trtnet.graph import read
from trtnet.reference import elementwise
from trtnet.reference.compiler import compile
from trtnet.reference.fill import draw

META = torch.device("meta")  # a device other than the host, on any machine


def compiled(define, *shapes):
    """The module of a network, and the same network's module folded."""
    net = trtnet.Network("torch")
    net.output("y", define(*(net.input(f"x{i}", shape) for i, shape in enumerate(shapes))))
    module, folded = (compile(read(net.definition)) for _ in range(2))
    fold(folded)
    return module, folded


def targets(module):
    parts = [part for part in module.modules() if isinstance(part, fx.GraphModule)]
    return [node.target for part in parts for node in part.graph.nodes]


def test_what_depends_on_no_input_is_computed_once():
    table = torch.randn(5, 4)

    class Table(torch.nn.Module):
        def forward(self, x):
            steps = torch.arange(x.shape[1])
            return x + table[(steps * 3) % 5]

    module, folded = compiled(trtnet.from_torch(Table()), (2, 6, 4))
    x = torch.randn(2, 6, 4)
    want = x + table[(torch.arange(6) * 3) % 5]
    torch.testing.assert_close(module(x)["y"], want, rtol=0, atol=0)
    torch.testing.assert_close(folded(x)["y"], want, rtol=0, atol=0)
    calls = [node for node in folded.graph.nodes if node.op.startswith("call")]
    assert [node.target for node in calls] == [torch.add]


def test_the_bodies_of_loops_are_folded_too():
    module = torch.nn.LSTM(4, 3).eval()
    plain, folded = compiled(lambda x: trtnet.from_torch(module)(x)[0], ("T", 2, 4))
    x = torch.randn(5, 2, 4)
    torch.testing.assert_close(folded(x)["y"], module(x)[0].detach())
    assert len(targets(folded)) < len(targets(plain))


def folded_graph(make):
    graph = fx.Graph()
    graph.output({"y": make(graph)})
    module = fx.GraphModule({"small": torch.ones(1), "failed": torch.ones(3)}, graph)
    fold(module)
    return module


def test_random_values_are_drawn_in_each_execution():
    args = ((4,), 0.0, 1.0, "RANDOM_UNIFORM")
    module = folded_graph(lambda graph: graph.call_function(draw, args, {"dtype": torch.float32}))
    assert not torch.equal(module()["y"], module()["y"])


def test_a_large_value_of_small_operands_is_not_kept():
    shape = (1 << 9, 1 << 10)
    module = folded_graph(
        lambda graph: graph.call_method("expand", (graph.get_attr("small"), shape))
    )
    assert module()["y"].shape == shape
    assert not [name for name, _ in module.named_buffers() if name.endswith("_folded")]


def test_what_fails_is_left_to_the_execution():
    module = folded_graph(
        lambda graph: graph.call_method("reshape", (graph.get_attr("failed"), (2, 2)))
    )
    with pytest.raises(RuntimeError, match="shape"):
        module()


def test_conditions_stay():
    graph = fx.Graph()
    graph.call_function(elementwise.require, (graph.get_attr("failed"), "never"))
    graph.output({"y": graph.get_attr("failed")})
    module = fx.GraphModule({"failed": torch.zeros(1, dtype=torch.bool)}, graph)
    fold(module)
    assert elementwise.require in targets(module)


def test_copies_are_recorded_and_given_again():
    x = torch.arange(3)
    with recorded() as copies:
        first = to_device(x, META)
        assert to_device(x, x.device) is x
    assert [(known.tolist(), moved.device) for known, moved in copies] == [([0, 1, 2], META)]
    with given(copies):
        assert to_device(torch.arange(3), META) is first
    with given(copies), pytest.raises(ValueError, match="differ"):
        to_device(torch.zeros(3, dtype=torch.int64), META)
    with given([]), pytest.raises(ValueError, match="differ"):
        to_device(x, META)


def test_copies_of_a_module_are_calls():
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output({"y": graph.call_method("to", (x, META)),
                  "z": graph.call_method("to", (x, torch.float64))})  # fmt: skip
    module = fx.GraphModule({}, graph)
    copy_by_call(module)
    with recorded() as copies:
        found = module(torch.ones(2))
    assert found["y"].device == META
    assert found["z"].dtype == torch.float64
    assert len(copies) == 1


def test_on_a_gpu_every_recurrence_is_captured(monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device that PyTorch can use")
    from trtnet.engines.torch.cuda import CudaContext

    captured = []
    capture = CudaContext.capture
    monkeypatch.setattr(
        CudaContext, "capture", lambda self, stream: captured.append(capture(self, stream))
        or captured[-1],
    )  # fmt: skip
    module = torch.nn.LSTM(4, 3).eval()
    net = trtnet.Network("torch")
    net.output("y", trtnet.from_torch(module)(net.input("x", ("T", 2, 4)))[0])
    sizes = trtnet.Shapes((1, 2, 4), (5, 2, 4), (9, 2, 4))
    x = torch.randn(5, 2, 4)
    with trtnet.Session(trtnet.build(net, {"x": sizes}), device="cuda") as session:
        for _ in range(3):
            got = torch.from_numpy(session(x.numpy())["y"])
            torch.testing.assert_close(got, module(x)[0].detach(), rtol=1e-4, atol=1e-5)
    assert captured


def test_layers_with_weights_run_on_the_device():
    class Positions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Conv2d(1, 4, 1)

        def forward(self, x):
            steps = torch.arange(x.shape[-1], dtype=torch.float32)
            return x + self.project(torch.sin(steps)[None, None, None])

    net = trtnet.Network("torch")
    net.output("y", trtnet.from_torch(Positions())(net.input("x", (2, 4, 3, "W"))))
    module = compile(read(net.definition), device=META)
    (conv,) = module.graph.find_nodes(op="call_function", target=torch.nn.functional.conv2d)
    run = fx.Interpreter(module, garbage_collect_values=False)
    run.run(torch.empty((2, 4, 3, 5), device=META))
    assert {run.env[node].device for node in conv.all_input_nodes} == {META}
