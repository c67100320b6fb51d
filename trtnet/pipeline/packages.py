"""Versions of installed packages, found without importing the heavy ones."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

# Name for pip → the module that must exist, and the distributions that contain it.
PACKAGES = {
    "numpy": ("numpy", ("numpy",)),
    "rich": ("rich", ("rich",)),
    "filelock": ("filelock", ("filelock",)),
    "msgspec": ("msgspec", ("msgspec",)),
    "torch": ("torch", ("torch",)),
    "triton": ("triton", ("triton", "pytorch-triton", "triton-windows")),
    "openvino": ("openvino", ("openvino",)),
    "torchvision": ("torchvision", ("torchvision",)),
    "pillow": ("PIL", ("pillow",)),
    "cuda-python": ("cuda.bindings", ("cuda-bindings", "cuda-python")),
    "tensorrt": ("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")),
    "tensorrt-lean": (
        "tensorrt_lean_bindings",
        ("tensorrt-lean-cu13-bindings", "tensorrt-lean-cu12-bindings"),
    ),
    "tensorrt-dispatch": (
        "tensorrt_dispatch_bindings",
        ("tensorrt-dispatch-cu13-bindings", "tensorrt-dispatch-cu12-bindings"),
    ),
    "tensorrt-rtx": ("tensorrt_rtx", ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12")),
}


def installed_version(name: str) -> str | None:
    """The version of one of :data:`PACKAGES`; ``"unknown"`` where only the module exists, ``None``
    where it is not installed."""
    module, distributions = PACKAGES[name]
    if _spec(module) is None:
        return None
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def torch_cuda() -> str | None:
    """The CUDA version PyTorch was built for, such as ``"13.2"``; ``None`` for a CPU build. It is
    read from PyTorch's own ``version.py``: importing PyTorch takes seconds."""
    spec = _spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"""^cuda\b[^=\n]*=\s*['"]([\d.]+)['"]""", text, re.MULTILINE)
    return found[1] if found else None


def _spec(module: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent package is missing, or half there
        return None
