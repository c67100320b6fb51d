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
