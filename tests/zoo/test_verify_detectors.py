"""tools/verify_detectors.py on a small RT-DETR: what it finds equal, and what not."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from trtnet import zoo

pytest.importorskip("transformers")

NAME = "rtdetr_shapes"


@pytest.fixture(scope="module")
def state(verify_detectors: ModuleType) -> Any:
    """Weights whose heads find something."""
    entry, case = zoo.get_entry(NAME), verify_detectors.CASES[NAME]
    return verify_detectors.seeded(entry, case).state_dict()


def test_boxes_are_those_of_transformers(verify_detectors: ModuleType, state: Any) -> None:
    entry, case = zoo.get_entry(NAME), verify_detectors.CASES[NAME]
    found = verify_detectors.compare_boxes(entry, case, state)
    assert found["unmatched"] == 0
    assert found["iou"] >= 0.999
    assert found["score"] <= 1e-4
    assert found["distinct"] >= 20
    assert len(found["boxes"]) == 5
    assert min(found["boxes"]) >= 20


def test_boxes_of_other_weights_do_not_match(
    verify_detectors: ModuleType, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, case = zoo.get_entry(NAME), verify_detectors.CASES[NAME]
    other = {key: value.clone() for key, value in state.items()}
    other["model.decoder.bbox_embed.2.layers.2.bias"] += 0.02
    find = verify_detectors.oracle(entry, case, other)
    monkeypatch.setattr(verify_detectors, "oracle", lambda *_: find)
    found = verify_detectors.compare_boxes(entry, case, state)
    assert found["unmatched"] > 50


def test_the_image_that_is_alone_has_another_size(verify_detectors: ModuleType) -> None:
    sizes = {"rtdetr_r18": (128, 224), "yolov8n": (128, 224), "ssd300_vgg16": (300, 300)}
    for name, size in sizes.items():
        entry, case = zoo.get_entry(name), verify_detectors.CASES[name]
        assert verify_detectors.preparation(entry, case, case.other_size).size == size
        assert verify_detectors.preparation(entry, case).size == case.settled[1:]


def test_every_detector_has_a_case(verify_detectors: ModuleType) -> None:
    """Of each family with masks or keypoints too, all sizes."""
    names = zoo.list_models(shipped=True)
    detectors = {name for name in names if zoo.card(name).task == "detection"}
    assert detectors == verify_detectors.CASES.keys()
