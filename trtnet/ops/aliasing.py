"""Which operators give views in PyTorch, and what ``inplace=True`` does.

:func:`aliasing` wraps every operator. What a view operator returns shares the memory of its input,
see :mod:`trtnet.tensor.views`; what any other returns is a tensor of its own, also where no layer
was needed and the operator returns its input.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from trtnet.errors import NetworkError, ShapeError, UnsupportedError, UsageError
from trtnet.tensor import Tensor, tensors_in

Function = TypeVar("Function", bound=Callable[..., Any])
Steps = Callable[..., Any]  # returns a Path, or None for a copy; of a list of views, a Path each

VIEWS = frozenset(
    {
        *("adjoint", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_tensors"),
        *("broadcast_to", "chunk", "detach", "diagonal", "dsplit", "expand", "expand_as"),
        *("flatten", "getitem", "hsplit", "meshgrid", "moveaxis", "movedim", "narrow"),
        *("permute", "positive", "ravel", "reshape", "reshape_as", "select", "split"),
        *("split_with_sizes", "squeeze", "swapaxes", "swapdims", "t", "tensor_split"),
        *("transpose", "unbind", "unflatten", "unsqueeze", "view", "view_as", "vsplit"),
    }
)
"""The operators whose results share memory with their input in PyTorch."""

_RETURN_INPUT = frozenset(
    {
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
        *("feature_alpha_dropout", "feature_dropout"),
    }
)
_KEEP_ORDER = frozenset(
    {
        *("abs", "add", "amax", "amin", "avg_pool2d", "batch_norm", "cat", "ceil", "clamp"),
        *("clone", "conv1d", "conv2d", "conv3d", "cos", "div", "eq", "erf", "exp", "floor"),
        *("ge", "gt", "layer_norm", "le", "linear", "log", "log_softmax", "logical_and"),
        *("logical_not", "logical_or", "lt", "matmul", "max_pool2d", "maximum", "mean"),
        *("minimum", "mul", "ne", "neg", "pow", "reciprocal", "round", "rsqrt", "sigmoid", "sign"),
        *("sin", "softmax", "sqrt", "square", "stack", "sub", "sum", "tanh", "where"),
    }
)
"""Operators whose results are contiguous in PyTorch where all their tensors are. Others may be
too; it matters only for ``reshape`` and ``contiguous``, which then copy nothing."""

_KINDS = ("boolean", "integer", "float")  # a type of one kind can be stored in the later ones
_STEPS: dict[str, Steps] = {}  # filled while trtnet.ops is imported


def steps_of(name: str) -> Callable[[Steps], Steps]:
    """Registers a function of the result and the arguments of the view operator `name`: the steps
    that make the result of the operator's input, or ``None`` where PyTorch makes a copy. Of an
    operator that returns several tensors: the steps for each."""

    def add(function: Steps) -> Steps:
        _STEPS[name] = function
        return function

    return add


def aliasing(function: Function) -> Function:
    """`function`, an operator, with results that share memory as those of PyTorch's do."""
    name = function.__name__
    if name in _RETURN_INPUT or name.endswith("_"):
        return function
    if name in VIEWS:
        wrapper = _view(function)
    elif "inplace" in inspect.signature(function).parameters:
        wrapper = _optionally_in_place(function)
    else:
        wrapper = _copying(function)
    return cast(Function, functools.wraps(function)(wrapper))


def _copying(function: Callable[..., Any]) -> Callable[..., Any]:
    keeps_order = function.__name__ in _KEEP_ORDER
    takes_out = "out" in inspect.signature(function).parameters

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs and "out" in kwargs and not takes_out:
            kwargs = _without_out(kwargs, function.__name__)
        result = _own(function(*args, **kwargs))
        if keeps_order and isinstance(result, Tensor):
            result.is_dense = _are_dense(args) and (not kwargs or _are_dense(kwargs.values()))
        return result

    return wrapper


def _are_dense(values: Iterable[Any]) -> bool:
    """Whether every Tensor in `values`, and in lists and tuples in it, has dense memory."""
    for value in values:
        if isinstance(value, Tensor):
            if not value.has_dense_memory:
                return False
        elif isinstance(value, (list, tuple)) and not _are_dense(value):
            return False
    return True


def _without_out(kwargs: dict[str, Any], name: str) -> dict[str, Any]:
    if kwargs["out"] is not None:
        raise UnsupportedError(
            f"{name}: a result cannot be written to out=",
            fix=f"use what {name}() returns, or result.copy_({name}(...))",
        )
    return {key: value for key, value in kwargs.items() if key != "out"}


def _own(result: Any) -> Any:
    """`result` with tensors that share no memory."""
    if isinstance(result, Tensor):
        return result.as_it_is()
    return _mapped(result, _own) if isinstance(result, (list, tuple)) else result


def _mapped(items: Any, function: Callable[[Any], Any]) -> Any:
    changed = [function(item) for item in items]
    if isinstance(items, list):
        return changed
    return type(items)(*changed) if hasattr(items, "_fields") else type(items)(changed)


def _optionally_in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters
    position = list(parameters).index("inplace")
    first = next(iter(parameters))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        is_in_place = args[position] if len(args) > position else kwargs.get("inplace", False)
        if not is_in_place:
            return _own(result)
        target = args[0] if args else kwargs[first]
        return write(target, result, f"{function.__name__}, inplace=True")

    return wrapper


def _view(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__

    names = getattr(function, "also_named", {})

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            kwargs = {names.get(name, name): value for name, value in kwargs.items()}
        result = function(*args, **kwargs)
        given = tensors_in([args, kwargs])
        if isinstance(result, Tensor):
            return _shared(function, result, given, args, kwargs, None)
        every = _STEPS[name](result, *args, **kwargs) if name in _STEPS else None
        return type(result)(
            _shared(function, item, given, args, kwargs, index, every and every[index])
            for index, item in enumerate(result)
        )

    return wrapper


def _shared(
    function: Callable[..., Any],
    result: Tensor,
    given: Sequence[Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: int | None,
    steps: Any = None,
) -> Tensor:
    """`result`, or item `index` of the results, sharing the memory of what it is a view of."""
    for tensor in given:
        if result is tensor:
            return result.as_view(result)
        if result.shares_memory_with(tensor):
            return result  # made by view operators
    name = function.__name__
    if index is None and name in _STEPS:
        steps = _STEPS[name](result, *args, **kwargs)
        if steps is None:
            return result.with_memory()
    if result.has_memory:
        return result  # a view operator found that PyTorch makes a copy here
    if steps is None:
        steps = [Unknown(function, args, kwargs, index)]
    return result.as_view(given[0], tuple(steps))


class Unknown:
    """The step to a view whose elements are not known: it can be read, and not written."""

    is_certain = True

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        index: int | None,
    ) -> None:
        self.name, self._function, self._index = function.__name__, function, index
        tensors = tensors_in([args, kwargs])
        self._whole = tensors[0]
        self._args, self._kwargs = args, kwargs

    def view(self, x: Tensor) -> Tensor:
        """The view of `x`: the operator once more."""
        args = [self._in(value, x) for value in self._args]
        kwargs = {name: self._in(value, x) for name, value in self._kwargs.items()}
        result = self._function(*args, **kwargs)
        return cast(Tensor, result if self._index is None else result[self._index])

    def _in(self, value: Any, x: Tensor) -> Any:
        if value is self._whole:
            return x
        if isinstance(value, (list, tuple)):
            return _mapped(value, lambda item: self._in(item, x))
        return value.as_it_is() if isinstance(value, Tensor) else value

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """Not known."""
        raise NetworkError(
            f"the result of {self.name}() was changed in place, and the tensor that it is a view "
            "of is used again",
            fix="write to that tensor itself, by x[...] = value, or work on a .clone()",
        )

    def is_same(self, other: object) -> bool:
        """Whether it is the same call."""
        return self is other

    def is_apart(self, other: object) -> bool:
        """``False``: not known."""
        return False

    def strides(self, strides: Any) -> None:
        """Not known."""
        return None


def changeable(target: Any, name: str) -> Tensor:
    """`target`, the first argument of the in-place operation `name`.

    Raises:
        UsageError: it is no Tensor.
    """
    if not isinstance(target, Tensor):
        raise UsageError(
            f"{name}: only a trtnet.Tensor can be changed in place by tensors of a network",
            got=type(target).__name__,
            fix="make it a tensor of the network first, such as x.new_tensor(values)",
        )
    return target


def write(target: Any, value: Tensor, name: str, *, any_kind: bool = False) -> Tensor:
    """Gives `target` the elements of `value`, as the in-place operation `name` of PyTorch does.
    Returns `target`.

    Args:
        any_kind: whether values may be cast to a type of another kind, such as float to int.

    Raises:
        UsageError: `target` is no Tensor.
        UnsupportedError: `value` has a type that PyTorch does not cast to that of `target`.
        ShapeError: `value` is larger than `target`.
    """
    changed = changeable(target, name)
    if value is changed:
        return changed
    ranks = [_KINDS.index(tensor.dtype.element.kind) for tensor in (value, changed)]
    if ranks[0] > ranks[1] and not any_kind:
        raise UnsupportedError(
            f"{name}: the result cannot be cast to the type of the tensor that is changed",
            expected=changed.dtype,
            got=value.dtype,
            fix="write it without in-place operations, or cast the tensor first",
        )
    _check_shape(changed.shape, value.shape, name)
    if value.is_emitted and any(
        a is not b for a, b in zip(value.shape, changed.shape, strict=True)
    ):
        value = Tensor(value.network, value.itensor, changed.shape)  # its sizes stay as they are
    return changed.become(changed.network.casts.stored(value, changed), name)


def _check_shape(have: Sequence[Any], made: Sequence[Any], name: str) -> None:
    fits = len(have) == len(made) and all(
        old is new or not isinstance(old, int) or (isinstance(new, int) and old == new)
        for old, new in zip(have, made, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"{name}: the result does not fit into the tensor that is changed in place",
            expected=tuple(have),
            got=tuple(made),
        )
