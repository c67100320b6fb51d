"""The loader of the torch backend's engines."""

from __future__ import annotations

from pathlib import Path

from trtnet.building.plan import Plan
from trtnet.engines.device import Device
from trtnet.engines.protocol import Engine, LoadOptions
from trtnet.engines.torch import engine as torch_engine


def load_engine(plan: Plan, device: Device, options: LoadOptions) -> Engine:
    """See :class:`trtnet.engines.protocol.EngineLoader`."""
    return torch_engine.load(
        plan,
        device=device.kind,
        compile=options.compile,
        runtime=options.runtime,
        optimization_level=options.optimization_level,
        timing_cache=None if options.timing_cache is None else Path(options.timing_cache),
    )
