"""YOLOv8 for segmentation, poses and classification: networks against their PyTorch twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from yolo_networks import (
    State,
    define,
    images,
    require_same_boxes,
    run_twin,
    seeded_classifier,
    seeded_model,
    seeded_state,
)

import trtnet
from trtnet import reference, zoo
from trtnet.imaging import prepare

FINDING = ("yolov8n_seg", "yolov8n_pose")
FORMS = [("yolov8n_seg", {}), ("yolov8n_pose", {}), ("yolov8n_pose", {"kpt_shape": (5, 2)})]
LARGER = [("yolov8m_seg", {}), ("yolov8m_pose", {"kpt_shape": (70, 3)})]
SIZE = (96, 128)
OF_BOXES = {"yolov8n_seg": "coefficients", "yolov8n_pose": "points"}
Seeded = tuple[str, dict[str, Any], State]


@pytest.fixture(scope="module", params=FORMS, ids=str)
def seeded(request: pytest.FixtureRequest) -> Seeded:
    """A model, and weights that find boxes in images."""
    name, form = request.param
    return name, form, seeded_state(name, form, SIZE)


def masks_of(outputs: dict[str, np.ndarray], image: int) -> np.ndarray:
    """(K, H, W) bool: the masks of one image in pixels of the input, by PyTorch."""
    coefficients, protos = (torch.from_numpy(outputs[name][image])
                            for name in ("det_coefficients", "prototypes"))  # fmt: skip
    chances = torch.einsum("kp,phw->khw", coefficients, protos).sigmoid()
    large = torch.nn.functional.interpolate(chances[None], scale_factor=4, mode="bilinear")
    return np.asarray(large[0].numpy() > 0.5)


def test_detections_are_those_of_the_twin(seeded: Seeded) -> None:
    name, form, state = seeded
    x = images(2, *SIZE)
    found = reference.run(define(name, state, ("N", 3, "H", "W"), **form).definition, {"input": x})
    expected = run_twin(name, state, x, **form)
    assert found.keys() == expected.keys()
    require_same_boxes(found, expected)
    if "det_points" in found:
        np.testing.assert_allclose(found["det_points"], expected["det_points"], atol=1e-2)
        return
    for image in range(2):
        theirs = masks_of(expected, image)
        assert 0.05 < theirs.mean() < 0.95
        assert np.mean(masks_of(found, image) != theirs) < 1e-4


def test_places_without_a_detection_hold_zeros(seeded: Seeded) -> None:
    """A threshold between the twelfth score and the thirteenth."""
    name, form, state = seeded
    x = images(1, *SIZE)
    scores = run_twin(name, state, x, **form)["det_scores"][0]
    arguments = {**form, "output_format": "rows6", "score_thresh": float(scores[11:13].mean())}
    network = define(name, state, x.shape, **arguments)
    found = reference.run(network.definition, {"input": x})
    expected = run_twin(name, state, x, **arguments)
    further = f"det_{OF_BOXES[name]}"
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found[further], expected[further], atol=1e-2)
    assert found[further][0, :12].any(-1).all()
    assert not found[further][0, 12:].any()


@pytest.mark.parametrize("name", FINDING)
def test_raw_outputs_are_those_of_all_boxes(name: str) -> None:
    state = seeded_model(name).state_dict()
    x, sizes = images(2, 64, 96), np.array([[64, 96], [40, 50]], np.int32)
    arguments = {"image_sizes": True, "output_format": "raw"}
    network = define(name, state, (2, 3, 64, 96), **arguments)
    found = reference.run(network.definition, {"input": x, "image_sizes": sizes})
    expected = run_twin(name, state, x, sizes, **arguments)
    assert {*found} == {"boxes", "scores", OF_BOXES[name]} | (
        {"prototypes"} if name == "yolov8n_seg" else set()
    )
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=1e-2, err_msg=output)
    assert len(found["boxes"][0]) == len(found[OF_BOXES[name]][0]) == 8 * 12 + 4 * 6 + 2 * 3
    assert trtnet.detection.format_of({key: x.shape for key, x in found.items()}) == "raw"


@pytest.mark.parametrize(("name", "form"), [*FORMS, *LARGER], ids=str)
def test_every_module_verifies(name: str, form: dict[str, Any]) -> None:
    twin = seeded_model(name, **form, output_format="raw")
    network = define(name, twin.state_dict(), ("N", 3, "H", "W"), output_format="raw", **form)
    inputs = {"input": images(2, 64, 96)}
    found = trtnet.verify(network, twin, inputs, float64=True)
    assert found.passed, found
    assert max(row.rel_l2 for row in (*found.rows, *found.outputs)) <= 1e-5
    seen = {row.module.split("#")[0] for row in found.rows}
    branches = {f"model.22.cv4.{level}.{layer}" for level in range(3) for layer in range(3)}
    parts = {f"model.22.proto.{part}" for part in ("cv1", "upsample", "cv2", "cv3")}
    assert seen >= branches | (parts if name.endswith("seg") else set())


@pytest.mark.parametrize("name", FINDING)
def test_fp16_keeps_boxes_and_points_in_fp32(name: str) -> None:
    twin = seeded_model(name, output_format="raw")
    network = define(name, twin.state_dict(), (2, 3, 64, 96), "fp16", output_format="raw")
    assert trtnet.verify(network, twin, {"input": images(2, 64, 96)}).passed
    outputs = [network.definition.get_output(i) for i in range(network.definition.num_outputs)]
    assert {output.dtype.name for output in outputs} == {"FLOAT"}


@pytest.mark.parametrize("kpt_shape", [(17,), (0, 3), (17, 4), (17, 1), (17.0, 3)])
def test_numbers_of_keypoints_that_are_none(kpt_shape: Any) -> None:
    with pytest.raises(trtnet.UsageError, match=r"kpt_shape(.|\n)*\(17, 3\) or \(17, 2\)"):
        zoo.get_model("yolov8n_pose", kpt_shape=kpt_shape)


@pytest.mark.parametrize(
    ("precision", "shape"),
    [("fp32", ("N", 3, "H", "W")), ("fp16", ("N", 3, "H", "W")), ("fp16", (1, 3, 96, 128))],
)
@pytest.mark.parametrize("name", FINDING)
def test_an_engine_builds(name: str, precision: str, shape: tuple[Any, ...]) -> None:
    network = define(name, seeded_model(name).state_dict(), shape, precision, image_sizes=True)
    sizes = None
    if shape[0] == "N":
        sizes = {
            "input": trtnet.Shapes(min=(1, 3, 32, 32), opt=(1, 3, 96, 128), max=(2, 3, 192, 192)),
            "image_sizes": trtnet.Shapes(min=(1, 2), opt=(1, 2), max=(2, 2)),
        }
    plan = trtnet.build(network, shapes=sizes) if sizes else trtnet.build(network)
    assert len(plan.engine) > 1_000_000


# Classification


def classifier(name: str, precision: str = "fp32") -> tuple[trtnet.Network, torch.nn.Module]:
    twin = seeded_classifier(name, 7)
    model = zoo.get_model(name, num_classes=7)
    model.load_state_dict({key: value.numpy() for key, value in twin.state_dict().items()})
    network = trtnet.Network("rtx", precision)
    network.output("logits", model(network.input("input", ("N", 3, "H", "W"))))
    return network, twin


@pytest.mark.parametrize("name", ["yolov8n_cls", "yolov8m_cls"])
def test_every_module_of_a_classifier_verifies(name: str) -> None:
    network, twin = classifier(name)
    for height, width in ((64, 96), (70, 50)):
        inputs = {"input": images(2, 80, 96)[..., :height, :width].copy()}
        found = trtnet.verify(network, twin, inputs, float64=True)
        assert found.passed, found
        assert max(row.rel_l2 for row in (*found.rows, *found.outputs)) <= 1e-5
        seen = {row.module for row in found.rows}
        assert seen >= {"model.8.cv2", "model.9.conv", "model.9.linear"}


def test_classifiers_build() -> None:
    sizes = trtnet.Shapes(min=(1, 3, 32, 32), opt=(1, 3, 96, 128), max=(2, 3, 192, 192))
    for precision in ("fp32", "fp16"):
        network, _ = classifier("yolov8n_cls", precision)
        assert len(trtnet.build(network, shapes={"input": sizes}).engine) > 1_000_000


@pytest.mark.parametrize("size", [(300, 500), (431, 224), (101, 99)])
def test_images_of_a_classifier_are_prepared_as_by_torchvision(size: tuple[int, int]) -> None:
    """torchvision's resize of the shorter edge, crop of the centre, and values of 0 to 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(pixels)
    preprocessing = zoo.get_entry("yolov8n_cls").preprocessing
    assert preprocessing is not None
    steps = [transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor()]
    expected = transforms.Compose(steps)(image)[None].numpy()
    np.testing.assert_allclose(prepare(image, preprocessing), expected, atol=1e-6)
