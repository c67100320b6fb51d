"""A plan with other weights is the plan that a new build of them gives, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import BuildConfig, Plan, Session, nn
from trtnet.errors import PlanError, UsageError

torch = pytest.importorskip("torch")


def test_the_engine_of_a_new_build(kind: Any) -> None:
    a, b = kind.state(0), kind.state(1)
    old, new = kind.build(a, seed=0), kind.build(b, seed=1)
    assert old.engine != new.engine
    made = old.refit(b, calibration=kind.table(b, 1))
    assert made.engine == new.engine
    assert kind.build(a, seed=0).engine == old.engine, "the old plan was changed"
    assert made.refit(a, calibration=kind.table(a, 0)).engine == old.engine


def test_the_same_engine_as_without_refit(kind: Any) -> None:
    """The torch engine optimizes nothing away that a refittable one must keep."""
    state = kind.state(0)
    plain = trtnet.build(kind.network(state, kind.table(state, 0)))
    assert plain.engine == kind.build(state, seed=0).engine
    assert "refit" not in plain.sidecar


def test_outputs_are_pytorchs() -> None:
    """The refitted engine computes what PyTorch does with the new weights."""
    torch.manual_seed(0)
    models = [
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
                            torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4)).eval()
        for _ in range(2)
    ]  # fmt: skip
    for model in models:
        torch.nn.init.uniform_(model[1].running_var, 0.5, 2)
        torch.nn.init.normal_(model[1].running_mean)
    net = trtnet.Network("torch")
    net.output("y", trtnet.from_torch(models[0])(net.input("x", (2, 3, 8, 8))))
    plan = trtnet.build(net, config=BuildConfig(refit=True)).refit(models[1].state_dict())
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    with Session(plan, device="cpu") as session, torch.no_grad():
        np.testing.assert_allclose(
            session(x)["y"], models[1](torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5
        )


def test_only_what_changed_is_computed(linear: Any) -> None:
    state = linear.state(0)
    plan = linear.build(state)
    report = plan.refit_report({**state, "fc.bias": state["fc.bias"] + 1})
    assert (report.refittable, report.weights) == (("fc.bias",), 1)
    assert set(report.unchanged) == {"fc.weight", "unused.weight", "unused.bias"}
    assert plan.refit(state) == plan


def test_weights_that_nothing_reads_may_be_anything(linear: Any) -> None:
    state = linear.state(0)
    plan = linear.build(state)
    other = {**state, "unused.weight": state["unused.weight"] * np.nan}
    assert plan.refit_report(other).unused == ("unused.weight",)
    assert plan.refit(other).engine == plan.engine


def test_equal_values_of_two_keys_stay_two() -> None:
    """Constants of equal values are one, unless another state_dict may tell them apart."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter.empty((3,)), nn.Parameter.empty((3,))

        def forward(self, x: Any) -> Any:
            return x * self.a + self.b

    def built(a: list[float], b: list[float]) -> Plan:
        model, net = Two(), trtnet.Network("torch")
        model.load_state_dict({"a": np.float32(a), "b": np.float32(b)})
        net.output("y", model(net.input("x", (1, 3))))
        return trtnet.build(net, config=BuildConfig(refit=True))

    made = built([1, 1, 1], [1, 1, 1]).refit({"a": np.float32([1, 2, 3]), "b": np.float32([4] * 3)})
    assert made.engine == built([1, 2, 3], [4, 4, 4]).engine


def test_what_the_sidecar_said_of_the_old_weights_is_gone(linear: Any) -> None:
    net = linear.network(linear.state(0))
    about = {"weights": {"source": "old"}, "verification": {"passed": True}, "model": "tiny"}
    plan = trtnet.build(net, config=BuildConfig(refit=True), sidecar=about)
    made = plan.refit(linear.state(1))
    assert made.sidecar["weights"] == {"source": "a state_dict"}
    assert "verification" not in made.sidecar
    assert made.sidecar["recipe"] is None  # so no build of the old recipe takes this engine
    assert made.sidecar["model"] == "tiny"
    again = trtnet.build(net, config=BuildConfig(refit=True), reuse=made)
    assert again.engine == plan.engine


def test_a_stripped_plan_gets_its_weights(kind: Any, raises: Any) -> None:
    a, b = kind.state(0), kind.state(1)
    whole, stripped = kind.build(a, seed=0), kind.build(a, seed=0, strip_weights=True)
    assert len(stripped.engine) < len(whole.engine)
    with raises(PlanError, "without its weights", "trtnet refit"):
        Session(stripped, device="cpu")
    with raises(trtnet.TrtnetError, "without its weights"):
        trtnet.graph.loads(stripped.engine)
    assert stripped.refit(a).engine == whole.engine
    filled = stripped.refit(b, calibration=kind.table(b, 1))
    assert filled.engine == kind.build(b, seed=1).engine
    assert filled.refit(a, calibration=kind.table(a, 0)).engine == whole.engine


def test_some_weights_alone(linear: Any, raises: Any) -> None:
    state = linear.state(0)
    plan = linear.build(state, refit_individual=("*.bias",))
    new = {**state, "fc.bias": state["fc.bias"] + 1}
    assert plan.refit(new).engine == linear.build(new).engine
    report = plan.refit_report(linear.state(1))
    assert "--refit-individual" in report.refused["fc.weight"]
    with raises(UsageError, "matches no key", "such as fc."):
        linear.build(state, refit_individual=("head.*",))
    with raises(trtnet.UnsupportedError, "cannot be combined"):
        linear.build(state, refit=True, refit_individual=("*.bias",))


def test_prefixes_of_wrappers_and_torch_tensors(linear: Any) -> None:
    b = linear.state(1)
    wrapped = {f"module.{key}": torch.from_numpy(value) for key, value in b.items()}
    assert linear.build(linear.state(0)).refit(wrapped).engine == linear.build(b).engine


def test_two_models_in_one_network(raises: Any) -> None:
    def built(states: list[dict[str, np.ndarray]], scoped: bool = True) -> Plan:
        net = trtnet.Network("torch")
        x = net.input("x", (1, 3))
        for index, state in enumerate(states):
            layer = nn.Linear(3, 3)
            layer.load_state_dict(state)
            if scoped:
                with net.scope(f"part{index}"):
                    x = layer(x)
            else:
                x = layer(x)
        net.output("y", x)
        return trtnet.build(net, config=BuildConfig(refit=True))

    def state(seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {"weight": rng.random((3, 3), np.float32), "bias": rng.random(3, np.float32)}

    new = {f"part{i}.{key}": value for i in (0, 1) for key, value in state(i + 2).items()}
    assert built([state(0), state(1)]).refit(new).engine == built([state(2), state(3)]).engine
    with raises(UsageError, "in two models", "network.scope"):
        built([state(0), state(1)], scoped=False)


def test_saved_and_loaded(linear: Any, tmp_path: Any) -> None:
    linear.build(linear.state(0)).save(tmp_path / "a.engine")
    made = Plan.load(tmp_path / "a.engine").refit(linear.state(1))
    made.save(tmp_path / "b.engine")
    assert Plan.load(tmp_path / "b.engine").engine == linear.build(linear.state(1)).engine
