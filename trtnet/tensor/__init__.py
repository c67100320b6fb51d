"""Tensor, a handle on a value in a network, and Dim, a size that is known only at run time.

The handle knows no operators: :func:`trtnet.ops.operator.operator` adds them.
"""

from trtnet.tensor.dim import Dim, same_size, same_sizes
from trtnet.tensor.guards import Axis, Guard, Guards
from trtnet.tensor.handle import Tensor, cast_on_use, tensors_in
from trtnet.tensor.parameter import Parameter
from trtnet.tensor.value import FoldableLayer

__all__ = [
    "Axis",
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
