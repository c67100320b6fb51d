"""Value: one ``ITensor``, or the layer that is to make it. Tensors are handles on values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from trtnet.dtypes import DType, dtype_of
from trtnet.tensor.dim import Dim

T = TypeVar("T")  # the Tensor class


@dataclass(frozen=True, eq=False)
class FoldableLayer(Generic[T]):
    """A weighted layer that is emitted on first use, so that a BatchNorm can fold into it.

    Attributes:
        weight, bias: float32 arrays; `bias` may be ``None``.
        ndim, channels: rank of the output, and the size of its axis 1.
        dtype: element type of the output.
        scaled: ``scaled(weight, scale, out)`` writes the weights, those of output channel `c`
            multiplied by ``scale[c]``, to `out`, which has the shape of `weight`.
        emit: ``emit(weight, bias)`` adds the layer and returns its tensor.
    """

    weight: np.ndarray
    bias: np.ndarray | None
    ndim: int
    channels: int
    dtype: DType
    scaled: Callable[[np.ndarray, np.ndarray, np.ndarray], object]
    emit: Callable[[np.ndarray, np.ndarray | None], T]


class Value:
    """One ``ITensor`` of a network. Never becomes another one.

    Attributes:
        network: the network it belongs to.
    """

    __slots__ = ("_dims", "_itensor", "network")

    def __init__(self, network: Any, itensor: Any, dims: tuple[Any, ...] | None) -> None:
        self.network, self._itensor, self._dims = network, itensor, dims

    @property
    def pending(self) -> FoldableLayer[Any] | None:
        """The layer that still waits for a BatchNorm to fold into it, if any."""
        return None

    @property
    def source(self) -> Value:
        """This value; of a cast that is added on use, the value that is cast."""
        return self

    @property
    def is_emitted(self) -> bool:
        """Whether its layer is already in the network definition."""
        return self._itensor is not None

    @property
    def itensor(self) -> Any:
        """The ``ITensor``; adds its layer if that has not been added yet."""
        if self._itensor is None:
            self._emit()
        return self._itensor

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes: ints and Dims."""
        itensor = self.itensor
        if self._dims is None:
            self._dims = tuple(
                Dim(self.network, ("size", itensor, axis)) if size < 0 else size
                for axis, size in enumerate(itensor.shape)
            )
        return self._dims

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.itensor.shape)

    @property
    def dtype(self) -> DType:
        """Element type."""
        return dtype_of(self.itensor.dtype)

    def _emit(self) -> None:
        raise AssertionError("a value without a layer")

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"Tensor({self.itensor.name}, ({shape}), {self.dtype})"


class InputValue(Value):
    """An input of a network. It gets another ``ITensor`` where the network begins again."""

    __slots__ = ()

    is_network_input = True

    @property
    def name(self) -> str:
        """The name of the input."""
        return str(self._itensor.name)

    def declared(self, itensor: Any, dims: tuple[Any, ...] | None = None) -> None:
        """Takes the ``ITensor`` of the definition that is being filled; `dims` once, its sizes."""
        self._itensor = itensor
        self._dims = self._dims if dims is None else dims


class PendingValue(Value):
    """The output of a :class:`FoldableLayer`, whose layer is added on first use."""

    __slots__ = ("_pending",)

    def __init__(self, network: Any, pending: FoldableLayer[Any]) -> None:
        super().__init__(network, None, None)
        self._pending = pending

    @property
    def pending(self) -> FoldableLayer[Any]:
        """The layer."""
        return self._pending

    @property
    def ndim(self) -> int:
        """Number of axes; adds no layer."""
        return self._pending.ndim

    @property
    def dtype(self) -> DType:
        """Element type; adds no layer."""
        return self._pending.dtype

    def _emit(self) -> None:
        made = self.pending.emit(self.pending.weight, self.pending.bias)
        self._itensor, self._dims = made.itensor, made.shape
        self.network.name_returned(self)

    def __repr__(self) -> str:
        return super().__repr__() if self.is_emitted else f"Tensor(pending, {self.dtype})"


class CastValue(Value):
    """`source` as the type that the policy chose.

    Its Cast layer is added on first use as that type, under the path of the module that made it.
    Where `source` itself is asked for, no layer is added.

    Args:
        source: the value that is cast.
        dtype: the type.
        cast: adds the layer and returns its tensor.
    """

    __slots__ = ("_cast", "_dtype", "_path", "_source")

    def __init__(self, source: Value, dtype: DType, cast: Callable[[], Any]) -> None:
        super().__init__(source.network, None, None)
        self._source, self._dtype, self._cast = source.source, dtype, cast
        self._path = source.network.path

    @property
    def source(self) -> Value:
        """The value that is cast."""
        return self._source

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes of `source`."""
        return self._source.shape

    @property
    def ndim(self) -> int:
        """Number of axes of `source`."""
        return self._source.ndim

    @property
    def dtype(self) -> DType:
        """The type that `source` is cast to."""
        return self._dtype

    def _emit(self) -> None:
        with self.network.at(self._path):
            made = self._cast()
        self._itensor, self._dims = made.itensor, made.shape

    def __repr__(self) -> str:
        return f"CastOnUse({self._source!r}, {self._dtype})"
