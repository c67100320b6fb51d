"""``trtnet explore``: a page that shows a network to the bottom."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.gpu_flags import add_gpu_flags, chosen_gpu
from trtnet.cli.paths import STDOUT, input_data, input_file, input_model, output_file
from trtnet.cli.progress import Progress
from trtnet.cli.recipes import network_recipe
from trtnet.cli.report import human_stream
from trtnet.cli.streams import say
from trtnet.cli.target_flags import HELP, parser
from trtnet.errors import UsageError
from trtnet.pipeline.files import is_built_engine

if TYPE_CHECKING:
    from trtnet.explorer import Subject

_GPU = "h200"


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    arguments = explore_parser().parse_args(argv)
    return run(arguments, shlex.join(["trtnet", "explore", *argv]))


def run(arguments: argparse.Namespace, command: str) -> int:
    """Writes the page, and the document, that are asked for.

    Args:
        arguments: parsed.
        command: that was called, which the page tells.
    """
    if arguments.output is None and arguments.json is None:
        raise UsageError("there is nothing to write", expected="-o PAGE.html, --json FILE, or both",
                         fix="-o page.html (path=)")  # fmt: skip
    from trtnet.explorer import write
    from trtnet.explorer.page import to_json

    stream = human_stream(arguments.json)
    progress, gpu = Progress(stream), chosen_gpu(arguments, _GPU) or _GPU
    subject = _subject(arguments, arguments.target, progress)
    other = None if arguments.other is None else _subject(arguments, arguments.other, progress)
    to_stdout = arguments.json == STDOUT
    found = write(
        subject,
        arguments.output,
        other=other,
        json=None if to_stdout else arguments.json,
        gpu=gpu,
        search=arguments.journal,
        data=arguments.data,
        items=arguments.items,
        layer_info=arguments.layer_info,
        profile=arguments.profile,
        command=command,
        observer=progress,
    )
    if to_stdout:
        say(to_json(found))
    for path in (arguments.output, None if to_stdout else arguments.json):
        if path is not None:
            say(f"written to {path}, {os.path.getsize(path) / 1e6:.2f} MB", stream=stream)
    return 0


def _subject(arguments: argparse.Namespace, text: str, progress: Progress) -> Subject | str:
    from trtnet.explorer import subject_of

    if is_built_engine(text):
        return text
    values = arguments.journal is not None or arguments.data is not None
    recipe = network_recipe(arguments, text)
    return subject_of(recipe, values=values, observer=progress, name=text)


def explore_parser() -> Parser:
    """The parser of ``trtnet explore``."""
    made = parser("explore", "Writes a page that shows a network to the bottom: one HTML file that "
                  "needs no network and no server.")  # fmt: skip
    made.add_argument("target", type=input_model, metavar="MODEL|GRAPH|ENGINE",
                      help=f"{HELP}, or an engine")  # fmt: skip
    made.add_argument(
        "other", type=input_model, metavar="OTHER", nargs="?", help="another one, beside the first"
    )
    made.add_argument("-o", dest="output", type=output_file, metavar="PAGE", help="the page")
    add_gpu_flags(made.add_argument, _GPU, "the GPU that is shown first")
    known = Group(made, "what is known of the first network")
    known("--journal", type=input_file, metavar="FILE",
          help="what trtnet search or trtnet sensitivity has measured of it")  # fmt: skip
    known("--data", type=input_data, metavar="DATA",
          help="measure the error of each of its lowered modules on it: a folder of images, a .npy "
          "or .npz file, or, for random weights, random")  # fmt: skip
    known("--items", type=positive, default=8, metavar="N",
          help="how many items of the data to use at most, spread evenly; default: 8")  # fmt: skip
    known("--layer-info", type=input_file, metavar="FILE",
          help="the layers of its engine: JSON of trtexec --exportLayerInfo")  # fmt: skip
    known("--profile", type=input_file, metavar="FILE",
          help="their times: JSON of --exportProfile, of trtexec or trtnet bench")  # fmt: skip
    return made
