"""``trtnet export triton``: a model or an engine becomes models of a server's repository."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trtnet.cli.arguments import add_backend_flag, add_model_flags, add_shape_flags
from trtnet.cli.flags import Group, Parser, positive, whole
from trtnet.cli.paths import FileArgument, engine_files, input_model, output_folder, word
from trtnet.cli.precision import add_calibration_flags, add_precision_flags
from trtnet.cli.preprocess_flags import add_class_names_flag, add_preprocess_flags
from trtnet.cli.progress import Progress
from trtnet.cli.recipes import model_recipe, network_recipe
from trtnet.cli.streams import say
from trtnet.errors import UsageError
from trtnet.files.roles import Use

if TYPE_CHECKING:
    from trtnet.pipeline.recipe import Recipe

_EPILOG = "A MODEL is verified against PyTorch. Exit status: 0 done, 1 failed, 2 bad usage."


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Writes the models, and prints where and what the server needs."""
    from trtnet.serving.triton import Settings, export

    settings = Settings(
        arguments.name,
        arguments.max_batch,
        arguments.instances,
        arguments.dynamic_batching,
        arguments.ensemble,
    )
    plans = _plans(arguments.plan)
    written = export(
        _recipe(arguments),
        arguments.output,
        settings,
        plans=plans,
        force=arguments.force,
        observer=Progress(sys.stdout),
    )
    batch = f"batches up to {written.max_batch}" if written.max_batch else "shapes as they are"
    say("", f"written   {written.repository}: {', '.join(written.models)}", f"          {batch}")
    say(*(f"needs     {note}" for note in written.notes))
    start = ["tritonserver", f"--model-repository={written.repository.resolve()}"]
    say(f"start     {shlex.join(start)}")
    return 0


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """The engine, with what the flags say of images and classes; or the model."""
    from trtnet.pipeline.files import is_model_file

    if not is_model_file(arguments.target):
        return network_recipe(arguments, arguments.target)
    wrong = [one.flag for one in arguments.given if one.flag in arguments.of_models]
    if wrong:
        raise UsageError(
            f"{' and '.join(dict.fromkeys(wrong))} cannot be chosen for an engine, which is built",
            fix="leave it out, or name a model",
        )
    return model_recipe(arguments, arguments.target)


def _plans(given: Sequence[str]) -> dict[str, str]:
    """The engine for each compute capability."""
    plans: dict[str, str] = {}
    for capability, path in map(_split, given):
        if capability in plans:
            raise UsageError(
                f"--plan: two engines for the compute capability {capability}",
                got=f"{plans[capability]} and {path}",
            )
        plans[capability] = path
    return plans


def _split(text: str) -> tuple[str, str]:
    """``CC:ENGINE``."""
    capability, colon, path = text.partition(":")
    if not colon or not path:
        raise UsageError("--plan: name a compute capability and an engine", expected="8.9:ENGINE",
                         got=text)  # fmt: skip
    return capability, path


def _plan_files(text: str) -> Iterator[tuple[Path, str]]:
    yield from engine_files(Path(text.partition(":")[2] or text))


_input_plan = FileArgument(Use.READ, str, _plan_files, needs_code=True)


def _parser() -> Parser:
    parser = Parser(
        prog="trtnet export",
        description="Writes a model repository of the Triton Inference Server.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("server", choices=("triton",), metavar="triton", help="the server")
    parser.add_argument(
        "target",
        type=input_model,
        metavar="MODEL|ENGINE",
        help="a file of --saveEngine; or a model, such as resnet50:fp16, which is built",
    )
    parser.add_argument("-o", dest="output", type=output_folder, metavar="REPOSITORY",
                        required=True, help="the folder of the models; it is made")  # fmt: skip
    served = Group(parser, "how it is served")
    served("--name", type=word, metavar="NAME", help="of the model; default: the engine's")
    served("--max-batch", type=positive, metavar="N",
           help="the largest batch; default: the profiles', and for a MODEL 8")  # fmt: skip
    served("--instances", type=positive, default=1, metavar="N",
           help="how many run at once, on each GPU or on the CPU; default 1")  # fmt: skip
    served("--dynamic-batching", type=whole(0), nargs="?", const=0, metavar="US",
           help="put requests together; the first waits at most US microseconds for others, "
           "default 0: for none that is not there")  # fmt: skip
    served("--ensemble", action="store_true",
           help="also models that take encoded images and give names, masks or boxes")  # fmt: skip
    served("--plan", type=_input_plan, action="append", default=[], metavar="CC:ENGINE",
           help="TensorRT: the engine for GPUs of this compute capability, repeatable")  # fmt: skip
    served("--force", action="store_true", help="replace models of these names")
    images = Group(parser, "preprocessing of images")
    add_preprocess_flags(images)
    add_class_names_flag(images)
    common = {*parser._option_string_actions}
    add_model_flags(Group(parser, "a MODEL"))
    add_precision_flags(Group(parser, "precision of a MODEL"))
    add_calibration_flags(Group(parser, "calibration of a MODEL"))
    add_shape_flags(Group(parser, "shapes of a MODEL"))
    add_backend_flag(Group(parser, "backend of a MODEL"))
    parser.set_defaults(of_models={*parser._option_string_actions} - common)
    return parser
