"""Layers that TensorRT cannot have made: of a damaged archive, or of a graph made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trtnet.errors import NetworkError

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading such a layer raises."""


@contextmanager
def only_layers(name: str = "") -> Iterator[None]:
    """Context manager and decorator: what reading a malformed layer raises becomes an error of
    trtnet.

    Args:
        name: of the layer, where it is known.

    Raises:
        NetworkError: inputs, outputs, shapes or attributes that a layer of its type does not have.
    """
    try:
        yield
    except MALFORMED as error:
        raise NetworkError(
            "inputs, outputs, shapes or attributes that a layer of its type does not have",
            module=name or None,
            got=f"{error!r:.200}",
            fix="read the network or save the graph again",
        ) from error
