"""Tensor, a handle on an ``ITensor``, and Dim, a size that is known only at run time.

The handle knows no operators: :func:`trtnet.ops.operator.operator` adds them.
"""

from trtnet.tensor.dim import Dim
from trtnet.tensor.handle import CastOnUse, FoldableLayer, Tensor, tensors_in
from trtnet.tensor.parameter import Parameter

__all__ = ["CastOnUse", "Dim", "FoldableLayer", "Parameter", "Tensor", "tensors_in"]
