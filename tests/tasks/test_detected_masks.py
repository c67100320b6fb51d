"""Masks of detections in files, against pycocotools and torchvision."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest

import trtnet

SIZE = (150, 300)


def found() -> trtnet.tasks.Detection:
    """Three objects of two classes; the network's input is the image, halved."""
    squares = np.zeros((3, 28, 28), np.float32)
    squares[0, 4:20, 6:25] = 0.9
    squares[1, :14] = 0.8
    squares[2, np.arange(28), np.arange(28)] = 1.0
    outputs = {
        "num_dets": np.int32([3]), "det_scores": np.float32([0.9, 0.8, 0.7]),
        "det_boxes": np.float32([[5, 5, 60, 70], [70, 10, 140, 90], [-9, 30, 40, 74]]),
        "det_classes": np.int32([1, 2, 2]), "det_masks": squares,
    }  # fmt: skip
    return of_outputs(outputs)


def of_outputs(outputs: dict[str, np.ndarray]) -> trtnet.tasks.Detection:
    """What an engine that gives `outputs` finds in a black image."""
    net = trtnet.Network(backend="torch")
    zero = (net.input("input", (1, 3, 75, 150)) * 0.0).sum()
    for name, value in outputs.items():
        none = zero.int() if value.dtype == np.int32 else zero
        net.output(name, net.constant(value[None]) + none)
    plan = trtnet.build(net, sidecar={"preprocessing": {"resize_size": [75, 150]}})
    with trtnet.Detector(plan, device="cpu") as detect:
        return detect(np.zeros((*SIZE, 3), np.uint8))


def by_torchvision(result: trtnet.tasks.Detection) -> np.ndarray:
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    assert result.squares is not None
    assert result.frames is not None
    masks = torch.tensor(result.squares)[:, None]
    boxes = torch.tensor(result.frames.astype(np.float32))
    return np.asarray(paste_masks_in_image(masks, boxes, SIZE)[:, 0].numpy() > 0.5)


def test_masks_in_json() -> None:
    coding = pytest.importorskip("pycocotools.mask")
    result = found()
    values = json.loads(json.dumps(result.as_dicts()))
    decoded = [coding.decode(coding.frPyObjects(one["mask"], *SIZE)) for one in values]
    assert np.array_equal(np.array(decoded, bool), by_torchvision(result))
    assert all(one["mask"]["size"] == [*SIZE] for one in values)


def test_points_are_keypoints_of_the_image() -> None:
    """x and y twice as large as in the network's input; those of a low probability are not drawn,
    which the picture of a person of COCO would join."""
    points = np.zeros((1, 17, 3), np.float32)
    points[0, :, :2] = np.linspace((20, 20), (100, 60), 17)
    points[0, :, 2] = np.where(np.arange(17) == 5, 0.4, 0.9)
    outputs = {
        "detections": np.float32([[10, 10, 120, 70, 0.9, 0]]), "det_points": points,
    }  # fmt: skip
    result = of_outputs(outputs)
    assert result.keypoints is not None
    np.testing.assert_allclose(result.keypoints, points.astype(float) * [2, 2, 1], rtol=1e-6)
    assert not result.has_masks
    (value,) = result.as_dicts()
    np.testing.assert_allclose(value["keypoints"], result.keypoints[0], atol=6e-4)
    drawn = np.asarray(result.picture())
    at = result.keypoints[0, :, :2].round().astype(int)
    seen = [(drawn[y, x] > 0).any() for x, y in at]
    assert seen == [number != 5 for number in range(17)]


def test_masks_in_coco_results() -> None:
    """Results that are exactly the truth have the average precision 1 in COCO's evaluation of
    masks; one object moved, it falls."""
    coding = pytest.importorskip("pycocotools.mask")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    result = found()
    results = json.loads(json.dumps(result.coco_results(7)))
    truth = []
    for place, mask in enumerate(by_torchvision(result)):
        code = coding.encode(np.asfortranarray(mask.astype(np.uint8)))
        about = {"id": place + 1, "image_id": 7, "category_id": int(result.classes[place])}
        box = coding.toBbox(code).tolist()
        truth.append({**about, "segmentation": code, "bbox": box, "iscrowd": 0,
                      "area": int(mask.sum())})  # fmt: skip
    moved = copy.deepcopy(results)
    moved[0]["segmentation"]["counts"] = [0, SIZE[0] * SIZE[1]]
    for given, expected in ((results, 1.0), (moved, 0.5)):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {
                "info": {}, "annotations": copy.deepcopy(truth),
                "images": [{"id": 7, "height": SIZE[0], "width": SIZE[1]}],
                "categories": [{"id": i, "name": str(i)} for i in (1, 2)],
            }  # fmt: skip
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(given), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(expected)
