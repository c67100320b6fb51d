"""Values on the host: PyTorch's tensors that also take trtnet's types, sizes and tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import UnsupportedError
from trtnet.host.networks import network_of
from trtnet.host.pytorch import pytorch

# Left operands give way to a trtnet.Tensor at the right, whose operator knows how to add a layer.
_OPERATORS = frozenset(
    f"__{reflected}{name}__"
    for name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and",
        "or",
        "xor",
    )
    for reflected in ("", "r")
) | {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
_IN_PLACE = frozenset(
    f"__i{name[2:]}"
    for name in _OPERATORS
    if not name.startswith(("__r", "__eq", "__ne", "__l", "__g"))
)
_SPECIAL = _OPERATORS | _IN_PLACE | {"__getitem__", "__setitem__"}
_OWN = frozenset({"as_subclass", "register_hook", "requires_grad_"})


@functools.cache
def host_type() -> Any:
    """The class of tensors on the host: a ``torch.Tensor`` whose methods take trtnet's dtypes, and
    that becomes a constant of the network where a method gets a Tensor or a Dim."""
    torch = pytorch()
    base = torch.Tensor
    methods = {
        name: _method(name, getattr(base, name))
        for name in dir(base)
        if (name in _SPECIAL or not name.startswith("_"))
        and name not in _OWN
        and callable(getattr(base, name))
    }
    return type("HostTensor", (base,), {"__hash__": base.__hash__, **methods})


def _method(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain, updated=())
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs:
            return plain(self)
        network = network_of((args, kwargs))
        if network is not None:
            return in_network(network, name, as_array(self), args, kwargs)
        taken, named = as_torch(args), as_torch(kwargs)
        return plain(self, *taken, **named)

    return method


def in_network(
    network: Any,
    name: str,
    value: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    parameter: str = "",
) -> Any:
    """``value.name(*args, **kwargs)``, of which an argument belongs to `network`: a layer of it.

    Args:
        value: a Parameter or an array, which becomes a constant.
        parameter: name of the Parameter in its module.

    Raises:
        UnsupportedError: the method writes into `value`, or Tensor has no such method.
    """
    if name in _OPERATORS and hasattr(type(args[0]), "itensor"):
        return NotImplemented
    if name == "__setitem__" or name in _IN_PLACE or (name[-1] == "_" and name[0] != "_"):
        raise UnsupportedError(
            f"{name} would write values that are known only at run time into values of the host",
            fix="compute a new tensor, with trtnet.where, trtnet.cat or trtnet.stack",
        )
    constant = network.constant(value, name=parameter)
    method = getattr(constant, name, None)
    if method is None:
        raise UnsupportedError(f"trtnet.Tensor has no method {name}()")
    return method(*args, **kwargs)


def as_torch(value: Any) -> Any:
    """`value` as PyTorch takes it: Parameters and arrays as tensors, dtypes as PyTorch's; also
    inside tuples, lists and dicts."""
    if isinstance(value, DType):
        return getattr(pytorch(), value.element.torch)
    if isinstance(value, np.ndarray):
        return as_host(value)
    if type(value) is dict:
        return {key: as_torch(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(as_torch, value))
    if hasattr(type(value), "on_host"):
        return value.on_host()
    return value


def as_host(value: Any) -> Any:
    """Tensors of PyTorch, and arrays, as :func:`host_type`, without a copy where the memory may be
    written; also inside tuples and lists. Anything else is left as it is."""
    if isinstance(value, np.ndarray):
        writable = value if value.flags.writeable and value.dtype.isnative else value.copy()
        return pytorch().from_numpy(writable).as_subclass(host_type())
    if isinstance(value, pytorch().Tensor):
        return value if isinstance(value, host_type()) else value.as_subclass(host_type())
    if type(value) in (tuple, list):
        return type(value)(map(as_host, value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # of max, sort, ...
        return type(value)(*map(as_host, value))
    return value


def as_array(value: Any) -> np.ndarray:
    """The memory of a tensor of PyTorch as an array; bfloat16, which numpy lacks, as float32."""
    value = value.detach().resolve_conj().resolve_neg().cpu()
    if str(value.dtype) == "torch.bfloat16":
        value = value.float()
    with pytorch()._C.DisableTorchFunction():  # recipes follow the memory; see recipes.watch
        array: np.ndarray = value.numpy()
    return array
