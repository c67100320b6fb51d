"""State_dicts that an engine cannot get: each is refused in words, and the engine stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import BuildConfig, Session, nn
from trtnet.errors import PlanError, TrtnetError, UsageError, WeightsError
from trtnet.weights.places import wanted

torch = pytest.importorskip("torch")

State = dict[str, Any]


def _without(state: State, *keys: str) -> State:
    return {key: value for key, value in state.items() if key not in keys}


def _with(state: State, **arrays: Any) -> State:
    return {**state, **{key.replace("__", "."): value for key, value in arrays.items()}}


def _nan(value: np.ndarray) -> np.ndarray:
    return np.where(np.arange(value.size).reshape(value.shape) == 1, np.nan, value).astype("f4")


F16, SHORT = np.full((8, 3, 3, 3), 1e6, np.float32), np.zeros((5, 7), np.float32)
WRONG: dict[str, tuple[Callable[[State], Any], tuple[str, ...]]] = {
    "empty": (lambda s: {}, ("missing: stem.weight", "29 problem(s)")),
    "one missing": (lambda s: _without(s, "fc.bias"), ("missing: fc.bias", "1 problem")),
    "a BatchNorm missing": (
        lambda s: _without(s, *[k for k in s if k.startswith("bn.")]), ("missing: bn.weight",)),
    "one more": (lambda s: _with(s, head__weight=SHORT), ("unexpected: head.weight",)),
    "renamed": (
        lambda s: _with(_without(s, "fc.bias"), fc__biases=s["fc.bias"]),
        ("missing: fc.bias", "fc.biases (the engine has fc.bias)")),
    "another shape": (
        lambda s: _with(s, fc__weight=SHORT), ("fc.weight: it has the shape (5, 7), not (5, 8)",)),
    "transposed": (
        lambda s: _with(s, fc__weight=s["fc.weight"].T), ("it has the shape (8, 5), not (5, 8)",)),
    "flat": (lambda s: _with(s, fc__weight=s["fc.weight"].ravel()), ("(40,), not (5, 8)",)),
    "an axis more": (lambda s: _with(s, fc__bias=s["fc.bias"][None]), ("(1, 5), not (5,)",)),
    "more classes": (
        lambda s: _with(s, fc__weight=np.zeros((6, 8), "f4"), fc__bias=np.zeros(6, "f4")),
        ("(6, 8), not (5, 8)", "(6,), not (5,)")),
    "NaN": (lambda s: _with(s, stem__weight=_nan(s["stem.weight"])), ("stem.weight", "not finite")),
    "NaN in a mean": (
        lambda s: _with(s, bn__running_mean=_nan(s["bn.running_mean"])),
        ("bn.running_mean", "not finite")),
    "infinite": (lambda s: _with(s, fc__bias=s["fc.bias"] + np.inf), ("fc.bias", "not finite")),
    "too large for FP16": (lambda s: _with(s, stem__weight=F16), ("stem.weight", "float16")),
    "a variance of zero and below": (
        lambda s: _with(s, bn__running_var=-s["bn.running_var"]),
        ("variances must be positive",)),
    "integers": (
        lambda s: _with(s, fc__weight=np.ones((5, 8), np.int64)), ("int64, not float32",)),
    "complex": (lambda s: _with(s, fc__bias=np.ones(5, np.complex64)), ("complex",)),
    "text": (lambda s: _with(s, fc__bias=["a"] * 5), ("no numbers",)),
    "on the device meta": (
        lambda s: _with(s, fc__bias=torch.empty(5, device="meta")), ("has no values",)),
    "of another architecture": (
        lambda s: {f"layer{i}.weight": np.zeros((3, 3), "f4") for i in range(3)},
        ("unexpected: layer0.weight", "missing: stem.weight")),
    "a ragged list": (lambda s: _with(s, fc__weight=[[1.0], [1.0, 2.0]]), ("no numbers",)),
    "float64 beyond float32": (
        lambda s: _with(s, fc__bias=np.full(5, 1e300)), ("do not fit float32",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_is_refused_in_words(name: str, kinds: Any, raises: Any) -> None:
    kind = kinds["resnet"]
    change, texts = WRONG[name]
    state = kind.state(0)
    plan = kind.build(state)
    engine, sidecar = plan.engine, dict(plan.sidecar)
    wrong = change({**kind.state(1)})
    x = np.random.default_rng(0).random(kind.shape, np.float32)
    with Session(plan, device="cpu") as session:
        before = session(x)["y"].tobytes()
        with raises(TrtnetError, *texts):
            plan.refit(wrong)
        with raises(TrtnetError, *texts):
            session.refit(wrong)
        assert session.plan is plan
        assert session(x)["y"].tobytes() == before
    assert (plan.engine, dict(plan.sidecar)) == (engine, sidecar)


def test_scales_that_were_calibrated_with_other_weights(kinds: Any, raises: Any) -> None:
    kind = kinds["int8"]
    a, b = kind.state(0), kind.state(1)
    plan = kind.build(a, seed=0)
    assert plan.refit(a).engine == plan.engine  # nothing changes: no calibration is needed
    report = plan.refit_report(b)
    assert "calibrated with the old weights" in report.refused["stem.weight"]
    with raises(WeightsError, "--calib-table", "calibration="):
        plan.refit(b)
    with raises(WeightsError, "belongs to other weights"):
        plan.refit(b, calibration=kind.table(a, 0))
    with raises(UsageError, "without INT8"):
        kinds["resnet"].build(a).refit(b, calibration=kind.table(b, 1))


class Unrepeatable(torch.nn.Module):
    """Does with its parameters what no recipe describes."""

    def __init__(self) -> None:
        super().__init__()
        for index, name in enumerate(("size", "number", "special", "written", "plain")):
            value = torch.tensor(2.0) if name in ("size", "number") else torch.ones(4) * index
            setattr(self, name, torch.nn.Parameter(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, : int(self.size)] * float(self.number)
        there = torch.zeros(4)
        there += self.written
        return x + self.special.erfinv()[:2] + there[:2] + self.plain.softmax(0)[:2]


def test_keys_that_became_something_else(raises: Any) -> None:
    model = Unrepeatable()
    net = trtnet.Network("torch")
    net.output("y", trtnet.from_torch(model)(net.input("x", (1, 4))))
    plan = trtnet.build(net, config=BuildConfig(refit=True))
    state = {key: value.detach().numpy() for key, value in model.named_parameters()}
    assert plan.refit(state).engine == plan.engine
    report = plan.refit_report({key: value + 1 for key, value in state.items()})
    assert report.refittable == ("plain",)
    for key in ("size", "number"):
        assert "became a size, an index, or a number" in report.refused[key]
    assert "torch computes erfinv of it" in report.refused["special"]
    assert "written" in report.refused
    assert not report.is_possible


class Indexed(nn.Module):
    """Takes places that a buffer names, and adds weights of a norm that is computed on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("index", nn.Parameter.empty((2,), dtype="int64"))
        self.layer = nn.utils.weight_norm(nn.Linear(4, 4))
        self.mask = nn.Parameter.empty((3, 3))

    def forward(self, x: Any) -> Any:
        x = self.layer(x)
        x = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=self.mask)
        return x[:, self.index]


def test_values_that_decide_which_layers_there_are() -> None:
    model = Indexed()
    state = {
        key: np.arange(place.shape[0]) if key == "index" else np.ones(place.shape, np.float32)
        for key, place in wanted(model).items()
    }
    model.load_state_dict(state)
    net = trtnet.Network("torch")
    net.output("y", model(net.input("x", (1, 3, 4))))
    plan = trtnet.build(net, config=BuildConfig(refit=True))
    assert plan.refit(state) == plan
    report = plan.refit_report({key: value + 1 for key, value in state.items()})
    assert set(report.refused) == {"index", "mask", "layer.weight_g", "layer.weight_v"}
    assert report.refittable == ("layer.bias",)


def test_tied_weights(raises: Any) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    def built(model: Tied) -> Any:
        net = trtnet.Network("torch")
        net.output("y", trtnet.from_torch(model)(net.input("x", (1, 4))))
        return trtnet.build(net, config=BuildConfig(refit=True))

    first, second = Tied(), Tied()
    plan, state = built(first), second.state_dict()
    assert plan.refit(state).engine == built(second).engine
    assert plan.refit(_without(state, "b.weight")).engine == built(second).engine
    with raises(WeightsError, "b.weight: it shares its values with a.weight"):
        plan.refit({**state, "b.weight": state["b.weight"] + 1})


def test_plans_without_recipes(kinds: Any, raises: Any) -> None:
    kind = kinds["resnet"]
    state = kind.state(0)
    plan = trtnet.build(kind.network(state))
    with raises(PlanError, "keeps no recipes", "--refit"):
        plan.refit(state)
    with raises(PlanError, "keeps no recipes"):
        trtnet.Plan(plan.engine).refit_report(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda step: step.update(op="os.system", of=[]),
        lambda step: step.update(op="aten.from_file.default", of=[]),
        lambda step: step["options"].update(key="fc.bias"),
        lambda step: step["options"].update(offset=1 << 30),
        lambda step: step.update(of=[10**6]),
        lambda step: step["options"].update(shape=[1 << 20, 1 << 20]),
    ],
)
def test_recipes_that_were_changed(change: Any, kinds: Any) -> None:
    """A sidecar is foreign: nothing in it is executed, and no recipe reaches other memory."""
    kind = kinds["resnet"]
    plan = kind.build(kind.state(0))
    for index in range(len(plan.sidecar["refit"]["steps"])):
        sidecar = copy.deepcopy(dict(plan.sidecar))
        change(sidecar["refit"]["steps"][index])
        try:
            made = trtnet.Plan(plan.engine, sidecar).refit(kind.state(1))
        except TrtnetError:
            continue
        trtnet.graph.loads(made.engine)  # the change made a network of other weights, no worse


class Outside(torch.nn.Module):
    """A layer, and something else that is computed of its parameters outside of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        row = self.a.weight.detach().numpy().sum(0)
        x = self.a(x) + torch.from_numpy(row)
        return self.c(self.b(x) * max(self.b.bias.tolist()))


class OutsideOfTrtnet(nn.Module):
    """The same in trtnet's own modules."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Any) -> Any:
        x = self.a(x) + np.asarray(self.a.weight.data).sum(0)
        return self.c(self.b(x) * max(self.b.bias.tolist()))


class Converted(OutsideOfTrtnet):
    """The same without a tensor of PyTorch between."""

    def forward(self, x: Any) -> Any:
        x = self.a(x) + np.asarray(self.a.weight).sum(0)
        return self.c(self.b(x) * max(self.b.bias.tolist()))


class InMemory(OutsideOfTrtnet):
    """The same with the parameter's own memory."""

    def forward(self, x: Any) -> Any:
        assert self.a.weight.array is not None
        x = self.a(x) + self.a.weight.array.sum(0)
        return self.c(self.b(x) * max(self.b.bias.tolist()))


class Scaled(nn.Module):
    """A parameter that no layer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter.empty((4,))

    def forward(self, x: Any) -> Any:
        return x * np.exp(self.scale.array)


def test_a_key_of_which_numpy_alone_computes() -> None:
    """It is not unused: the engine has what came of its old values."""
    model = Scaled()
    state = {"scale": np.ones(4, np.float32)}
    model.load_state_dict(state)
    net = trtnet.Network("torch")
    net.output("y", model(net.input("x", (1, 4))))
    plan = trtnet.build(net, config=BuildConfig(refit=True))
    report = plan.refit_report({"scale": state["scale"] + 1})
    assert "Parameter.array" in report.refused["scale"]
    assert plan.refit_report(state).unchanged == ("scale",)


@pytest.mark.parametrize(
    "make", [lambda: trtnet.from_torch(Outside()), OutsideOfTrtnet, Converted, InMemory]
)
def test_values_that_leave_pytorch(make: Callable[[], Any]) -> None:
    """A layer takes the same values; what numpy computed of them would stay as it was."""
    rng = np.random.default_rng(0)
    model = make()
    state = {key: rng.random(place.shape, np.float32) for key, place in wanted(model).items()}
    model.load_state_dict(state)
    net = trtnet.Network("torch")
    net.output("y", model(net.input("x", (1, 4))))
    plan = trtnet.build(net, config=BuildConfig(refit=True))
    report = plan.refit_report({key: value + 1 for key, value in state.items()})
    assert report.refittable == ("a.bias", "b.weight", "c.weight", "c.bias")
    assert set(report.refused) == {"a.weight", "b.bias"}
    assert "by Tensor.tolist" in report.refused["b.bias"]
    assert plan.refit({**state, "c.bias": state["c.bias"] + 1}).engine != plan.engine


def test_a_type_that_holds_less(linear: Any, raises: Any) -> None:
    """A new build would take the type of the new checkpoint; the engine has that of the old one."""
    wide = linear.state(1)
    narrow = {key: value.astype(np.float16) for key, value in linear.state(0).items()}
    plan = linear.build(narrow)
    with raises(WeightsError, "float32, do not fit float16", "build it again"):
        plan.refit(wide)
    fitting = {key: value.astype(np.float16) for key, value in wide.items()}
    held = {key: value.astype(np.float32) for key, value in fitting.items()}
    assert plan.refit(held).engine == plan.refit(fitting).engine == linear.build(fitting).engine


@pytest.mark.parametrize("state", ["new.pt", None, [("weight", 1)], torch.nn.Linear(2, 2)])
def test_what_is_no_state_dict(state: Any, linear: Any, raises: Any) -> None:
    """A path, or a whole module, is easily given in place of one."""
    plan = linear.build(linear.state(0))
    with trtnet.Session(plan, device="cpu") as session:
        for take in (
            plan.refit,
            plan.refit_report,
            session.refit,
            nn.Linear(2, 2).load_state_dict,
            lambda given: trtnet.weights.with_lora(given, {}),
            lambda given: trtnet.weights.with_lora({}, given),
        ):
            with raises(UsageError, "is no state_dict", "trtnet.weights.load(path)"):
                take(state)
