"""What a network reads and writes at the edge to TensorRT's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.backend import Backend
from trtnet.errors import NetworkError
from trtnet.tensor import Dim, Tensor, same_size
from trtnet.tensor.emitter import Emitter


def added_layer(backend: Backend, added: Any, name: str) -> Any:
    """`added`, what an ``add_*`` method returned; raises NetworkError where that is None."""
    if added is None:
        raise NetworkError(
            "TensorRT refused the layer",
            module=name,
            got=backend.take_errors() or "no reason given",
        )
    return added


def itensors(argument: Any) -> Any:
    """`argument` of an ``add_*`` method with the ``ITensor`` in place of every Tensor."""
    if isinstance(argument, (list, tuple)):
        return type(argument)(itensors(item) for item in argument)
    return argument.itensor if isinstance(argument, Tensor) else argument


def read_shape(
    network: Emitter[Tensor], backend: Backend, itensor: Any, known: Sequence[Any] | None
) -> tuple[Any, ...] | None:
    """Sizes of the new tensor `itensor`, read at once: TensorRT reports some mistakes only then.

    Args:
        known: sizes that the caller knows, -1 where not; they replace what TensorRT only knows to
            be dynamic. ``None`` is returned where there are none and an axis is dynamic.
    """
    try:
        sizes = tuple(itensor.shape)
    except (RuntimeError, ValueError) as error:
        raise NetworkError(
            "TensorRT refused the layer",
            module=itensor.name,
            got=backend.take_errors() or error,
        ) from error
    if -1 not in sizes:
        return sizes
    if known is None or len(known) != len(sizes):
        return None
    return tuple(
        size
        if size >= 0
        else (Dim(network, ("size", itensor, axis)) if same_size(hint, -1) else hint)
        for axis, (size, hint) in enumerate(zip(sizes, known, strict=True))
    )
