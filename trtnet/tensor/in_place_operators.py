"""The base class of Tensor that holds its in-place operators.

The methods are added by :func:`trtnet.ops.operator.operator`, on the floor above. Type checkers
read their signatures in ``in_place_operators.pyi``, written by ``python tools/operator_stubs.py``.
"""


class InPlaceOperators:
    """Methods and operators of :class:`trtnet.Tensor` that change it: ``add_``, ``+=`` ..."""

    __slots__ = ()
