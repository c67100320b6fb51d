"""The set of cases: what it uses, and that each network is what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import backend
from trtnet.certify.cases import PRECISIONS, UNCOVERED, cases
from trtnet.certify.limits import limit
from trtnet.certify.networks import movement
from trtnet.certify.networks.lab import Defined
from trtnet.certify.running import run_case
from trtnet.certify.settings import Settings
from trtnet.dtypes import dtype_of
from trtnet.graph.layers import KINDS
from trtnet.verification.comparison import TOLERANCES, compare

CPU = Settings("torch", "cpu", timed=False)


@pytest.fixture(scope="module")
def defined() -> dict[str, Defined]:
    """Every case that is no model, by key: the real INetworkDefinitions."""
    loaded = backend.load("torch")
    return {case.key: case.variants[""](loaded) for case in cases() if not case.is_model}


def test_together_they_use_every_layer_type_that_the_reader_knows(
    defined: dict[str, Defined],
) -> None:
    used = {layer.type for found in defined.values() for layer in found.graph.layers}
    assert used | UNCOVERED.keys() == KINDS.keys()
    assert not used & UNCOVERED.keys()


def test_binding_and_reference_have_no_more_than_is_said(trt: Any) -> None:
    """The reasons of UNCOVERED are facts of this binding and of the reference."""
    assert not hasattr(trt.INetworkDefinition, "add_plugin")
    assert not hasattr(trt.INetworkDefinition, "add_plugin_v2")
    net = trtnet.Network("rtx")
    x, experts = net.input("x", (1, 4, 8)), net.input("e", (1, 4, 2), "int32")
    scores = net.input("s", (1, 4, 2))
    moe = net.definition.add_moe(x.itensor, experts.itensor, scores.itensor)
    if moe is not None:
        net.definition.mark_output(moe.get_output(0))
    with pytest.raises(trtnet.TrtnetError):
        trtnet.reference.compile(trtnet.graph.read(net.definition))


def test_each_layer_type_computes_in_each_precision_of_its_case(
    defined: dict[str, Defined],
) -> None:
    """The layers that are compared give or take the type that the case is named after."""
    inside = {"tf32": "float32", "fp4": "float4_e2m1", "int8": "int8", "fp8": "float8_e4m3"}
    for key, found in defined.items():
        precision = key.partition(":")[2]
        wanted = inside.get(precision) or dtype_of(precision).value
        types = {info.dtype for info in found.graph.tensors.values()}
        assert wanted in types, key


def test_every_precision_occurs() -> None:
    assert {case.precision for case in cases()} == set(PRECISIONS)


def test_convolutions_are_pytorchs(defined: dict[str, Defined]) -> None:
    """The reference of a case is right, by PyTorch itself."""
    found = defined["convolution:fp32"]
    got = trtnet.reference.run(found.graph, found.inputs)
    layers = {layer.outputs[0]: layer for layer in found.graph.layers}
    x = torch.from_numpy(found.inputs["x0"])
    for name, options in (
        ("padded", {"padding": 1}), ("strided", {"stride": 2}), ("dilated", {"dilation": 2}),
        ("depthwise", {"groups": 8}), ("pointwise", {}),
    ):  # fmt: skip
        weights = layers[f"{name}:"].weights
        size = 1 if name == "pointwise" else 3
        kernel = torch.from_numpy(np.array(weights["kernel"])).reshape(16, -1, size, size)
        bias = torch.from_numpy(np.array(weights["bias"]))
        np.testing.assert_allclose(
            got[f"{name}:"], torch.conv2d(x, kernel, bias, **options), rtol=1e-4, atol=1e-5
        )


def test_no_input_and_no_result_is_trivial(defined: dict[str, Defined]) -> None:
    """What is zero everywhere would pass whatever computes it."""
    for key, found in defined.items():
        for name, values in trtnet.reference.run(found.graph, found.inputs).items():
            trivial = values.size > 1 and not values.any()
            assert not trivial, (key, name)
            if values.dtype.kind == "f":
                assert np.isfinite(values).all(), (key, name)


@pytest.mark.parametrize(
    "key", ["convolution:fp16", "conditional:bf16", "topk:int64", "quantized_product:fp8",
            "dynamic_batch:fp32", "plugin:fp32", "lenet5:int8"]
)  # fmt: skip
def test_cases_pass_on_the_torch_backend(key: str) -> None:
    (case,) = cases([key])
    result = run_case(case, CPU)
    assert (result.state, result.reason) == ("passed", "")
    assert result.types
    assert result.tensors
    assert result.timing is None


def test_a_model_is_compared_by_module_and_as_it_is_deployed() -> None:
    (case,) = cases(["lenet5:fp32"])
    result = run_case(case, Settings("torch", "cpu"))
    modules = [tensor.tensor for tensor in result.tensors if tensor.variant == "modules"]
    assert modules[:3] == ["c1", "tanh", "s2"]
    assert modules[-1] == "logits"
    assert [tensor.tensor for tensor in result.tensors if not tensor.variant] == ["logits"]
    timing = result.timing
    assert timing is not None
    assert timing.low_ms is not None
    assert timing.high_ms is not None
    assert 0 < timing.low_ms <= timing.median_ms <= timing.high_ms
    assert timing.queries >= 10
    assert timing.shapes == {"input": [1, 1, 32, 32]}


def test_limits_are_those_of_verification() -> None:
    assert limit("fp16", is_model=True) is TOLERANCES["fp16"]
    assert limit("int64", is_model=False).rel_l2 == TOLERANCES["fp32"].rel_l2
    # TF32 has the fraction of FP16: a unit roundoff of 2^-11.
    assert limit("tf32", is_model=False).rel_l2 == 8 * 2.0**-11
    assert limit("fp32", is_model=False).rel_l2 == 1e-5


def test_patterns_choose_names_and_keys() -> None:
    keys = [case.key for case in cases(["lrn", "topk:int*"])]
    assert keys == ["lrn:fp32", "lrn:fp16", "lrn:bf16", "topk:int32", "topk:int64"]
    assert [case.key for case in cases(["lrn"], ["fp16"])] == ["lrn:fp16"]


def test_no_case(raises: Any) -> None:
    with raises(trtnet.UsageError, "no case matches 'topkk'", "topk"):
        cases(["topkk"])
    with raises(trtnet.UsageError, "no case is left"):
        cases(["lrn"], ["bool"])


def test_scatter_writes_each_element_once() -> None:
    """Else the result is any of several values: two of one column once differed on a GPU."""
    given: list[Any] = []
    modes = SimpleNamespace(ELEMENT="element", ND="nd")
    lab = SimpleNamespace(
        trt=SimpleNamespace(ScatterMode=modes),
        input=lambda *shape, values=None: given.append(values),
        emit=lambda *arguments, **named: None,
    )
    movement.scatter(lab)  # type: ignore[arg-type]
    places, corners = (values for values in given if values is not None)
    assert all(len(set(column)) == len(column) for column in places.T.tolist())
    assert len({*map(tuple, corners.tolist())}) == len(corners)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_integers_of_small_networks_have_to_be_equal(precision: str) -> None:
    """One position of 90, as of NMS, is a difference."""
    wanted = torch.arange(90)
    found = wanted.clone()
    found[7] += 1
    held = limit(precision, is_model=False)
    assert held.accepts(compare("x", wanted, wanted))
    assert not held.accepts(compare("x", found, wanted))
