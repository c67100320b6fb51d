"""Tensor, a handle on a value in a network, and Dim, a size that is known only at run time.

The handle knows no operators: :func:`trtnet.ops.operator.operator` adds them.
"""

import sys
from types import ModuleType
from typing import Any

from trtnet.host import call_on_host, network_of, pytorch
from trtnet.tensor.dim import Dim, same_size, same_sizes
from trtnet.tensor.guards import Axis, Guard, Guards
from trtnet.tensor.handle import Tensor, cast_on_use, tensors_in
from trtnet.tensor.parameter import Buffer, Parameter
from trtnet.tensor.value import FoldableLayer

__all__ = [
    "Axis",
    "Buffer",
    "Dim",
    "FoldableLayer",
    "Guard",
    "Guards",
    "Parameter",
    "Tensor",
    "cast_on_use",
    "same_size",
    "same_sizes",
    "tensors_in",
]


class _CallableModule(ModuleType):
    """This module, which ``trtnet.tensor(data)`` calls as ``torch.tensor(data)``."""

    def __call__(self, data: Any, **options: Any) -> Any:
        """Values of the host; a Tensor where `data` holds Dims or Tensors."""
        network = network_of(data)
        if network is None:
            return call_on_host("tensor", (data,), options)
        return network.torch_function(pytorch("trtnet.tensor").tensor, (data,), options)


sys.modules[__name__].__class__ = _CallableModule
