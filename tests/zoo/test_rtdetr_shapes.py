"""The RT-DETR that ships: its weights, and that FP16 keeps their boxes."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from trtnet import weights, zoo

pytest.importorskip("transformers", reason="the counterpart of RT-DETR needs transformers")

NAME = "rtdetr_shapes"
PICTURES = 8  # of the held-out ones


@pytest.fixture(scope="module")
def shipped() -> weights.Weights:
    return weights.load(zoo.get_entry(NAME).weights_file("SHAPES_V1"))


def test_the_shipped_file_says_what_it_is(shipped: weights.Weights) -> None:
    assert shipped.path is not None
    assert shipped.path.stat().st_size < 5.2e6
    assert shipped.metadata["architecture"] == NAME
    assert shipped.metadata["weights"] == zoo.get_entry(NAME).default_weights
    assert shipped.metadata["sha256"] == weights.data_sha256(shipped)
    assert int(shipped.metadata["parameters"]) == zoo.card(NAME).parameters
    assert shipped.class_names == ["circle", "rectangle", "triangle", "star"]
    assert shipped.preprocessing == {"resize_size": [640, 640]}
    assert all(np.isfinite(array).all() for array in shipped.values())


def test_the_quality_is_as_stated_and_fp16_keeps_the_boxes(
    shipped: weights.Weights, detector_data: ModuleType, detector_accuracy: ModuleType,
    train_rt_detr: ModuleType,
) -> None:  # fmt: skip
    """transformers' model says the quality; the network read back has its boxes in FP16."""
    pictures = list(detector_data.held_out(PICTURES))
    state = {name: torch.tensor(array) for name, array in shipped.items()}
    figures = train_rt_detr.measured(state, pictures)
    assert float(shipped.metadata["coco_map"]) == pytest.approx(figures[0], abs=0.08)
    detector = detector_accuracy.Detector(NAME)
    first, second = detector_accuracy.models()[NAME][:2]
    assert second.label == "FP16"
    exact, found = (detector.found(detector.graph(row), pictures) for row in (first, second))
    assert detector_data.coco_map(pictures, exact)[0] == pytest.approx(figures[0], abs=1e-3)
    for least, count in ((detector_accuracy.SCORE, 10), (0.1, 60)):
        sure = [tuple(part[one[1] >= least] for part in one) for one in exact]
        assert sum(len(scores) for _, scores, _ in sure) >= count
        raised = [(boxes, np.ones_like(scores), classes) for boxes, scores, classes in sure]
        assert detector_accuracy.matched(raised, found) >= 0.99
