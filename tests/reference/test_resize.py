from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

ROUNDING = {
    "HALF_DOWN": "round_prefer_floor",
    "HALF_UP": "round_prefer_ceil",
    "FLOOR": "floor",
    "CEIL": "ceil",
}


def onnx_resize(x, size, scales, **attributes):
    """The ONNX project's own implementation; it computes positions in float32."""
    which = ["x", "", "scales"] if size is None else ["x", "", "", "sizes"]
    value = (
        helper.make_tensor("scales", TensorProto.FLOAT, [x.ndim], scales)
        if size is None
        else helper.make_tensor("sizes", TensorProto.INT64, [x.ndim], size)
    )
    node = helper.make_node("Resize", which, ["y"], **attributes)
    kind = TensorProto.DOUBLE
    graph = helper.make_graph(
        [node], "resize",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, [None] * x.ndim)],
        [value],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    onnx.checker.check_model(model)
    return ReferenceEvaluator(model).run(None, {"x": x.astype(np.float64)})[0]


def resized(raw, x, mode, transformation, rounding="FLOOR", size=None, scales=None):
    layer = raw.net.add_resize(raw.input(x))
    if size is not None:
        layer.shape = size
    else:
        layer.scales = scales
    layer.resize_mode = getattr(raw.trt.InterpolationMode, mode)
    layer.coordinate_transformation = getattr(
        raw.trt.ResizeCoordinateTransformation, transformation
    )
    layer.nearest_rounding = getattr(raw.trt.ResizeRoundMode, rounding)
    return layer


def test_every_resize_enum_is_tested(rtx):
    trt = rtx.trt
    assert set(trt.InterpolationMode.__members__) == {"NEAREST", "LINEAR", "CUBIC"}
    names = {"ALIGN_CORNERS", "ASYMMETRIC", "HALF_PIXEL"}
    assert set(trt.ResizeCoordinateTransformation.__members__) == names
    assert set(trt.ResizeRoundMode.__members__) == set(ROUNDING)
    assert set(trt.ResizeSelector.__members__) == {"FORMULA", "UPPER"}


CASES = [("NEAREST", rounding) for rounding in ROUNDING] + [("LINEAR", "FLOOR"), ("CUBIC", "FLOOR")]


@pytest.mark.parametrize(("mode", "rounding"), CASES)
@pytest.mark.parametrize("transformation", ["ALIGN_CORNERS", "ASYMMETRIC", "HALF_PIXEL"])
@pytest.mark.parametrize("size", [(2, 3, 9, 4), (2, 3, 3, 13), (2, 3, 10, 12), (2, 3, 5, 1)])
def test_resize_to_a_size(raw, rng, mode, rounding, transformation, size):
    x = rng.standard_normal((2, 3, 5, 6)).astype(np.float32)
    layer = resized(raw, x, mode, transformation, rounding, size)
    expected = onnx_resize(
        x, size, None, mode=mode.lower(), nearest_mode=ROUNDING[rounding],
        coordinate_transformation_mode=transformation.lower(), cubic_coeff_a=-0.75,
    )  # fmt: skip
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mode", "rounding"), CASES)
@pytest.mark.parametrize("transformation", ["ASYMMETRIC", "HALF_PIXEL"])
def test_resize_by_scales(raw, rng, mode, rounding, transformation):
    x = rng.standard_normal((1, 2, 5, 8)).astype(np.float32)
    scales = (1, 1, 2.5, 0.625)
    layer = resized(raw, x, mode, transformation, rounding, scales=scales)
    expected = onnx_resize(
        x, None, scales, mode=mode.lower(), nearest_mode=ROUNDING[rounding],
        coordinate_transformation_mode=transformation.lower(), cubic_coeff_a=-0.75,
    )  # fmt: skip
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("coefficient", [-0.5, -0.75])
def test_cubic_that_excludes_what_is_outside(raw, rng, coefficient):
    x = rng.standard_normal((1, 2, 5, 6)).astype(np.float32)
    layer = resized(raw, x, "CUBIC", "HALF_PIXEL", size=(1, 2, 8, 9))
    layer.exclude_outside, layer.cubic_coeff = True, coefficient
    expected = onnx_resize(
        x, (1, 2, 8, 9), None, mode="cubic", coordinate_transformation_mode="half_pixel",
        cubic_coeff_a=coefficient, exclude_outside=1,
    )  # fmt: skip
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "transformation", "name", "align"),
    [
        ("NEAREST", "ASYMMETRIC", "nearest", None),
        ("LINEAR", "HALF_PIXEL", "bilinear", False),
        ("LINEAR", "ALIGN_CORNERS", "bilinear", True),
        ("CUBIC", "HALF_PIXEL", "bicubic", False),
        ("CUBIC", "ALIGN_CORNERS", "bicubic", True),
    ],
)
@pytest.mark.parametrize("size", [(14, 7), (3, 20), (21, 1), (1, 49)])
def test_resize_is_pytorch_interpolate(raw, rng, mode, transformation, name, align, size):
    x = rng.standard_normal((2, 3, 7, 5)).astype(np.float32)
    layer = resized(raw, x, mode, transformation, size=(2, 3, *size))
    expected = F.interpolate(torch.from_numpy(x).double(), size, mode=name, align_corners=align)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-10, atol=1e-11)


def test_resize_of_three_axes_by_a_dynamic_size(raw, rng):
    x = rng.standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    other = np.zeros((2, 3, 7, 3, 9), np.float32)
    source, target = raw.input(x, (0, 2, 3, 4)), raw.input(other, (2, 3, 4))
    layer = raw.net.add_resize(source)
    layer.set_input(1, raw.net.add_shape(target).get_output(0))
    layer.resize_mode = raw.trt.InterpolationMode.LINEAR
    layer.coordinate_transformation = raw.trt.ResizeCoordinateTransformation.HALF_PIXEL
    expected = F.interpolate(torch.from_numpy(x).double(), (7, 3, 9), mode="trilinear")
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("selector", "source"), [("FORMULA", 3), ("UPPER", 0)])
def test_single_pixel_selector(raw, selector, source):
    x = np.arange(7, dtype=np.float32).reshape(1, 1, 7, 1)
    layer = resized(raw, x, "NEAREST", "HALF_PIXEL", size=(1, 1, 1, 1))
    layer.selector_for_single_pixel = getattr(raw.trt.ResizeSelector, selector)
    assert raw.run(layer)[0].item() == source


@pytest.mark.parametrize("mode", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize(
    ("sample", "padding"), [("FILL", "zeros"), ("CLAMP", "border"), ("REFLECT", "reflection")]
)
@pytest.mark.parametrize("align", [True, False])
def test_grid_sample(raw, rng, mode, sample, padding, align):
    x = rng.standard_normal((2, 3, 5, 6)).astype(np.float32)
    grid = rng.uniform(-1.4, 1.4, (2, 4, 7, 2)).astype(np.float32)
    layer = raw.net.add_grid_sample(raw.input(x), raw.input(grid))
    layer.interpolation_mode = getattr(raw.trt.InterpolationMode, mode)
    layer.sample_mode = getattr(raw.trt.SampleMode, sample)
    layer.align_corners = align
    name = {"NEAREST": "nearest", "LINEAR": "bilinear", "CUBIC": "bicubic"}[mode]
    expected = F.grid_sample(
        torch.from_numpy(x).double(), torch.from_numpy(grid).double(), name, padding, align
    )
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-13)
