"""What ``trtnet inspect|verify|cost|diff|lint`` look at: a model of the zoo, or a saved graph."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtnet import graph, zoo
from trtnet.backend import load
from trtnet.cli.arguments import (
    PRECISIONS,
    Group,
    Parser,
    add_backend_flag,
    add_model_flags,
    add_precision_flags,
    add_shape_flags,
    settle_precision,
)
from trtnet.cli.job import define
from trtnet.cli.model import load_weights, model_arguments
from trtnet.cli.shapes import INPUT, InputShapes, input_shapes
from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.network import Network
from trtnet.zoo import Entry

HELP = "a model of the zoo, such as resnet50 or resnet50:fp16, or a file of graph.save()"


@dataclass(frozen=True)
class Model:
    """A zoo model that was defined for a look at it; `chosen` are its builder's arguments."""

    entry: Entry
    chosen: Mapping[str, Any]
    module: Module
    network: Network
    shapes: InputShapes


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
    add_shape_flags(Group(made, "shapes"))
    output = Group(made, "backend and output")
    add_backend_flag(output)
    output("--json", metavar="PATH", help="write a report; - for stdout")
    return made


def find(text: str, arguments: argparse.Namespace, *, values: bool) -> Target:
    """The target that `text` names.

    Args:
        text: a model's name, which may end in ``:fp16`` or another precision, or a file.
        arguments: what :func:`parser` parsed.
        values: whether the weights matter. Where only structure does, and no ``--weights`` are
            asked for, ones take their place and nothing is initialised or downloaded.

    Raises:
        UsageError: neither a model nor a file.
    """
    if Path(text).is_file():
        return Target(text, graph.load(text))
    name, colon, precision = text.partition(":")
    if colon and precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", expected=", ".join(PRECISIONS))
    entry = zoo.get_entry(name)
    chosen = model_arguments(entry, arguments)
    module = entry.build(**chosen)
    if values or arguments.weights is not None:
        module.load_state_dict(load_weights(entry, arguments.weights, arguments.seed, chosen))
    else:
        module.load_state_dict(_ones(module))
    shapes = input_shapes(arguments, entry.input_shape)
    network = define(
        load(arguments.backend), precision or settle_precision(arguments), shapes, module
    )
    return Target(
        text, graph.read(network.definition), Model(entry, chosen, module, network, shapes)
    )


def _ones(module: Module) -> dict[str, np.ndarray]:
    slots = [*module.named_parameters(), *module.named_buffers()]
    return {name: np.broadcast_to(np.float32(1), slot.shape) for name, slot in slots}
