"""The detector of ``cells.py`` with a PyTorch twin that is off by known amounts: scores are lower
by 1/16, boxes lie 0.2 pixels to the right, those of class 2 lie 4 pixels to the right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import trtnet
from trtnet import zoo

EDGE, PLACES, LESS = 8, 10, 1 / 16
SHIFTS = (0.2, 0.2, 4.0)
FURTHER = {"det_masks": (1, PLACES, 4, 4), "det_keypoints": (1, PLACES, 2, 4, 4)}


class Shifted(torch.nn.Module):
    """Input (1, 3, H, W)."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        columns = x.shape[3] // EDGE
        means = torch.nn.functional.avg_pool2d(x, EDGE)[0].flatten(1).tolist()
        found = []
        for index, of_class in enumerate(means):
            for cell, score in enumerate(of_class):
                if score > 0.25:
                    top, left = (EDGE * place for place in divmod(cell, columns))
                    left = left + SHIFTS[index]
                    found.append((score - LESS, index, [left, top, left + EDGE, top + EDGE]))
        found = sorted(found, key=lambda one: -one[0])[:PLACES]
        rest = PLACES - len(found)
        return {
            "num_dets": torch.tensor([[len(found)]], dtype=torch.int32),
            "det_boxes": torch.tensor([[*(box for _, _, box in found), *[[0.0] * 4] * rest]]),
            "det_scores": torch.tensor([[*(score for score, _, _ in found), *[0.0] * rest]]),
            "det_classes": torch.tensor(
                [[*(index for _, index, _ in found), *[0] * rest]], dtype=torch.int32
            ),
        }


class ShiftedMasks(Shifted):
    """With masks and keypoints that are no different."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        further = {name: torch.ones(shape) for name, shape in FURTHER.items()}
        return {**super().forward(x), **further}


class Masks(trtnet.Module):
    """The detector of ``cells.py`` with masks and keypoints."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = make()

    def forward(self, x: Any) -> dict[str, Any]:
        made = {name: np.ones(shape, np.float32) for name, shape in FURTHER.items()}
        further = {name: x.network.constant(values) for name, values in made.items()}
        return {**self.cells(x), **further}


@zoo.register(input_shape=(3, 64, 64), task="detection", twin=ShiftedMasks)
def masks() -> Masks:
    """The detector, with a mask and two keypoints for each box."""
    return Masks()


@zoo.register(name="apart", input_shape=(3, 64, 64), task="detection", twin=Shifted)
def make() -> Any:
    """The detector."""
    return zoo.get_model(f"{Path(__file__).with_name('cells.py')}:make")
