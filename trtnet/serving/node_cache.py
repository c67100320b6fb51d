"""One cache of compiled kernels and timed choices for all engines of a node.

Every process that opens an engine of TensorRT-RTX compiles its kernels, and one of the torch
backend times its tactics. Where several do so on one node, the first one fills a cache in the
user's cache folder while the others wait, and they take over what it found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from trtnet import backend as backends
from trtnet.building.plan import Plan
from trtnet.engines import compatibility
from trtnet.engines.options import resolved_device
from trtnet.engines.session import Session
from trtnet.errors import TrtnetError
from trtnet.files.locks import locked
from trtnet.files.own_folder import fault_of
from trtnet.plugins.aot_compile import cache_folder

_PATIENCE_SECONDS = 1800.0
_CALLS = 3  # the second one captures a CUDA graph, for which tactics are timed


def open_on_node(
    engine: str | os.PathLike[str],
    device: str = "auto",
    *,
    runtime: str = "torch",
    engine_host_code_allowed: bool = False,
) -> Session:
    """A session on the file of an engine, with the cache of this node.

    Args:
        engine: the file.
        device, runtime, engine_host_code_allowed: as for :class:`trtnet.Session`.

    Raises:
        TrtnetError: as :class:`trtnet.Session`.
    """
    plan = Plan.load(engine)
    given: dict[str, Any] = {
        "device": device,
        "runtime": runtime,
        "engine_host_code_allowed": engine_host_code_allowed,
    }
    option = _cache_option(plan, device)
    cache = None if option is None else _cache_file(plan, option)
    if option is None or cache is None:
        return Session(plan, **given)
    given[option] = cache
    with contextlib.suppress(OSError), locked(cache, _PATIENCE_SECONDS):
        if not cache.exists():
            _fill(plan, given)
    return Session(plan, **given)


def _cache_option(plan: Plan, device: str) -> str | None:
    """The argument of a session that names the cache of this engine; ``None`` for one that is
    complete when it is built, or runs on a CPU."""
    about = backends.description(compatibility.backend_of(plan))
    if about.compiles_at_first_run:
        return "runtime_cache"
    if about.runs_in_pytorch and resolved_device(about, device) != "cpu":
        return "timing_cache"
    return None


def _cache_file(plan: Plan, option: str) -> Path | None:
    """In a folder to which only the user writes; ``None`` where there is none."""
    folder = cache_folder()
    if folder is None:
        return None
    folder = folder / "serving"
    try:
        if fault_of(folder) is not None:
            return None
    except OSError:
        return None
    return folder / f"{hashlib.sha256(plan.engine).hexdigest()[:32]}.{option}"


def _fill(plan: Plan, given: dict[str, Any]) -> None:
    """Runs the engine as it will be run, so that the cache has what it needs. What fails here fails
    again, and is told, when the engine is used."""
    with contextlib.suppress(TrtnetError), Session(plan, **given) as session:
        shapes = session.profiles[0]
        if {each.name for each in session.inputs} != {*shapes}:
            return  # inputs in host memory decide on shapes
        arrays = {each.name: np.zeros(shapes[each.name].opt, each.dtype) for each in session.inputs}
        for _ in range(_CALLS):
            session(arrays)
