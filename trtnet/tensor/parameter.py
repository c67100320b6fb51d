"""Parameter: the values of a weight, or the place for them; Buffer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from trtnet.dtypes import dtype_of
from trtnet.errors import UnsupportedError, UsageError, WeightsError
from trtnet.host import as_array, as_host, as_torch, network_of, pytorch, without_gradients
from trtnet.host.values import in_network

_NOBODY = np.uint32(0x7FC0_5EED)  # bits of the NaN that fills memory which nobody has written
_OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul "
    "rmatmul and or xor eq ne lt le gt ge neg pos abs invert getitem setitem len bool int float "
    "index iadd isub imul itruediv"
)


class Shape(tuple[int, ...]):
    """Sizes, as ``torch.Size`` has them."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self, dtype=np.int64))


class Parameter:
    """``torch.nn.Parameter``: values that belong to a module.

    In a network it is a constant. On the host it is what PyTorch's parameter is: it has the
    methods and operators of ``torch.Tensor``, which compute with :attr:`data`, and PyTorch's
    functions take it. Where an operand or a size belongs to a network, the result does too.

    Args:
        data: a tensor of PyTorch or an array, whose memory is shared; a bfloat16 tensor is held
            as float32. For a shape without values: :meth:`empty`.
        requires_grad: kept, and without effect.

    Attributes:
        optional: whether a state_dict may leave it out.
        name: its name in the module that owns it; ``""`` before.
        reads: how often its values were taken, to compute something of them.
        conversions: how often numpy, or :attr:`array`, gave them away.

    Raises:
        UsageError: `data` is a size or a tuple of sizes.
        UnsupportedError: `data` is a :class:`trtnet.Tensor`, which has values only at run time.
    """

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        self._array: np.ndarray | None = None if data is None else _values(data)
        self._shape, self._dtype = Shape((0,)), np.dtype(np.float32)
        self._is_unwritten = False
        self.requires_grad = requires_grad
        self.optional, self.name, self.reads, self.conversions = False, "", 0, 0

    @classmethod
    def empty(
        cls, shape: Iterable[int], *, dtype: object = np.float32, optional: bool = False
    ) -> Any:
        """One of `shape` that has no values yet; reading them raises :class:`WeightsError`.

        Args:
            shape: the shape PyTorch's parameter has.
            dtype: a numpy dtype, of the memory that is made when values are written.
            optional: whether a state_dict may leave it out.
        """
        made = cls()
        made._shape, made._dtype = Shape(int(size) for size in shape), np.dtype(dtype)  # type: ignore[call-overload]
        made.optional = optional
        return made

    # Values

    @property
    def array(self) -> np.ndarray | None:
        """The memory of the values; ``None`` before there is any. What a module's code computes of
        it belongs to these values: the key cannot be refitted."""
        self.conversions += 1
        return self.memory

    @array.setter
    def array(self, array: np.ndarray | None) -> None:
        self.write(array)

    @property
    def memory(self) -> np.ndarray | None:
        """What :attr:`array` is, for who computes nothing of it that a recipe would have to know:
        it is not counted."""
        return self._array

    def write(self, array: np.ndarray | None) -> None:
        """Sets :attr:`array`."""
        # A number of numpy's, which a computation with no axes gives, has no memory of its own.
        self._array = None if array is None else np.asanyarray(array)
        self._is_unwritten = False

    @property
    def data(self) -> Any:
        """The values as a tensor of PyTorch. It shares the memory: writing into it writes the
        parameter. Where there are no values yet, floating-point memory is filled with NaN."""
        pytorch("Parameter.data")
        self.reads += 1
        if self._array is None:
            self._array, self._is_unwritten = _unwritten(self._shape, self._dtype), True
        if not (self._array.flags.writeable and self._array.dtype.isnative):
            self._array = np.array(self._array, self._array.dtype.newbyteorder("="))
        return as_host(self._array)

    @data.setter
    def data(self, value: Any) -> None:
        self.array = _values(value)

    def on_host(self) -> Any:
        """:attr:`data`: what PyTorch's functions get for it."""
        return self.data

    @property
    def has_values(self) -> bool:
        """Whether values were loaded or written."""
        if self._is_unwritten and self._array is not None and not _is_all_nan(self._array):
            self._is_unwritten = False
        return self._array is not None and not self._is_unwritten

    def require(self, name: str) -> np.ndarray:
        """The array.

        Args:
            name: state_dict key of the parameter, for the error.

        Raises:
            WeightsError: none is loaded.
        """
        self.reads += 1
        array = self.memory
        if array is None or not self.has_values:
            raise WeightsError(
                "has no values yet",
                module=name,
                expected=f"shape {tuple(self.shape)}",
                fix="call model.load_state_dict(trtnet.weights.load(path))",
            )
        return array

    # What it is

    @property
    def shape(self) -> Shape:
        """Sizes."""
        return self._shape if self._array is None else Shape(self._array.shape)

    def size(self, dim: int | None = None) -> Any:
        """``shape``, or the size of axis `dim`."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def numel(self) -> int:
        """Number of elements."""
        return self.shape.numel()

    @property
    def dtype(self) -> Any:
        """Element type: a :class:`trtnet.DType`, or PyTorch's where trtnet has none."""
        found = self._dtype if self._array is None else self._array.dtype
        try:
            return dtype_of(found)
        except UnsupportedError:
            return getattr(pytorch(), found.name)

    @property
    def device(self) -> Any:
        """PyTorch's ``device("cpu")``."""
        return pytorch().device("cpu")

    def is_floating_point(self) -> bool:
        """Whether the element type is a floating-point type."""
        return (self._dtype if self._array is None else self._array.dtype).kind == "f"

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        """Sets :attr:`requires_grad`, which has no effect."""
        self.requires_grad = requires_grad
        return self

    def __repr__(self) -> str:
        empty = "" if self.has_values else ", empty"
        return f"{type(self).__name__}({tuple(self.shape)}{empty})"

    # As an operand

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        known = getattr(pytorch(f"Parameter.{name}").Tensor, name, None)
        if known is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if not callable(known):
            return getattr(self.data, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        return method

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        network = network_of((args, kwargs))
        if network is not None:
            return in_network(network, name, self, args, kwargs, self.name)
        result = getattr(self.data, name)(*args, **kwargs)
        in_place = name.startswith("__i") if name.endswith("__") else name.endswith("_")
        return self if in_place and isinstance(result, pytorch().Tensor) else result

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """PyTorch calls this for its functions that got a Parameter."""
        named = kwargs or {}
        network = network_of((args, named))
        if network is not None:
            return network.torch_function(function, args, named)
        with without_gradients():
            return as_host(function(*as_torch(args), **as_torch(named)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.require(self.name or "a parameter")
        self.conversions += 1
        return np.array(array, dtype) if copy else np.asarray(array, dtype)

    def __iter__(self) -> Any:
        return iter(self.data)

    def __hash__(self) -> int:
        return id(self)


class Buffer(Parameter):
    """``torch.nn.Buffer``: values that a module keeps and does not learn.

    Args:
        data: as for :class:`Parameter`.
        persistent: whether they belong to the state_dict.
    """

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        super().__init__(data, requires_grad=False)
        self.persistent = persistent


def _operator(name: str) -> Any:
    def call(self: Parameter, *args: Any) -> Any:
        return self._call(name, args, {})

    call.__name__ = name
    return call


for _name in _OPERATORS.split():
    setattr(Parameter, f"__{_name}__", _operator(f"__{_name}__"))


def require_written(array: np.ndarray) -> None:
    """Refuses a constant computed from the memory of a parameter that nobody has written.

    Raises:
        WeightsError: there is such a value in `array`.
    """
    if array.dtype == np.float32 and array.size and (array.view(np.uint32) == _NOBODY).any():
        raise WeightsError(
            "a constant is computed from a parameter that has no values yet",
            fix="call model.load_state_dict(...) first, or write it with nn.init",
        )


def _values(data: Any) -> np.ndarray:
    """The memory of the values that a Parameter is given."""
    if isinstance(data, Parameter):
        return data.require(data.name or "a parameter")
    if isinstance(data, np.ndarray):
        return data
    if hasattr(type(data), "itensor"):
        raise UnsupportedError(
            "a Parameter holds values, and a trtnet.Tensor has them only at run time",
            got=repr(data),
        )
    if hasattr(data, "resolve_conj"):  # a tensor of PyTorch
        return as_array(data)
    raise UsageError(
        "a Parameter is made from its values",
        expected="a tensor of PyTorch or a numpy array",
        got=repr(data),
        fix="Parameter(torch.zeros(...)) for values, Parameter.empty(shape) for a place for them",
    )


def _unwritten(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype != np.float32:
        return np.zeros(shape, dtype)
    return np.full(shape, _NOBODY, np.uint32).view(np.float32)


def _is_all_nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and array.size > 0 and bool(np.isnan(array).all())
