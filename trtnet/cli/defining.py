"""The network of a zoo model."""

from __future__ import annotations

from typing import Any

from trtnet.backend import Backend
from trtnet.cli.shapes import INPUT, InputShapes
from trtnet.module import Module
from trtnet.network import Network
from trtnet.network.quantizer import Ranges
from trtnet.precision.policy import Policy

OUTPUT = "logits"


def define(
    backend: Backend,
    policy: str | Policy,
    shapes: InputShapes,
    model: Module,
    calibration: Ranges | None = None,
    plugins: str = "auto",
) -> Network:
    """The network of `model`, from the input ``input`` to the output ``logits``, or to several
    outputs where the model returns them by name."""
    network = Network(backend, policy, calibration=calibration, plugins=plugins)
    mark_outputs(network, model(network.input(INPUT, shapes.declared)))
    return network


def mark_outputs(network: Network, result: Any) -> None:
    """Makes what a model returned the outputs of `network`: ``logits``, or by their names."""
    for name, tensor in (result if isinstance(result, dict) else {OUTPUT: result}).items():
        network.output(name, tensor)
