"""The state_dict of a module: reading it, and loading one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from trtnet.host import as_host, as_torch
from trtnet.module.loading import IncompatibleKeys, match
from trtnet.tensor import Parameter
from trtnet.weights.container import require_state
from trtnet.weights.places import entries


def states(module: Any, prefix: str) -> dict[str, np.ndarray]:
    """See :meth:`trtnet.Module.state_dict`."""
    return {
        name: entry.require(name)
        for name, entry in entries(module, prefix)
        if entry.memory is not None or not entry.optional
    }


def load(module: Any, state: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """See :meth:`trtnet.Module.load_state_dict`."""
    require_state(state)
    state = _after_hooks(module, state, strict)
    places = dict(entries(module))
    found = match(state, places, lambda key: _ignores(module, key))
    given = {id(places[key]) for key in found.arrays}  # a shared parameter needs one of its keys
    missing = [key for key in found.missing if id(places[key]) not in given]
    del found.missing[:]
    found.missing.extend(missing)
    if found.misshaped or (strict and (found.missing or found.unexpected)):
        raise found.error(type(module).__name__, strict)
    for key, array in found.arrays.items():
        places[key].array = _as_held(places[key], array)
    keys = IncompatibleKeys(found.missing, found.unexpected)
    for _, owner in _everywhere(module):
        for hook, _ in list(owner._load_state_dict_post_hooks.values()):
            hook(owner, keys)
    return keys


def _everywhere(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every module with each of its paths: a state_dict names a shared one at all of them."""
    found: Iterator[tuple[str, Any]] = module.named_modules(prefix=prefix, remove_duplicate=False)
    return found


def _as_held(place: Parameter, array: np.ndarray) -> np.ndarray:
    """`array`; cast where the module declares integers and a checkpoint has floats, or so."""
    held = place.memory
    if held is None or not place.has_values or held.dtype.kind == array.dtype.kind:
        return array
    return array.astype(held.dtype)


def _after_hooks(module: Any, state: Mapping[str, Any], strict: bool) -> Mapping[str, Any]:
    """`state` as the hooks of loading leave it."""
    paths = [(path, owner) for path, owner in _everywhere(module) if owner.changes_loading]
    if not paths:
        return state
    metadata = getattr(state, "_metadata", {})
    changed = {key: as_host(as_torch(value)) for key, value in state.items()}
    for path, owner in paths:
        prefix = f"{path}." if path else ""
        owner._load_from_state_dict(changed, prefix, metadata.get(path, {}), strict, [], [], [])
    return changed


def _ignores(module: Any, key: str) -> bool:
    patterns = (
        f"{path}.{pattern}" if path else pattern
        for path, owner in _everywhere(module)
        for pattern in owner.ignored_keys
    )
    return any(fnmatchcase(key, pattern) for pattern in patterns)
