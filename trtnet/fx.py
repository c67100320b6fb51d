"""``torch.fx``: ``wrap`` leaves a function as it is; other names are PyTorch's."""

from __future__ import annotations

from typing import TypeVar

from trtnet.host.names import delegate

T = TypeVar("T")


def wrap(fn_or_name: T) -> T:
    """`fn_or_name`, unchanged: trtnet calls functions and traces nothing."""
    return fn_or_name


__getattr__ = delegate(__name__, "torch.fx")
