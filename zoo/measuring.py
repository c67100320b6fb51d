"""The size of a model, and what one run of it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trtnet.errors import BackendError
from trtnet.module import Module
from trtnet.tensor import tensors_in


def parameter_count(model: Module) -> int:
    """The number of learned values that `model` has; buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def mac_count(model: Module, input_shape: Sequence[int], backend: str = "auto") -> int | None:
    """Multiply-accumulates of one forward pass; ``None`` where no TensorRT is installed.

    The network is defined to count them. `model` is given zeros for weights.

    Args:
        input_shape: of one input, without its batch axis.
        backend: as for :class:`trtnet.Network`.

    Raises:
        TrtnetError: the network cannot be defined for this shape.
    """
    from trtnet import graph
    from trtnet.network import Network

    try:
        network = Network(backend, fold_batch_norm=False)
    except BackendError:
        return None
    slots = [*model.named_parameters(), *model.named_buffers()]
    model.load_state_dict({key: np.broadcast_to(np.float32(0), slot.shape) for key, slot in slots})
    result = model(network.input("input", (1, *input_shape)))
    for index, tensor in enumerate(tensors_in([result])):
        network.output(f"output{index}", tensor)
    return graph.macs(graph.read(network.definition))
