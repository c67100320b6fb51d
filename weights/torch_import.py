"""PyTorch and its libraries are optional: imported only when something needs them, with advice when
one is absent."""

from __future__ import annotations

import importlib
from typing import Any

from trtnet.errors import WeightsError
from trtnet.extras import install

_EXTRA = ("torch", "torchvision")  # what the extra `torch` brings


def require(package: str, purpose: str) -> Any:
    """The module ``torch``, ``torchvision``, ``timm``; raises :class:`WeightsError` without it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(
            f"{purpose} needs {package}, which cannot be imported",
            got=error,
            fix=install("torch") if package in _EXTRA else f"pip install {package}",
        ) from error


def without_memory() -> Any:
    """A context in which PyTorch makes parameters without memory and without random numbers, for
    modules whose state_dict is loaded at once with ``assign=True``.

    ``torch.device("meta")`` would not do: RegNet computes its widths with tensors, and Swin's
    indices are not in its state_dict, so both need real values.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutMemory(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if func in (torch.empty, torch.ones, torch.zeros) and kwargs.get("device") is None:
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    return WithoutMemory()
