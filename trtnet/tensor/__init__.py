"""Tensor, a handle on an ``ITensor``, and Dim, a size that is known only at run time.

The handle knows no operators: :func:`trtnet.ops.operator.operator` adds them.
"""

import sys
from types import ModuleType
from typing import Any

from trtnet.host import call_on_host, network_of, pytorch
from trtnet.tensor.dim import Dim
from trtnet.tensor.handle import CastOnUse, FoldableLayer, Tensor, tensors_in
from trtnet.tensor.parameter import Buffer, Parameter

__all__ = [
    "Buffer",
    "CastOnUse",
    "Dim",
    "FoldableLayer",
    "Parameter",
    "Tensor",
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
