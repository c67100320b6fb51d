"""What a model wants: the keys and shapes of its state_dict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_COUNTER = "num_batches_tracked"  # older checkpoints lack it, and nothing is computed with it


@dataclass(frozen=True)
class Place:
    """Where one tensor of a state_dict goes.

    Attributes:
        shape: of the tensor.
        optional: whether a state_dict may leave it out.
    """

    shape: tuple[int, ...]
    optional: bool = False

    def takes(self, shape: tuple[int, ...], flat: bool = False) -> bool:
        """Whether a tensor of `shape` fits; a `flat` one needs only the same size."""
        return math.prod(shape) == math.prod(self.shape) if flat else shape == self.shape


def entries(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every parameter and persistent buffer of a module, of trtnet or PyTorch, with each of its
    state_dict keys: one that is shared has several."""
    for path, owner in module.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
        start = f"{path}." if path else ""
        for name, entry in owner._parameters.items():
            if entry is not None:
                yield start + name, entry
        for name, entry in owner._buffers.items():
            if entry is not None and name not in owner._non_persistent_buffers_set:
                yield start + name, entry


def wanted(model: Any) -> dict[str, Place]:
    """The place of each key that `model` has.

    Args:
        model: a module of trtnet or PyTorch, or a state_dict: arrays or tensors by key.
    """
    if isinstance(model, Mapping):
        return {key: Place(shape_of(value), key.endswith(_COUNTER)) for key, value in model.items()}
    found = list(entries(model))
    uses = Counter(id(entry) for _, entry in found)
    return {
        key: Place(
            shape_of(entry),
            # of a shared one, one key is enough
            getattr(entry, "optional", False) or key.endswith(_COUNTER) or uses[id(entry)] > 1,
        )
        for key, entry in found
    }


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array, a tensor, or a list of numbers."""
    shape = getattr(value, "shape", None)
    return tuple(int(size) for size in (np.shape(value) if shape is None else shape))
