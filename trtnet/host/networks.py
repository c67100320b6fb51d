"""Which network the arguments of a call belong to."""

from __future__ import annotations

from typing import Any


def network_of(tree: Any) -> Any:
    """The network of the first Tensor or Dim in nested tuples, lists, dicts and slices; ``None``
    where there is none."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    elif isinstance(tree, slice):
        tree = (tree.start, tree.stop, tree.step)
    if isinstance(tree, (tuple, list)):
        for item in tree:
            found = network_of(item)
            if found is not None:
                return found
        return None
    return getattr(tree, "network", None) if hasattr(type(tree), "network") else None
