"""``trtnet detect --compare``: the engine's boxes beside PyTorch's."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.cli.detected_boxes import Boxes, corners_text, limit_note
from trtnet.cli.pictures import answer, human_stream, image_recipe
from trtnet.cli.streams import say
from trtnet.cli.tables import Columns
from trtnet.errors import UsageError
from trtnet.pipeline.files import is_model_file
from trtnet.tasks.compared_detector import (
    ComparedBox,
    ComparedDetection,
    ComparedDetector,
    match_of_compared,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.detection.matching import Match
    from trtnet.tasks.detector import Detection


def run_compared(
    arguments: argparse.Namespace,
    targets: Mapping[Path, Path],
    ids: Mapping[Path, int | str] | None,
    options: Mapping[str, Any],
    said: str,
) -> int:
    """Draws what both find in every image; 1 if any failed.

    Args:
        arguments: parsed.
        targets, ids: see :class:`Boxes`.
        options: of the detector.
        said: about its scores.
    """
    if arguments.palette is not None:
        raise UsageError("--palette and --compare exclude each other",
                         fix="leave --palette out: colours say who found a box")  # fmt: skip
    given: dict[str, Any] = {}
    if is_model_file(arguments.target):  # its own weights cannot be chosen
        given = {"torch_weights": arguments.weights, "torch_seed": arguments.seed}
        arguments = argparse.Namespace(**{**vars(arguments), "weights": None})
    with ComparedDetector(image_recipe(arguments), **given, **options) as detector:
        against = detector.counterpart.name
        lines = said, f"compared  with {against}, in FP32 on the CPU"
        say(*lines, stream=human_stream(arguments))
        answers = ComparedBoxes(targets, arguments, ids, against)
        return answer(detector, list(targets), answers, arguments)


class ComparedBoxes(Boxes):
    """Boxes that the engine, PyTorch or both found, and a picture of them.

    Args:
        targets, arguments, ids: see :class:`Boxes`.
        against: what the engine is compared with, in words.
    """

    columns: ClassVar[Columns] = [
        *(("boxes", "left"), ("engine", "right"), ("PyTorch", "right"), ("difference", "right")),
        *(("IoU", "right"), ("class", "right"), ("name", "left"), ("box", "left")),
    ]
    widths: ClassVar[Sequence[int]] = (12, 6, 7, 10, 6, 5, 16, 0)
    header = (
        *("boxes", "class", "name", "iou", "score", "x1", "y1", "x2", "y2"),
        *("torch_score", "torch_x1", "torch_y1", "torch_x2", "torch_y2", "picture"),
    )

    def __init__(
        self,
        targets: Mapping[Path, Path],
        arguments: argparse.Namespace,
        ids: Mapping[Path, int | str] | None,
        against: str,
    ) -> None:
        super().__init__(targets, arguments, ids)
        self.against = against
        self.every: list[ComparedBox] = []

    def rows(self, result: Detection) -> list[list[str]]:
        """One for each box, or one that says that there is none; one where there may be more."""
        found = [_row(one) for one in _compared(result).compared]
        found = found or [[*[""] * 6, "nothing found", ""]]
        if result.limit is not None:
            found.append([*[""] * 6, limit_note(result.limit), ""])
        return found

    def values(self, result: Detection) -> dict[str, Any]:
        """What the engine found, and the comparison."""
        both = _compared(result)
        about = {
            **_summary(both.match),
            "torch_seconds": both.torch_seconds,
            "boxes": [one.as_dict() for one in both.compared],
        }
        return {**super().values(result), "comparison": about}

    def records(self, result: Detection) -> list[list[object]]:
        """One for each box, or one without a box."""
        target = self.target(result)
        found = [[*_cells(one), target] for one in _compared(result).compared]
        return found or [[*[None] * (len(self.header) - 1), target]]

    def picture(self, result: Detection) -> Image:
        """The image with the boxes of both."""
        return _compared(result).compared_picture()

    def keep(self, result: Detection) -> None:
        """Writes the picture, and keeps the boxes for the last line."""
        super().keep(result)
        self.every += _compared(result).compared

    def about(self) -> dict[str, Any]:
        """The comparison of all images."""
        match = match_of_compared(self.every)
        return {"comparison": {"against": self.against, **_summary(match)}}

    def written(self) -> list[str]:
        """How far the boxes are the same, and what was written."""
        match = match_of_compared(self.every)
        alone = f"{match.found - match.matched} of the engine and {match.wanted - match.matched} "
        return [f"compared  {match}; {alone}of PyTorch alone", *super().written()]


def _compared(result: Detection) -> ComparedDetection:
    assert isinstance(result, ComparedDetection)
    return result


def _row(one: ComparedBox) -> list[str]:
    difference, place = one.score_difference, one.engine or one.torch
    assert place is not None
    return [
        one.status,
        *("-" if found is None else f"{found.score:.2f}" for found in (one.engine, one.torch)),
        "" if difference is None else f"{round(difference, 4) + 0:+.4f}",
        "" if one.iou is None else f"{one.iou:.4f}",
        str(one.index),
        one.name,
        corners_text(place.box),
    ]


def _cells(one: ComparedBox) -> list[object]:
    """Of the CSV file, without the picture."""
    found: list[object] = [one.status, one.index, one.name, one.iou]
    for side in (one.engine, one.torch):
        found += [None] * 5 if side is None else [side.score, *side.box]
    return found


def _summary(match: Match) -> dict[str, Any]:
    return {
        "matched": match.matched,
        "engine_only": match.found - match.matched,
        "torch_only": match.wanted - match.matched,
        "worst_iou": match.iou,
        "worst_score_difference": match.score,
    }
