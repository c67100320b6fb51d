"""What ``trtnet inspect|verify|cost|diff|lint`` look at: a model of the zoo, or a saved graph."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import graph, zoo
from trtnet.backend import load
from trtnet.cli.arguments import add_backend_flag, add_model_flags, add_shape_flags
from trtnet.cli.calibrating import Calibrator, unit_ranges
from trtnet.cli.defining import define
from trtnet.cli.flags import Group, Parser
from trtnet.cli.model import load_weights, model_arguments
from trtnet.cli.precision import add_calibration_flags, add_precision_flags, named
from trtnet.cli.progress import Progress
from trtnet.cli.ranges import check_range
from trtnet.cli.report import human_stream
from trtnet.cli.shapes import INPUT, InputShapes, input_shapes
from trtnet.module import Module
from trtnet.network import Network
from trtnet.network.quantizer import Ranges
from trtnet.precision.policy import Policy
from trtnet.precision.table import QUANTIZED
from trtnet.weights import Weights
from trtnet.zoo import Entry

if TYPE_CHECKING:
    from trtnet.quantization import Batches

HELP = "a model of the zoo, such as resnet50 or resnet50:fp16, or a file of graph.save()"


@dataclass(frozen=True)
class Model:
    """A zoo model that was defined for a look at it.

    Attributes:
        chosen: its builder's arguments.
        data: what it was calibrated on, if it was.
    """

    entry: Entry
    chosen: Mapping[str, Any]
    module: Module
    network: Network
    shapes: InputShapes
    data: Batches | None = None


@dataclass(frozen=True)
class Target:
    """A network as a graph, and the model it came from if it did not come from a file."""

    name: str
    graph: graph.Graph
    model: Model | None = None

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The input shapes to reckon with; those of the graph itself for a file."""
        return {} if self.model is None else {INPUT: self.model.shapes.typical[0]}


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
    add_shape_flags(Group(made, "shapes"))
    output = Group(made, "backend and output")
    add_backend_flag(output)
    output("--json", metavar="PATH", help="write a report; - for stdout")
    return made


def find(text: str, arguments: argparse.Namespace, *, values: bool, ranges: bool = False) -> Target:
    """The target that `text` names.

    Args:
        text: a model's name, which may end in ``:fp16`` or another precision, or a file.
        arguments: what :func:`parser` parsed.
        values: whether the weights matter. Where only structure does, and no ``--weights`` are
            asked for, ones take their place and nothing is initialised or downloaded.
        ranges: whether the ranges of a quantized network matter. Where they do not, and no
            ``--calib-data`` or table is given, ones take their place.

    Raises:
        UsageError: neither a model nor a file, or ranges that nothing tells.
        NetworkError: with ``--calib-data``, FP16 for a network that overflows in it.
    """
    if Path(text).is_file():
        return Target(text, graph.load(text))
    name, policy = named(text, arguments)
    entry = zoo.get_entry(name)
    chosen = model_arguments(entry, arguments)
    module = entry.build(**chosen)
    values = values or arguments.calib_data is not None
    if values or arguments.weights is not None:
        weights = load_weights(entry, arguments.weights, arguments.seed, chosen)
    else:
        weights = Weights(_ones(module))
    module.load_state_dict(weights)
    shapes = input_shapes(arguments, entry.input_shape)
    network, data = _network(arguments, policy, shapes, module, weights, ranges)
    network.check()
    model = Model(entry, chosen, module, network, shapes, data)
    return Target(text, graph.read(network.definition), model)


def _network(
    arguments: argparse.Namespace,
    policy: Policy,
    shapes: InputShapes,
    module: Module,
    weights: Weights,
    ranges: bool,
) -> tuple[Network, Batches | None]:
    """The network, and the data it was calibrated on if it was."""
    backend = load(arguments.backend)
    quantizes = policy.uses(*QUANTIZED)

    def defined(table: Ranges | None) -> Network:
        return define(backend, policy, shapes, module, table, arguments.plugins)

    given = arguments.calib_data is not None or (quantizes and arguments.calib_table is not None)
    if not given and not (quantizes and ranges):
        table = unit_ranges(defined(None)) if quantizes else None
        return defined(table), None
    calibrator = Calibrator(arguments, backend, policy, shapes, module, weights)
    stream = human_stream(arguments.json)
    with Progress(stream).step("calibrate") as update:
        calibrated = calibrator.run(None, {}, update)
    network = defined(calibrated.table)
    check_range(calibrated.rows, network, stream)
    return network, calibrated.data


def _ones(module: Module) -> dict[str, np.ndarray]:
    slots = [*module.named_parameters(), *module.named_buffers()]
    return {name: np.broadcast_to(np.float32(1), slot.shape) for name, slot in slots}
