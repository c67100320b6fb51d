"""Custom operators, each declared once: its kernel, what it computes, its shapes, its tests."""

from trtnet.plugins.declaration import Plugin, plugin
from trtnet.plugins.examples import Draw
from trtnet.plugins.kernels import cuda_kernel, triton_kernel
from trtnet.plugins.sizes import Size, cdiv, maximum, minimum
from trtnet.plugins.spec import TensorSpec

__all__ = [
    "Draw", "Plugin", "Size", "TensorSpec", "cdiv", "cuda_kernel", "maximum", "minimum", "plugin",
    "triton_kernel",
]  # fmt: skip
