"""Modules: trees of hyperparameters, named parameters and ``forward``, as ``torch.nn.Module``."""

from trtnet.module.containers import ModuleDict, ModuleList, Sequential
from trtnet.module.loading import IncompatibleKeys
from trtnet.module.module import Module
from trtnet.module.parameter_containers import ParameterDict, ParameterList
from trtnet.tensor import Buffer, Parameter

__all__ = [
    "Buffer",
    "IncompatibleKeys",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "Sequential",
]
