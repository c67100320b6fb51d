"""Runs PyTorch's function of a name on values of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtnet.errors import UnsupportedError
from trtnet.host.modes import without_gradients
from trtnet.host.networks import network_of
from trtnet.host.pytorch import pytorch
from trtnet.host.values import as_host, as_torch

__all__ = ["call_on_host", "network_of"]


def call_on_host(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What PyTorch's function `name` gives: one of ``torch.nn.functional``, of ``torch``, or a
    method of ``torch.Tensor``. Its tensors are of :func:`trtnet.host.values.host_type`.

    Raises:
        UsageError: PyTorch is not installed.
        UnsupportedError: PyTorch has no such function.
    """
    torch = pytorch(f"trtnet.{name}, called without a trtnet.Tensor,")
    for home in (torch.nn.functional, torch, torch.Tensor):
        function = getattr(home, name, None)
        if function is not None:
            with without_gradients():
                return as_host(function(*as_torch(args), **as_torch(dict(kwargs))))
    raise UnsupportedError(
        f"trtnet.{name} needs a trtnet.Tensor; PyTorch has no function of that name for the host",
    )
