"""The network of a model: its input, its module and its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtnet.backend import Backend
from trtnet.errors import NetworkError, UsageError
from trtnet.module import Module
from trtnet.network import Network
from trtnet.network.forms import NATIVE
from trtnet.network.quantizer import Ranges
from trtnet.pipeline.shapes import InputShapes
from trtnet.precision.policy import Policy

OUTPUT = "logits"
"""The name of the output of a model that returns one tensor."""


def define(
    backend: Backend,
    policy: str | Policy,
    shapes: InputShapes,
    model: Module,
    calibration: Ranges | None = None,
    plugins: str = "auto",
    nms: str = "native",
) -> Network:
    """The network of `model`, with its one input and the outputs of :func:`mark_outputs`.

    Args:
        backend: a loaded one; see :func:`trtnet.backend.load`.
        policy: a policy, or the name of a preset.
        shapes: name, sizes and dynamic axes of the input.
        model: with weights.
        calibration: ranges, for INT8 and FP8; without them such a network observes.
        plugins, nms: see :class:`trtnet.Network`.

    Raises:
        UsageError: `nms` is chosen for a model that suppresses no boxes.
    """
    network = Network(backend, policy, calibration=calibration, plugins=plugins, nms=nms)
    mark_outputs(network, model(network.input(shapes.name, shapes.declared)))
    if nms != NATIVE and not network.suppresses:
        raise UsageError("the model suppresses no boxes", got=f"nms={nms!r} (--nms {nms})",
                         fix="leave it out")  # fmt: skip
    return network


def mark_outputs(network: Network, result: Any) -> None:
    """Marks what a model returned as the outputs of `network`: one tensor as ``logits``, a mapping
    by its names, a sequence of several as ``output0``, ``output1`` and so on."""
    if isinstance(result, (tuple, list)):
        named: Mapping[str, Any] = {f"output{i}": tensor for i, tensor in enumerate(result)}
    else:
        named = result if isinstance(result, Mapping) else {OUTPUT: result}
    if not named:
        raise NetworkError(
            "the model returned no output",
            got=repr(result),
            expected="a tensor, or a tuple, list or dict of tensors",
            fix="return the outputs from forward()",
        )
    for name, tensor in named.items():
        network.output(name, tensor)
