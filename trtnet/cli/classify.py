"""``trtnet classify``: what images show, by name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.pictures import (
    ImageResult,
    class_name,
    class_names,
    find_images,
    open_session,
    picture_parser,
    preparation,
    process_images,
)
from trtnet.errors import UsageError

if TYPE_CHECKING:
    from trtnet.engines.session import Session


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Prints the most probable classes of every image; 1 if any failed."""
    paths = find_images(arguments)
    with open_session(arguments, "classification", paths) as session:
        output, names = _scores(session), class_names(arguments, session)

        def show(seen: ImageResult) -> tuple[list[str], dict[str, Any]]:
            probabilities = softmax(seen.outputs[output][0])
            best = np.argsort(-probabilities, kind="stable")[: arguments.top].tolist()
            found = [(i, class_name(names, i), float(probabilities[i])) for i in best]
            lines = [f"  {100 * p:6.2f} %  {i:>4}  {name}" for i, name, p in found]
            values = [{"class": i, "name": name, "probability": p} for i, name, p in found]
            return lines, {"classes": values}

        return process_images(session, paths, preparation(arguments, session), show, arguments)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities in float64.

    >>> softmax(np.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    grown: np.ndarray = np.exp(scores.astype(np.float64) - scores.max())
    probabilities: np.ndarray = grown / grown.sum()
    return probabilities


def _scores(session: Session) -> str:
    """The output with the scores of the classes."""
    for binding in session.outputs:
        if len(binding.shape) == 2:
            return binding.name
    raise UsageError(
        "the engine gives no scores of classes",
        expected="an output (N, classes)",
        got=", ".join(f"{b.name} {b.shape}" for b in session.outputs),
        fix="trtnet segment is for classes of pixels",
    )


def _parser() -> Parser:
    parser = picture_parser("classify", "Names what images show.")
    Group(parser, "answers")(
        "--top", type=positive, default=5, metavar="K", help="how many; default 5"
    )
    return parser
