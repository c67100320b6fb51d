"""Functions of PyTorch that trtnet has no operator for, taken apart into ones that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
import torch._decomp
from torch.overrides import TorchFunctionMode

from trtnet.torch_functions.calling import no_operator


def decomposed(
    tracing: TorchFunctionMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """What `func` gives when the functions that it calls itself add the layers.

    Functions that PyTorch writes in Python run as they are; others in C++, down to the ATen
    operators, for which every size must be fixed.

    Raises:
        UnsupportedError: nothing of it can be taken apart.
    """
    python = _body(func)
    if python is not None:
        with tracing:
            return python(*args, **kwargs)
    if isinstance(func, torch._ops.OpOverload):
        python = torch._decomp.decomposition_table.get(func)
        if python is None and not func._can_decompose():
            raise no_operator(func)
        with tracing if python else torch._C.DisableTorchFunctionSubclass():
            return (python or func.decompose)(*args, **kwargs)
    with torch._C.DisableTorchFunctionSubclass():  # TorchScript comes here too
        return func(*args, **kwargs)


def _body(func: Any) -> Any:
    """`func`, a Python function, of PyTorch or of others, without the check that hands it to
    ``__torch_function__``; ``None`` for other functions."""
    if not isinstance(func, FunctionType):
        return None
    space = dict(func.__globals__)
    checks = [name for name in space if name.startswith("has_torch_function")]
    for name in checks:
        space[name] = _never
    made = FunctionType(func.__code__, space, func.__name__, func.__defaults__, func.__closure__)
    made.__kwdefaults__ = func.__kwdefaults__
    return made


def _never(*_: Any) -> bool:
    return False
