"""Build, run and compare with PyTorch: TensorRT and TensorRT-RTX, on a machine that has them.

pytest -m gpu
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Shapes
from trtnet.errors import ExecutionError, PlanError, ShapeError

pytestmark = pytest.mark.gpu

# Largest relative L2 distance from PyTorch in float32: rounding, with a margin of about ten.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}


def assert_close(got: np.ndarray, want: np.ndarray, precision: str) -> None:
    assert got.shape == want.shape
    distance = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert distance < TOLERANCE[precision], f"relative L2 distance {distance:.2e}"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_fixed_shapes(engine_backend: str, case: Any, precision: str, cuda_graph: bool) -> None:
    plan = trtnet.build(case.network(engine_backend, precision, 4))
    with trtnet.Session(plan, cuda_graph=cuda_graph) as session:
        assert (session.backend, session.device) == (engine_backend, "cuda")
        for seed in range(4):  # the first one runs before there is a graph
            images = case.images(4, seed)
            assert_close(session(images)["logits"], case.expected(images), precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_any_batch_size(engine_backend: str, case: Any, precision: str, cuda_graph: bool) -> None:
    shapes = {"input": Shapes((1, *case.shape), (4, *case.shape), (8, *case.shape))}
    plan = trtnet.build(case.network(engine_backend, precision, "N"), shapes)
    with trtnet.Session(plan, cuda_graph=cuda_graph) as session:
        for batch in (1, 8, 3, 8, 1, 3):
            images = case.images(batch, seed=batch)
            assert_close(session(images)["logits"], case.expected(images), precision)
        with pytest.raises(ShapeError, match="8"):
            session(case.images(9))


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_several_profiles(engine_backend: str, case: Any, cuda_graph: bool) -> None:
    small = Shapes((1, *case.shape), (1, *case.shape), (2, *case.shape))
    large = Shapes((6, *case.shape), (8, *case.shape), (8, *case.shape))
    network = case.network(engine_backend, "fp32", "N")
    plan = trtnet.build(network, [{"input": small}, {"input": large}])
    with trtnet.Session(plan, cuda_graph=cuda_graph) as session:
        assert [profile["input"].max[0] for profile in session.profiles] == [2, 8]
        for batch in (1, 8, 2, 6, 1, 8):
            images = case.images(batch, seed=batch)
            assert_close(session(images)["logits"], case.expected(images), "fp32")


@pytest.fixture
def plan(engine_backend: str, case: Any) -> trtnet.Plan:
    """For batches of 1 to 8, in float32."""
    shapes = {"input": Shapes((1, *case.shape), (4, *case.shape), (8, *case.shape))}
    return trtnet.build(case.network(engine_backend, "fp32", "N"), shapes)


def test_torch_tensors_on_the_gpu(plan: trtnet.Plan, case: Any) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a PyTorch that can use the GPU")
    images = case.images(4)
    with trtnet.Session(plan) as session:
        for _ in range(3):
            output = session(torch.from_numpy(images).cuda())["logits"]
            assert output.is_cuda
            assert_close(output.cpu().numpy(), case.expected(images), "fp32")


def test_threads_share_a_session(plan: trtnet.Plan, case: Any) -> None:
    batches = [case.images(1 + seed % 4, seed) for seed in range(32)]
    with trtnet.Session(plan) as session, ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda images: session(images)["logits"], batches))
    for images, output in zip(batches, outputs, strict=True):
        assert_close(output, case.expected(images), "fp32")


def test_map(plan: trtnet.Plan, case: Any) -> None:
    batches = [case.images(4, seed) for seed in range(12)]
    with trtnet.Session(plan) as session:
        for images, outputs in zip(batches, session.map(iter(batches)), strict=True):
            assert_close(outputs["logits"], case.expected(images), "fp32")


def test_layer_times(plan: trtnet.Plan, case: Any) -> None:
    with trtnet.Session(plan, cuda_graph=False) as session, session.lane() as lane:
        lane.bind({"input": (4, *case.shape)})
        lane.fill({"input": case.images(4)})
        lane.copy_in()
        lane.enqueue()
        times = lane.context.profile(lane.stream.handle)
    assert times
    assert all(name and ms >= 0 for name, ms in times)
    assert sum(ms for _, ms in times) > 0


def test_from_a_file(plan: trtnet.Plan, case: Any, tmp_path: Path) -> None:
    path, images = tmp_path / "model.engine", case.images(2)
    plan.save(path)
    for _ in range(2):  # the second time with what TensorRT-RTX has compiled
        with trtnet.Session(path) as session:
            assert_close(session(images)["logits"], case.expected(images), "fp32")
        assert (tmp_path / "model.engine.cache").exists() == (session.backend == "rtx")


def test_damaged_engines_are_refused(plan: trtnet.Plan) -> None:
    for damaged in (plan.engine[:-64], plan.engine[: len(plan.engine) // 2], plan.engine[:20]):
        with pytest.raises((PlanError, ExecutionError)):
            trtnet.Session(trtnet.Plan(damaged, plan.sidecar))


def test_an_output_whose_size_the_data_decides(engine_backend: str) -> None:
    if engine_backend == "rtx":
        pytest.skip("TensorRT-RTX has no NonZero")
    net = trtnet.Network(backend=engine_backend)
    positive = net.input("x", ("N", 6)) > 0
    layer = net.definition.add_non_zero(positive.itensor)
    net.output("where", net.tensor(layer.get_output(0)))
    plan = trtnet.build(net, {"x": Shapes((1, 6), (4, 6), (8, 6))})
    with trtnet.Session(plan) as session:
        for seed in range(3):
            x = np.random.default_rng(seed).normal(size=(5, 6)).astype(np.float32)
            np.testing.assert_array_equal(session(x)["where"], np.stack(np.nonzero(x > 0)))
