"""A weight that is computed from other parameters of its module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trtnet.host import as_host
from trtnet.module import Parameter


class ComputedParameter(Parameter):
    """``compute(*arrays)`` of the arrays of `sources`; computed at each use, as they may be
    replaced or written.

    Args:
        shape: of the result.
        sources: the parameters, by name in the module.
        compute: takes and gives float arrays.
    """

    def __init__(
        self,
        shape: Sequence[int],
        sources: dict[str, Parameter],
        compute: Callable[..., np.ndarray],
    ) -> None:
        super().__init__()
        self._shape = type(self._shape)(shape)
        self._sources, self._compute = sources, compute

    @property
    def memory(self) -> np.ndarray | None:
        """The result; ``None`` while a source has no values."""
        if not all(source.has_values for source in self._sources.values()):
            return None
        return self.require("")

    def write(self, array: np.ndarray | None) -> None:
        """Refuses to."""
        raise AttributeError(f"{self.name} is computed from {', '.join(self._sources)}")

    @property
    def has_values(self) -> bool:
        """Whether all sources have values."""
        return all(source.has_values for source in self._sources.values())

    @property
    def data(self) -> Any:
        """The result as a tensor of PyTorch, NaN while a source has no values; writing into it
        changes nothing, as in PyTorch, where the result is computed again at the next call."""
        if not self.has_values:
            return as_host(np.full(tuple(self.shape), np.nan, np.float32))
        return as_host(self.require(self.name).copy())

    @data.setter
    def data(self, value: Any) -> None:
        self.array = value

    @property
    def shape(self) -> Any:
        """Sizes."""
        return self._shape

    def require(self, name: str) -> np.ndarray:
        """The result; raises :class:`WeightsError`, naming the source that has no values."""
        way = name.rpartition(".")[0]
        given = tuple(
            source.require(f"{way}.{key}".lstrip(".")) for key, source in self._sources.items()
        )
        return np.asarray(self._compute(*given))


def weight_norm_of(dim: int | None) -> Callable[..., np.ndarray]:
    """``g · v / |v|``, the norm over all axes but `dim`; over all axes for ``None``."""

    def compute(g: np.ndarray, v: np.ndarray) -> np.ndarray:
        norm = norm_except(v, dim)
        return np.asarray(v * (g / norm).astype(v.dtype), v.dtype)

    return compute


def norm_except(v: np.ndarray, dim: int | None) -> np.ndarray:
    """The Euclidean norm of `v` over all axes but `dim`, which are kept with size one."""
    if dim is None or dim == -1:
        return np.asarray(np.sqrt(np.square(v, dtype=np.float64).sum()))
    axes = tuple(axis for axis in range(v.ndim) if axis != dim % v.ndim)
    return np.asarray(np.sqrt(np.square(v, dtype=np.float64).sum(axes, keepdims=True)))


def spectral_norm_of(dim: int) -> Callable[..., np.ndarray]:
    """``w / (uᵀ w v)`` with `w` as a matrix of rows `dim`, as PyTorch does in ``eval()``."""

    def compute(w: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        matrix = np.moveaxis(w, dim, 0).reshape(w.shape[dim], -1).astype(np.float64)
        sigma = u.astype(np.float64) @ (matrix @ v.astype(np.float64))
        return np.asarray(w / np.asarray(sigma, w.dtype), w.dtype)

    return compute
