"""What runs in Triton's Python backend, with a double of the backend's module: batches are made
without needless copies, and each request gets its own answer. The server itself is in
tests/integration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.serving.triton import Settings, export
from trtnet.serving.triton.engine_model import EngineModel
from trtnet.serving.triton.requests import joined

Make = Callable[..., trtnet.Plan]


@pytest.fixture
def model(tmp_path: Path, plan: Make, backend: Any) -> Any:
    export(plan(), tmp_path, Settings("means"))
    made = opened(tmp_path / "means", 8, [("input", [3, 8, 8])])
    yield made
    made.finalize()


def opened(folder: Path, max_batch: int, inputs: list[tuple[str, list[int]]]) -> EngineModel:
    made = EngineModel()
    config = {"max_batch_size": max_batch, "input": [{"name": n, "dims": d} for n, d in inputs]}
    made.initialize({
        "model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1",
        "model_name": folder.name, "model_instance_kind": "CPU", "model_instance_device_id": "0",
    })  # fmt: skip
    return made


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def test_requests_are_executed_as_one_batch_and_answered_apart(model: Any, backend: Any) -> None:
    batches = [images(count, seed) for seed, count in enumerate((1, 3, 2))]
    responses = model.execute([backend.Request(["scores"], input=each) for each in batches])
    for batch, response in zip(batches, responses, strict=True):
        np.testing.assert_allclose(response.arrays["scores"], batch.mean((2, 3)), atol=1e-6)
    values = backend.MetricFamily.values
    assert values["trtnet_session_calls_total", ""] == 1
    assert values["trtnet_session_rows_total", ""] == 6
    assert values["trtnet_session_latency_seconds_bucket", "+Inf"] == 1


def test_one_request_that_fails_harms_no_other(model: Any, backend: Any) -> None:
    wrong = backend.Request(["scores"], input=images(1)[:, :, :7])
    right = [backend.Request(["scores"], input=images(2, seed)) for seed in (1, 2)]
    first, failed, last = model.execute([right[0], wrong, right[1]])
    assert first.error is None is last.error
    np.testing.assert_allclose(last.arrays["scores"], images(2, 2).mean((2, 3)), atol=1e-6)
    assert failed.error
    assert backend.MetricFamily.values["trtnet_session_failures_total", "ShapeError"] == 1


def test_outputs_that_nobody_asks_for_are_left_out(model: Any, backend: Any) -> None:
    (response,) = model.execute([backend.Request([], input=images(1))])
    assert response.error is None
    assert response.arrays == {}


def test_a_single_batch_is_not_copied() -> None:
    values = images(2)
    assert joined([{"input": values}])["input"] is values
    assert joined([{"input": values}, {"input": values}])["input"].shape == (4, 3, 8, 8)


def test_tensors_on_a_gpu_come_and_go_by_dlpack(model: Any, backend: Any) -> None:
    """PyTorch's tensors of the CPU stand for those of a GPU."""
    batches = [torch.from_numpy(images(count)) for count in (1, 2)]
    requests = [
        backend.Request(["scores"], input=backend.Tensor("input", each, on_gpu=True))
        for each in batches
    ]
    for batch, response in zip(batches, model.execute(requests), strict=True):
        assert isinstance(response.arrays["scores"], torch.Tensor)
        torch.testing.assert_close(response.arrays["scores"], batch.mean((2, 3)))


def test_an_output_without_the_batch_is_an_error(tmp_path: Path, backend: Any) -> None:
    """Its shape says a dynamic first axis, which is not the batch."""
    net = trtnet.Network(backend="torch")
    x = net.input("x", ("N", 3))
    net.output("y", x.reshape(-1, 1))
    shapes = {"x": trtnet.Shapes((1, 3), (4, 3), (4, 3))}
    export(trtnet.build(net, shapes), tmp_path, Settings("rows"))
    model = opened(tmp_path / "rows", 4, [("x", [3])])
    (response,) = model.execute([backend.Request(["y"], x=np.zeros((2, 3), np.float32))])
    assert "the first axis of an output is not the batch" in response.error
    model.finalize()
