"""The YOLO lines: networks against their PyTorch twins, whose suppression is torchvision's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from yolo_networks import (
    COUNT,
    State,
    define,
    images,
    require_same_boxes,
    run_twin,
    seeded_model,
    seeded_state,
)

import trtnet
from trtnet import reference, zoo
from trtnet.imaging import prepare

SMALLEST = ("yolov8n", "yolo11n", "yolo26n", "yolov9t", "yolov7")
FORMS = [*((name, {}) for name in SMALLEST), ("yolo26n", {"end2end": False})]
LARGER = [("yolo11m", {}), ("yolo26m", {}), ("yolov9c", {})]
SIZES = [(96, 128), (160, 96)]
DFL = {"yolov8n": "model.22.dfl.conv.weight", "yolov9t": "22.heads.1.anc2vec.anc2vec.weight"}
Seeded = tuple[str, dict[str, Any], tuple[int, int], State]


@pytest.fixture(scope="module", params=[(*form, size) for form in FORMS for size in SIZES], ids=str)
def seeded(request: pytest.FixtureRequest) -> Seeded:
    """A model, a size, and weights that find boxes in images of it."""
    name, form, size = request.param
    return name, form, size, seeded_state(name, form, size)


def test_detections_are_those_of_the_twin(seeded: Seeded) -> None:
    name, form, size, state = seeded
    x = images(2, *size)
    found = reference.run(define(name, state, ("N", 3, "H", "W"), **form).definition, {"input": x})
    expected = run_twin(name, state, x, **form)
    require_same_boxes(found, expected)


@pytest.mark.parametrize("name", SMALLEST)
def test_boxes_end_where_their_image_ends(name: str) -> None:
    state = seeded_model(name).state_dict()
    x, sizes = images(2, 96, 128), np.array([[96, 128], [56, 78]], np.int32)
    arguments = {"image_sizes": True, "output_format": "raw"}
    network = define(name, state, (2, 3, 96, 128), **arguments)
    found = reference.run(network.definition, {"input": x, "image_sizes": sizes})
    expected = run_twin(name, state, x, sizes, **arguments)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    assert (found["boxes"] <= sizes[:, None, [1, 0, 1, 0]]).all()
    assert (found["boxes"][..., 3] == sizes[:, None, 0]).any()


def test_rows_of_six(seeded: Seeded) -> None:
    """A threshold between the twelfth score and the thirteenth: more places than boxes."""
    name, form, size, state = seeded
    x = images(1, *size)
    scores = run_twin(name, state, x, **form)["det_scores"][0]
    threshold = float(scores[11:13].mean())
    arguments = {**form, "output_format": "rows6", "score_thresh": threshold}
    network = define(name, state, x.shape, **arguments)
    (found,) = reference.run(network.definition, {"input": x}).values()
    (expected,) = run_twin(name, state, x, **arguments).values()
    assert found.shape == expected.shape == (1, COUNT, 6)
    assert ((expected[..., 5] >= 0).sum(1) == 12).all()
    np.testing.assert_allclose(found, expected, atol=1e-2)


# Modules


@pytest.mark.parametrize(("name", "form"), [*FORMS, *LARGER], ids=str)
def test_every_module_verifies(name: str, form: dict[str, Any]) -> None:
    """Larger sizes have blocks that the smallest ones lack."""
    twin = seeded_model(name, **form, output_format="raw")
    network = define(name, twin.state_dict(), ("N", 3, "H", "W"), output_format="raw", **form)
    inputs = {"input": images(2, 64, 96)}
    found = trtnet.verify(network, twin, inputs, float64=True)
    assert found.passed, found
    assert max(row.rel_l2 for row in found.rows) <= 1e-5
    called, hooks = set(), []
    for path, module in twin.named_modules():
        if hasattr(module, "conv"):
            hooks.append(module.register_forward_hook(lambda *_, path=path: called.add(path)))
    twin.double()(torch.from_numpy(inputs["input"]).double())
    seen = {row.module.split("#")[0] for row in found.rows}
    assert len(called) > 50
    assert called <= seen


@pytest.mark.parametrize("name", SMALLEST)
def test_fp16_verifies(name: str) -> None:
    twin = seeded_model(name, output_format="raw")
    network = define(name, twin.state_dict(), (2, 3, 64, 96), "fp16", output_format="raw")
    assert trtnet.verify(network, twin, {"input": images(2, 64, 96)}).passed


@pytest.mark.parametrize(("name", "key"), DFL.items())
def test_the_weights_of_the_dfl_count(name: str, key: str) -> None:
    """They are a constant of the checkpoint; with others the boxes are others."""
    state = {**seeded_model(name, output_format="raw").state_dict()}
    state[key] = torch.linspace(3, 7, 16).reshape(state[key].shape)
    x = images(1, 64, 64)
    network = define(name, state, x.shape, output_format="raw")
    found = reference.run(network.definition, {"input": x})
    expected = run_twin(name, state, x, output_format="raw")
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


# Images and engines


@pytest.mark.parametrize("name", ["yolov8n", "yolov9t"])
def test_images_are_prepared_as_published(name: str) -> None:
    """RGB of 0 to 1 in the middle of a letterbox of grey 114."""
    image = Image.fromarray(np.full((160, 320, 3), [200, 20, 7], np.uint8))
    preprocessing = zoo.get_entry(name).preprocessing
    assert preprocessing is not None
    expected = np.full((1, 3, 640, 640), 114, np.float32)
    expected[0, :, 160:480] = np.array([200, 20, 7])[:, None, None]
    np.testing.assert_allclose(prepare(image, preprocessing), expected / 255, rtol=1e-6)


@pytest.mark.parametrize("name", SMALLEST)
def test_sizes_that_are_no_multiples_of_32_are_refused(name: str) -> None:
    network = trtnet.Network("rtx")
    with pytest.raises(trtnet.ShapeError, match="multiples of 32"):
        zoo.get_model(name)(network.input("input", (1, 3, 100, 128)))


@pytest.mark.parametrize("shape", [(1, 3, 96, 128), ("N", 3, "H", "W")])
@pytest.mark.parametrize(("name", "precision"), [
    ("yolov8n", "fp32"), ("yolov8n", "fp16"), ("yolo11n", "fp16"), ("yolo26n", "fp16"),
    ("yolov9t", "fp16"), ("yolo11m", "fp16"), ("yolov7", "fp16"),
])  # fmt: skip
def test_an_engine_builds(name: str, precision: str, shape: tuple[Any, ...]) -> None:
    state = seeded_model(name).state_dict()
    network = define(name, state, shape, precision, image_sizes=True)
    sizes = None
    if shape[0] == "N":
        sizes = {
            "input": trtnet.Shapes(min=(1, 3, 32, 32), opt=(1, 3, 96, 128), max=(2, 3, 192, 192)),
            "image_sizes": trtnet.Shapes(min=(1, 2), opt=(1, 2), max=(2, 2)),
        }
    plan = trtnet.build(network, shapes=sizes) if sizes else trtnet.build(network)
    assert len(plan.engine) > 1_000_000
