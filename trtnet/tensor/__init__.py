"""Tensor, a handle on an ``ITensor``, and Dim, a size that is known only at run time.

The handle knows no operators: :func:`trtnet.ops.operator.operator` adds them.
"""

from trtnet.tensor.dim import Dim, same_size, same_sizes
from trtnet.tensor.guards import Axis, Guard, Guards
from trtnet.tensor.handle import CastOnUse, FoldableLayer, Tensor, tensors_in
from trtnet.tensor.parameter import Parameter

__all__ = [
    "Axis",
    "CastOnUse",
    "Dim",
    "FoldableLayer",
    "Guard",
    "Guards",
    "Parameter",
    "Tensor",
    "same_size",
    "same_sizes",
    "tensors_in",
]
