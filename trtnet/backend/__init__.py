"""Backends: the TensorRT packages, and PyTorch, behind one interface.

This is the only room that imports TensorRT. A backend is a folder with one
:class:`BackendDescription`, registered in :mod:`trtnet.backend.registry`; everything else asks the
description what the backend can do.
"""

from trtnet.backend.description import BackendDescription, GpuTargets, OptionLack, SmallRuntime
from trtnet.backend.engine_format import EngineFormat, HeaderFields, tensorrt_format
from trtnet.backend.features import FEATURES
from trtnet.backend.interface import Backend
from trtnet.backend.loading import load
from trtnet.backend.registry import (
    choices,
    description,
    descriptions,
    names,
    portable,
    register,
    registered,
)

__all__ = [
    "FEATURES",
    "Backend",
    "BackendDescription",
    "EngineFormat",
    "GpuTargets",
    "HeaderFields",
    "OptionLack",
    "SmallRuntime",
    "choices",
    "description",
    "descriptions",
    "load",
    "names",
    "portable",
    "register",
    "registered",
    "tensorrt_format",
]
