"""``@operator``: the one way in which a function becomes an operator of trtnet."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from trtnet.exports import export
from trtnet.host import call_on_host, network_of
from trtnet.ops.aliasing import aliasing
from trtnet.ops.inplace import AUGMENTED, FUNCTIONS, MOVES, NO_METHODS, in_place
from trtnet.tensor import Tensor
from trtnet.tensor.in_place_operators import InPlaceOperators
from trtnet.tensor.operators import Operators

Function = TypeVar("Function", bound=Callable[..., Any])

_HOMES: dict[str, str] = {}  # the file of each operator; filled while the files are imported


@overload
def operator(function: Function) -> Function: ...
@overload
def operator(
    *, methods: Sequence[str] | None = None, reflected: str | None = None
) -> Callable[[Function], Function]: ...


def operator(
    function: Any = None, *, methods: Sequence[str] | None = None, reflected: str | None = None
) -> Any:
    """Exports a function of a file in ``trtnet/ops``, and makes it a method of Tensor.

    The function is then ``trtnet.ops.<name>`` and ``trtnet.<name>``. What is defined in a file
    that :mod:`trtnet.nn.functional` takes its names from is ``F.<name>`` as well. Where PyTorch
    has it in place too, ``<name>_`` is made along with it; see :mod:`trtnet.ops.inplace`. Where no
    argument is a Tensor or a Dim, PyTorch's function of that name computes on the host.

    Args:
        methods: the methods of Tensor that call it with the tensor as first argument; its own
            name by default, none for ``()``.
        reflected: a method that calls it with the tensor as *second* argument, such as
            ``"__rsub__"``.

    Raises:
        ValueError: another operator has the name, or Tensor has one of these methods already.
    """

    def add(function: Function) -> Function:
        _claim(function)
        function = aliasing(function)
        everywhere = _everywhere(function)
        export(everywhere)
        for name in (function.__name__,) if methods is None else methods:
            _attach(name, everywhere)
        if reflected is not None:
            method = lambda tensor, other, *more: everywhere(other, tensor, *more)  # noqa: E731
            method.__doc__ = everywhere.__doc__
            _attach(reflected, method)
        if function.__name__ in FUNCTIONS or function.__name__ in MOVES:
            _add_in_place(function)
        return everywhere

    return add if function is None else add(function)


def _everywhere(function: Function) -> Function:
    """`function` for Tensors; PyTorch's function of its name for values of the host."""

    takes_tensor = next(iter(function.__annotations__.values()), None) == "Tensor"

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Tensor):
            return function(*args, **kwargs)
        network = network_of((args, kwargs))
        if network is None:
            return call_on_host(function.__name__, args, kwargs)
        if takes_tensor and args and _is_host_value(args[0]):
            first = network.constant(args[0], name=getattr(args[0], "name", None) or "")
            args = (first, *args[1:])
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def _is_host_value(value: Any) -> bool:
    """Whether `value` is a Parameter, a tensor of PyTorch or an array."""
    return (
        hasattr(value, "on_host")
        or hasattr(value, "__array_interface__")
        or (hasattr(value, "resolve_conj"))
    )


def _claim(function: Callable[..., Any]) -> None:
    home = _HOMES.setdefault(function.__name__, function.__module__)
    if home != function.__module__:
        raise ValueError(f"{home} has an operator {function.__name__!r} already")


def _attach(name: str, function: Callable[..., Any]) -> None:
    if name in vars(Operators) or name in vars(InPlaceOperators):
        raise ValueError(f"Tensor has a method {name!r} already")
    changes = name.endswith("_") and not name.startswith("_")
    setattr(InPlaceOperators if changes else Operators, name, function)
    if name in AUGMENTED:
        augmented = f"__i{name.removeprefix('__')}"
        changing = in_place(function, augmented)
        setattr(InPlaceOperators, augmented, lambda tensor, other: changing(tensor, other))


def _add_in_place(function: Callable[..., Any]) -> None:
    """Makes the in-place form of the operator `function`, in the file of that operator."""
    name = f"{function.__name__}_"
    made = in_place(function, name)
    vars(sys.modules[function.__module__])[name] = export(made)
    if function.__name__ not in NO_METHODS:
        _attach(name, made)
