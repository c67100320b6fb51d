"""What PyTorch's modules return, with trtnet's tensors in place of traced ones."""

from __future__ import annotations

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
        return _pytree.tree_map(_inner, self.result)


def _inner(leaf: Any) -> Any:
    return leaf.tensor if isinstance(leaf, Traced) else leaf


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

    return _pytree.tree_map(output, result)
