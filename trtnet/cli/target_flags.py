"""The flags and the target of ``trtnet inspect|verify|cost|diff|lint``."""

from __future__ import annotations

import argparse

from trtnet.cli.arguments import add_backend_flag, add_model_flags, add_shape_flags
from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import output_report
from trtnet.cli.precision import add_calibration_flags, add_precision_flags
from trtnet.cli.preprocess_flags import add_preprocess_flags
from trtnet.cli.progress import Progress
from trtnet.cli.recipes import network_recipe
from trtnet.cli.report import human_stream
from trtnet.pipeline.target import Target, find_target

HELP = "a model, such as resnet50, resnet50:fp16 or net.py:Net, or a file of graph.save()"


def parser(command: str, description: str) -> Parser:
    """A parser with the flags that say how a model is defined."""
    made = Parser(
        prog=f"trtnet {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_model_flags(Group(made, "model"))
    add_precision_flags(Group(made, "precision"))
    add_calibration_flags(Group(made, "calibration"))
    add_preprocess_flags(Group(made, "preprocessing of the images of --calib-data"))
    add_shape_flags(Group(made, "shapes"))
    output = Group(made, "backend and output")
    add_backend_flag(output)
    output("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    return made


def find(text: str, arguments: argparse.Namespace, *, values: bool, ranges: bool = False) -> Target:
    """The network that `text` names: :func:`trtnet.pipeline.find_target` of the flags.

    Args:
        text: a model, which may end in ``:fp16`` or another precision, or a file.
        arguments: what :func:`parser` parsed.
        values, ranges: whether the weights, and the ranges of a quantized network, matter.
    """
    observer = Progress(human_stream(arguments.json))
    recipe = network_recipe(arguments, text)
    return find_target(recipe, values=values, ranges=ranges, observer=observer, name=text)
