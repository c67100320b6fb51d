"""Boxes that ``trtnet detect`` prints, draws and writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.cli.drawing import PictureAnswers
from trtnet.cli.tables import Columns
from trtnet.errors import UsageError
from trtnet.files import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.tasks.detector import Detection

PALETTE = "voc"
"""Of the classes, where no flag names another."""


class Boxes(PictureAnswers["Detection"]):
    """Boxes with scores and names, and a picture of them.

    Args:
        targets: where the picture of each image goes.
        arguments: parsed.
        ids: what COCO's format calls each image; ``None`` where that is not written.
    """

    columns: ClassVar[Columns] = [
        *(("score", "right"), ("class", "right"), ("name", "left"), ("box", "left")),
    ]
    widths: ClassVar[Sequence[int]] = (6, 5, 16, 0)
    header: Sequence[str] = ("class", "name", "score", "x1", "y1", "x2", "y2", "picture")

    def __init__(
        self,
        targets: Mapping[Path, Path],
        arguments: argparse.Namespace,
        ids: Mapping[Path, int | str] | None,
    ) -> None:
        super().__init__(targets, arguments)
        self.ids = ids
        self.results: list[dict[str, Any]] = []

    def rows(self, result: Detection) -> list[list[str]]:
        """One for each box, or one that says that there is none; one where there may be more."""
        found = [
            [f"{one.score:.2f}", str(one.index), one.name, corners_text(one.box)]
            for one in result.objects
        ]
        if result.limit is not None:
            found.append(["", "", limit_note(result.limit), ""])
        return found or [["", "", "nothing found", ""]]

    def values(self, result: Detection) -> dict[str, Any]:
        """The boxes, the limit where it was reached, and the picture."""
        return {
            "detections": result.as_dicts(),
            "limit": result.limit,
            "written": str(self.target(result)),
        }

    def records(self, result: Detection) -> list[list[object]]:
        """One for each box, or one without a box."""
        target = self.target(result)
        found: list[list[object]] = [
            [one.index, one.name, one.score, *one.box, target] for one in result.objects
        ]
        return found or [[*[None] * (len(self.header) - 1), target]]

    def picture(self, result: Detection) -> Image:
        """The image with what was found."""
        return result.picture(self.arguments.palette or PALETTE)

    def keep(self, result: Detection) -> None:
        """Writes the picture, and keeps the results for COCO's format."""
        super().keep(result)
        if self.ids is not None:
            assert result.path is not None
            self.results += result.coco_results(self.ids[result.path])

    def finish(self) -> None:
        """Writes the results in COCO's format."""
        if self.ids is not None:
            _write_coco(self.results, self.arguments.coco_json)

    def written(self) -> list[str]:
        """The pictures, and the results in COCO's format."""
        coco = [] if self.ids is None else [f"written   {self.arguments.coco_json}"]
        return super().written() + coco


def image_ids(paths: Sequence[Path]) -> dict[Path, int | str]:
    """What COCO's format calls images: the number in the name of the file, as in
    ``000000000139.jpg``, or else the name without its suffix.

    Raises:
        UsageError: two images would have the same.

    >>> list(image_ids([Path("val/000000000139.jpg"), Path("cat.png")]).values())
    [139, 'cat']
    """
    found: dict[Path, int | str] = {}
    owner: dict[int | str, Path] = {}
    for path in paths:
        stem = path.stem
        name = int(stem) if stem.isascii() and stem.isdecimal() and len(stem) <= 18 else stem
        if name in owner:
            raise UsageError(
                f"--coco-json: {owner[name]} and {path} would both be image {name}",
                fix="run them one after the other, or rename one",
            )
        found[path] = name
        owner[name] = path
    return found


def corners_text(box: Sequence[float]) -> str:
    """A box in the table."""
    return ", ".join(f"{corner:.1f}" for corner in box)


def limit_note(limit: int) -> str:
    """What the table says of a network that gave as many detections as it can."""
    return f"the network gives at most {limit}: there may be more"


def _write_coco(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    text = ",\n".join(json.dumps(result, allow_nan=False) for result in results)
    try:
        with atomic_write(path) as file:
            file.write(f"[{text}]\n".encode())
    except OSError as error:
        raise UsageError(f"--coco-json: {path} cannot be written", got=error) from error
