"""``torch.nn.init``: PyTorch's own functions, which write into the memory of Parameters.

Each returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trtnet.host.names import absent
from trtnet.host.pytorch import pytorch
from trtnet.host.values import as_torch


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = pytorch(f"nn.init.{name}").nn.init
    found = getattr(home, name, None)
    if found is None:
        raise absent("trtnet", f"torch.nn.init.{name}", dir(home))
    return _writing(name, found) if callable(found) else found


def _writing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*as_torch(args), **as_torch(kwargs))
        given = args[0] if args else kwargs.get("tensor")
        return given if name.endswith("_") and given is not None else result

    call.__name__ = call.__qualname__ = name
    call.__doc__ = function.__doc__
    return call
