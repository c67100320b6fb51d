"""The iterations of a loop at once: each operation for all of them, in one call.

Every tensor that differs between the iterations has one more axis, the first. PyTorch's ``vmap``
computes of these what the operation computes of the tensors of each iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.greedy import count_better, suppress
from trtnet.engines.torch.tactics.values import SpecializationError

Function = Callable[..., Any]

_OF_IMAGES = (suppress, count_better)  # (B, N) each, one image as any other
_OF_TORCH = ("torch", "_operator", "trtnet.reference")  # packages of what PyTorch alone computes


def called(node: fx.Node) -> Function:
    """What `node` calls, as a function of the values of its inputs, in their order."""
    inputs, target, call = node.all_input_nodes, node.target, (node.args, node.kwargs)

    def function(*values: Any) -> Any:
        found = dict(zip(inputs, values, strict=True))
        args, kwargs = fx.node.map_arg(call, found.__getitem__)
        if callable(target):
            return target(*args, **kwargs)
        return getattr(args[0], target)(*args[1:], **kwargs)

    return function


def at_once(node: fx.Node, is_each: Sequence[bool]) -> Function:
    """:func:`called` for all iterations.

    Args:
        is_each: for each input of `node` whether it has the axis of the iterations.

    Raises:
        SpecializationError: `node` calls something other than PyTorch.
    """
    if node.target not in _OF_IMAGES and not _is_of_torch(node.target):
        raise SpecializationError(f"{node.name} cannot be computed for all iterations at once")
    of_one = called(node)
    axes = tuple(0 if each else None for each in is_each)

    def function(*values: Any) -> Any:
        if node.target in _OF_IMAGES:
            return _images(of_one, is_each, values)
        return torch.vmap(of_one, in_dims=axes)(*values)

    name = node.target if isinstance(node.target, str) else node.target.__name__
    function.__name__ = f"each_{name}"
    return function


def _is_of_torch(target: Any) -> bool:
    module = "torch" if isinstance(target, str) else getattr(target, "__module__", None) or "torch"
    return any(module == name or module.startswith(f"{name}.") for name in _OF_TORCH)


def _images(function: Function, is_each: Sequence[bool], values: Sequence[Tensor]) -> Any:
    """The images of all iterations as images of one call."""
    rows = zip(values, is_each, strict=True)
    shaped = torch.broadcast_tensors(*(x if each else x.unsqueeze(0) for x, each in rows))
    iterations, images, _ = shaped[0].shape
    results = function(*(x.reshape(iterations * images, -1) for x in shaped))
    if isinstance(results, tuple):
        return tuple(x.unflatten(0, (iterations, images)) for x in results)
    return results.unflatten(0, (iterations, images))


def slices(x: Tensor, axis: int, first: int, count: int, reverse: bool) -> Tensor:
    """`count` slices of `x` along `axis` from slice `first`, with that axis first; in `reverse`
    order."""
    taken = x.narrow(axis, first, count)
    return (taken.flip(axis) if reverse else taken).movedim(axis, 0)


def repeated(x: Tensor, count: int) -> Tensor:
    """`x` for each of `count` iterations."""
    return x.expand(count, *x.shape)


def joined(parts: Sequence[Tensor], axis: int, length: int, reverse: bool) -> Tensor:
    """The values of iterations along a new axis.

    Args:
        parts: of iterations one after the other, each with an axis of iterations before the others.
        axis: of the result.
        length: of that axis; what is missing are zeros.
        reverse: the last comes first.
    """
    missing = length - sum(len(part) for part in parts)
    padding = [parts[0].new_zeros((missing, *parts[0].shape[1:]))] if missing else []
    values = torch.cat([*parts, *padding]) if len(parts) > 1 or padding else parts[0]
    return (values.flip(0) if reverse else values).movedim(0, axis)
