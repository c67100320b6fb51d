"""Quantized networks verify against PyTorch, and their engines build."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import Policy, nn, weights, zoo
from trtnet.building.builder import choose_gpus
from trtnet.errors import BuildError, UnsupportedError, VerificationError
from trtnet.verification import FP8_TOLERANCE, INT8_TOLERANCE

SHAPE = (1, 3, 96, 96)
ADA = trtnet.BuildConfig(compute_capabilities=("8.9",))


@pytest.fixture(scope="module")
def resnet() -> tuple[Any, torch.nn.Module]:
    """ResNet-18 with settled random weights, here and in PyTorch."""
    entry = zoo.get_entry("resnet18")
    state = weights.random_state(entry.torch_model, 0, input_shape=SHAPE[1:])
    ours, theirs = entry.build(), entry.torch_model()
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return ours, theirs


def smooth_noise(seed: int) -> np.ndarray:
    """White and coarse noise, as the BatchNorm statistics were settled on."""
    random = np.random.default_rng(seed)
    total = random.standard_normal(SHAPE)
    for grid in (4, 16):
        coarse = random.standard_normal((*SHAPE[:2], grid, grid))
        total += coarse.repeat(SHAPE[2] // grid, 2).repeat(SHAPE[3] // grid, 3)
    return (total / total.std()).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "config", "floor", "ratio"),
    [
        ("int8", None, 25, 0.32),
        ("fp8", ADA, 15, 0.32),
        ("int8-weights", None, 30, 0.30),
        ("bf16", None, 30, 0.52),
    ],
)
def test_resnet18(
    resnet: Any, precision: str, config: Any, floor: float, ratio: float, calibrated: Any
) -> None:
    ours, theirs = resnet
    x = smooth_noise(1)
    made = calibrated(ours, x, precision=precision)
    result = trtnet.verify(made.network, theirs, {"x": x})
    assert result.passed
    assert result.outputs[0].sqnr_db >= floor
    assert result.argmax_agreement == 1 or precision == "fp8"  # random logits lie close together
    plan = trtnet.build(made.network, config=config)
    assert len(plan.engine) < ratio * 4 * sum(slot.numel() for slot in ours.parameters())
    assert plan.sidecar["precision"] == precision
    assert plan.sidecar["policy"]["compute"] == precision
    assert made.lint() == []


def test_the_definition_behind_int8_is_exact(resnet: Any, define: Any) -> None:
    """Without a calibration it is the same network in FP32."""
    ours, theirs = resnet
    network = define(ours, SHAPE, precision="int8").network
    assert trtnet.verify(network, theirs, {"x": smooth_noise(2)}, float64=True).passed


def test_a_table_of_wrong_ranges_is_found(
    resnet: Any, define: Any, ranges: Any, raises: Any
) -> None:
    ours, theirs = resnet
    observing = define(ours, SHAPE, precision="int8").network
    known = ranges(dict.fromkeys(observing.observed, 1e3), observing.weights_sha256)
    network = define(ours, SHAPE, precision="int8", calibration=known).network
    result = trtnet.verify(network, theirs, {"x": smooth_noise(2)})
    assert not result.passed
    assert result.blame is not None
    assert (result.blame.kind, result.first_divergent) == ("quantization", "y")
    with raises(VerificationError, "calibrate", str(INT8_TOLERANCE)):
        result.require()


def test_tolerances_say_so_many_decibels() -> None:
    assert -20 * np.log10(INT8_TOLERANCE.rel_l2) == pytest.approx(25)
    assert -20 * np.log10(FP8_TOLERANCE.rel_l2) == pytest.approx(15)


# Refusals


@pytest.fixture
def fp8(calibrated: Any, residual: Any, images: np.ndarray) -> trtnet.Network:
    return calibrated(residual, images, precision="fp8").network


@pytest.mark.parametrize("capabilities", [("8.6",), ("8.0", "8.9")])
def test_fp8_for_gpus_that_have_none(
    fp8: trtnet.Network, capabilities: tuple[str, ...], raises: Any
) -> None:
    with raises(UnsupportedError, "8.9", "--compute-capability"):
        trtnet.build(fp8, config=trtnet.BuildConfig(compute_capabilities=capabilities))


@pytest.mark.parametrize("capabilities", [("8.9",), ("8.9", "12.0")])
def test_fp8_for_gpus_that_have_it(fp8: trtnet.Network, capabilities: tuple[str, ...]) -> None:
    assert trtnet.build(fp8, config=trtnet.BuildConfig(compute_capabilities=capabilities)).engine


def test_fp8_is_built_for_those_of_the_default_gpus_that_have_it(fp8: trtnet.Network) -> None:
    plan = trtnet.build(fp8)
    built_for = plan.sidecar["compute_capabilities"]
    assert {"8.9", "12.0"} <= set(built_for)
    assert not {"7.5", "8.0", "8.6"} & set(built_for)
    note = choose_gpus(fp8, trtnet.BuildConfig()).note
    assert note == f"fp8: built for compute capability {', '.join(built_for)}; 8.0 and 8.6 lack it"


def test_other_precisions_are_built_for_the_default_gpus(
    calibrated: Any, residual: Any, images: np.ndarray
) -> None:
    made = calibrated(residual, images, precision="int8").network
    assert trtnet.build(made).sidecar["compute_capabilities"] is None
    assert choose_gpus(made, trtnet.BuildConfig()).note is None


def test_bf16_for_gpus_that_have_none(fill: Any, define: Any, raises: Any) -> None:
    """TensorRT refuses it with "HW-specific datatypes: b16", after the work."""
    turing = trtnet.BuildConfig(compute_capabilities=("7.5",))
    network = define(fill(nn.Conv2d(4, 4, 3)), (1, 4, 8, 8), precision="bf16").network
    with raises(UnsupportedError, "BF16", "8.0", "7.5", "--compute-capability"):
        trtnet.build(network, config=turing)
    relu = define(nn.ReLU(), (1, 4), precision="bf16").network  # in float32, as its input is
    assert trtnet.build(relu, config=turing).sidecar["compute_capabilities"] == ["7.5"]


def test_an_fp8_policy_that_quantizes_nothing_needs_no_target(fill: Any, ranges: Any) -> None:
    net = trtnet.Network("rtx", "fp8", calibration=None)
    assert net.quantizer.is_observing
    model = fill(nn.Conv2d(4, 4, 3, groups=4))
    net = trtnet.Network("rtx", Policy("fp8"), calibration=ranges({}))
    net.output("y", model(net.input("x", (1, 4, 8, 8))))
    net.calibration = None  # made for no weights at all
    assert trtnet.build(net).engine


def test_a_build_without_a_calibration(define: Any, residual: Any, raises: Any) -> None:
    network = define(residual, (2, 8, 8, 8), precision="int8").network
    with raises(BuildError, "INT8 needs the ranges of 7 tensors", "calibrat"):
        trtnet.build(network)


def test_the_message_names_the_precision_that_needs_ranges(
    fill: Any, define: Any, raises: Any
) -> None:
    model = fill(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)))
    network = define(model, (1, 4, 8, 8), precision=Policy("fp16", keep={"1": "fp8"})).network
    with raises(BuildError, "FP8 needs the ranges of 1 tensors"):
        trtnet.build(network)


@pytest.mark.parametrize(
    "policy",
    [
        Policy("int8", base="bf16"),
        Policy("int8", base="fp32"),
        Policy("int8", io="fp16"),
        Policy("fp16", keep={"block2": "int8"}),
        Policy("bf16", keep={"block1": "fp32", "fc": "fp16"}),
        Policy("int8-weights", keep={"fc": "fp32"}),
        Policy.preset("mixed"),
    ],
)
def test_mixed_policies_build(
    policy: Policy, calibrated: Any, residual: Any, images: np.ndarray, build: Any
) -> None:
    made = calibrated(residual, images, precision=policy)
    assert build(made.network)
    assert np.isfinite(made.run(images)).all()
    assert made.lint() == []


@pytest.mark.parametrize("base", ["fp16", "bf16"])
def test_deconvolutions_build_in_every_base(
    base: str, calibrated: Any, fill: Any, build: Any
) -> None:
    model = fill(nn.Sequential(nn.ConvTranspose2d(8, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3)))
    x = np.random.default_rng(0).standard_normal((1, 8, 5, 5)).astype(np.float32)
    assert build(calibrated(model, x, precision=Policy("int8", base=base)).network)


def test_dynamic_shapes_get_the_same_pairs(calibrated: Any, residual: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    fixed = calibrated(residual, x, precision="int8")
    dynamic = calibrated(residual, x, ("N", 8, "H", "W"), precision="int8")
    assert [name for name in dynamic.network.observed if "/" not in name] == [
        name for name in fixed.network.observed if "/" not in name
    ]
    assert dynamic.lint() == []
    np.testing.assert_array_equal(dynamic.run(x), fixed.run(x))
