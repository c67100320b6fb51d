"""What layers that have weights share: ``device=`` and ``dtype=``, and ``reset_parameters``."""

from __future__ import annotations

from typing import Any

from trtnet.dtypes import DType, dtype_of
from trtnet.errors import UnsupportedError
from trtnet.module import Module
from trtnet.module.counterpart import counterpart


class WeightedLayer(Module):
    """A layer that has weights."""

    def reset_parameters(self) -> None:
        """Writes what PyTorch's layer begins with, by PyTorch's own function and generator."""
        made = counterpart(self)
        reset = getattr(made, "reset_parameters", None) or getattr(made, "_reset_parameters", None)
        if reset is not None:
            reset()


def check_factory(device: Any, dtype: Any) -> None:
    """Refuses a `dtype` that weights cannot have. Where weights lie, and what is computed in, is
    the network's choice: neither keyword has an effect.

    Raises:
        UnsupportedError: `dtype` is no floating-point type.
    """
    if dtype is None or str(dtype) in ("torch.float64", "float64"):
        return
    if not isinstance(dtype, DType):
        dtype = dtype_of(dtype)
    if not dtype.is_floating_point:
        raise UnsupportedError(
            "weights are of a floating-point type", expected="float32", got=str(dtype)
        )
