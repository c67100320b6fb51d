"""What the contexts of one engine share: the compiled module and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from trtnet.engines.protocol import Binding
from trtnet.engines.torch.shapes import OutputShapes

Forward = Callable[..., dict[str, Tensor]]
Build = Callable[[Sequence[tuple[int, ...]]], Forward | None]


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
        build: what makes a faster forward for given shapes of the inputs, in order, or None where
            it cannot; None without a builder.
        tf32: whether matrix products and convolutions of float32 values may use TF32.
    """

    bindings: tuple[Binding, ...]
    module: fx.GraphModule
    forward: Forward
    runtime: str
    device: torch.device
    output_shapes: OutputShapes
    tf32: bool
    build: Build | None = None

    def release(self) -> None:
        """Frees the weights; nothing can run afterwards."""
        self.module = fx.GraphModule({}, fx.Graph())
        self.forward, self.build = self.module.forward, None
