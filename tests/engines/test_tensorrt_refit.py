"""Refitting engines of TensorRT and TensorRT-RTX, against doubles that record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Plan, nn
from trtnet.building.recipes import name_weights, stated_recipes
from trtnet.engines.session import Session
from trtnet.errors import ExecutionError, PlanError, WeightsError

STATE = {
    "0.weight": np.arange(24, dtype=np.float32).reshape(4, 6) / 8,
    "0.bias": np.arange(4, dtype=np.float32),
}
OTHER = {key: value + 1 for key, value in STATE.items()}
NAMES = {"0/weight weights": "0.weight", "0/constant weights": "0.bias"}


def _recipes(precision: str = "fp16") -> dict[str, Any]:
    layer = nn.Sequential(nn.Linear(6, 4))
    layer.load_state_dict(STATE)
    net = trtnet.Network("rtx", precision)
    net.output("y", layer(net.input("x", (1, 6))))
    stated = stated_recipes(net, trtnet.graph.read(net))
    name_weights(net, stated, individual=True)  # the real definition takes the names
    return stated


RECIPES = _recipes()


def _held(state: dict[str, np.ndarray]) -> dict[str, tuple[str, str]]:
    return {name: ("HALF", state[key].astype(np.float16).tobytes().hex())
            for name, key in NAMES.items()}  # fmt: skip


def _plan(fake: Any, held: Any = None, stripped: bool = False) -> Plan:
    version = fake.__version__
    sidecar = {"backend": {"name": fake.name, "version": version},
               "refit": {**RECIPES, "stripped": stripped}}  # fmt: skip
    if stripped:
        sidecar["options"] = {"strip_weights": True}
    return fake.plan(sidecar=sidecar, weights=held or _held(STATE), is_stripped=stripped)


def _in(fake: Any, plan: Plan) -> Any:
    return fake.Runtime(fake.backend.logger).deserialize_cuda_engine(plan.engine).held


def test_the_layers_have_the_names_of_their_modules() -> None:
    assert {weight["weights_name"] for weight in RECIPES["weights"]} == set(NAMES)


def test_all_weights_are_set_and_serialized(fake_trt: Any) -> None:
    """Also those that do not change: TensorRT-RTX may not say what is missing."""
    plan = _plan(fake_trt)
    made = plan.refit({**STATE, "0.bias": OTHER["0.bias"]})
    new = {**STATE, "0.bias": OTHER["0.bias"]}
    held = {
        name: (kind.name, content.hex()) for name, (kind, content) in _in(fake_trt, made).items()
    }
    assert held == _held(new)
    names = [call.args[0] for call in fake_trt.calls if call.method == "set_named_weights"]
    assert sorted(names) == sorted(NAMES)
    order = fake_trt.methods()
    assert order.index("get_missing_weights") < order.index("refit_cuda_engine")
    assert order.index("clear_flag") < order.index("serialize_with_config")
    assert ("set_flag" in order) == (fake_trt.name == "rtx")  # INCLUDE_REFIT, where there is one
    assert plan.refit(STATE).engine == plan.engine  # TensorRT is not asked


def test_an_engine_without_a_runtime_gets_none(make_fake_trt: Any) -> None:
    """The new engine is as the old one was built."""
    fake = make_fake_trt("tensorrt")
    plan = _plan(fake)
    alone = {"version_compatible": True, "exclude_lean_runtime": True}
    plan = Plan(plan.engine, {**plan.sidecar, "options": alone})
    made = plan.refit({**STATE, "0.bias": OTHER["0.bias"]})
    assert made.sidecar["options"] == alone
    given = [call.args[0] for call in fake.calls if call.method == "set_flag"]
    assert given == [fake.SerializationFlag.EXCLUDE_LEAN_RUNTIME]


def test_a_stripped_engine_gets_all_its_weights(fake_trt: Any, raises: Any) -> None:
    empty = {name: (kind, bytes(len(content) // 2).hex())
             for name, (kind, content) in _held(STATE).items()}  # fmt: skip
    plan = _plan(fake_trt, empty, stripped=True)
    with raises(PlanError, "without its weights", "trtnet refit"):
        Session(plan, device="cuda")
    made = plan.refit(OTHER)
    held = {
        name: (kind.name, content.hex()) for name, (kind, content) in _in(fake_trt, made).items()
    }
    assert held == _held(OTHER)
    assert made.sidecar["options"] == {}
    further = _plan(fake_trt, {**empty, "another": ("HALF", "0000")}, stripped=True)
    with raises(PlanError, "not those that its sidecar knows", "only there: another"):
        further.refit(OTHER)  # TensorRT-RTX would have served it with zeros


@pytest.mark.parametrize(
    ("held", "texts"),
    [
        ({"0/weight weights": ("HALF", "00" * 48)}, ("not in the engine: 0/constant weights",)),
        ({**_held(STATE), "0/constant weights": ("FLOAT", "00" * 16)}, ("0/constant", "another")),
        ({**_held(STATE), "0/constant weights": ("HALF", "00" * 4)}, ("0/constant", "2 of")),
    ],
)
def test_engines_of_other_weights(fake_trt: Any, held: Any, texts: Any, raises: Any) -> None:
    with raises(PlanError, *texts):
        _plan(fake_trt, held).refit(OTHER)
    assert "refit_cuda_engine" not in fake_trt.methods()


@pytest.mark.parametrize(
    ("method", "result", "text"),
    [
        ("deserialize_cuda_engine", None, "cannot load the engine, to refit it"),
        ("set_named_weights", False, "refuses a weight"),
        ("get_missing_weights", ["fused"], "needs further weights"),
        ("refit_cuda_engine", False, "could not refit the engine"),
        ("serialize_with_config", None, "cannot serialize"),
    ],
)
def test_what_tensorrt_refuses(
    fake_trt: Any, method: str, result: Any, text: str, raises: Any
) -> None:
    plan = _plan(fake_trt)
    fake_trt.fail(method, result)
    with raises(ExecutionError, text):
        plan.refit(OTHER)
    assert plan.refit(OTHER).engine != plan.engine


class TestRunning:
    def test_the_engine_of_the_session_changes(self, fake_trt: Any) -> None:
        plan = _plan(fake_trt)
        with Session(plan, device="cuda") as session:
            x = np.ones((2, 4), np.float32)
            session(x)
            made = fake_trt.methods("IExecutionContext").count("set_optimization_profile_async")
            session.refit(OTHER)
            held = session._engine._engine.held
            assert {n: (k.name, c.hex()) for n, (k, c) in held.items()} == _held(OTHER)
            assert session.plan.engine == plan.refit(OTHER).engine
            session(x)
            calls = fake_trt.methods("IExecutionContext")
            assert calls.count("set_optimization_profile_async") == made  # contexts stay

    def test_nothing_new_leaves_the_engine_alone(self, fake_trt: Any) -> None:
        """Another serialization would have other bytes, which the sidecar does not know."""
        plan = _plan(fake_trt)
        with Session(plan, device="cuda") as session:
            session.refit(STATE)
            assert not fake_trt.methods("Refitter")
            assert session.plan.engine == plan.engine

    def test_neither_the_new_weights_nor_the_old_ones(self, fake_trt: Any, raises: Any) -> None:
        with Session(_plan(fake_trt), device="cuda") as session:
            for _ in range(2):
                fake_trt.fail("refit_cuda_engine")
            with raises(ExecutionError, "neither its old weights nor the new", "open another"):
                session.refit(OTHER)
            for call in (
                lambda: session(np.ones((2, 4), np.float32)),
                lambda: session.refit(OTHER),
            ):
                with raises(ExecutionError, "the session is closed"):
                    call()

    @pytest.mark.parametrize(
        "method", ["set_named_weights", "refit_cuda_engine", "serialize_with_config"]
    )
    def test_a_failure_sets_the_old_weights_again(
        self, fake_trt: Any, method: str, raises: Any
    ) -> None:
        plan = _plan(fake_trt)
        with Session(plan, device="cuda") as session:
            fake_trt.fail(method, *([None] if method == "serialize_with_config" else []))
            with raises(ExecutionError, "TensorRT", "has its old weights"):
                session.refit(OTHER)
            held = session._engine._engine.held
            assert {n: (k.name, c.hex()) for n, (k, c) in held.items()} == _held(STATE)
            assert session.plan is plan
            session(np.ones((2, 4), np.float32))

    def test_wrong_weights_never_reach_tensorrt(self, fake_trt: Any, raises: Any) -> None:
        with Session(_plan(fake_trt), device="cuda") as session:
            with raises(WeightsError, "missing: 0.bias"):
                session.refit({"0.weight": OTHER["0.weight"]})
            assert not fake_trt.methods("Refitter")


@pytest.mark.parametrize("option", ["refit", "strip_weights", "refit_individual"])
def test_the_builders_flags(option: str) -> None:
    """What TensorRT's builder is told."""
    value: Any = ("0.*",) if option == "refit_individual" else True
    config = trtnet.BuildConfig(**{option: value})
    flags = set(config._flags())
    assert (
        flags
        == {
            "refit": {"REFIT"},
            "strip_weights": {"STRIP_PLAN", "REFIT"},
            "refit_individual": {"REFIT_INDIVIDUAL"},
        }[option]
    )
    lean = trtnet.BuildConfig(version_compatible=True, exclude_lean_runtime=True)
    assert set(lean._flags()) == {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
    both = trtnet.BuildConfig(strip_weights=True, refit_individual=("0.*",))
    assert set(both._flags()) == {"STRIP_PLAN", "REFIT_INDIVIDUAL"}
