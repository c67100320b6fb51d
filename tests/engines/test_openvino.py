"""OpenVINO as the runtime of torch engines: every emitter, and sessions, against PyTorch."""

from __future__ import annotations

import importlib.util
import math
import operator
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx

import trtnet
from trtnet import nn
from trtnet.cli import device_flags
from trtnet.engines.openvino.lowering import Lowering
from trtnet.engines.openvino.rules import RULES
from trtnet.engines.openvino.runtime import OpenVinoForward, _Model
from trtnet.engines.openvino.values import LoweringError
from trtnet.engines.torch import runtimes
from trtnet.errors import BackendError, ExecutionError, UsageError
from trtnet.reference import (
    convolution,
    elementwise,
    index,
    integer,
    linear,
    pooling,
    quantize,
    rearrange,
    reduction,
    resize,
)

pytestmark = pytest.mark.alone

X = "input"  # stands for the network's input in the arguments of a case
IMAGE = (2, 4, 9, 11)


def values(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    return torch.empty(shape).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


def ints(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def resized(size, **changed):
    options = {"scales": None, "mode": "LINEAR", "transformation": "HALF_PIXEL",
               "selector": "FORMULA", "rounding": "HALF_DOWN", "cubic": -0.75,
               "exclude_outside": False, **changed}  # fmt: skip
    return (X, size), options


WINDOW = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
TWO = [torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum]
ONE = [torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.exp, torch.abs, torch.neg,
       torch.sin, torch.cos, torch.erf, F.gelu,
       elementwise.gelu_tanh]  # fmt: skip
POSITIVE = [torch.log, torch.sqrt, torch.reciprocal]
CASES = [
    *((function, (X, values(4, 1, 11, seed=1)), {}) for function in TWO),
    *((function, (values(2, 4, 9, 11, seed=1), X), {}) for function in TWO),
    *((function, (X, X), {}) for function in TWO),
    *((function, (X,), {}) for function in ONE),
    (torch.div, (X, values(4, 1, 1, low=0.5)), {}),
    (torch.where, (values(4, 9, 1) > 0, X, torch.zeros(())), {}),
    (torch.softmax, (X, 1), {}),
    (torch.softmax, (X, -1), {}),
    (torch.matmul, (X, values(11, 5)), {}),
    (torch.matmul, (values(4, 7, 9), X), {}),
    (linear.multiply, (X, values(6, 11), "NONE", "TRANSPOSE"), {}),
    (linear.multiply, (X, values(2, 4, 9, 3), "TRANSPOSE", "NONE"), {}),
    (torch.reshape, (X, (2, 2, -1)), {}),
    (torch.permute, (X, (0, 2, 3, 1)), {}),
    (torch.permute, (X, (-1, 0, 1, 2)), {}),
    (torch.cat, ([X, values(2, 3, 9, 11), X], 1), {}),
    (torch.sum, (X, (1, 3), True), {}),
    (torch.amax, (X, (2,), False), {}),
    (torch.amin, (X, (2, 3), True), {}),
    (reduction.mean, (X, (2, 3), False), {}),
    (F.elu, (X, 0.7), {}),
    (F.leaky_relu, (X, 0.2), {}),
    (F.pad, (X, [1, 2, 0, 3]), {}),
    (F.pad, (X, [0, -1, -2, 0]), {}),
    (F.conv2d, (X, values(6, 4, 3, 3), values(6), *WINDOW.values(), 1), {}),
    (F.conv2d, (X, values(8, 2, 3, 3), None, *WINDOW.values(), 2), {}),
    (F.conv2d, (X, values(4, 1, 3, 3), values(4), *WINDOW.values(), 4), {}),
    (F.conv_transpose2d, (X, values(4, 3, 3, 2), values(3), (2, 3), (1, 0), 0, 1, (2, 1)), {}),
    (F.conv_transpose2d, (X, values(4, 3, 2, 2), None, (2, 2), (0, 0), 0, 2, (1, 1)), {}),
    (F.max_pool2d, (X, (3, 2), (2, 1), (1, 1)), {}),
    (F.avg_pool2d, (X, (3, 2), (2, 1), (1, 0), False, True), {}),
    (F.avg_pool2d, (X, (3, 2), (2, 1), (1, 0), False, False), {}),
    *((pooling.max_pool, (X, (3, 3), (2, 2)), {"pre": (0, 0), "post": (1, 1), "mode": mode})
      for mode in ("EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP", "SAME_UPPER", "SAME_LOWER")),
    *((convolution.padded_convolution, (X, values(6, 4, 3, 3), values(6), (2, 2), (1, 1), 1),
       {"pre": (0, 1), "post": (1, 2), "mode": mode})
      for mode in ("EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP", "SAME_UPPER", "SAME_LOWER")),
    (elementwise.clip, (X, -0.5, 1.0), {}),
    (elementwise.hard_sigmoid, (X, 0.1666666716337204, 0.5), {}),
    (elementwise.hard_sigmoid, (X, 0.2, 0.4), {}),
    (elementwise.leaky, (X, values(4, 1, 1)), {}),
    (elementwise.scale_shift, (X, values(4), values(4, seed=1), (-1, 1, 1)), {}),
    (index.take, (X, ints(3, -1, 0), 1, 0), {}),
    (index.take, (X, torch.tensor([[1, -2], [0, 3]]), 3, 0), {}),
    (rearrange.cut, (X, (0, 1, 0, 2), (2, 2, 9, 4), (1, 1, 1, 2)),
     {"axes": None, "mode": "STRICT_BOUNDS"}),
    (rearrange.cut, (X, ints(4), ints(3), ints(2)), {"axes": ints(-1), "mode": "CLAMP"}),
    (rearrange.insert_axes, (X, ints(0, -1)), {}),
    (rearrange.remove_axes, (X, ints(0)), {}),
    (rearrange.transpose_reshape, (X, (0, -1, 2)),
     {"first": (0, 2, 1, 3), "second": (2, 0, 1), "zero_copies": True}),
    (reduction.normalize, (X, values(1, 1, 1, 11), values(1, 1, 1, 11, seed=1), (3,), 1e-5), {}),
    (reduction.normalize, (X, values(1, 4, 1, 1), values(1, 4, 1, 1, seed=1), (2, 3), 1e-3), {}),
    *((reduction.group_normalize,
       (X, values(1, count, 1, 1), values(1, count, 1, 1, seed=1), (2, 3), 1e-5),
       {"groups": 2, "per_channel": count == 4}) for count in (4, 2)),
    *((resize.interpolate, *resized(size, transformation=kind))
      for size in ((2, 4, 17, 5), (2, 4, 9, 30))
      for kind in ("HALF_PIXEL", "ALIGN_CORNERS", "ASYMMETRIC")),
    *((resize.interpolate,
       *resized((2, 4, 18, 5), mode="NEAREST", transformation=kind, rounding=rule))
      for kind in ("HALF_PIXEL", "ASYMMETRIC")
      for rule in ("HALF_UP", "HALF_DOWN", "FLOOR", "CEIL")),
]  # fmt: skip


def module(function, args, options) -> fx.GraphModule:
    """A module that calls one function, tensors but the input being its buffers."""
    root, graph = torch.nn.Module(), fx.Graph()
    x = graph.placeholder("x")

    def node(value):
        if isinstance(value, list) and any(isinstance(part, torch.Tensor | str) for part in value):
            return [node(part) for part in value]
        if isinstance(value, torch.Tensor):
            name = f"b{len(list(root.buffers()))}"
            root.register_buffer(name, value)
            return graph.get_attr(name)
        return x if isinstance(value, str) and value == X else value

    given = {
        name: value if isinstance(value, str) else node(value) for name, value in options.items()
    }
    graph.output({"y": graph.call_function(function, tuple(map(node, args)), given)})
    return fx.GraphModule(root, graph)


def lowered(made: fx.GraphModule, like: torch.Tensor) -> OpenVinoForward:
    """`made` by OpenVINO, for one input of the shape of `like`."""
    return OpenVinoForward(made, [("x", torch.float32)], (tuple(like.shape),), 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_emitters_compute_what_the_functions_do(case) -> None:
    function, args, options = case
    x = values(1 if function is rearrange.remove_axes else 2, *IMAGE[1:], seed=3)
    made = module(function, args, options)
    forward = lowered(made, x)
    found = forward(x.clone())["y"]
    wanted = made(x.clone())["y"]
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_nan_is_kept_where_nothing_forbids_it(case) -> None:
    function, args, options = case
    if function in RULES.lose_nan:
        return
    x = values(1 if function is rearrange.remove_axes else 2, *IMAGE[1:], seed=3)
    x[0, 1, 4, 2] = x[0, 3, 0, :] = math.nan
    made = module(function, args, options)
    inputs = [("x", torch.float32, tuple(x.shape))]
    model = _Model(Lowering(made, RULES).run(inputs), 1)  # no look at the inputs
    torch.testing.assert_close(model([x.clone()])["y"], made(x.clone())["y"], rtol=2e-5, atol=2e-5,
                               equal_nan=True)  # fmt: skip


@pytest.mark.parametrize("function", POSITIVE)
def test_of_positive_numbers(function) -> None:
    x = values(3, 4, low=0.1)
    found = lowered(module(function, (X,), {}), torch.zeros((3, 4)))(x)
    torch.testing.assert_close(found["y"], function(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("largest", [True, False])
def test_the_one_largest_is_the_first_of_equals(axis, largest) -> None:
    graph = fx.Graph()
    options = {"largest": largest, "index_dtype": torch.int32}
    pair = graph.call_function(index.select_k, (graph.placeholder("x"), 1, axis), options)
    found = [graph.call_function(operator.getitem, (pair, n)) for n in (0, 1)]
    graph.output({"value": found[0], "place": found[1]})
    made = fx.GraphModule(torch.nn.Module(), graph)
    x = torch.round(values(2, 40, 33, low=-1.4, high=1.4))
    forward = lowered(made, x)
    assert not forward.reason
    for name, value in made(x).items():
        assert forward(x)[name].dtype == value.dtype
        assert torch.equal(forward(x)[name], value)


def test_pow_keeps_signs() -> None:
    x = values(3, 4)
    made = module(torch.pow, (X, torch.tensor([2.0, 3.0, 1.0, 0.0])), {})
    found = lowered(made, torch.zeros((3, 4)))(x)
    torch.testing.assert_close(found["y"], made(x)["y"], rtol=1e-5, atol=1e-6)


def test_every_function_has_a_case() -> None:
    with_cases = {case[0] for case in CASES} | {
        *POSITIVE,
        torch.pow,
        "to",
        "float",
        "half",
        "bfloat16",
    }
    others = {torch.eq, torch.gt, torch.lt, torch.logical_and, torch.logical_or, torch.logical_not,
              F.conv3d, F.conv_transpose3d, F.max_pool3d, F.avg_pool3d,
              quantize.to_quantized, quantize.from_quantized, integer.scaled,
              index.select_k, operator.getitem}  # fmt: skip
    assert {target for _, target in RULES.emitters} == with_cases | others


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (F.conv3d, (values(4, 2, 3, 2, 3), values(4), (1, 2, 1), (1, 0, 1), (1, 1, 2), 1)),
        (F.conv_transpose3d, (values(2, 3, 2, 2, 2), None, (2, 1, 2), (0, 0, 0), 0, 1, (1, 1, 1))),
        (F.max_pool3d, ((2, 3, 2), (1, 2, 2), (0, 1, 0))),
        (F.avg_pool3d, ((2, 3, 2), (1, 2, 2), (0, 1, 0), False, True)),
    ],
)
def test_volumes(function, args) -> None:
    x = values(1, 2, 5, 6, 7)
    made = module(function, (X, *args), {})
    found = lowered(made, x)(x)
    torch.testing.assert_close(found["y"], made(x)["y"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("function", [torch.eq, torch.gt, torch.lt])
def test_comparisons_and_logic(function) -> None:
    x = torch.round(values(4, 5))
    for outer, tail in ((torch.logical_and, (torch.ones(5, dtype=torch.bool),)),
                        (torch.logical_or, (torch.zeros(5, dtype=torch.bool),)),
                        (torch.logical_not, ())):  # fmt: skip
        graph, root = fx.Graph(), torch.nn.Module()
        compared = graph.call_function(function, (graph.placeholder("x"), graph.get_attr("zeros")))
        root.register_buffer("zeros", torch.zeros(5))
        root.register_buffer("mask", tail[0] if tail else torch.zeros(1, dtype=torch.bool))
        more = (graph.get_attr("mask"),) if tail else ()
        graph.output({"y": graph.call_function(outer, (compared, *more))})
        made = fx.GraphModule(root, graph)
        found = lowered(made, torch.zeros((4, 5)))(x)["y"]
        assert torch.equal(found, made(x)["y"])


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        (torch.relu, (X,), "a NaN would become a number"),
        (F.max_pool2d, (X, (2, 2), (2, 2), (0, 0)), "a NaN would become a number"),
    ],
)
def test_what_would_lose_a_nan_is_not_lowered(function, args, reason) -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    logarithm = graph.call_function(torch.log, (x,))
    doubtful = tuple(logarithm if arg is X else arg for arg in args)
    graph.output({"y": graph.call_function(function, doubtful)})
    made = fx.GraphModule(torch.nn.Module(), graph)
    with pytest.raises(LoweringError, match=reason):
        lowered(made, torch.zeros(IMAGE))
    with pytest.raises(LoweringError, match="no sinh"):
        lowered(module(torch.sinh, (X,), {}), torch.zeros(IMAGE))


class Net(trtnet.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def plan(precision: str = "fp32", batch=2) -> trtnet.Plan:
    model = Net()
    rng = np.random.default_rng(5)
    model.load_state_dict({name: rng.normal(size=tuple(p.shape)).astype(np.float32)
                           for name, p in model.named_parameters()})  # fmt: skip
    net = trtnet.Network("torch", precision=precision)
    net.output("y", model(net.input("x", (batch, 3, 6, 6))))
    shapes = (
        None if isinstance(batch, int) else {"x": trtnet.Shapes(*((n, 3, 6, 6) for n in (1, 2, 4)))}
    )
    return trtnet.build(net, shapes)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)


def test_a_session_says_what_runs_it(x) -> None:
    made = plan()
    with (
        trtnet.Session(made, device="cpu", runtime="auto") as quick,
        trtnet.Session(made, device="cpu", runtime="torch") as plain,
    ):
        assert quick.runtime.startswith("openvino 20")
        assert quick.runtime.endswith(
            f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)}"
        )
        assert plain.runtime.startswith("torch ")
        np.testing.assert_allclose(quick(x)["y"], plain(x)["y"], rtol=1e-5, atol=1e-5)
        for bad in (math.nan, math.inf):
            x[1, 0, 2, 2] = bad
            np.testing.assert_array_equal(quick(x)["y"], plain(x)["y"])
        assert np.isnan(plain(x)["y"][1]).any() or np.isinf(plain(x)["y"][1]).any()


def test_batches_of_other_sizes_and_threads(x) -> None:
    made = plan(batch=trtnet.Axis("N", 1, 4))
    with (
        trtnet.Session(made, device="cpu", runtime="auto") as quick,
        trtnet.Session(made, device="cpu", runtime="torch") as plain,
    ):
        assert quick.runtime.startswith("openvino")
        inputs = [np.repeat(x[:1], n, 0) * (1 + k / 10) for k, n in enumerate((1, 4, 2, 3) * 5)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda value: quick(value)["y"], inputs))
        for value, result in zip(inputs, found, strict=True):
            np.testing.assert_allclose(result, plain(value)["y"], rtol=1e-5, atol=1e-5)


def test_sizes_that_do_not_fit_together_are_an_error() -> None:
    net = trtnet.Network("torch")
    net.output("sum", net.input("x", (-1, 4)) + net.input("y", (-1, 4)))
    sizes = trtnet.Shapes((2, 4), (2, 4), (5, 4))
    made = trtnet.build(net, {"x": sizes, "y": sizes})
    with trtnet.Session(made, device="cpu", runtime="openvino") as session:
        assert session.runtime.startswith("openvino")
        one, many = np.ones((2, 4), np.float32), np.ones((5, 4), np.float32)
        with pytest.raises(ExecutionError, match="the layer fails on these inputs"):
            session(one, many)
        for x in (one, many):
            np.testing.assert_array_equal(session(x, x)["sum"], x + x)


def test_bad_choices(monkeypatch) -> None:
    made = plan()
    with pytest.raises(UsageError, match="no such runtime"):
        trtnet.Session(made, device="cpu", runtime="onnx")
    with pytest.raises(UsageError, match="runs engines on a CPU, as they are"):
        trtnet.Session(made, device="cpu", runtime="openvino", compile=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(BackendError, match="OpenVINO is not installed") as caught:
        trtnet.Session(made, device="cpu", runtime="openvino")
    assert "[cpu]" in str(caught.value)
    small = ("lean", "dispatch")  # TensorRT's
    assert {*runtimes.RUNTIMES, *small} == {*device_flags.RUNTIMES}


def test_sessions_that_end_leave_no_stack_for_signals_behind() -> None:
    """OpenVINO's CPU plugin frees the stack that it installed, and the next signal needs it."""
    code = (
        "import signal, numpy, trtnet\n"
        "from trtnet import nn\n"
        "for size in (2, 3, 4):\n"
        "    net = trtnet.Network('torch')\n"
        "    net.output('y', nn.ReLU()(net.input('x', (size, 3))))\n"
        "    with trtnet.Session(trtnet.build(net), device='cpu', runtime='openvino') as session:\n"
        "        session(numpy.ones((size, 3), 'float32'))\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr
