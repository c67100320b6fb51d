"""Functions and modules of PyTorch under names of trtnet."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from trtnet.host.networks import network_of
from trtnet.host.pytorch import pytorch
from trtnet.host.values import as_host, as_torch
from trtnet.names import did_you_mean


def host_function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, of PyTorch, for values of the host.

    Its result raises :class:`trtnet.UnsupportedError` for Tensors and Dims, unless their network
    knows how to write it with operators.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        network = network_of((args, kwargs))
        if network is not None:
            return network.torch_function(function, args, kwargs)
        return as_host(function(*as_torch(args), **as_torch(kwargs)))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = function.__doc__
    return call


def absent(package: str, name: str, known: Any) -> AttributeError:
    """The error for `name`, such as ``torch.foo``, that `package` lacks."""
    suggestion = did_you_mean(name.rpartition(".")[2], known)
    return AttributeError(f"{package} has no {name}" + (f"; {suggestion}" if suggestion else ""))


def delegate(package: str, module: str) -> Callable[[str], Any]:
    """``__getattr__`` of the module `package` whose names are those of `module`, of PyTorch."""

    def get(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        pytorch(f"{package}.{name}")
        home = importlib.import_module(module)
        if not hasattr(home, name):
            raise absent(package, f"{module}.{name}", dir(home))
        return getattr(home, name)

    return get
