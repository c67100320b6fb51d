"""``trtnet run``: an engine on inputs from files, once; or on a folder of images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet.cli import missing
from trtnet.cli.arrays import read_inputs, write_results
from trtnet.cli.device_flags import (
    add_builder_flags,
    add_device_flags,
    add_runtime_flags,
    notes_of,
    session_options,
)
from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import (
    input_array,
    input_engine,
    input_folder,
    output_arrays,
    output_report,
)
from trtnet.cli.pictures import human_stream
from trtnet.cli.preprocess_flags import (
    add_class_names_flag,
    add_preprocess_flags,
    stated_class_names,
    stated_preprocessing,
)
from trtnet.cli.random_weights import stated_random, weights_lines
from trtnet.cli.streams import say
from trtnet.errors import UsageError

if TYPE_CHECKING:
    from trtnet.engines.session import Session
    from trtnet.pipeline.preprocessing import StatedPreprocessing

_TOP = 5
_MOST_ROWS = 16  # of a batch, whose classes are printed


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Executes the engine, prints what comes out and writes it."""
    _check(arguments)
    from trtnet.engines.session import Session

    with Session(
        arguments.target,
        backend=arguments.backend,
        device=arguments.device,
        **session_options(arguments),
    ) as session:
        stated = stated_preprocessing(arguments)
        if arguments.folder is None:
            return _run_once(session, stated, arguments)
        from trtnet.cli.run_folder import run_folder

        return run_folder(session, stated, arguments)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses flags that do not belong together.

    Raises:
        UsageError: nothing to run on, or twice; an output for the other kind.
    """
    if (arguments.folder is None) == (not arguments.input):
        missing.require_engine("ENGINE", arguments.target)  # is to be mended first
        raise UsageError("name what to run it on", expected="--input FILE, or --folder DIR")
    if arguments.folder is not None:
        human_stream(arguments)  # raises for two outputs on stdout
        if arguments.class_names is not None:
            raise UsageError(
                "--class-names is for --input",
                fix="trtnet classify --folder DIR names what images show",
            )
        return
    for flag, value in (("--json", arguments.json), ("--csv", arguments.csv)):
        if value is not None:
            raise UsageError(f"{flag} is for --folder", fix="-o OUT.npz writes the outputs")
    if arguments.output is not None and arguments.output.suffix != ".npz":
        raise UsageError(f"-o: {arguments.output} is not a .npz file", fix="name it so")
    if arguments.output is not None and not arguments.output.parent.is_dir():
        raise UsageError(f"-o: {arguments.output} cannot be written", fix="make its folder")


def _run_once(
    session: Session, stated: StatedPreprocessing | None, arguments: argparse.Namespace
) -> int:
    """On the inputs of ``--input``."""
    from trtnet.pipeline.preprocessing import preparation_for

    names = stated_class_names(arguments) or session.plan.described.class_names
    inputs, notes = read_inputs(
        arguments.input,
        session.inputs,
        lambda binding: preparation_for(session, stated, binding),
    )
    say(*notes)
    results = session(inputs)
    say(f"backend   {session.backend} on {session.device}", *notes_of(session))
    weights = session.plan.described.weights
    if stated_random(weights):
        source = weights if isinstance(weights, str | None) else weights.source
        say(*weights_lines(source, are_random=True))
    for name, array in results.items():
        say(f"{name:10}{array.dtype} {'x'.join(map(str, array.shape))}")
        say(*class_lines(array, names))
    if arguments.output is not None:
        write_results(arguments.output, results)
        say(f"written   {arguments.output}")
    return 0


def class_lines(scores: np.ndarray, names: Sequence[str] | None) -> list[str]:
    """The five best classes of each row, where `scores` is [N, classes] and `names` has a name
    for each."""
    if names is None or scores.ndim != 2 or scores.shape[1] != len(names):
        return []
    lines = []
    for index, row in enumerate(scores[:_MOST_ROWS]):
        if len(scores) > 1:
            lines.append(f"  item {index}")
        best = np.argsort(-row.astype(np.float64), kind="stable")[:_TOP]
        lines += [f"  {row[i]:>10.4f}  {i:>4}  {names[i]}" for i in best]
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="trtnet run", description="Executes an engine.", allow_abbrev=False)
    parser.add_argument(
        "target", metavar="ENGINE", type=input_engine, help="a file of --saveEngine"
    )
    flag = Group(parser, "inputs and outputs")
    flag(
        "--input",
        action="append",
        default=[],
        type=input_array,
        metavar="[NAME:]FILE",
        help=".npy, .npz (an array per input) or an image, prepared as the sidecar or "
        "--preprocess says; repeat it for further inputs, or for further images of the batch",
    )
    parser.add_argument(
        "-o",
        dest="output",
        metavar="OUT",
        type=output_arrays,
        help="where all outputs are written: a .npz file, or for --folder a folder, with one for "
        "each image",
    )
    flag("--folder", type=input_folder, metavar="DIR",
         help="run all images in it and in folders below it")  # fmt: skip
    flag("--json", type=output_report, metavar="PATH",
         help="of --folder: write a report; - for stdout")  # fmt: skip
    flag("--csv", type=output_report, metavar="PATH",
         help="of --folder: write a table; - for stdout")  # fmt: skip
    images = Group(parser, "preprocessing of images")
    add_preprocess_flags(images)
    add_class_names_flag(images)
    where = Group(parser, "where")
    add_device_flags(where)
    add_runtime_flags(where)
    add_builder_flags(where)
    return parser
