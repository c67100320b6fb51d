"""What PyTorch's modules return, with trtnet's tensors in place of traced ones."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree

from trtnet.errors import NetworkError
from trtnet.torch_modules.real_tensors import RealTensors
from trtnet.torch_modules.traced import Traced


class InnerCall:
    """A call of one module by PyTorch's code.

    Attributes:
        result: what that code gets, once it ran.
    """

    def __init__(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._forward, self._args, self._kwargs = forward, args, kwargs
        self.result: Any = None

    def run(self) -> Any:
        """The result with trtnet's tensors."""
        self.result = self._forward(*self._args, **self._kwargs)
        return mapped(_inner, self.result)


def _inner(leaf: Any) -> Any:
    return leaf.tensor if isinstance(leaf, Traced) else leaf


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with `function` of every leaf: inside the containers that PyTorch's pytree knows, and
    inside copies of dataclasses and of other kinds of dict, list and tuple."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return _copied(tree, function)
    if isinstance(tree, (dict, list, tuple)) and not _is_known(tree):
        return _rebuilt(tree, function)
    if _is_known(tree):  # one level of it at a time
        inside = _pytree.tree_map(_Part, tree, is_leaf=lambda part: part is not tree)
        return _pytree.tree_map_only(_Part, lambda part: mapped(function, part.value), inside)
    return function(tree)


@dataclasses.dataclass(frozen=True)
class _Part:
    """What lies directly inside a container."""

    value: Any


def _is_known(tree: Any) -> bool:
    return not _pytree.tree_is_leaf(tree)


def _copied(tree: Any, function: Callable[[Any], Any]) -> Any:
    """A copy of a dataclass, made without its ``__init__``; a dict too, if it is one."""
    made = copy.copy(tree)
    for field in dataclasses.fields(tree):
        if hasattr(tree, field.name):
            value = mapped(function, getattr(tree, field.name))
            object.__setattr__(made, field.name, value)
    if isinstance(tree, dict):
        for key, value in tree.items():
            dict.__setitem__(made, key, mapped(function, value))
    return made


def _rebuilt(tree: Any, function: Callable[[Any], Any]) -> Any:
    """A copy of a subclass of dict, list or tuple."""
    if isinstance(tree, tuple):
        return type(tree)(mapped(function, value) for value in tree)
    made = copy.copy(tree)
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        made[key] = mapped(function, value)
    return made


def outputs(result: Any, real: RealTensors) -> Any:
    """`result`, what the whole module returned.

    Raises:
        NetworkError: a real tensor, whose value no input has a part in.
    """

    def output(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or isinstance(leaf, Traced):
            return _inner(leaf)
        written = real.value(leaf)
        if written is None:
            raise NetworkError(
                "the module returns a tensor that does not depend on its inputs",
                got=f"a torch.Tensor of shape {tuple(leaf.shape)}",
                fix="return it outside of the network; as an output of it: "
                "net.output(name, net.constant(values))",
            )
        return written

    return mapped(output, result)
