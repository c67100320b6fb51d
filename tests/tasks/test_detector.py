"""``trtnet.Detector``, against boxes that NumPy computes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.tasks import Detection, Failure

DATA = Path(__file__).parents[1] / "data" / "detection"
NAMES = ["red", "green", "blue"]
NEAREST = {"interpolation": "nearest", "scale": "1/255"}
LETTERBOX = {"letterbox_size": [64, 64], **NEAREST}
FORMATS = ["efficientnms", "rows6"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("cells.py").write_bytes((DATA / "cells.py").read_bytes())
    return tmp_path


def cells(output_format: str = "efficientnms", batch: int = 1, **about: Any) -> trtnet.Plan:
    """An engine of the detector in tests/data/detection/cells.py."""
    net = trtnet.Network(backend="torch")
    module = trtnet.zoo.get_model("cells.py:make", output_format=output_format)
    for name, value in module(net.input("input", (batch, 3, 64, 64))).items():
        net.output(name, value)
    return trtnet.build(net, sidecar={"preprocessing": LETTERBOX, "class_names": NAMES, **about})


def fixed(outputs: Mapping[str, Any], shape: Sequence[int] = (1, 3, 64, 64)) -> trtnet.Plan:
    """An engine that gives `outputs`, whatever it sees."""
    net = trtnet.Network(backend="torch")
    zero = (net.input("input", tuple(shape)) * 0.0).sum()
    for name, value in outputs.items():
        constant = net.constant(np.asarray(value)[None])
        none = zero if constant.dtype == trtnet.float32 else zero.int()
        net.output(name, constant + none)
    return trtnet.build(net, sidecar={"preprocessing": LETTERBOX, "class_names": NAMES})


def rows(*found: Sequence[float]) -> dict[str, np.ndarray]:
    return {"detections": np.array(found, np.float32).reshape(-1, 6)}


def detector(model: Any = None, **options: Any) -> trtnet.Detector:
    return trtnet.Detector(cells() if model is None else model, device="cpu", **options)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of one colour each, larger than the pixels of the network's input."""
    shape = (-(-height // 25), -(-width // 25), 3)
    levels = np.linspace(0, 255, np.prod(shape)).astype(np.uint8)  # as different as possible
    small = np.random.default_rng(seed).permutation(levels).reshape(shape)
    return np.ascontiguousarray(small.repeat(25, 0).repeat(25, 1)[:height, :width])


def by_hand(
    pixels: np.ndarray, resized: tuple[int, int], offset: tuple[int, int], threshold: float = 0.25
) -> list[tuple[int, float, list[float]]]:
    """(class, score, box) of the cells of an image that lies in an input of 64 by 64 pixels, the
    best ten above the `threshold`; boxes in the image, those outside left out."""
    height, width = pixels.shape[:2]
    values = np.full((64, 64, 3), 114.0)
    small = Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.NEAREST)
    top, left = offset
    values[top : top + resized[0], left : left + resized[1]] = np.asarray(small)
    found = []
    for row in range(8):
        for column in range(8):
            y, x = 8 * row, 8 * column
            for label in range(3):
                score = values[y : y + 8, x : x + 8, label].mean() / 255
                corners = [
                    (x - left) * width / resized[1],
                    (y - top) * height / resized[0],
                    (x + 8 - left) * width / resized[1],
                    (y + 8 - top) * height / resized[0],
                ]
                found.append((label, score, corners))
    found = [one for one in found if one[1] > threshold]
    found = sorted(found, key=lambda one: (-one[1], one[0]))[:10]  # lower classes first
    clipped = [
        (label, score, [min(max(corner, 0), size) for corner, size in
                        zip(corners, (width, height) * 2, strict=True)])
        for label, score, corners in found
    ]  # fmt: skip
    return [one for one in clipped if one[2][0] < one[2][2] and one[2][1] < one[2][3]]


def require_same(result: Detection, wanted: list[tuple[int, float, list[float]]]) -> None:
    assert len(wanted) > 3
    assert result.classes.tolist() == [label for label, _, _ in wanted]
    assert result.names == tuple(NAMES[label] for label, _, _ in wanted)
    np.testing.assert_allclose(result.scores, [score for _, score, _ in wanted], atol=1e-6)
    np.testing.assert_allclose(result.boxes, [box for _, _, box in wanted], atol=1e-9)


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(
    ("size", "changes", "resized", "offset"),
    [
        ((64, 64), {}, (64, 64), (0, 0)),
        ((320, 640), {}, (32, 64), (16, 0)),
        ((320, 640), {"pad_position": "top-left"}, (32, 64), (0, 0)),
        ((101, 75), {}, (64, 48), (0, 8)),  # 75 * 64 / 101 is 47.5
        ((75, 101), {}, (48, 64), (8, 0)),
        ((30, 40), {"upscale": False}, (30, 40), (17, 12)),
        ((31, 41), {"upscale": False}, (31, 41), (16, 11)),
    ],
)
def test_a_letterbox_is_undone(
    output_format: str, size: tuple[int, int], changes: dict[str, Any], resized: tuple[int, int],
    offset: tuple[int, int],
) -> None:  # fmt: skip
    pixels = noise(*size)
    plan = cells(output_format, preprocessing={**LETTERBOX, **changes})
    with detector(plan) as detect:
        result = detect(pixels)
    assert (result.height, result.width) == size
    require_same(result, by_hand(pixels, resized, offset))
    assert result.boxes.dtype == np.float64


def test_a_resize_is_undone() -> None:
    """Of an image in other proportions, each axis by its own ratio."""
    pixels = noise(77, 200)
    with detector(cells(preprocessing={"resize_size": [64, 64], **NEAREST})) as detect:
        require_same(detect(pixels), by_hand(pixels, (64, 64), (0, 0)))


def test_nothing_is_cropped() -> None:
    pixels = noise(128, 256)
    about = {"resize_size": [64, 64], "crop_size": [32, 32], **NEAREST}
    with detector(cells(preprocessing=about)) as detect:
        require_same(detect(pixels), by_hand(pixels, (64, 64), (0, 0)))


def test_one_box() -> None:
    net = fixed(rows([10, 20, 30, 60, 0.9, 1], [0, 0, 0, 0, 0, -1]))
    with detector(net) as detect:
        result = detect(np.zeros((32, 64, 3), np.uint8))
    (one,) = result.objects
    assert (one.index, one.name, one.score, one.box) == (1, "green", 0.9, (10, 4, 30, 32))
    assert str(one) == "green 0.90 (10, 4, 30, 32)"
    assert str(result) == "green 0.90 (10, 4, 30, 32)"
    assert result.as_dicts() == [
        {"class": 1, "name": "green", "score": 0.9, "box": [10, 4, 30, 32]}
    ]
    assert result.path is None
    assert result.seconds > 0


def test_classes_without_names_are_numbers() -> None:
    with detector(fixed(rows([0, 20, 30, 60, 0.9, 7]))) as detect:
        assert detect(np.zeros((64, 64, 3), np.uint8)).names == ("class 7",)
    with detector(cells(class_names=None)) as detect:
        assert detect(noise(64, 64)).names[0].startswith("class ")


def test_names_are_not_counted_against_places() -> None:
    """There are ten places, and 28 rows of a mask."""
    outputs = {
        "num_dets": np.int32([1]), "det_boxes": np.float32([[0, 0, 8, 8]] * 4),
        "det_scores": np.float32([0.5] * 4), "det_classes": np.int32([1] * 4),
        "det_masks": np.zeros((4, 28, 28), np.float32),
    }  # fmt: skip
    with detector(fixed(outputs), class_names=["a", "b", "c", "d", "e"]) as detect:
        assert detect(np.zeros((64, 64, 3), np.uint8)).names == ("b",)


def four(count: int, *scores: float) -> dict[str, np.ndarray]:
    """Outputs of the format efficientnms with a place for each score, `count` of them taken."""
    places = len(scores)
    return {
        "num_dets": np.int32([count]), "det_boxes": np.float32([[0, 0, 9, 9]] * places),
        "det_scores": np.float32(scores), "det_classes": np.zeros(places, np.int32),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "threshold", "limit"),
    [
        (rows([0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.7, 1]), 0.0, 2),
        (rows([0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.7, 1]), 0.7, 2),
        (rows([0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.7, 1]), 0.8, None),  # others are lower still
        (rows([0, 0, 9, 9, 0.9, 0], [0, 0, 0, 0, 0.0, -1]), 0.0, None),
        (rows([-9, -9, -1, -1, 0.9, 0], [0, 0, 9, 9, 0.7, 1]), 0.0, 2),  # one lies outside
        (four(3, 0.9, 0.8, 0.7), 0.3, 3),
        (four(2, 0.9, 0.8, 0.0), 0.3, None),
        (four(0, 0.0, 0.0), 0.0, None),
    ],
)
def test_the_limit_of_detections(
    outputs: dict[str, np.ndarray], threshold: float, limit: int | None
) -> None:
    with detector(fixed(outputs), score_threshold=threshold) as detect:
        assert detect(np.zeros((64, 64, 3), np.uint8)).limit == limit


def test_the_threshold_for_scores() -> None:
    found = rows([0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.7, 1], [0, 0, 9, 9, 0.1, 2])
    image = np.zeros((64, 64, 3), np.uint8)
    for threshold, count in ((0, 3), (0.1, 3), (0.7, 2), (0.70001, 1), (1, 0), (1.0, 0)):
        with detector(fixed(found), score_threshold=threshold) as detect:
            assert len(detect(image).scores) == count
    for wrong in (-0.1, 1.1, float("nan"), "0.5", None, True):
        with pytest.raises(trtnet.UsageError, match="score_threshold is a fraction"):
            detector(fixed(found), score_threshold=wrong)


@pytest.mark.parametrize("output_format", FORMATS)
def test_an_image_without_detections(output_format: str) -> None:
    with detector(cells(output_format)) as detect:
        result = detect(np.zeros((64, 64, 3), np.uint8))
    assert result.boxes.shape == (0, 4)
    assert len(result.scores) == len(result.classes) == len(result.names) == 0
    assert result.objects == ()
    assert str(result) == "nothing found"
    assert result.coco_results(3) == []
    assert np.array_equal(np.asarray(result.picture()), np.zeros((64, 64, 3)))


def test_what_has_no_area_in_the_image_and_scores_that_are_nan() -> None:
    """The image has the rows 16 to 47 of the input."""
    nan = float("nan")
    found = rows(
        [10, 20, 30, 30, nan, 0],
        [10, 20, 10, 30, 0.9, 0],  # none in the network's input either
        [10, 20, 30, 20, 0.9, 0],
        [30, 20, 10, 30, 0.9, 0],
        [10, 0, 30, 16, 0.9, 0],  # in the letterbox's border
        [-9, 20, 0, 30, 0.9, 0],
        [10, 0, 30, 17, 0.8, 1],
    )
    with detector(fixed(found)) as detect:
        result = detect(np.zeros((32, 64, 3), np.uint8))
    assert result.boxes.tolist() == [[10, 0, 30, 1]]
    assert result.names == ("green",)


def test_detections_come_best_first() -> None:
    found = rows([0, 0, 1, 9, 0.2, 0], [0, 0, 2, 9, 0.9, 0], [0, 0, 3, 9, 0.9, 0])
    with detector(fixed(found)) as detect:
        assert detect(np.zeros((64, 64, 3), np.uint8)).boxes[:, 2].tolist() == [2, 3, 1]


def test_suppression_that_has_not_converged_fails_for_its_image_only() -> None:
    """Of a batch of four, the bright one."""
    net = trtnet.Network(backend="torch")
    bright = net.input("input", (4, 3, 64, 64)).mean((1, 2, 3), keepdim=True).reshape(4, 1, 1)
    row = net.constant(np.tile(np.float32([0, 0, 8, 8, 0.5, 2]), (4, 1, 1)))
    net.output("detections", row + trtnet.where(bright > 0.5, float("nan"), 0.0))
    plan = trtnet.build(net, sidecar={"preprocessing": LETTERBOX})
    levels = [0, 255, 10, 20, 255, 30]
    images = [np.full((64, 64, 3), level, np.uint8) for level in levels]
    with detector(plan) as detect:
        found = list(detect.stream(images))
        with pytest.raises(trtnet.ExecutionError, match=r"^image 1(.|\n)*more rounds"):
            detect(images)
    for level, result in zip(levels, found, strict=True):
        assert isinstance(result, Failure if level == 255 else Detection)


def test_a_box_that_is_not_finite_fails() -> None:
    with detector(fixed(rows([0, 0, float("inf"), 1, 0.5, 0]))) as detect:
        (found,) = detect.stream([noise(64, 64)])
    assert isinstance(found, Failure)
    assert "a box is not finite" in str(found)
    assert "trtnet verify" in str(found)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"boxes": np.zeros((9, 4), np.float32), "scores": np.zeros((9, 3), np.float32)},
         r"before suppression(.|\n)*--output-format efficientnms"),
        ({"scores": np.zeros(3, np.float32)}, r"no detections(.|\n)*num_dets \(B, 1\)(.|\n)*got"),
        ({"output0": np.zeros((9, 6), np.float32)}, r"no detections(.|\n)*detections \(B, K, 6\)"),
        ({"detections": np.zeros((9, 85), np.float32)}, "no detections"),
    ],
)  # fmt: skip
def test_other_engines_are_refused(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(trtnet.UsageError, match=message):
        detector(fixed(outputs))


def test_a_raw_engine_has_as_many_names_as_classes() -> None:
    raw = {"boxes": np.zeros((9, 4), np.float32), "scores": np.zeros((9, 4), np.float32)}
    from trtnet.pipeline.preprocessing import require_one_name_per_class

    outputs = fixed(raw).sidecar["outputs"]
    with pytest.raises(trtnet.UsageError, match="3 class names for 4 classes"):
        require_one_name_per_class(NAMES, outputs)
    require_one_name_per_class([*NAMES, "more"], outputs)


@pytest.mark.parametrize("batch", [1, 4])
def test_files_in_a_folder(batch: int) -> None:
    """PNG with transparency, grey, turned by EXIF, of one pixel, and a file that is none."""
    pixels = noise(100, 200)
    Path("in").mkdir()
    Image.fromarray(np.dstack([pixels, pixels[..., :1]]), "RGBA").save("in/alpha.png")
    Image.fromarray(pixels[..., 0]).save("in/grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(pixels)).save("in/turned.png", exif=exif)
    Image.new("RGB", (1, 1), (255, 0, 0)).save("in/one.png")
    Path("in/words.jpg").write_text("only words")
    with detector(cells(batch=batch)) as detect:
        found = {Path(r.path or "").stem: r for r in detect.stream("in")}
        with pytest.raises(trtnet.UsageError, match=r"in/words\.jpg cannot be read"):
            detect("in")
    wanted = by_hand(pixels, (32, 64), (16, 0))
    for name in ("alpha", "turned"):
        result = found[name]
        assert isinstance(result, Detection)
        require_same(result, wanted)
        assert str(result).startswith(f"in/{name}.png: {wanted and NAMES[wanted[0][0]]} ")
    grey = found["grey"]
    assert isinstance(grey, Detection)
    require_same(grey, by_hand(np.repeat(pixels[..., :1], 3, 2), (32, 64), (16, 0)))
    one = found["one"]
    assert isinstance(one, Detection)
    assert one.image.size == (1, 1)
    assert len(one.boxes) == 10
    assert one.boxes[0].tolist() == [0, 0, 0.125, 0.125]
    assert one.picture().size == (1, 1)
    assert isinstance(found["words"], Failure)


def test_a_model_is_built() -> None:
    pixels = noise(320, 640)
    options = {"preprocess": LETTERBOX, "class_names": NAMES}
    with detector("cells.py:make", **options) as detect:
        require_same(detect(pixels), by_hand(pixels, (32, 64), (16, 0)))
    with pytest.raises(trtnet.UsageError, match="is a model for segmentation, not for detection"):
        detector("unet")


def test_a_picture() -> None:
    net = fixed(rows([10, 20, 30, 60, 0.9, 0], [0, 16, 64, 48, 0.8, 300]))
    with detector(net) as detect:
        result = detect(np.full((320, 640, 3), 77, np.uint8))
        for palette in ("voc", "tutorial"):
            picture = np.asarray(result.picture(palette))
            assert picture.shape == (320, 640, 3)
            wanted = trtnet.imaging.palette(palette, 302)
            assert picture[200, 100].tolist() == wanted[1].tolist()  # the left side of the first
            assert picture[300, 0].tolist() == wanted[301].tolist()
    with pytest.raises(trtnet.UsageError, match="there is no palette"):
        result.picture("cov")


def test_coco_results_are_what_pycocotools_reads() -> None:
    """Results that are exactly the truth have the average precision 1."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    net = fixed(rows([10, 20, 30, 40, 0.9, 1], [5, 20, 60, 48, 0.8, 2], [1, 20, 9, 30, 0.7, 2]))
    with detector(net) as detect:
        result = detect(np.zeros((320, 640, 3), np.uint8))
    found = result.coco_results(139)
    assert found[0] == {
        "image_id": 139, "category_id": 1, "bbox": [100, 40, 200, 200], "score": 0.9,
    }  # fmt: skip
    assert found[1]["bbox"] == [50, 40, 550, 280]
    boxes = [(1, [100, 40, 200, 200]), (2, [50, 40, 550, 280]), (2, [10, 40, 80, 100])]
    truth = {
        "info": {},
        "images": [{"id": 139, "width": 640, "height": 320}],
        "categories": [{"id": i, "name": str(i)} for i in (1, 2)],
        "annotations": [
            {"id": i + 1, "image_id": 139, "category_id": label, "bbox": box, "iscrowd": 0,
             "area": box[2] * box[3]} for i, (label, box) in enumerate(boxes)
        ],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Values that change slowly along the last two axes, so that rounding decides nothing."""
    wave = rng.uniform(0.1, 0.25, (*shape[:-2], 2, 1, 1))
    phase = rng.uniform(0, 6, (*shape[:-2], 2, 1, 1))
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    values = np.sin(wave[..., 0, :, :] * y + phase[..., 0, :, :])
    return (values * np.sin(wave[..., 1, :, :] * x + phase[..., 1, :, :])).astype(np.float32)


def test_masks_and_keypoints_are_those_of_torchvision() -> None:
    """Of boxes of which one reaches into the letterbox's border, and one has too low a score."""
    import torch
    from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, paste_masks_in_image

    rng = np.random.default_rng(3)
    boxes = np.float32([[10, 20, 30, 40], [5, 20, 60, 48], [1, 3, 19, 30], [8, 20, 60, 45]])
    squares = 0.5 + 0.5 * smooth(rng, 4, 28, 28)
    heatmaps = smooth(rng, 4, 3, 56, 56)
    outputs = {
        "num_dets": np.int32([4]), "det_boxes": boxes,
        "det_scores": np.float32([0.7, 0.9, 0.8, 0.1]), "det_classes": np.int32([0, 1, 2, 0]),
        "det_masks": squares, "det_keypoints": heatmaps,
    }  # fmt: skip
    with detector(fixed(outputs), score_threshold=0.5) as detect:
        result = detect(np.zeros((320, 640, 3), np.uint8))
    order = [1, 2, 0]
    in_image = (boxes[order] - [0, 16, 0, 16]) * 10
    wanted = paste_masks_in_image(
        torch.tensor(squares[order])[:, None], torch.tensor(in_image.astype(np.float32)), (320, 640)
    )
    for place, mask in enumerate(wanted[:, 0].numpy()):
        found = result.mask(place)
        assert found.shape == (320, 640)
        assert np.mean(found != (mask > 0.5)) < 1e-4
        assert found.sum() > 1000
        assert result.mask(place, threshold=0.2).sum() > found.sum()
    points, scores = heatmaps_to_keypoints(
        torch.tensor(heatmaps[order]), torch.tensor(boxes[order])
    )
    assert result.keypoints is not None
    in_image = (points[..., :2].numpy() - [0, 16]) * 10
    np.testing.assert_allclose(result.keypoints[..., :2], in_image, atol=1e-3)
    np.testing.assert_allclose(result.keypoints[..., 2], scores.numpy(), atol=1e-5)

    first = result.as_dicts()[0]
    assert first["box"] == [50, 40, 600, 320]
    np.testing.assert_allclose(first["keypoints"], result.keypoints[0], atol=6e-4)
    flat = result.coco_results(1)[0]["keypoints"]
    assert len(flat) == 9
    assert flat[2::3] == [1, 1, 1]
    np.testing.assert_allclose(flat[:2], result.keypoints[0, 0, :2], atol=6e-4)
    picture = np.asarray(result.picture()).astype(int)
    inside = result.mask(1) & ~result.mask(0) & ~result.mask(2)
    color = trtnet.imaging.palette("voc", 4)[3]
    assert np.mean(np.abs(picture[inside] - color // 2).max(1) <= 1) > 0.7


def test_a_network_without_masks() -> None:
    with detector(fixed(rows([10, 20, 30, 60, 0.9, 1]))) as detect:
        result = detect(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(trtnet.UsageError, match=r"gives no masks(.|\n)*det_masks"):
        result.mask(0)
    assert result.keypoints is None
    assert result.objects[0].keypoints is None
