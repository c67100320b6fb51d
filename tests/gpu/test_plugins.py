"""Plugins on a GPU: kernels against references, engines of the torch backend, and TensorRT from
build to compare. The first two need PyTorch and Triton alone."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import graph, hardware
from trtnet.graph import Graph, Layer, TensorInfo
from trtnet.plugins import testing

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(hardware.missing_gpu() is not None, reason=str(hardware.missing_gpu())),
]

LeakyGate = importlib.import_module("user_example").LeakyGate
SHAPE = (3, 17, 31)


def _inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal(SHAPE).astype(np.float32) for name in ("x", "gate")}


def _expected(plugin: Any) -> np.ndarray:
    return plugin.reference(*(torch.from_numpy(a).double() for a in _inputs().values())).numpy()


def test_the_kernel_agrees_with_the_reference() -> None:
    rows = [row for row in testing.check(LeakyGate, cases=200) if row.form == "kernel"]
    assert [(row.cases, row.failure) for row in rows] == [(200, None)] * 2


def test_the_kernel_is_timed() -> None:
    rows = testing.bench(LeakyGate, size=32)
    assert len(rows) == 2
    for row in rows:
        assert 0 < row.kernel < 0.1
        assert 0 < row.reference < 0.1
    assert [row.nbytes for row in rows] == [3 * 4 * 32**4, 3 * 2 * 32**4]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_engine_of_the_torch_backend_runs_the_kernel(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is made by hand, since a machine without TensorRT defines no network."""
    monkeypatch.setattr(LeakyGate, "reference", lambda *_: pytest.fail("the reference ran"))
    plugin = LeakyGate(slope=0.3)
    stated = {
        "plugin_name": "leaky_gate",
        "plugin_namespace": "tests",
        "plugin_version": "1",
        "fields": plugin.fields,
    }
    made = Graph(
        name="",
        inputs=("x", "gate"),
        outputs=("y",),
        layers=(Layer("gate", "PLUGIN_V3", ("x", "gate"), ("y",), stated),),
        tensors={name: TensorInfo(name, dtype, (-1, *SHAPE[1:])) for name in ("x", "gate", "y")},
    )
    with trtnet.Session(trtnet.Plan(graph.dumps(made)), device="cuda") as session:
        fed = {name: array.astype(dtype) for name, array in _inputs().items()}
        results = [session(fed)["y"] for _ in range(3)]  # the later ones replay a CUDA graph
    monkeypatch.undo()
    for result in results:
        error = np.linalg.norm(result - _expected(plugin)) / np.linalg.norm(_expected(plugin))
        assert error < (1e-6 if dtype == "float32" else 2e-3)


@pytest.mark.parametrize("form", ["kernel", "native"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_builds_and_runs_it(engine_backend: str, form: str, precision: str) -> None:
    if form == "kernel" and engine_backend == "rtx":
        pytest.skip("TensorRT-RTX has no plugins")
    plugin = LeakyGate(slope=0.3)
    net = trtnet.Network(engine_backend, precision, plugins=form)
    inputs = [net.input(name, ("N", *SHAPE[1:]), precision) for name in ("x", "gate")]
    net.output("y", plugin(*inputs))
    sizes = trtnet.Shapes((1, *SHAPE[1:]), SHAPE, (8, *SHAPE[1:]))
    plan = trtnet.build(net, {"x": sizes, "gate": sizes})
    assert [entry["embedded"] for entry in plan.sidecar["plugins"]] == [True] * (form == "kernel")
    kind = np.float16 if precision == "fp16" else np.float32
    with trtnet.Session(plan) as session:
        result = session({name: array.astype(kind) for name, array in _inputs().items()})["y"]
    error = np.linalg.norm(result - _expected(plugin)) / np.linalg.norm(_expected(plugin))
    assert error < (1e-5 if precision == "fp32" else 2e-3)
