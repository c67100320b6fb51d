"""Network layers that give the positions along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter


def axis_positions(network: Emitter[Tensor], size: Any) -> Tensor:
    """Returns 0, 1, ... `size` - 1 as a float32 tensor of shape (size,); `size` may be a Dim."""
    if isinstance(size, int):
        return network.constant(np.arange(size, dtype=np.float32))
    return network.emit(
        "ramp",
        "add_fill",
        [1],
        network.trt.FillOperation.LINSPACE,
        float32.of(network.trt),
        dims=[size],
        inputs={0: network.sizes([size])},
        alpha=0.0,
        beta=1.0,
    )
