"""``trtnet classify``: what images show, by name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.cli.device_flags import session_options
from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.pictures import (
    Answers,
    answer,
    find_images,
    human_stream,
    image_recipe,
    picture_parser,
)
from trtnet.cli.progress import Progress
from trtnet.cli.tables import Columns

if TYPE_CHECKING:
    from trtnet.tasks.classifier import Classification


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Prints the most probable classes of every image; 1 if any failed."""
    paths, observer = find_images(arguments), Progress(human_stream(arguments))
    from trtnet.tasks.classifier import Classifier

    classifier = Classifier(
        image_recipe(arguments),
        top_k=arguments.top,
        device=arguments.device,
        **session_options(arguments),
        observer=observer,
    )
    with classifier:
        return answer(classifier, paths, ClassAnswers(arguments.top), arguments)


class ClassAnswers(Answers["Classification"]):
    """Classes with their probabilities.

    Args:
        count: how many of each image at most.
    """

    columns: ClassVar[Columns] = [("probability", "right"), ("class", "right"), ("name", "left")]
    widths: ClassVar[Sequence[int]] = (11, 5, 0)

    def __init__(self, count: int) -> None:
        names = ("class", "name", "probability")
        self.header = [
            name if place == 1 else f"{name}_{place}"
            for place in range(1, count + 1)
            for name in names
        ]

    def rows(self, result: Classification) -> list[list[str]]:
        """One for each class."""
        return [[f"{c.probability:.2%}", str(c.index), c.name] for c in result.classes]

    def values(self, result: Classification) -> dict[str, Any]:
        """The classes."""
        found = [
            {"class": c.index, "name": c.name, "probability": c.probability} for c in result.classes
        ]
        return {"classes": found}

    def records(self, result: Classification) -> list[list[object]]:
        """One for the image."""
        cells: list[object] = []
        for found in result.classes:
            cells += [found.index, found.name, found.probability]
        return [cells + [None] * (len(self.header) - len(cells))]


def _parser() -> Parser:
    parser = picture_parser("classify", "Names what images show.")
    Group(parser, "answers")(
        "--top", type=positive, default=5, metavar="K", help="how many; default 5"
    )
    return parser
