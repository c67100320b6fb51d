"""``trtnet detect``: images in, pictures of what is in them out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trtnet.cli.detected_boxes import PALETTE, Boxes, image_ids
from trtnet.cli.device_flags import session_options
from trtnet.cli.drawing import add_drawing_flags, output_paths
from trtnet.cli.flags import Group, Parser, real
from trtnet.cli.paths import output_file
from trtnet.cli.pictures import answer, find_images, human_stream, image_recipe, picture_parser
from trtnet.cli.progress import Progress
from trtnet.cli.streams import say

_FROM = 0.3  # the score that detections have at least, where no flag says another


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Draws what is found in every image; 1 if any failed."""
    targets = output_paths(find_images(arguments, arguments.output), arguments)
    ids = None if arguments.coco_json is None else image_ids(list(targets))
    threshold = arguments.score_threshold
    if threshold is None:
        threshold = _FROM if ids is None else 0.0
    stream = human_stream(arguments)
    options = {"score_threshold": threshold, "device": arguments.device,
               **session_options(arguments), "observer": Progress(stream)}  # fmt: skip
    said = f"scores    from {threshold:g} (--score-threshold)"
    if arguments.compare:
        from trtnet.cli.detect_compared import run_compared  # needs torch

        return run_compared(arguments, targets, ids, options, said)
    from trtnet.tasks.detector import Detector

    with Detector(image_recipe(arguments), **options) as detector:
        say(said, stream=stream)
        return answer(detector, list(targets), Boxes(targets, arguments, ids), arguments)


def _parser() -> Parser:
    parser = picture_parser("detect", "Finds things in images and draws boxes around them.")
    add_drawing_flags(parser, "detected", PALETTE)
    parser.set_defaults(palette=None)  # --compare has colours of its own
    found = Group(parser, "detections")
    found("--score-threshold", type=real(0, 1), metavar="T",
          help=f"lower scores are left out; default: {_FROM}, and with --coco-json 0: all that the "
          "network gives, which has a threshold of its own")  # fmt: skip
    found("--coco-json", type=output_file, metavar="PATH",
          help="write the results in COCO's format: image_id, category_id (the number of the "
          "class), bbox (x, y, width, height), score")  # fmt: skip
    found("--compare", action="store_true",
          help="draw what PyTorch finds beside what the engine finds, with a table of what both or "
          "one of them found: of models that have a PyTorch counterpart. Of an ENGINE, --weights "
          "and --seed name what it was built with")  # fmt: skip
    return parser
