"""``trtnet explain MODEL``: which functions and modules of its PyTorch code define layers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet.cli.arguments import add_backend_flag
from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.paths import input_model, output_report, word
from trtnet.cli.recipes import model_recipe
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.shapes import parse_input
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.pipeline.explaining import Explained, explain
from trtnet.pipeline.model import builder_arguments
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.shapes import default_shape

if TYPE_CHECKING:
    import torch


def main(argv: Sequence[str]) -> int:
    """Parses `argv` and prints the report; 1 if something does not map."""
    arguments = _parser().parse_args(argv)
    inputs = [parse_input(text).shape for text in arguments.input]
    recipe = model_recipe(arguments, arguments.model)
    shapes = inputs or [default_shape(recipe, recipe.input_shape)]
    found = explain(_torch_model(recipe), shapes, backend=recipe.backend)
    _print(found, arguments, recipe)
    if arguments.json is not None:
        write_json(found.as_dict(), arguments.json)
    return 0 if found.is_complete else 1


def _torch_model(recipe: Recipe) -> torch.nn.Module:
    """The PyTorch model whose code is explained: of a detector that comes with trtnet up to all
    boxes and scores, as the network's suppression is no PyTorch code."""
    chosen = builder_arguments(recipe)
    if _stops_at_boxes(recipe):
        chosen["output_format"] = "raw"
    return recipe.entry.torch_model(**chosen)


def _stops_at_boxes(recipe: Recipe) -> bool:
    return recipe.entry.task == "detection" and recipe.entry.shipped


def _parser() -> Parser:
    made = Parser(
        prog="trtnet explain",
        description="Says which functions of a model's PyTorch code define layers, and which do "
        "not: where they are called, and what would be needed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "model",
        type=input_model,
        metavar="MODEL",
        help="such as timm:resnet50d, torchvision:raft_small or net.py:Net",
    )
    made.add_argument("--input", type=word, metavar="NAME:SHAPE", action="append", default=[],
                      help="of an input, such as x:1x3x224x224; once for each, in the order of "
                      "forward()")  # fmt: skip
    made.add_argument("--num-classes", metavar="N", type=positive)
    made.add_argument("--in-channels", metavar="N", type=positive,
                      help="of the images: 1 for gray")  # fmt: skip
    output = Group(made, "backend and output")
    add_backend_flag(output)
    output("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    return made


def _print(found: Explained, arguments: argparse.Namespace, recipe: Recipe) -> None:
    stream = human_stream(arguments.json)
    if _stops_at_boxes(recipe):
        say("note: explained up to the boxes and scores before suppression, which trtnet defines "
            "without PyTorch's code; a detector of two stages suppresses its proposals too, and is "
            "explained up to there", "", stream=stream)  # fmt: skip
    for gap in found.gaps:
        times = f" ({gap.count} times)" if gap.count > 1 else ""
        say(f"{gap.module or 'the model'}: {gap.problem}{times}", stream=stream)
        for label, text in (("at", gap.line), ("fix", gap.fix)):
            if text:
                say(f"  {label}: {text}", stream=stream)
    if found.stopped:
        say(f"the run stopped: {found.stopped}", stream=stream)
    rows = sorted(found.mapped.items(), key=lambda item: -item[1])
    table((("function", "left"), ("calls", "right")), rows, stream)
    calls = sum(found.mapped.values())
    verdict = "all of it maps" if found.is_complete else f"{len(found.gaps)} do not"
    total = f"{calls} calls of {len(rows)} functions map to layers; {verdict}"
    say("", total, stream=stream)
