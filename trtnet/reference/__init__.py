"""Executes read-back networks with PyTorch, in TensorRT's strongly typed semantics.

The names are imported on first use, so that registering an operation imports no PyTorch.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
