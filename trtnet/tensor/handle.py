"""Tensor: a handle on an ``ITensor`` of one network, and its two forms that are emitted on use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import DType, bool_, dtype_of, float16, float32, int32, int64
from trtnet.errors import ShapeError
from trtnet.tensor.dim import Dim
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.operators import Operators


@dataclass(frozen=True)
class FoldableLayer:
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
    scaled: Callable[[np.ndarray, np.ndarray, np.ndarray], None]
    emit: Callable[[np.ndarray, np.ndarray | None], Tensor]


class Tensor(Operators):
    """A handle on an ``ITensor`` of one network. Immutable; made by :class:`trtnet.Network`.

    Attributes:
        network: the network it belongs to.
        pending: the layer that still waits for a BatchNorm to fold into it, or ``None``.
    """

    __slots__ = ("_dims", "_itensor", "network", "pending")
    __array_ufunc__ = None  # `array + tensor` calls Tensor's operator, not numpy's

    def __init__(
        self,
        network: Emitter[Tensor],
        itensor: Any = None,
        dims: tuple[Any, ...] | None = None,
        pending: FoldableLayer | None = None,
    ) -> None:
        self.network, self._itensor, self._dims, self.pending = network, itensor, dims, pending

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """PyTorch calls this for its functions and operators that got a Tensor: they add layers,
        as trtnet's functions of the same names do. See torch.overrides."""
        taken = tensors_in([args, kwargs or {}])
        return taken[0].network.torch_function(function, args, kwargs or {})

    @property
    def is_emitted(self) -> bool:
        """Whether its layer is already in the network definition."""
        return self._itensor is not None

    @property
    def itensor(self) -> Any:
        """The real ``ITensor``, to continue by hand with ``network.definition.add_*``."""
        return self.emitted()._itensor

    def emitted(self) -> Tensor:
        """This tensor; adds its layer if that has not been added yet."""
        if self._itensor is None:
            assert self.pending is not None
            made = self.pending.emit(self.pending.weight, self.pending.bias)
            self._itensor, self._dims = made.itensor, made._dims
            self.network.name_returned(self)
        return self

    @property
    def source(self) -> Tensor:
        """This tensor; of a :class:`CastOnUse`, the tensor that is cast."""
        return self

    @property
    def name(self) -> str:
        """The name of the ``ITensor``."""
        return str(self.itensor.name)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes: ints, and a :class:`Dim` for every axis known only at run time."""
        itensor = self.itensor
        if self._dims is None:
            self._dims = tuple(
                Dim(self.network, ("size", itensor, axis)) if size < 0 else size
                for axis, size in enumerate(itensor.shape)
            )
        return self._dims

    def size(self, dim: int | None = None) -> Any:
        """``shape``, or the size of axis `dim`."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.pending.ndim if self.pending else len(self.itensor.shape)

    def dim(self) -> int:
        """Number of axes; PyTorch has both ``x.ndim`` and ``x.dim()``."""
        return self.ndim

    @property
    def is_static(self) -> bool:
        """Whether every size is a plain int."""
        return all(isinstance(size, int) for size in self.shape)

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.pending.dtype if self.pending else dtype_of(self.itensor.dtype)

    def is_floating_point(self) -> bool:
        """Whether the element type is a floating-point type that layers compute in."""
        return self.dtype.is_floating_point

    @property
    def T(self) -> Tensor:  # noqa: N802  (PyTorch's name)
        """The transpose of a matrix."""
        return self.transpose(0, 1)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unbind())

    def __len__(self) -> int:
        return int(self.shape[0])

    def __bool__(self) -> bool:
        raise ShapeError(
            f"the values of {self.name} are known only at run time",
            fix="use trtnet.where(condition, a, b) instead of if",
        )

    def __repr__(self) -> str:
        if not self.is_emitted:
            return f"Tensor(pending, {self.dtype})"
        shape = ", ".join(map(str, self.shape))
        return f"Tensor({self.name}, ({shape}), {self.dtype})"

    def new_tensor(self, data: Any) -> Tensor:
        """A constant of this network with this tensor's dtype, from a Parameter or an array."""
        return self.network.constant(data, self.dtype)

    def contiguous(self) -> Tensor:
        """Itself: TensorRT decides memory layout."""
        return self

    # Casts. Last in the class: their names hide `float`, `int` and `bool` from annotations.

    def to(self, dtype: object) -> Tensor:
        """Cast to `dtype`; the same cast is emitted once per tensor. What is computed from the
        result keeps its type, whatever the network's policy says."""
        return self.network.convert(self, dtype_of(dtype))

    def type_as(self, other: Tensor) -> Tensor:
        """Cast to the dtype of `other`."""
        return self.to(other.dtype)

    def float(self) -> Tensor:
        """Cast to float32."""
        return self.to(float32)

    def half(self) -> Tensor:
        """Cast to float16."""
        return self.to(float16)

    def int(self) -> Tensor:
        """Cast to int32."""
        return self.to(int32)

    def long(self) -> Tensor:
        """Cast to int64."""
        return self.to(int64)

    def bool(self) -> Tensor:
        """Cast to bool."""
        return self.to(bool_)


class CastOnUse(Tensor):
    """`source` as the type that the policy chose.

    Its Cast layer is added on first use as that type, under the path of the module that made it.
    Where `source` itself is asked for, no layer is added.
    """

    __slots__ = ("_dtype", "_path", "_source")

    def __init__(self, source: Tensor, dtype: DType) -> None:
        super().__init__(source.network)
        self._source, self._dtype, self._path = source.source, dtype, source.network.path

    @property
    def source(self) -> Tensor:
        """The tensor that is cast."""
        return self._source

    def emitted(self) -> Tensor:
        """This tensor; adds its Cast layer if that has not been added yet."""
        if self._itensor is None:
            with self.network.at(self._path):
                made = self.network.cast(self._source, self._dtype)
            self._itensor, self._dims = made.itensor, made.shape
        return self

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

    def __repr__(self) -> str:
        return f"CastOnUse({self._source!r}, {self._dtype})"


def tensors_in(tree: object) -> list[Tensor]:
    """Every Tensor inside nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [tensor for item in tree for tensor in tensors_in(item)]
    return []
