"""Tensor: a handle on a value in one network. In-place operations give it another value."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Number
from typing import Any

from trtnet.dtypes import DType, bool_, float16, float32, int32, int64
from trtnet.host import pytorch
from trtnet.tensor.attributes import Attributes
from trtnet.tensor.conversion import conversion_target, tensor_of_values
from trtnet.tensor.dim import Dim
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.operators import Operators
from trtnet.tensor.parameter import Parameter
from trtnet.tensor.run_time import RunTimeValues
from trtnet.tensor.value import CastValue, FoldableLayer, PendingValue, Value
from trtnet.tensor.views import (
    MaybeCopied,
    Memory,
    Path,
    Place,
    are_dense,
    dense_strides,
    is_same_path,
)


class Tensor(Attributes, RunTimeValues, Operators):
    """A handle on one tensor of a network, made by :class:`trtnet.Network`.

    In-place operations, such as ``x += 1``, change what the handle stands for: everything that
    holds the handle sees it, and so do its views (``x[0]``, ``x.transpose(0, 1)`` ...), as in
    PyTorch. Hashing is by identity; ``==`` compares elements and gives a Tensor.

    Attributes:
        network: the network it belongs to.
        is_dense: whether PyTorch certainly keeps this tensor, unless it is a view, in its usual
            order in memory (``is_contiguous()``), such as a network input.
    """

    __slots__ = ("_place", "_value", "is_dense", "network")
    __array_ufunc__ = None  # `array + tensor` calls Tensor's operator, not numpy's
    __hash__ = object.__hash__

    _value: Value
    _place: Place | None
    is_dense: Any

    def __new__(cls, network: Any = None, *args: Any, **kwargs: Any) -> Any:
        """``Tensor(3, 4)`` and ``Tensor([1, 2])``, as PyTorch has them, make float32 values of the
        host."""
        if hasattr(type(network), "emit"):
            return object.__new__(cls)
        given = args if network is None else (network, *args)
        return tensor_of_values(pytorch("trtnet.Tensor(...)").Tensor, given, kwargs)

    def __init__(
        self,
        network: Emitter[Tensor],
        itensor: Any = None,
        dims: tuple[Any, ...] | None = None,
        pending: FoldableLayer[Tensor] | None = None,
    ) -> None:
        self.network, self._place, self.is_dense = network, None, False
        self._value = PendingValue(network, pending) if pending else Value(network, itensor, dims)

    @classmethod
    def of(cls, value: Value) -> Tensor:
        """A handle on `value` that shares memory with no other."""
        made = object.__new__(cls)
        made.network, made._value, made._place = value.network, value, None
        made.is_dense = False
        return made

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """PyTorch calls this for its functions and operators that got a Tensor: they add layers,
        as trtnet's functions of the same names do. See torch.overrides."""
        taken = tensors_in([args, kwargs or {}])
        return taken[0].network.torch_function(function, args, kwargs or {})

    # What it stands for

    @property
    def value(self) -> Value:
        """What the handle stands for now; adds the layers of writes to tensors that it shares
        memory with."""
        if self._place is not None and self._place.is_behind:
            after = self._place.update()
            if after is not None:
                self._value = after.value
        return self._value

    def emitted(self) -> Tensor:
        """A handle on the value that this tensor has now, its layer added: later in-place
        operations on this tensor do not change it."""
        value = self.value
        _ = value.itensor
        return Tensor.of(value)

    def as_it_is(self) -> Tensor:
        """A handle on the value that this tensor has now."""
        return Tensor.of(self.value)

    @property
    def is_emitted(self) -> bool:
        """Whether its layer is already in the network definition."""
        return self.value.is_emitted

    @property
    def pending(self) -> FoldableLayer[Tensor] | None:
        """The layer that still waits for a BatchNorm to fold into it, or ``None``."""
        return self.value.pending

    @property
    def itensor(self) -> Any:
        """The real ``ITensor``, to continue by hand with ``network.definition.add_*``."""
        return self.value.itensor

    @property
    def source(self) -> Tensor:
        """This tensor; of a cast that is added on use, the tensor that is cast."""
        value = self.value
        return self if value.source is value else Tensor.of(value.source)

    @property
    def name(self) -> str:
        """The name of the ``ITensor``."""
        return str(self.itensor.name)

    # Memory that it shares with others

    def become(self, new: Tensor, name: str) -> Tensor:
        """Gives the handle the value of `new`, by the in-place operation `name`; returns it."""
        value = new.value
        if self._place is not None:
            self._place.written(Tensor.of(value), name)
        self._value = value
        return self

    def place(self) -> Place:
        """Where its elements are, in a memory that it can share with others."""
        if self._place is None:
            value = self._value
            strides = dense_strides(value.shape) if self.is_dense else None
            self._place = Place(Memory(Tensor.of(value)), (), strides)
        return self._place

    @property
    def has_memory(self) -> bool:
        """Whether there are views of it, or may be, or it is one."""
        return self._place is not None

    def with_memory(self) -> Tensor:
        """A handle on this tensor's value with a memory of its own."""
        made = self.as_it_is()
        made.place()
        return made

    def as_view(self, of: Tensor, steps: Path = ()) -> Tensor:
        """A handle on this tensor's value that shares the memory of the tensor `of`.

        Args:
            of: a tensor.
            steps: what makes this tensor's value of that of `of`.
        """
        made = Tensor.of(self.value)
        made._place = of.place().later(steps)
        return made

    def move_to(self, view: Tensor) -> Tensor:
        """Makes the handle one of what `view` stands for, in the same memory; returns it."""
        self._value, self._place = view.value, view._place
        return self

    @property
    def has_dense_memory(self) -> bool:
        """Whether ``is_contiguous()`` is certainly true in PyTorch."""
        strides = self._place.strides if self._place else None
        return self.is_dense if strides is None else are_dense(strides, self.shape)

    def _copy(self, is_dense: bool) -> Tensor:
        made = self.as_it_is()
        made.is_dense = is_dense
        return made

    def shares_memory_with(self, other: Tensor) -> bool:
        """Whether a write to one may change the other in PyTorch: both are one tensor, or views of
        one."""
        mine, its = self._place, other._place
        return self is other or (mine is not None and its is not None and mine.memory is its.memory)

    def is_part(self, of: Tensor, steps: Path) -> bool:
        """Whether it is the view that `steps` make of the tensor `of`."""
        mine, whole = self._place, of._place
        if mine is None or whole is None or mine.memory is not whole.memory:
            return False
        return is_same_path(mine.path, whole.path + steps)

    # Sizes and type

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes: ints, and a :class:`Dim` for every axis known only at run time."""
        return self._value.shape

    def size(self, dim: int | None = None) -> Any:
        """``shape``, or the size of axis `dim`."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._value.ndim

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
        return self._value.dtype

    def is_floating_point(self) -> bool:
        """Whether the element type is a floating-point type that layers compute in."""
        return self.dtype.is_floating_point

    @property
    def data(self) -> Tensor:
        """A tensor that shares its memory."""
        return self.as_view(self)

    def contiguous(self, memory_format: Any = None) -> Tensor:
        """The same values; TensorRT decides memory layout. It shares memory where PyTorch does,
        which keeps tensors that are contiguous and copies others."""
        strides = self.place().strides
        if strides is not None:
            return self if are_dense(strides, self.shape) else self._copy(is_dense=True)
        made = self.as_view(self, (MaybeCopied("contiguous"),))
        made.is_dense = True
        return made

    def __eq__(self, other: object) -> Any:
        """Whether elements are equal, as bool; ``False`` where `other` is no number, tensor or
        array."""
        return self.eq(other) if _is_operand(other) else NotImplemented

    def __ne__(self, other: object) -> Any:
        """Whether elements differ, as bool; ``True`` where `other` is no number, tensor or
        array."""
        return self.ne(other) if _is_operand(other) else NotImplemented

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unbind())

    def __len__(self) -> int:
        return int(self.shape[0])

    def __repr__(self) -> str:
        return repr(self.value)

    def new_tensor(self, data: Any) -> Tensor:
        """A constant of this network with this tensor's dtype, from a Parameter or an array."""
        return self.network.constant(data, self.dtype)

    # Casts. Last in the class: their names hide `float`, `int` and `bool` from annotations.

    def to(
        self,
        *args: Any,
        dtype: object = None,
        device: object = None,
        non_blocking: object = False,
        copy: object = False,
        memory_format: object = None,
    ) -> Tensor:
        """Cast to a type: ``x.to(dtype)``, ``x.to(device, dtype)``, ``x.to(other)``. Devices mean
        nothing here. What is computed from the result keeps its type, whatever the network's
        policy says. Itself where it has the type already, unless `copy`."""
        wanted, flags = conversion_target(args, dtype)
        result = self if wanted is None else self.network.convert(self, wanted)
        copies = copy or (len(flags) > 1 and flags[1])
        return self if result is self and not copies else result._copy(self.has_dense_memory)

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


def cast_on_use(tensor: Tensor, dtype: DType) -> Tensor:
    """`tensor` as the type `dtype`, which the policy chose: its Cast layer is added on first use
    as that type. See :class:`trtnet.tensor.value.CastValue`."""
    source = tensor.source.as_it_is()
    return Tensor.of(CastValue(source.value, dtype, lambda: source.network.cast(source, dtype)))


def _is_operand(value: object) -> bool:
    known = isinstance(value, (Tensor, Dim, Parameter, Number))
    return known or hasattr(value, "__array__")


def tensors_in(tree: object) -> list[Tensor]:
    """Every Tensor inside nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [tensor for item in tree for tensor in tensors_in(item)]
    return []
