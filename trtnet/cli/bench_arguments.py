"""The flags of ``trtnet bench``: trtexec's names where trtexec has them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from trtnet.benchmark import Settings
from trtnet.building.profiles import Shapes
from trtnet.cli.arguments import add_model_flags, add_plugins_flag, add_shape_flags
from trtnet.cli.device_flags import add_builder_flags, add_device_flags, add_runtime_flags
from trtnet.cli.flags import Group, Parser, real, whole
from trtnet.cli.gpu_flags import add_gpu_flags
from trtnet.cli.paths import input_model, output_file, output_report, word
from trtnet.cli.precision import add_calibration_flags, add_precision_flags
from trtnet.cli.preprocess_flags import add_preprocess_flags
from trtnet.cli.shapes import parse_sizes
from trtnet.engines.protocol import Binding
from trtnet.errors import UsageError

_DAY = 86_400  # seconds; the longest that a measurement or a pause in it may take
_STREAMS = 1024
_milliseconds = real(0, 1000 * _DAY)

_EPILOG = """\
A model of the zoo is built for the torch backend in memory unless --backend says otherwise.
Flags in camel case are accepted in kebab case too: --warm-up is --warmUp."""


def bench_parser() -> Parser:
    """The parser of ``trtnet bench``."""
    parser = Parser(
        prog="trtnet bench",
        description="Measures an engine as trtexec does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        type=input_model,
        metavar="ENGINE|MODEL",
        help="an engine file, or a model such as resnet50:fp16",
    )
    _add_measurement_flags(Group(parser, "measurement"))
    _add_output_flags(Group(parser, "output"))
    where = Group(parser, "where")
    add_device_flags(where)
    add_runtime_flags(where)
    add_builder_flags(where)
    shapes = Group(parser, "shapes")
    shapes(
        "--shapes",
        type=word,
        metavar="SPEC",
        help="what is measured: input:8x3x224x224, several with commas; default: opt shapes",
    )
    add_shape_flags(shapes)
    model = Group(parser, "model")
    add_model_flags(model)
    add_plugins_flag(model)
    add_precision_flags(Group(parser, "precision of a model"))
    add_calibration_flags(Group(parser, "calibration of a model"))
    add_preprocess_flags(Group(parser, "preprocessing of the images of --calib-data"))
    return parser


def _add_measurement_flags(flag: Group) -> None:
    flag("--warmUp", type=_milliseconds, default=200, metavar="MS", help="default 200")
    flag("--duration", type=real(0, _DAY), default=3, metavar="S", help="at least, default 3")
    flag("--iterations", type=whole(0), default=10, metavar="N", help="at least, default 10")
    flag("--infStreams", type=whole(1, _STREAMS), default=1, metavar="N",
         help="streams that run side by side")  # fmt: skip
    flag("--threads", action="store_true", help="a thread for each stream")
    flag("--idleTime", type=_milliseconds, default=0, metavar="MS", help="pause between iterations")
    flag("--useCudaGraph", action="store_true", help="launch captured CUDA graphs")
    flag("--noDataTransfers", action="store_true", help="leave inputs and outputs on the device")


def _add_output_flags(flag: Group) -> None:
    flag("--dumpProfile", action="store_true", help="times of each layer")
    flag("--exportProfile", type=output_file, metavar="FILE", help="the same as JSON")
    flag("--exportTimes", type=output_file, metavar="FILE", help="times of each query as JSON")
    add_gpu_flags(flag, None, "whose roofline to compare with, by default that of the one here")
    flag(
        "--network",
        type=input_model,
        metavar="MODEL|GRAPH",
        help="what a TensorRT engine computes, such as resnet50:fp16, for its roofline",
    )
    flag("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")


def settings(arguments: argparse.Namespace) -> Settings:
    """How to measure; raises :class:`UsageError` if there is nothing to measure."""
    return Settings(
        warm_up_ms=arguments.warmUp,
        duration_s=arguments.duration,
        iterations=arguments.iterations,
        transfers=not arguments.noDataTransfers,
        threads=arguments.threads,
        idle_ms=arguments.idleTime,
    )


def parse_shapes(text: str) -> dict[str | None, tuple[int, ...]]:
    """trtexec's ``--shapes``; the name may be left out.

    >>> parse_shapes("ids:1x128,mask:1x128")
    {'ids': (1, 128), 'mask': (1, 128)}
    """
    found: dict[str | None, tuple[int, ...]] = {}
    for part in text.split(","):
        name, _, sizes = part.rpartition(":")
        if (name or None) in found:
            raise UsageError(f"--shapes: two shapes for one input: {text!r}")
        found[name or None] = parse_sizes(sizes, part)
    return found


def runtime_shapes(
    arguments: argparse.Namespace,
    inputs: Sequence[Binding],
    profiles: Sequence[Mapping[str, Shapes]],
) -> dict[str, tuple[int, ...]]:
    """The shape of each input that is measured.

    Raises:
        UsageError: shapes for inputs that are not there, or an input whose values are a shape.
    """
    hosted = [binding.name for binding in inputs if binding.on_host]
    if hosted:
        raise UsageError(
            f"the values of the input {hosted[0]!r} decide shapes, so none can be made up",
            fix="measure it from Python: with session.lane() as lane: ...",
        )
    found = {binding.name: profiles[0][binding.name].opt for binding in inputs}
    for name, shape in parse_shapes(arguments.shapes).items() if arguments.shapes else ():
        key = inputs[0].name if name is None else name
        if key not in found:
            raise UsageError(f"--shapes: there is no input {key!r}", expected=", ".join(found))
        found[key] = shape
    if arguments.batch and not arguments.shapes:
        found = {name: (arguments.batch, *shape[1:]) for name, shape in found.items()}
    return found
