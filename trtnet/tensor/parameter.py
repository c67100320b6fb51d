"""Parameter: a named slot for the weights of a module."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trtnet.errors import WeightsError


class Parameter:
    """A named slot for weights: a shape, and an array once weights are loaded.

    Args:
        shape: the shape PyTorch's parameter has.
        data: initial values, an array of that shape.
        optional: whether a state_dict may leave it out.
    """

    def __init__(
        self, shape: Iterable[int], data: np.ndarray | None = None, *, optional: bool = False
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.data = data
        self.optional = optional

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def require(self, name: str) -> np.ndarray:
        """The array.

        Args:
            name: state_dict key of the parameter, for the error.

        Raises:
            WeightsError: none is loaded.
        """
        if self.data is None:
            raise WeightsError(
                "has no values yet",
                module=name,
                expected=f"shape {self.shape}",
                fix="call model.load_state_dict(trtnet.weights.load(path))",
            )
        return self.data

    def __repr__(self) -> str:
        return f"Parameter({self.shape}{'' if self.data is not None else ', empty'})"
