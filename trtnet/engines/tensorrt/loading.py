"""The loader of TensorRT's and TensorRT-RTX's engines."""

from __future__ import annotations

import os
from pathlib import Path

from trtnet import backend as backends
from trtnet.building.plan import Plan
from trtnet.engines.device import Device
from trtnet.engines.options import small_runtime
from trtnet.engines.protocol import Engine, LoadOptions
from trtnet.engines.tensorrt import engine as tensorrt_engine
from trtnet.plugins.tensorrt import register_declared


def load_engine(plan: Plan, device: Device, options: LoadOptions) -> Engine:
    """See :class:`trtnet.engines.protocol.EngineLoader`. TensorRT-RTX keeps the kernels that it
    compiles in ``<path>.cache``, or where `options` say."""
    small = small_runtime(backends.description(options.backend), options)
    installed = backends.load(options.backend, None if small is None else small.name)
    register_declared(installed)
    cache = None if options.path is None else Path(f"{os.fspath(options.path)}.cache")
    if options.runtime_cache is not None:
        cache = Path(options.runtime_cache)
    return tensorrt_engine.load(
        plan,
        installed,
        runtime_cache=cache,
        cuda_graph=options.cuda_graph,
        host_code=options.engine_host_code_allowed,
    )
