"""What ``trtnet sensitivity`` and ``trtnet search`` share: the model, its ranges, the data."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet import graph, zoo
from trtnet.backend import load
from trtnet.building.profiles import Shapes
from trtnet.cli.arguments import add_backend_flag, add_model_flags
from trtnet.cli.calibrating import source_of
from trtnet.cli.defining import define
from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.model import load_weights, model_arguments
from trtnet.cli.progress import Progress
from trtnet.cli.shapes import InputShapes
from trtnet.finite import json_number
from trtnet.precision.table import QUANTIZED, TENSOR_TYPES
from trtnet.quantization.table import METHODS
from trtnet.search.metrics import Metrics
from trtnet.search.mixable_network import TARGETS, MixableNetwork
from trtnet.search.plot_format import check_format

if TYPE_CHECKING:
    from trtnet.search.data import Data
    from trtnet.search.sensitivities import Sensitivity

_BATCH = 8


@dataclass(frozen=True)
class Work:
    """What the flags ask for, ready to be measured.

    Attributes:
        name: of the model.
        subject: with ranges, where it needs any.
        data: what networks are judged on.
    """

    name: str
    subject: MixableNetwork
    data: Data


def parser(command: str, description: str, items: int) -> Parser:
    """The flags of both; `items` is how many are taken by default."""
    made = Parser(prog=f"trtnet {command}", description=description, allow_abbrev=False)
    made.add_argument("target", metavar="MODEL", help="such as resnet50")
    flag = Group(made, "precision and data")
    flag("--to", choices=TARGETS, default="int8", help="what modules are changed to; default int8")
    flag("--base", choices=TENSOR_TYPES, default="fp16",
         help=f"of the others, beside {' and '.join(QUANTIZED)}; default fp16")  # fmt: skip
    flag("--data", required=True, metavar="DATA",
         help="a folder of images, a .npy file, or a .npz file, which may hold labels; or, for "
         "random weights, random")  # fmt: skip
    flag("--items", type=positive, default=items, metavar="N",
         help=f"how many of them to use at most, spread evenly; default {items}")  # fmt: skip
    flag("--calibrator", choices=METHODS, default="mse", help="default: mse")
    flag("--batch", type=positive, default=_BATCH, metavar="N",
         help=f"batch size of the network, whose time is estimated; default {_BATCH}")  # fmt: skip
    gpus = ", ".join(graph.gpus())
    flag("--gpu", default="l40s", metavar="GPU", help=f"default l40s; one of {gpus}")
    add_model_flags(Group(made, "model"))
    output = Group(made, "backend and output")
    add_backend_flag(output)
    output("--journal", type=Path, metavar="FILE", help="keeps results; goes on where it ended")
    output("--plot", type=Path, metavar="FILE", help="a .png or .svg")
    output("--json", metavar="PATH", help="write a report; - for stdout")
    return made


def prepare(arguments: argparse.Namespace, progress: Progress) -> Work:
    """Loads the model and the data, and calibrates.

    Raises:
        UsageError: flags, data or a model that cannot be used.
    """
    from trtnet.search.data import load_data

    if arguments.plot is not None:
        check_format(arguments.plot)
    entry = zoo.get_entry(arguments.target)
    chosen = model_arguments(entry, arguments)
    module = entry.build(**chosen)
    size = (arguments.image_size,) * 2 if arguments.image_size else entry.input_shape[1:]
    shape = (arguments.batch, entry.input_shape[0], *size)
    shapes = InputShapes(shape, (Shapes.fixed(shape),))
    backend = load(arguments.backend)
    subject = MixableNetwork(
        lambda policy, ranges: define(backend, policy, shapes, module, ranges, arguments.plugins),
        arguments.to,
        arguments.base,
        arguments.gpu,
    )
    with progress.step("weights"):
        weights = load_weights(entry, arguments.weights, arguments.seed, chosen)
        module.load_state_dict(weights)
    source = source_of(arguments.data, weights, shape, arguments.items, arguments.seed + 1)
    data = load_data(
        source,
        subject.in_fp32,
        batch=arguments.batch,
        limit=arguments.items,
        preprocessing=weights.preprocessing,
    )
    with progress.step("calibrate") as update:
        subject = subject.calibrated(
            data,
            arguments.calibrator,
            lambda done, _, rate: update(f"{done}/{data.items} items, {rate:.1f}/s"),
        )
    return Work(entry.name, subject, data)


def row_json(row: Sensitivity) -> dict[str, Any]:
    """One module for the report."""
    return {
        "module": row.module,
        "kind": row.kind,
        **metrics_json(row.metrics),
        "seconds_saved": row.seconds_saved,
    }


def metrics_json(metrics: Metrics) -> dict[str, Any]:
    """JSON values: ``None`` for infinity."""
    values = {**dataclasses.asdict(metrics), "sqnr_db": metrics.sqnr_db}
    return {name: None if value is None else json_number(value) for name, value in values.items()}
