"""Calls the operator of trtnet that has the name, and the arguments, of a function of PyTorch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MethodDescriptorType
from typing import Any

import numpy as np

from trtnet import ops
from trtnet.dtypes import DType, dtype_of
from trtnet.errors import UnsupportedError
from trtnet.names import did_you_mean
from trtnet.tensor import Tensor, tensors_in
from trtnet.torch_functions.aliases import ALIASES
from trtnet.torch_functions.aten import aten_operator
from trtnet.values import array_from

# Where a tensor lies and how PyTorch keeps it: nothing of this exists in a network.
_PLACEMENT = frozenset(
    {"device", "layout", "memory_format", "non_blocking", "pin_memory", "requires_grad"}
)


_NAMESPACES = frozenset({"aten", "prims", "prim", "torchvision", ""})  # of PyTorch's operators


def call_torch_function(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of `function`, of PyTorch, on arguments of which some are trtnet's tensors.

    Real tensors among the arguments become constants of the network.

    Raises:
        UnsupportedError: trtnet has no such operator.
    """
    taken = [as_operand(value) for value in args]
    named = {name: as_operand(value) for name, value in kwargs.items()}
    call = operator_call(function, taken, named)
    if call is None:
        raise no_operator(function)
    return call()


def operator_call(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[], Any] | None:
    """The call of trtnet's operator for `function`, of PyTorch, with its arguments; ``None`` where
    there is no such operator, or it does not take these arguments."""
    operator = operator_of(function)
    if operator is None:
        return None
    names: Mapping[str, str] = getattr(operator, "also_named", {})
    named = {names.get(key, key): kwargs[key] for key in kwargs if key not in _PLACEMENT}
    if named.get("out", 0) is None:
        del named["out"]
    try:
        bound = _signature(operator).bind(*args, **named)
    except TypeError:
        return None
    _make_tensors(bound)
    call = functools.partial(operator, *bound.args, **bound.kwargs)
    count = len(getattr(getattr(function, "_schema", None), "returns", ()))
    return functools.partial(_of_results, function, count, call) if count > 1 else call


def _of_results(function: Any, count: int, call: Callable[[], Any]) -> Any:
    """What `call` gives for an ATen operator with `count` results. PyTorch's function of the same
    name may have fewer, and a tensor that is unpacked in place of a tuple comes apart silently."""
    found = call()
    if not isinstance(found, tuple) or len(found) != count:
        raise no_operator(function)
    return found


def _make_tensors(bound: inspect.BoundArguments) -> None:
    """Constants in place of arrays where the operator takes nothing but a Tensor."""
    parameters = bound.signature.parameters
    for name, value in bound.arguments.items():
        if isinstance(value, np.ndarray) and parameters[name].annotation in _TENSOR:
            network = tensors_in(list(bound.arguments.values()))[0].network
            bound.arguments[name] = network.constant(value)


_TENSOR = ("Tensor", Tensor, "Tensor | None")


_signature = functools.cache(inspect.signature)


@functools.cache
def operator_of(function: Any) -> Any:
    """The operator of trtnet for `function`, of PyTorch; ``None`` where there is none."""
    name = name_of(function)
    if not isinstance(function, FunctionType):  # written in C++, with the arguments of ATen
        aten = aten_operator(name)
        if aten is not None:
            return aten
    is_method = isinstance(function, MethodDescriptorType)  # x.unfold() is not F.unfold(x)
    places = (Tensor, ops) if is_method else (ops, Tensor)
    for known in (ALIASES.get(name, name), name):
        for place in places:
            found = getattr(place, known, None)
            if callable(found):
                return found
    return None


def name_of(function: Any) -> str:
    """The name of `function`, of PyTorch; that of an ATen operator without its overload. Functions
    that others named, such as ``mylib::relu`` or one of TorchScript, get a name that no function
    of PyTorch has."""
    schema = getattr(function, "_schema", None)
    if schema:
        space, _, name = str(schema.name).rpartition("::")
        return name if space in _NAMESPACES else str(schema.name)
    packet = getattr(function, "_qualified_op_name", None)  # of torch.ops.aten.relu
    if packet:
        space, _, name = str(packet).rpartition("::")
        return name if space in _NAMESPACES else str(packet)
    if type(function).__name__ in ("ScriptFunction", "ScriptMethod"):
        return f"jit::{function.name}"
    if isinstance(function, FunctionType) and function.__module__.partition(".")[0] != "torch":
        return f"{function.__module__}.{function.__qualname__}"
    return str(function.__name__)


_COMPLEX = (
    "TensorRT has no complex numbers: compute real and imaginary parts apart; a spectrum is "
    "F.conv1d with rows of cosines and sines, times the window, as weight"
)
_PACKED = (
    "a network computes every row to the same length: leave the sequences padded, and mask what "
    "lies behind their ends"
)
_REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(("stft", "istft", "polar", "view_as_complex", "complex"), _COMPLEX),
    **dict.fromkeys(("_pack_padded_sequence", "_pad_packed_sequence"), _PACKED),
}


def no_operator(function: Any) -> UnsupportedError:
    """The error for a function of PyTorch that trtnet has no operator for."""
    name = name_of(function)
    known = _COMPLEX if name.lstrip("_").startswith("fft_") else _REMEDIES.get(name)
    return UnsupportedError(
        f"trtnet has no torch.{name}, or not with these arguments",
        fix=known or did_you_mean(name, dir(ops)) or "write it with operators that trtnet has",
    )


def as_operand(value: Any) -> Any:
    """`value` as an operator of trtnet takes it: real tensors as arrays, types as trtnet's."""
    import torch

    if isinstance(value, torch.Tensor):
        return array_from(value)
    if isinstance(value, torch.dtype):
        return DType.FLOAT32 if value is torch.float64 else dtype_of(value)
    if isinstance(value, (list, tuple)):
        is_named = isinstance(value, torch.Size) or hasattr(value, "_fields")
        kind = tuple if is_named else type(value)
        return kind(map(as_operand, value))
    return value
