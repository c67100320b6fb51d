"""What a network reads and writes at the edge to TensorRT's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from trtnet.backend import Backend
from trtnet.errors import NetworkError
from trtnet.network.casts import Casts
from trtnet.network.naming import Scopes
from trtnet.network.quantizer import Quantizer
from trtnet.recipes.ledger import Ledger
from trtnet.tensor import Dim, Tensor, same_size, tensors_in
from trtnet.tensor.emitter import Emitter


class Network(Emitter[Tensor], Protocol):
    """What adding layers needs of a :class:`trtnet.Network`."""

    scopes: Scopes
    casts: Casts
    quantizer: Quantizer
    ledger: Ledger


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


def require_same_network(network: Emitter[Tensor], tensors: Sequence[Tensor | Dim]) -> None:
    """Refuses tensors and sizes of another network."""
    for tensor in tensors:
        if tensor.network is not network:
            raise NetworkError(
                "tensors of two networks cannot be mixed",
                got=f"{tensor!r} of another network",
                fix="call the module on tensors of one trtnet.Network",
            )


class Layers:
    """Adds the layers of one network.

    Args:
        network: the network.
        backend: that it is defined with.
    """

    def __init__(self, network: Network, backend: Backend) -> None:
        self._network, self._backend = network, backend

    def add(
        self,
        op: str,
        method: str,
        args: Sequence[Any],
        dims: Sequence[Sequence[Any] | None],
        inputs: Mapping[int, Tensor],
        attributes: Mapping[str, Any],
    ) -> list[Tensor]:
        """See :meth:`trtnet.Network.emit_all`."""
        network = self._network
        sizes = [size for known in dims for size in known or () if isinstance(size, Dim)]
        taken = [*tensors_in(tuple(args)), *inputs.values()]
        require_same_network(network, [*taken, *sizes])
        plain = [itensors(argument) for argument in args]  # may emit pending layers first
        extra = {index: tensor.itensor for index, tensor in inputs.items()}
        name = network.scopes.in_path(op)
        self._backend.clear_errors()
        try:
            layer = added_layer(self._backend, getattr(network.definition, method)(*plain), name)
            layer.name = name
            for attribute, value in attributes.items():
                setattr(layer, attribute, value)
        except TypeError as error:
            words = str(error).partition("Invoked with")[0].strip()
            raise NetworkError(
                "TensorRT's binding does not take these arguments", module=name, got=words
            ) from error
        for index, itensor in extra.items():
            layer.set_input(index, itensor)
        network.ledger.place(name, method, args)
        outputs = self._outputs(layer, name, dims)
        network.casts.follow(method, taken, outputs)
        network.quantizer.follow(method, taken, outputs)
        return outputs

    def _outputs(self, layer: Any, name: str, dims: Sequence[Sequence[Any] | None]) -> list[Tensor]:
        """The named outputs of the new `layer`, read at once."""
        network, backend = self._network, self._backend
        outputs = []
        for index, known in enumerate(dims):
            itensor = layer.get_output(index)
            itensor.name = name if len(dims) == 1 else network.scopes.unique(f"{name}.{index}")
            outputs.append(Tensor(network, itensor, read_shape(network, backend, itensor, known)))
        complaint = backend.take_errors()  # setters refuse values by logging only
        if complaint:
            raise NetworkError("TensorRT refused the layer", module=name, got=complaint)
        return outputs

    def boundary(
        self, op: str, add: Callable[[], Any], dims: Sequence[Sequence[Any] | None]
    ) -> tuple[Any, list[Tensor]]:
        """The layer that ``add()`` adds at the boundary of a loop, and its outputs."""
        name = self._network.scopes.in_path(op)
        self._backend.clear_errors()
        layer = added_layer(self._backend, add(), name)
        layer.name = name
        return layer, self._outputs(layer, name, dims)
