"""The steps around an engine, with a double of Triton's backend; the server itself is in
tests/integration."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet.serving.triton import Settings, export
from trtnet.serving.triton.image_steps import PaintClasses, PlaceBoxes, PrepareImages

Image = pytest.importorskip("PIL.Image")
torch = pytest.importorskip("torch")


def opened(step: Any, folder: Path, inputs: list[str], outputs: dict[str, list[int]]) -> Any:
    config = {
        "max_batch_size": 8,
        "input": [{"name": name, "dims": [1]} for name in inputs],
        "output": [{"name": name, "dims": dims} for name, dims in outputs.items()],
    }
    step.initialize({
        "model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1",
        "model_name": folder.name, "model_instance_kind": "CPU", "model_instance_device_id": "0",
    })  # fmt: skip
    return step


def config_of(folder: Path) -> dict[str, list[int]]:
    """The outputs of a model, by name, with their sizes."""
    text = (folder / "config.pbtxt").read_text()
    found = re.findall(r'output \{\s+name: "(\w+)"\s+data_type: \w+\s+((?:dims: \d+\s+)+)\}', text)
    return {name: [int(size) for size in re.findall(r"\d+", dims)] for name, dims in found}


def encoded(*sizes: tuple[int, int]) -> np.ndarray:
    """Pictures (width, height) of one colour."""
    found = np.empty((len(sizes), 1), object)
    for place, size in enumerate(sizes):
        file = io.BytesIO()
        Image.new("RGB", size, (255, 0, 51)).save(file, "PNG")
        found[place, 0] = file.getvalue()
    return found


def detector(free: bool) -> trtnet.Plan:
    """One box for each image, in inputs of one size or of several."""
    net = trtnet.Network(backend="torch")
    edges = ("H", "W") if free else (8, 8)
    images = net.input("input", ("N", 3, *edges))
    net.input("image_sizes", ("N", 2), dtype="int32")
    level = images.mean((1, 2, 3)).reshape(-1, 1, 1)
    corners = level * 0.0 + net.constant(np.float32([[[2, 2, 6, 4]]]))
    net.output("detections", trtnet.cat([corners, level, level * 0.0 + 1.0], 2))
    low, high = ((4, 4), (64, 64)) if free else ((8, 8), (8, 8))
    profile = {
        "input": trtnet.Shapes((1, 3, *low), (1, 3, *low), (8, 3, *high)),
        "image_sizes": trtnet.Shapes((1, 2), (1, 2), (8, 2)),
    }
    rules = {"resize_size": [4]} if free else {"letterbox_size": 8, "pad_position": "top-left"}
    return trtnet.build(net, profile, sidecar={"preprocessing": rules, "class_names": ["a", "b"]})


def test_images_become_inputs_with_their_places(tmp_path: Path, backend: Any) -> None:
    export(detector(free=False), tmp_path, Settings("net", ensemble=True))
    assert "model_warmup" not in (tmp_path / "net" / "config.pbtxt").read_text()
    step = opened(PrepareImages(), tmp_path / "net_prepare", ["image"], {})
    names = ["input", "image_sizes", "placement"]
    (response,) = step.execute([backend.Request(names, image=encoded((16, 8), (8, 8)))])
    arrays = response.arrays
    assert arrays["input"].shape == (2, 3, 8, 8)
    np.testing.assert_allclose(arrays["input"][0, :, 0, 0], [1, 0, 0.2], atol=1e-6)
    assert arrays["image_sizes"].tolist() == [[4, 8], [8, 8]]
    assert arrays["placement"].tolist()[0] == [8, 16, 4, 8, 0, 0, 8, 8]
    answer = opened(PlaceBoxes(), tmp_path / "net_answer", ["detections", "placement"],
                    {"scores": [1]})  # fmt: skip
    rows = np.float32([[[2, 2, 6, 4, 0.5, 1]], [[0, 0, 0, 0, 0, -1]]])
    given = backend.Request(["num_dets", "boxes", "class_names"], detections=rows,
                            placement=arrays["placement"])  # fmt: skip
    (response,) = answer.execute([given])
    assert response.arrays["num_dets"].tolist() == [[1], [0]]
    assert response.arrays["boxes"].tolist() == [[[4, 4, 12, 8]], [[0, 0, 0, 0]]]
    assert response.arrays["class_names"].tolist() == [[b"b"], [b""]]


def described(**further: np.ndarray) -> trtnet.Plan:
    """A detector of two boxes, with further outputs of one image each."""
    net = trtnet.Network(backend="torch")
    zero = net.input("input", ("N", 3, 8, 8)).mean((1, 2, 3)) * 0.0
    rows = np.float32([[[2, 2, 6, 4, 0.5, 1], [0, 0, 8, 4, 0.9, 0]]])
    for name, values in {"detections": rows, **further}.items():
        shape = (-1, *[1] * (values.ndim - 1))
        net.output(name, zero.reshape(*shape) + net.constant(values))
    shapes = {"input": trtnet.Shapes((1, 3, 8, 8), (1, 3, 8, 8), (8, 3, 8, 8))}
    rules = {"letterbox_size": 8, "pad_position": "top-left"}
    about = {"preprocessing": rules, "class_names": ["a", "b"]}
    return trtnet.build(net, shapes, sidecar=about)


RNG = np.random.default_rng(0)
FURTHER: dict[str, dict[str, np.ndarray]] = {
    "squares": {"det_masks": RNG.random((1, 2, 28, 28), np.float32)},
    "prototypes": {
        "det_coefficients": RNG.normal(size=(1, 2, 4)).astype(np.float32),
        "prototypes": RNG.normal(size=(1, 4, 4, 4)).astype(np.float32),
    },
    "points": {
        "det_points": np.float32([[[[3, 3, 0.9], [5, 2, 0.1]], [[0, 0, 0.5], [8, 4, 0.2]]]])
    },
    "heatmaps": {"det_keypoints": RNG.random((1, 2, 3, 56, 56), np.float32)},
}


@pytest.mark.parametrize("kind", FURTHER)
def test_masks_and_keypoints_are_those_of_the_detector(
    kind: str, tmp_path: Path, backend: Any
) -> None:
    plan = described(**FURTHER[kind])
    export(plan, tmp_path, Settings("net", ensemble=True))
    dims = config_of(tmp_path / "net_answer")
    step = opened(PlaceBoxes(), tmp_path / "net_answer",
                  ["detections", *FURTHER[kind], "placement"], dims)  # fmt: skip
    picture = Image.new("RGB", (16, 8), (255, 0, 51))
    with trtnet.Session(plan, device="cpu") as session:
        outputs = session(np.zeros((1, 3, 8, 8), np.float32))
        wanted = trtnet.Detector(session, score_threshold=0.0)(picture)
    placement = np.int32([[8, 16, 4, 8, 0, 0, 8, 8]])
    (response,) = step.execute([backend.Request(list(dims), placement=placement, **outputs)])
    assert response.error is None
    assert response.arrays["num_dets"].tolist() == [[2]]
    np.testing.assert_allclose(response.arrays["boxes"][0], wanted.boxes, rtol=1e-6)
    assert ("masks" in dims, "keypoints" in dims) == (
        wanted.has_masks,
        wanted.keypoints is not None,
    )
    if wanted.keypoints is not None:
        assert dims["keypoints"] == [2, *wanted.keypoints.shape[1:]]
        got = response.arrays["keypoints"][0]
        np.testing.assert_allclose(got, wanted.keypoints, rtol=1e-6)
    if kind == "points":  # in an image twice as large as the input's part, by hand
        assert got[1].tolist() == [[6, 6, np.float32(0.9)], [10, 4, np.float32(0.1)]]
    if wanted.has_masks:
        for place, content in enumerate(response.arrays["masks"][0]):
            mask = np.asarray(Image.open(io.BytesIO(content)))
            np.testing.assert_array_equal(mask, 255 * wanted.mask(place).astype(np.uint8))
            assert 0 < (mask > 0).mean() < 1


def test_places_without_an_object_have_no_mask(tmp_path: Path, backend: Any) -> None:
    further = {"det_masks": np.ones((1, 2, 28, 28), np.float32)}
    export(described(**further), tmp_path, Settings("net", ensemble=True))
    dims = config_of(tmp_path / "net_answer")
    step = opened(PlaceBoxes(), tmp_path / "net_answer", ["detections", "det_masks", "placement"],
                  dims)  # fmt: skip
    rows = np.float32([[[2, 1, 6, 3, 0.5, 1], [0, 0, 0, 0, 0, -1]]])
    placement = np.int32([[8, 16, 4, 8, 0, 0, 8, 8]])
    given = backend.Request(list(dims), detections=rows, placement=placement, **further)
    (response,) = step.execute([given])
    first, second = response.arrays["masks"][0]
    assert second == b""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    boxes = torch.tensor([[4.0, 2.0, 12.0, 6.0]])
    wanted = paste_masks_in_image(torch.ones(1, 1, 28, 28), boxes, (8, 16))[0, 0] > 0.5
    assert (np.asarray(Image.open(io.BytesIO(first))) == 255 * wanted.numpy()).all()


def test_images_of_several_sizes_are_several_requests(tmp_path: Path, backend: Any) -> None:
    export(detector(free=True), tmp_path, Settings("net", ensemble=True))
    step = opened(PrepareImages(), tmp_path / "net_prepare", ["image"], {})
    sizes = [((8, 8), (16, 16)), ((16, 8),), ((8, 8), (16, 8))]
    requests = [backend.Request(["input"], image=encoded(*each)) for each in sizes]
    same, wide, mixed = step.execute(requests)
    assert same.arrays["input"].shape == (2, 3, 4, 4)
    assert wide.arrays["input"].shape == (1, 3, 4, 8)
    assert "inputs of different sizes" in mixed.error


def test_an_engine_may_take_levels_and_normalise_them_itself(tmp_path: Path, backend: Any) -> None:
    net = trtnet.Network(backend="torch")
    levels = net.input("input", ("N", 3, 8, 8), dtype="uint8").to(trtnet.float32)
    net.output("scores", (levels / 255.0 - 0.5).mean((2, 3)))
    shapes = {"input": trtnet.Shapes((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))}
    raw = {"resize_size": [8, 8], "scale": 1}
    built = trtnet.build(net, shapes, sidecar={"preprocessing": raw})
    export(built, tmp_path, Settings("net", ensemble=True))
    assert "TYPE_UINT8" in (tmp_path / "net_prepare" / "config.pbtxt").read_text()
    step = opened(PrepareImages(), tmp_path / "net_prepare", ["image"], {})
    (response,) = step.execute([backend.Request(["input"], image=encoded((16, 8)))])
    values = response.arrays["input"]
    assert values.dtype == np.uint8
    with trtnet.Session(built, device="cpu") as session:
        np.testing.assert_allclose(session(values)["scores"], [[0.5, -0.5, -0.3]], atol=1e-6)
    for changes in ({"scale": "1/255"}, {"mean": 3}, {"std": 2}):
        about = {**built.sidecar, "preprocessing": {**raw, **changes}}
        with pytest.raises(trtnet.UsageError, match="normalises them itself"):
            export(trtnet.Plan(built.engine, about), tmp_path / "r", Settings("n", ensemble=True))


def test_a_pixel_without_a_class_is_an_error(
    tmp_path: Path, backend: Any, plan: Callable[..., trtnet.Plan]
) -> None:
    export(plan(), tmp_path, Settings("means", ensemble=True))
    step = opened(PaintClasses(), tmp_path / "means_answer", ["classes", "placement"],
                  {"mask": [1], "shares": [3]})  # fmt: skip
    places = np.int32([[2, 2, 2, 2, 0, 0, 2, 2]])
    good, wrong = step.execute([
        backend.Request(["shares"], classes=np.int32([[[0, 1], [2, most]]]), placement=places)
        for most in (2, 3)
    ])  # fmt: skip
    assert good.arrays["shares"].tolist() == [[0.25, 0.25, 0.5]]
    assert "a pixel has no class" in wrong.error
