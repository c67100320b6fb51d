"""Executes read-back networks with PyTorch, in TensorRT's strongly typed semantics."""

from trtnet.reference.compiler import compile
from trtnet.reference.runner import run

__all__ = ["compile", "run"]
