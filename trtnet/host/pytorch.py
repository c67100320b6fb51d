"""The import of PyTorch, at first use."""

from __future__ import annotations

from typing import Any

from trtnet.errors import UsageError
from trtnet.extras import install


def pytorch(what: str = "this") -> Any:
    """The module ``torch``.

    Args:
        what: the name that needs it, for the error.

    Raises:
        UsageError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise UsageError(
            f"{what} computes numbers on the host, which is PyTorch's part",
            expected="PyTorch, or a trtnet.Tensor among the arguments",
            fix=install("torch"),
        ) from None
    return torch
