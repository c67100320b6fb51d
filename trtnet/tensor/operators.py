"""Operators: the base class of Tensor that holds its operators.

The methods are added by :func:`trtnet.ops.operator.operator`, on the floor above. Type checkers
read their signatures in ``operators.pyi``, which ``python tools/operator_stubs.py`` writes.
"""

from typing import Any

from trtnet.host import pytorch
from trtnet.tensor.in_place_operators import InPlaceOperators


class Operators(InPlaceOperators):
    """Methods and operators of :class:`trtnet.Tensor` that are functions of ``trtnet.ops``."""

    __slots__ = ()

    @property
    def device(self) -> Any:
        """PyTorch's ``device("cpu")``, for code that asks: a tensor of a network has none."""
        return pytorch("Tensor.device").device("cpu")
