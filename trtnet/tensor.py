"""Tensor, a handle on an ``ITensor``, and Dim, a size that is known only at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import ops
from trtnet.dtypes import DType, bool_, dtype_of, float16, float32, int32, int64
from trtnet.errors import NetworkError, ShapeError

if TYPE_CHECKING:
    from trtnet.network import Network


class Dim:
    """A size that is known only at run time, such as a dynamic batch.

    ``x.shape[i]`` is an ``int`` where the size is fixed and a `Dim` where it is not. Dims take
    part in integer arithmetic (``+ - * //``) with ints and with each other; the result is a
    `Dim`, computed by the engine from the shapes of its inputs. Two Dims are equal when they are
    written the same way (``x.shape[0] * 2 == x.shape[0] * 2``).
    """

    __slots__ = ("key", "network")

    def __init__(self, network: Network, key: tuple[Any, ...]) -> None:
        self.network, self.key = network, key

    def _with(self, op: str, other: Any, swap: bool = False) -> Any:
        if not isinstance(other, (int, np.integer, Dim)) or isinstance(other, bool):
            return NotImplemented
        if isinstance(other, Dim) and other.network is not self.network:
            raise NetworkError("sizes of two networks cannot be mixed", got=f"{self} and {other}")
        right = other.key if isinstance(other, Dim) else int(other)
        if (op, right) in (("SUM", 0), ("SUB", 0), ("PROD", 1), ("FLOOR_DIV", 1)) and not swap:
            return self
        if (op, right, swap) in (("SUM", 0, True), ("PROD", 1, True)):
            return self
        pair = (right, self.key) if swap else (self.key, right)
        return Dim(self.network, (op, *pair))

    def __add__(self, other: Any) -> Any:
        return self._with("SUM", other)

    def __radd__(self, other: Any) -> Any:
        return self._with("SUM", other, swap=True)

    def __sub__(self, other: Any) -> Any:
        return self._with("SUB", other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("SUB", other, swap=True)

    def __mul__(self, other: Any) -> Any:
        return self._with("PROD", other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("PROD", other, swap=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._with("FLOOR_DIV", other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._with("FLOOR_DIV", other, swap=True)

    def minimum(self, other: Any) -> Any:
        """The smaller of two sizes."""
        return self._with("MIN", other)

    def maximum(self, other: Any) -> Any:
        """The larger of two sizes."""
        return self._with("MAX", other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.network is other.network and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __bool__(self) -> bool:
        return True  # like a positive int: `size or default` keeps the size

    def _unknown(self, *_: object) -> Any:
        raise ShapeError(
            f"the size {self} is known only at run time",
            fix="give this axis a fixed size in network.input(...), or write the code without "
            "comparing or converting it",
        )

    __int__ = __index__ = __float__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = _unknown

    def __repr__(self) -> str:
        return _describe(self.key)


_SIGNS = {"SUM": "+", "SUB": "-", "PROD": "*", "FLOOR_DIV": "//"}


def _describe(key: Any) -> str:
    if not isinstance(key, tuple):
        return str(key)
    if key[0] == "named":
        return str(key[1])
    if key[0] == "size":
        return f"{key[1].name}.shape[{key[2]}]"
    left, right = _describe(key[1]), _describe(key[2])
    sign = _SIGNS.get(key[0])
    return f"({left} {sign} {right})" if sign else f"{key[0].lower()}({left}, {right})"


@dataclass(frozen=True)
class Pending:
    """A weighted layer that is emitted on first use, so that a BatchNorm can fold into it.

    Attributes:
        weight, bias: float32 arrays; `bias` may be ``None``.
        ndim, channels: rank of the output, and the size of its axis 1.
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


class Tensor:
    """A handle on an ``ITensor`` of one network. Immutable; made by :class:`trtnet.Network`.

    Attributes:
        network: the network it belongs to.
        pending: set while its layer waits for a BatchNorm to fold into it.
    """

    __slots__ = ("_dims", "_itensor", "network", "pending")
    __array_ufunc__ = None  # `array + tensor` is ours, not numpy's

    def __init__(
        self,
        network: Network,
        itensor: Any = None,
        dims: tuple[Any, ...] | None = None,
        pending: Pending | None = None,
    ) -> None:
        self.network, self._itensor, self._dims, self.pending = network, itensor, dims, pending

    @property
    def is_emitted(self) -> bool:
        """Whether its layer is already in the network definition."""
        return self._itensor is not None

    @property
    def itensor(self) -> Any:
        """The real ``ITensor``, to continue by hand with ``network.definition.add_*``."""
        return self.emitted()._itensor

    def emitted(self) -> Tensor:
        """This tensor, its layer added if that was still to come."""
        if self._itensor is None:
            assert self.pending is not None
            made = self.pending.emit(self.pending.weight, self.pending.bias)
            self._itensor, self._dims = made.itensor, made._dims
            self.network.names.adopt(self)
        return self

    @property
    def source(self) -> Tensor:
        """This tensor; of a :class:`Recast`, the one it is made from."""
        return self

    @property
    def name(self) -> str:
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
        return self.pending.ndim if self.pending else len(self.itensor.shape)

    dim = ndim.fget  # type: ignore[attr-defined]  # PyTorch has both x.ndim and x.dim()

    @property
    def is_static(self) -> bool:
        """Whether every size is a plain int."""
        return all(isinstance(size, int) for size in self.shape)

    @property
    def dtype(self) -> DType:
        return self.pending.dtype if self.pending else dtype_of(self.itensor.dtype)

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def __iter__(self) -> Iterator[Tensor]:
        return iter(ops.unbind(self))

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

    # Types
    def to(self, dtype: object) -> Tensor:
        """Cast to `dtype`; the same cast is emitted once per tensor. What is computed from the
        result keeps its type, whatever the network's policy says."""
        return self.network.convert(self, dtype_of(dtype))

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other.dtype)

    def float(self) -> Tensor:
        return self.to(float32)

    def half(self) -> Tensor:
        return self.to(float16)

    def int(self) -> Tensor:
        return self.to(int32)

    def long(self) -> Tensor:
        return self.to(int64)

    def bool(self) -> Tensor:
        return self.to(bool_)

    def new_tensor(self, data: Any) -> Tensor:
        """A constant of this network with this tensor's dtype, from a Parameter or an array."""
        return self.network.constant(data, self.dtype)

    def contiguous(self) -> Tensor:
        """Itself: TensorRT decides memory layout."""
        return self

    # Operators
    __add__ = __radd__ = ops.add
    __mul__ = __rmul__ = ops.mul
    __sub__, __truediv__, __floordiv__, __mod__ = ops.sub, ops.div, ops.floor_divide, ops.remainder
    __pow__, __matmul__, __neg__, __abs__ = ops.pow, ops.matmul, ops.neg, ops.abs
    __lt__, __le__, __gt__, __ge__ = ops.lt, ops.le, ops.gt, ops.ge
    __and__, __or__, __xor__ = ops.logical_and, ops.logical_or, ops.logical_xor
    __invert__ = ops.logical_not
    __getitem__ = ops.getitem

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    # Elementwise
    add, sub, mul, div, pow, neg, abs = (
        ops.add,
        ops.sub,
        ops.mul,
        ops.div,
        ops.pow,
        ops.neg,
        ops.abs,
    )
    eq, ne, lt, le, gt, ge = ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge
    exp, log, sqrt, rsqrt, erf, sign = ops.exp, ops.log, ops.sqrt, ops.rsqrt, ops.erf, ops.sign
    sin, cos, floor, ceil, round = ops.sin, ops.cos, ops.floor, ops.ceil, ops.round
    reciprocal, square = ops.reciprocal, ops.square
    minimum, maximum, clamp = ops.minimum, ops.maximum, ops.clamp
    relu, sigmoid, tanh, logical_not = ops.relu, ops.sigmoid, ops.tanh, ops.logical_not
    softmax, log_softmax = ops.softmax, ops.log_softmax

    # Reductions
    sum, mean, prod, amax, amin = ops.sum, ops.mean, ops.prod, ops.amax, ops.amin
    max, min, argmax, argmin, topk = ops.max, ops.min, ops.argmax, ops.argmin, ops.topk

    # Shapes
    reshape, flatten, unflatten = ops.reshape, ops.flatten, ops.unflatten
    permute, transpose, squeeze, unsqueeze = ops.permute, ops.transpose, ops.squeeze, ops.unsqueeze
    expand, split, chunk, roll, unbind = ops.expand, ops.split, ops.chunk, ops.roll, ops.unbind
    view = ops.reshape
    gather, index_select, matmul = ops.gather, ops.index_select, ops.matmul

    @property
    def T(self) -> Tensor:  # noqa: N802  (PyTorch's name)
        return ops.transpose(self, 0, 1)


class Recast(Tensor):
    """`source` as another type. Its Cast layer is added on first use as that type, and under the
    module path of now; where `source` itself is wanted there is none."""

    __slots__ = ("_dtype", "_path", "_source")

    def __init__(self, source: Tensor, dtype: DType) -> None:
        super().__init__(source.network)
        self._source, self._dtype, self._path = source.source, dtype, source.network.path

    @property
    def source(self) -> Tensor:
        return self._source

    def emitted(self) -> Tensor:
        if self._itensor is None:
            with self.network.scopes.at(self._path):
                made = self.network.cast(self._source, self._dtype)
            self._itensor, self._dims = made.itensor, made.shape
        return self

    @property
    def shape(self) -> tuple[Any, ...]:
        return self._source.shape

    @property
    def ndim(self) -> int:
        return self._source.ndim

    dim = ndim.fget  # type: ignore[attr-defined]

    @property
    def dtype(self) -> DType:
        return self._dtype

    def __repr__(self) -> str:
        return f"Recast({self._source!r}, {self._dtype})"


def tensors_in(tree: object) -> list[Tensor]:
    """Every Tensor inside nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [tensor for item in tree for tensor in tensors_in(item)]
    return []
