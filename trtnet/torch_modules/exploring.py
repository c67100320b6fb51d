"""Which functions of a module's code have no operator: all of them, in one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from trtnet.errors import TrtnetError
from trtnet.tensor import Tensor
from trtnet.torch_functions.calling import name_of
from trtnet.torch_modules.attributes import METHODS
from trtnet.torch_modules.casting import CASTS
from trtnet.torch_modules.traced import Traced, first_traced
from trtnet.torch_modules.tracing import Tracing

_EXAMPLE = 2  # stands for a size that is known only at run time
_VALUES: Mapping[str, Callable[[Traced], Any]] = {  # what code gets that asks for values
    "__bool__": lambda x: False,
    "__int__": lambda x: 0,
    "__index__": lambda x: 0,
    "__float__": lambda x: 0.0,
    "item": lambda x: 0,
    "tolist": lambda x: np.zeros(_sizes(x)).tolist(),
    "numpy": lambda x: np.zeros(_sizes(x)),
}


@dataclass(frozen=True)
class Gap:
    """A call that adds no layers.

    Attributes:
        function: of PyTorch, such as ``"svd"``.
        module: path of the module whose code calls it.
        line: ``file:line: code``; ``None`` where it is not known.
        problem, fix: why not, and what would be needed.
        count: how many calls of this kind there are.
    """

    function: str
    module: str
    line: str | None
    problem: str
    fix: str | None
    count: int = 1


class Exploring(Tracing):
    """A run that goes on after a function that cannot be mapped, with a new input of the network
    in place of its result. What depends on values takes the branch for zero.

    Args:
        placeholder: gives a new input of a shape and type.

    Attributes:
        mapped: how many calls of each function added layers.
        gaps: what could not be mapped, in order.
    """

    def __init__(self, *args: Any, placeholder: Callable[..., Tensor], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._placeholder = placeholder
        self.mapped: Counter[str] = Counter()
        self.gaps: list[Gap] = []
        self._calling = ""  # the function that the module's code is calling

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """:meth:`Tracing.call`; notes what is mapped and what is not."""
        outermost, before = not self._calling, len(self.gaps)
        self._calling = self._calling or name_of(func)
        try:
            result = super().call(func, args, kwargs)
            self._note_mapped(name_of(func), result, before)
        except TrtnetError as error:
            self.gaps.append(_gap(func, self._calling, error, self.network.path))
            result = self._instead(func, args, kwargs)
        finally:
            if outermost:
                self._calling = ""
        return result

    def _note_mapped(self, name: str, result: Any, before: int) -> None:
        """Counts a call that added layers, unless a part of it did not."""
        is_layer = first_traced(result) is not None and name not in METHODS and name not in CASTS
        if is_layer and len(self.gaps) == before and name == self._calling:
            self.mapped[name] += 1

    def _instead(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the code gets in place of a result: values of zero, or tensors of its shape."""
        name = name_of(func)
        if name in _VALUES:
            return _VALUES[name](args[0])
        given, named = _pytree.tree_map_only(torch.Tensor, _without_values, (args, dict(kwargs)))
        result = func(*given, **named)
        return _pytree.tree_map_only(torch.Tensor, self._input, result)

    def _input(self, like: torch.Tensor) -> Traced:
        kind = torch.float32 if like.dtype is torch.float64 else like.dtype
        return self.traced(self._placeholder(tuple(like.shape), kind), like.dtype)


def _gap(func: Any, called: str, error: TrtnetError, path: str) -> Gap:
    asks = name_of(func) in _VALUES
    problem = "asks for values, which are known only at run time" if asks else error.problem
    return Gap(called, error.module or path, error.line, problem, error.fix)


def _without_values(x: torch.Tensor) -> torch.Tensor:
    if isinstance(x, Traced):
        return torch.empty(_sizes(x), dtype=x.declared, device="meta")
    return torch.empty_like(x, device="meta")


def _sizes(x: Traced) -> list[int]:
    return [size if isinstance(size, int) else _EXAMPLE for size in x.tensor.shape]
