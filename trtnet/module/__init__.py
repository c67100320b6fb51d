"""Modules: trees of hyperparameters, named parameters and ``forward``, as ``torch.nn.Module``."""

from trtnet.module.containers import ModuleDict, ModuleList, Sequential
from trtnet.module.loading import IncompatibleKeys
from trtnet.module.module import Module
from trtnet.tensor import Parameter

__all__ = ["IncompatibleKeys", "Module", "ModuleDict", "ModuleList", "Parameter", "Sequential"]
