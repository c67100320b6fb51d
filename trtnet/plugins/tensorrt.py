"""Makes TensorRT plugins of declared plugins, in one of two ways.

A kernel compiled ahead of time becomes a quickly deployable plugin
(:mod:`trtnet.plugins.quick_plugins`): the engine contains its PTX and runs without Python. A Python
function becomes an ``IPluginV3`` (:mod:`trtnet.plugins.ipluginv3`), whose methods TensorRT calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.backend import Backend
from trtnet.plugins import ipluginv3, quick_plugins, registry
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.kernels import PythonKernel
from trtnet.plugins.spec import Format


def create(backend: Backend, plugin: Plugin, entry: Format, inputs: Sequence[Any]) -> Any:
    """Returns an ``IPluginV3`` for a layer of `plugin`, and registers its class with TensorRT.

    Args:
        backend: a backend with plugins.
        entry: the format of the layer.
        inputs: the layer's ``ITensor`` inputs.
    """
    if isinstance(plugin.kernels[entry], PythonKernel):
        ipluginv3.register(backend, type(plugin))
        return ipluginv3.create(backend, plugin)
    return quick_plugins.create(backend, plugin, inputs)


def register_declared(backend: Backend) -> None:
    """Registers with TensorRT every declared plugin that has a Python kernel.

    An engine that contains such a plugin cannot be loaded before.
    """
    if backend.has("plugins"):
        for kind in registry.declared():
            if any(isinstance(kernel, PythonKernel) for kernel in kind.kernels.values()):
                ipluginv3.register(backend, kind)
