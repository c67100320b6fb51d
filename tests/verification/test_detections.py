"""Verification of a detector: boxes are matched, whatever their places in the padded outputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torchvision

import trtnet
from trtnet import detection, nn, ops
from trtnet.detection.matching import Match
from trtnet.pipeline.defined import Comparison
from trtnet.pipeline.verify_report import verify_summary
from trtnet.verification import FP32_TOLERANCE, verify
from trtnet.verification.detections import detection_rows

CLASSES, CELLS, SIDE = 3, 8, 16.0
HOW = detection.Suppression(0.4, 0.3, 30)


class Net(nn.Module):
    """A box of four cells at each cell, moved by the first two channels of a convolution."""

    def __init__(self, shift: float = 0.0, output_format: str = "efficientnms") -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2 + CLASSES, 3, padding=1)
        self.shift, self.output_format = shift, output_format

    def forward(self, x: trtnet.Tensor) -> dict[str, trtnet.Tensor]:
        rows = self.head(x).flatten(2).permute(0, 2, 1).float()
        corner = x.network.constant(cells()) + rows[..., :2] * 4 + self.shift
        boxes = ops.cat([corner, corner + 2 * SIDE], 2)
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": rows[..., 2:].sigmoid()}
        found = detection.detections(boxes, rows[..., 2:].sigmoid(), HOW)
        return detection.output_tensors(found, self.output_format)


class TorchNet(torch.nn.Module):
    """The same in PyTorch; the boxes of an image may be in any order."""

    def __init__(self, reverse: bool = False, output_format: str = "efficientnms") -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(3, 2 + CLASSES, 3, padding=1)
        self.reverse, self.output_format = reverse, output_format

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = self.head(x).flatten(2).permute(0, 2, 1)
        corner = torch.from_numpy(cells()).to(x) + rows[..., :2] * 4
        boxes = torch.cat([corner, corner + 2 * SIDE], 2)
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": rows[..., 2:].sigmoid()}
        found = [self.choose(*pair) for pair in zip(boxes, rows[..., 2:].sigmoid(), strict=True)]
        table = torch.stack([torch.nn.functional.pad(x, (0, 0, 0, 30 - len(x))) for x in found])
        counts = torch.tensor([[len(x)] for x in found], dtype=torch.int32)
        if self.output_format == "rows6":
            table[..., 5].masked_fill_(torch.arange(30) >= counts, -1)
            return {"detections": table}
        return {"num_dets": counts, "det_boxes": table[..., :4], "det_scores": table[..., 4],
                "det_classes": table[..., 5].int()}  # fmt: skip

    def choose(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        kept = []
        for label in range(CLASSES):
            at = (scores[:, label] > 0.3).nonzero().squeeze(1)
            at = at[torchvision.ops.nms(boxes[at], scores[at, label], 0.4)]
            number = torch.full((len(at), 1), label)
            kept.append(torch.cat([boxes[at], scores[at, label, None], number], 1))
        rows = torch.cat(kept)
        rows = rows[rows[:, 4].argsort(descending=True)][:30]
        return rows.flip(0) if self.reverse else rows


def cells() -> np.ndarray:
    y, x = np.mgrid[:CELLS, :CELLS] * SIDE
    return np.stack([x, y], -1).reshape(1, -1, 2).astype(np.float32)


def pair(
    precision: str = "fp32", output_format: str = "efficientnms", *, shift: float = 0.0,
    reverse: bool = False,
) -> tuple[trtnet.Network, torch.nn.Module]:  # fmt: skip
    torch.manual_seed(4)
    twin = TorchNet(reverse, output_format).eval()
    model = Net(shift, output_format)
    model.load_state_dict({name: value.numpy() for name, value in twin.state_dict().items()})
    network = trtnet.Network("rtx", precision)
    for name, tensor in model(network.input("x", (2, 3, CELLS, CELLS))).items():
        network.output(name, tensor)
    return network, twin


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    x = np.random.default_rng(2).standard_normal((2, 3, CELLS, CELLS)) * 3
    return {"x": x.astype(np.float32)}


@pytest.mark.parametrize("output_format", ["efficientnms", "rows6"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_boxes_are_compared(
    precision: str, output_format: str, inputs: dict[str, np.ndarray]
) -> None:
    network, twin = pair(precision, output_format)
    found = verify(network, twin, inputs)
    assert found.passed, found.blame
    (row,) = found.outputs
    assert row.module == "detections"
    assert row.shape == (2, 30)
    assert row.boxes is not None
    assert row.boxes.wanted > 30
    assert "boxes matched, worst IoU" in str(found)
    assert found.argmax_agreement is None
    if precision == "fp32":
        assert row.boxes.share == 1
        assert verify(network, twin, inputs, float64=True).passed
    else:  # PyTorch chooses boxes from the network's own scores: all but none are the same
        local = found.local[-1]
        assert local.module == "detections"
        assert local.boxes is not None
        assert local.boxes.share >= 0.99


def test_all_boxes_have_no_classes_to_agree_on(inputs: dict[str, np.ndarray]) -> None:
    """The axis after the batch is that of the boxes: its largest value says nothing."""
    network, twin = pair(output_format="raw")
    found = verify(network, twin, inputs)
    assert found.passed
    assert [row.module for row in found.outputs] == ["boxes", "scores"]
    assert found.argmax_agreement is None
    assert "argmax" not in str(found)


def test_the_order_of_boxes_does_not_count(inputs: dict[str, np.ndarray]) -> None:
    network, twin = pair(reverse=True)
    found = verify(network, twin, inputs)
    assert found.passed
    assert found.outputs[0].rel_l2 < 1e-6


def test_moved_boxes_are_found_out(inputs: dict[str, np.ndarray]) -> None:
    network, twin = pair(shift=3.0)
    found = verify(network, twin, inputs)
    assert not found.passed
    assert found.first_divergent == "detections"
    assert found.blame is not None
    assert (found.blame.kind, found.blame.where) == ("code", "the model (after head)")
    assert found.outputs[0].boxes is not None
    assert found.outputs[0].boxes.matched == 0
    with pytest.raises(trtnet.VerificationError, match="of the boxes matched") as error:
        found.require()
    assert "0 of" in str(error.value)
    summary = verify_summary(Comparison(found, "PyTorch", "fp32", 2, None))
    assert summary["boxes"]["matched"] == 0
    assert summary["limit"]["measured"].startswith("0 of")
    json.dumps(summary, allow_nan=False)


def test_one_wrong_class_of_fifty_is_too_many() -> None:
    boxes = torch.arange(20.0)[None, :, None] * 100 + torch.tensor([0.0, 0, 50, 50])
    theirs = {"num_dets": torch.tensor([[20]]), "det_boxes": boxes,
              "det_scores": torch.linspace(1, 0.5, 20)[None],
              "det_classes": torch.ones(1, 20, dtype=torch.int32)}  # fmt: skip
    ours = {**theirs, "det_classes": theirs["det_classes"].clone()}
    ours["det_classes"][0, 3] = 2
    (row,) = detection_rows(ours, theirs)
    assert row.boxes == Match(20, 20, 19, 1.0, 0.0)
    assert not FP32_TOLERANCE.accepts(row)
    ours = {**theirs, "det_scores": theirs["det_scores"] + 2e-3}
    (row,) = detection_rows(ours, theirs)
    assert not FP32_TOLERANCE.accepts(row)
    ours = {**theirs, "det_boxes": boxes[:, :7]}
    (row,) = detection_rows(ours, theirs)
    assert "det_boxes: shape (1, 7, 4)" in row.note
    assert not FP32_TOLERANCE.accepts(row)


def test_masks_are_compared_box_by_box() -> None:
    boxes = torch.arange(6.0)[None, :, None] * 100 + torch.tensor([0.0, 0, 50, 50])
    theirs = {"num_dets": torch.tensor([[5]]), "det_boxes": boxes,
              "det_scores": torch.linspace(1, 0.5, 6)[None],
              "det_classes": torch.ones(1, 6, dtype=torch.int32),
              "det_masks": torch.rand(1, 6, 4, 4)}  # fmt: skip
    order = torch.tensor([1, 0, 2, 4, 3, 5])
    ours = {
        name: value if name == "num_dets" else value[:, order] for name, value in theirs.items()
    }
    row, masks = detection_rows(ours, theirs)
    assert row.boxes is not None
    assert row.boxes.share == 1
    assert (masks.module, masks.shape, masks.max_abs) == ("det_masks", (1, 6, 4, 4), 0)
    ours["det_masks"] = theirs["det_masks"]
    assert detection_rows(ours, theirs)[1].max_abs > 0.1


def test_prototypes_are_compared_as_a_whole() -> None:
    """They belong to the image, not to its boxes."""
    theirs = {"detections": torch.tensor([[[0.0, 0, 9, 9, 0.9, 1]]]),
              "prototypes": torch.rand(1, 8, 5, 6)}  # fmt: skip
    _, row = detection_rows(theirs, theirs)
    assert (row.module, row.shape, row.max_abs) == ("prototypes", (1, 8, 5, 6), 0)
    ours = {**theirs, "prototypes": theirs["prototypes"].clone()}
    ours["prototypes"][0, 7, 4, 5] += 1
    assert detection_rows(ours, theirs)[1].max_abs == pytest.approx(1)


def test_images_without_boxes() -> None:
    none = {"num_dets": torch.zeros(1, 1), "det_boxes": torch.zeros(1, 6, 4),
            "det_scores": torch.zeros(1, 6), "det_classes": torch.zeros(1, 6)}  # fmt: skip
    (row,) = detection_rows(none, none)
    assert FP32_TOLERANCE.accepts(row)
    assert str(row) == "no boxes in these images"
