"""The room of TensorRT's plugins: which of its two ways a plugin takes.

A kernel compiled ahead of time becomes a *quick plugin* (:mod:`trtnet.plugins.quick`): the engine
holds its PTX and runs without Python. A Python function becomes an ``IPluginV3``
(:mod:`trtnet.plugins.v3`), which TensorRT calls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet.plugins import quick, registry, v3
from trtnet.plugins.kernels import PythonKernel
from trtnet.plugins.spec import Format

if TYPE_CHECKING:
    from trtnet.backend import Backend
    from trtnet.plugins.declaration import Plugin


def create(backend: Backend, plugin: Plugin, entry: Format, inputs: Sequence[Any]) -> Any:
    """An ``IPluginV3`` for `plugin` on the ``ITensor``s `inputs`; what it needs is registered with
    TensorRT, once."""
    if isinstance(plugin.kernels[entry], PythonKernel):
        v3.register(backend, type(plugin))
        return v3.create(backend, plugin)
    return quick.create(backend, plugin, inputs)


def register_declared(backend: Backend) -> None:
    """Tells TensorRT of every declared plugin that an engine calls back, before one is loaded."""
    if backend.has("plugins"):
        for kind in registry.declared():
            if any(isinstance(kernel, PythonKernel) for kernel in kind.kernels.values()):
                v3.register(backend, kind)
