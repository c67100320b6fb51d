"""Custom operators: each is declared once, with its kernel, reference, shape rule and tests."""

from trtnet.plugins.declaration import Plugin
from trtnet.plugins.decorator import plugin
from trtnet.plugins.examples import Draw
from trtnet.plugins.kernels import cuda_kernel, triton_kernel
from trtnet.plugins.spec import TensorSpec
from trtnet.plugins.symbolic_sizes import Size, cdiv, maximum, minimum

__all__ = [
    "Draw", "Plugin", "Size", "TensorSpec", "cdiv", "cuda_kernel", "maximum", "minimum", "plugin",
    "triton_kernel",
]  # fmt: skip
