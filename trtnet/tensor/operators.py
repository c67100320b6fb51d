"""Operators: the base class of Tensor that holds its operators.

The methods are added by :func:`trtnet.ops.operator.operator`, on the floor above. Type checkers
read their signatures in ``operators.pyi``, which ``python tools/operator_stubs.py`` writes.
"""


class Operators:
    """Methods and operators of :class:`trtnet.Tensor` that are functions of ``trtnet.ops``."""

    __slots__ = ()
