"""Other weights in engines of TensorRT and TensorRT-RTX, on a machine that has them.

pytest -m gpu
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import BuildConfig, Plan, Session
from trtnet.errors import PlanError, WeightsError

pytestmark = pytest.mark.gpu

TOLERANCE = 1e-3  # relative L2 distance in float32: two engines may have other kernels


def _plan(case: Any, backend: str, weights: Any, **options: bool) -> Plan:
    network = case._replace(weights=weights).network(backend, "fp32", 2)
    return trtnet.build(network, config=BuildConfig(**options))


def _other(case: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    return {
        key: (value * rng.uniform(0.8, 1.2, value.shape)).astype(value.dtype)
        for key, value in case.weights.items()
    }


def _logits(plan: Plan, case: Any) -> np.ndarray:
    with Session(plan) as session:
        return np.asarray(session(case.images(2))["logits"])


def _assert_close(got: np.ndarray, want: np.ndarray) -> None:
    assert np.linalg.norm(got - want) <= TOLERANCE * np.linalg.norm(want)


def test_a_refitted_plan(engine_backend: str, case: Any) -> None:
    other = _other(case)
    plan = _plan(case, engine_backend, case.weights, refit=True)
    first, want = _logits(plan, case), _logits(_plan(case, engine_backend, other), case)
    made = plan.refit(other)
    _assert_close(_logits(made, case), want)
    _assert_close(_logits(made.refit(dict(case.weights)), case), first)
    assert not np.allclose(first, want)


def test_a_stripped_plan(engine_backend: str, case: Any) -> None:
    plan = _plan(case, engine_backend, case.weights, strip_weights=True)
    with pytest.raises(PlanError, match="without its weights"):
        Session(plan)
    other = _other(case)
    want = _logits(_plan(case, engine_backend, other), case)
    _assert_close(_logits(plan.refit(other), case), want)


def test_a_running_session(engine_backend: str, case: Any) -> None:
    other = _other(case)
    plan = _plan(case, engine_backend, case.weights, refit=True)
    want = _logits(_plan(case, engine_backend, other), case)
    with Session(plan) as session:
        images = case.images(2)
        for _ in range(3):  # with a captured CUDA graph
            first = session(images)["logits"]
        with pytest.raises(WeightsError, match="missing"):
            session.refit({})
        assert np.array_equal(session(images)["logits"], first)
        session.refit(other)
        _assert_close(session(images)["logits"], want)
        session.refit(dict(case.weights))
        _assert_close(session(images)["logits"], first)
