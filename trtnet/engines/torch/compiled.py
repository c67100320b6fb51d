"""What the contexts of one engine share: the compiled module and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, fx

from trtnet.engines.protocol import Binding
from trtnet.engines.torch.shapes import OutputShapes

Forward = Callable[..., dict[str, Tensor]]
Shapes = tuple[tuple[int, ...], ...]  # of the inputs, in order


class Built(NamedTuple):
    """What a :class:`ShapeBuilder` made of a network for some shapes.

    Attributes:
        forward: what is called.
        saved_us: microseconds that it takes less than the network as it is, say the times of its
            parts; infinity where that emulates.
        convolves: whether cuDNN, whose kernels can be timed, has a part in it.
    """

    forward: Forward
    saved_us: float
    convolves: bool


class ShapeBuilder(Protocol):
    """Makes an engine's module fast for input shapes, and keeps which way to run it was the
    fastest."""

    @property
    def level(self) -> int:
        """The optimization level, 0 to 5."""

    def build(self, shapes: Shapes) -> Built | None:
        """Something faster for inputs of these shapes; None where it can make nothing. The present
        CUDA stream is used."""

    def for_module(self, module: fx.GraphModule) -> ShapeBuilder:
        """One for `module`, the same network with other weights, that takes the same tactics."""

    def recall(self, shapes: Shapes) -> str | None:
        """The name of the way that was the fastest for `shapes`; None where that is not known."""

    def remember(self, shapes: Shapes, way: str, microseconds: Mapping[str, float]) -> None:
        """Keeps that name, with the times of all ways that were tried."""


@dataclass
class CompiledGraph:
    """A graph compiled for a device, with its weights.

    Attributes:
        bindings: the inputs, then the outputs.
        module: the graph's module, whose nodes know their layers.
        forward: what runs: the ``forward`` of `module`, or what ``torch.compile`` or OpenVINO made
            of it. Not `module`: called, it prints a traceback of what fails.
        runtime: its name, version and threads.
        device: where the weights are.
        output_shapes: answers with the outputs' shapes for given input shapes.
        tactics: None where tactics cannot be timed.
        tf32: whether matrix products and convolutions of float32 values may use TF32.
    """

    bindings: tuple[Binding, ...]
    module: fx.GraphModule
    forward: Forward
    runtime: str
    device: torch.device
    output_shapes: OutputShapes
    tf32: bool
    tactics: ShapeBuilder | None = None

    def release(self) -> None:
        """Frees the weights; nothing can run afterwards."""
        self.module = fx.GraphModule({}, fx.Graph())
        self.forward, self.tactics = self.module.forward, None


def module_of(forward: Forward) -> fx.GraphModule | None:
    """The module whose method `forward` is."""
    found = getattr(forward, "__self__", None)
    return found if isinstance(found, fx.GraphModule) else None
