"""``trtnet run``: an engine on inputs from files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from trtnet.backend import choices
from trtnet.cli.arrays import read_inputs, write_results
from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import input_array, input_engine, output_file, word
from trtnet.cli.preprocess_flags import (
    add_class_names_flag,
    add_preprocess_flags,
    stated_class_names,
    stated_preprocessing,
)
from trtnet.cli.random_weights import stated_random, weights_lines
from trtnet.cli.streams import say
from trtnet.errors import UsageError

_TOP = 5
_MOST_ROWS = 16  # of a batch, whose classes are printed


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Executes the engine once, prints what comes out and writes it."""
    if arguments.output is not None and arguments.output.suffix != ".npz":
        raise UsageError(f"-o: {arguments.output} is not a .npz file", fix="name it so")
    from trtnet.engines.session import Session
    from trtnet.pipeline.preprocessing import preparation_for

    with Session(arguments.engine, backend=arguments.backend, device=arguments.device) as session:
        stated = stated_preprocessing(arguments)
        names = stated_class_names(arguments) or session.plan.described.class_names
        inputs, notes = read_inputs(
            arguments.input,
            session.inputs,
            lambda binding: preparation_for(session, stated, binding),
        )
        say(*notes)
        results = session(inputs)
        say(f"backend   {session.backend} on {session.device}")
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
    parser = Parser(prog="trtnet run", description="Executes an engine once.", allow_abbrev=False)
    parser.add_argument(
        "engine", metavar="ENGINE", type=input_engine, help="a file of --saveEngine"
    )
    flag = Group(parser, "inputs and outputs")
    flag(
        "--input",
        action="append",
        required=True,
        type=input_array,
        metavar="[NAME:]FILE",
        help=".npy, .npz (an array per input) or an image, prepared as the sidecar or "
        "--preprocess says; repeat it for further inputs, or for further images of the batch",
    )
    parser.add_argument(
        "-o",
        dest="output",
        metavar="OUT.npz",
        type=output_file,
        help="where all outputs are written",
    )
    images = Group(parser, "preprocessing of images")
    add_preprocess_flags(images)
    add_class_names_flag(images)
    add_device_flags(Group(parser, "where"))
    return parser


def add_device_flags(flag: Group) -> None:
    """Adds ``--backend`` and ``--device``: where an engine is executed."""
    flag("--backend", choices=choices(), default="auto", help="default: what the engine is for")
    flag("--device", default="auto", type=word, metavar="D",
         help="cpu, cuda or cuda:1; default: a GPU if any")  # fmt: skip
