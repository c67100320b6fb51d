"""Network: one ``INetworkDefinition`` being filled."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.backend import Backend, load
from trtnet.dtypes import (
    DType,
    bfloat16,
    dtype_of,
    float16,
    require_representable,
    to_storage,
)
from trtnet.errors import NetworkError, ShapeError, UnsupportedError
from trtnet.naming import Scopes, parameter_name
from trtnet.sizes import Sizes
from trtnet.tensor import Dim, Pending, Tensor, tensors_in

if TYPE_CHECKING:
    from trtnet.module import Module

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_BLOCK = 1 << 23  # elements; 32 MB


class Network:
    """One strongly typed ``INetworkDefinition``, filled by calling modules on its inputs.

    Args:
        backend: ``"auto"``, ``"tensorrt"``, ``"rtx"``, or a loaded :class:`trtnet.backend.Backend`.
        precision: ``"fp32"``, ``"tf32"`` (float32 tensors; TF32 arithmetic allowed when built),
            ``"fp16"`` or ``"bf16"``: the type in which weighted layers compute.
        fold_batch_norm: fold each BatchNorm into the convolution, deconvolution or linear layer
            before it; ``False`` keeps a Scale layer.

    Attributes:
        definition: the real ``INetworkDefinition``: add raw layers to it at will.
        inputs, outputs: name to :class:`Tensor`.

    >>> import numpy, trtnet
    >>> from trtnet import nn
    >>> net = trtnet.Network(backend="rtx")
    >>> x = net.input("x", ("N", 3, 8, 8))
    >>> net.output("y", nn.MaxPool2d(2)(x)).shape
    (N, 3, 4, 4)
    """

    def __init__(
        self,
        backend: str | Backend = "auto",
        precision: str = "fp32",
        fold_batch_norm: bool = True,
    ) -> None:
        if precision not in PRECISIONS:
            raise UnsupportedError(
                f"unknown precision {precision!r}", expected=", ".join(PRECISIONS), got=precision
            )
        self.backend = backend if isinstance(backend, Backend) else load(backend)
        self.trt = self.backend.trt
        self.precision, self.fold_batch_norm = precision, fold_batch_norm
        self.builder = self.backend.builder()
        self.definition = self.backend.create_network(self.builder)
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.scopes = Scopes()
        self._returned: dict[str, Tensor] = {}
        # TensorRT keeps pointers, not arrays. The arrays live as long as the definition itself,
        # which a read-back graph may keep beyond this object.
        self._held: list[np.ndarray] = []
        self._block = np.empty(0, np.float32)
        weakref.finalize(self.definition, self._held.clear).atexit = False
        self._axes: dict[str, Dim] = {}
        self._casts: dict[tuple[Any, DType], Tensor] = {}
        self._sizes = Sizes(self)
        self._scalars: dict[tuple[Any, ...], Tensor] = {}
        self._named: set[str] = set()

    # Inputs and outputs

    def input(self, name: str, shape: Sequence[int | str | None], dtype: object = "fp32") -> Tensor:
        """Declares an input. An axis is an int, or a string that names a dynamic axis (axes of
        one name have one size in every input), or ``None`` or -1 for an unnamed dynamic axis.

        Raises:
            NetworkError: the name is taken.
            ShapeError: a size that is neither positive nor dynamic.
        """
        if name in self._named:
            raise NetworkError("the name is taken", module=name, fix="choose another name")
        sizes = [-1 if size is None or isinstance(size, str) else int(size) for size in shape]
        if any(size == 0 or size < -1 for size in sizes):
            raise ShapeError(
                "impossible input size",
                module=name,
                got=tuple(shape),
                expected="positive sizes, names, or None",
            )
        self._named.add(name)
        itensor = self._checked(
            self.definition.add_input(name, dtype_of(dtype).of(self.trt), sizes), name
        )
        dims: list[int | Dim] = []
        for axis, (size, given) in enumerate(zip(sizes, shape, strict=True)):
            if isinstance(given, str):
                itensor.set_dimension_name(axis, given)
                dims.append(self._axes.setdefault(given, Dim(self, ("named", given, name, axis))))
            else:
                dims.append(size if size >= 0 else Dim(self, ("size", itensor, axis)))
        self.inputs[name] = Tensor(self, itensor, tuple(dims))
        return self.inputs[name]

    def output(self, name: str, tensor: Tensor, dtype: object = None) -> Tensor:
        """Marks `tensor` as the output `name`. Half precision comes out as float32 unless
        `dtype` says otherwise. Returns the tensor that was marked."""
        self._same_network([tensor])
        if name in self.outputs or name in self.inputs:
            raise NetworkError("the name is taken", module=name, fix="choose another name")
        wanted = dtype_of(dtype) if dtype is not None else tensor.dtype
        if dtype is None and tensor.dtype in (float16, bfloat16):
            wanted = DType.FLOAT32
        tensor = self.cast(tensor, wanted)
        if tensor.itensor.is_network_input or tensor.itensor.is_network_output:
            tensor = self.emit("identity", "add_identity", tensor, dims=tensor.shape)
        if name in self._named and tensor.name != name:
            raise NetworkError(
                "the name is taken by another tensor", module=name, fix="choose another output name"
            )
        tensor.itensor.name = name
        self._named.add(name)
        self.definition.mark_output(tensor.itensor)
        self.outputs[name] = tensor
        return tensor

    @property
    def module_outputs(self) -> dict[str, Tensor]:
        """The tensor each module call returned, by module path; the second call of a module is
        ``path#1``. A module whose layer was folded away has no entry."""
        return {path: tensor for path, tensor in self._returned.items() if tensor.is_emitted}

    def tensor(self, itensor: Any) -> Tensor:
        """A :class:`Tensor` for an ``ITensor`` that was added by hand to :attr:`definition`."""
        return Tensor(self, self._checked(itensor, self.scopes.path))

    # Emitting

    def emit(
        self,
        op: str,
        method: str,
        *args: Any,
        dims: Sequence[Any] | None = None,
        inputs: dict[int, Tensor] | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Adds one layer: the only place that calls ``add_*``.

        Args:
            op: short name; the layer is called ``<module path>/<op>``.
            method: name of the ``INetworkDefinition`` method; `args` are its arguments, Tensors
                included.
            dims: sizes known to the caller (-1 where not), used where TensorRT only knows that
                an axis is dynamic.
            inputs: further inputs, set by index.
            attributes: attributes of the layer.

        Raises:
            NetworkError: TensorRT refused the layer; carries the module path and TensorRT's words.
        """
        return self.emit_all(op, method, *args, dims=[dims], inputs=inputs, **attributes)[0]

    def emit_all(
        self,
        op: str,
        method: str,
        *args: Any,
        dims: Sequence[Sequence[Any] | None],
        inputs: dict[int, Tensor] | None = None,
        **attributes: Any,
    ) -> list[Tensor]:
        """:meth:`emit` for a layer with ``len(dims)`` outputs."""
        sizes = [size for known in dims for size in known or () if isinstance(size, Dim)]
        self._same_network([*tensors_in(args), *(inputs or {}).values(), *sizes])
        plain = [_unwrap(argument) for argument in args]  # may emit pending layers first
        extra = {index: tensor.itensor for index, tensor in (inputs or {}).items()}
        name = self.scopes.in_path(op)
        self.backend.clear_errors()
        layer = self._checked(getattr(self.definition, method)(*plain), name)
        layer.name = name
        for attribute, value in attributes.items():
            setattr(layer, attribute, value)
        for index, itensor in extra.items():
            layer.set_input(index, itensor)
        outputs = []
        for index, known in enumerate(dims):
            itensor = layer.get_output(index)
            itensor.name = name if len(dims) == 1 else f"{name}.{index}"
            outputs.append(Tensor(self, itensor, self._read_shape(itensor, known)))
        complaint = self.backend.take_errors()  # setters refuse values by logging only
        if complaint:
            raise NetworkError("TensorRT refused the layer", module=name, got=complaint)
        return outputs

    def defer(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        ndim: int,
        channels: int,
        scaled: Callable[[np.ndarray, np.ndarray, np.ndarray], None],
        emit: Callable[[np.ndarray, np.ndarray | None], Tensor],
    ) -> Tensor:
        """A tensor whose layer ``emit(weight, bias)`` adds on first use, under the module path
        of now, unless a BatchNorm folds into it first. See :class:`trtnet.tensor.Pending`."""
        path = self.path

        def emit_at_path(weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
            with self.scopes.at(path):
                return emit(weight, bias)

        pending = Pending(weight, bias, ndim, channels, self.compute_dtype, scaled, emit_at_path)
        return Tensor(self, pending=pending)

    def _checked(self, added: Any, name: str) -> Any:
        if added is None:
            raise NetworkError(
                "TensorRT refused the layer",
                module=name,
                got=self.backend.take_errors() or "no reason given",
            )
        return added

    def _read_shape(self, itensor: Any, known: Sequence[Any] | None) -> tuple[Any, ...] | None:
        """Reads the shape at once: TensorRT reports some mistakes only then."""
        try:
            sizes = tuple(itensor.shape)
        except (RuntimeError, ValueError) as error:
            raise NetworkError(
                "TensorRT refused the layer",
                module=itensor.name,
                got=self.backend.take_errors() or error,
            ) from error
        if -1 not in sizes:
            return sizes
        if known is None or len(known) != len(sizes):
            return None
        return tuple(
            size if size >= 0 else hint if hint != -1 else Dim(self, ("size", itensor, axis))
            for axis, (size, hint) in enumerate(zip(sizes, known, strict=True))
        )

    def _same_network(self, tensors: Sequence[Tensor | Dim]) -> None:
        for tensor in tensors:
            if tensor.network is not self:
                raise NetworkError(
                    "tensors of two networks cannot be mixed",
                    module=self.scopes.path or None,
                    got=f"{tensor!r} of another network",
                    fix="call the module on tensors of one trtnet.Network",
                )

    # Weights, constants, casts

    @property
    def compute_dtype(self) -> DType:
        """The type weighted layers compute in."""
        return dtype_of(self.precision)

    def compute(self, tensor: Tensor) -> Tensor:
        """`tensor` in the type weighted layers compute in, its layer added: were it still to
        come, a long chain of layers would be added by calls nested as deep."""
        return self.cast(tensor, self.compute_dtype).emitted()

    def cast(self, tensor: Tensor, dtype: DType) -> Tensor:
        """`tensor` as `dtype`; one Cast layer per tensor and type."""
        if tensor.dtype is dtype:
            return tensor
        key = (tensor.itensor, dtype)
        if key not in self._casts:
            self._casts[key] = self.emit(
                "cast", "add_cast", tensor, dtype.of(self.trt), dims=tensor.shape
            )
        return self._casts[key]

    def weights(self, array: np.ndarray | None, dtype: DType | None = None, name: str = "") -> Any:
        """The only maker of ``trt.Weights``: converts `array` once and holds its memory as
        long as the definition lives. ``None`` gives empty weights.

        Raises:
            WeightsError: named values that are NaN or infinite; finite ones that `dtype` cannot
                hold.
        """
        dtype = dtype or self.compute_dtype
        if array is None:  # a Scale layer wants its empty power in the type of its other weights
            return self.trt.Weights(dtype.of(self.trt))
        if dtype.is_floating_point and array.size:
            key = parameter_name(self.path, name) or "constant"
            require_representable(array, dtype, key, finite=bool(name))
        stored = to_storage(array, dtype)
        self._held.append(stored)
        return self.trt.Weights(dtype.of(self.trt), stored.ctypes.data, stored.size)

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 memory for weights computed on the way, such as folded ones. It is
        cut from large blocks, which get huge pages: a fraction of the page faults."""
        size = math.prod(shape)
        if size > self._block.size:
            self._block = np.empty(max(size, _BLOCK), np.float32)
        cut, self._block = self._block[:size], self._block[size:]
        return cut.reshape(shape)

    def constant(self, value: Any, dtype: object = None, name: str = "") -> Tensor:
        """A constant tensor from a Parameter, array, or number.

        `dtype` defaults to the value's own; Python floats and float64 arrays become float32 and
        Python ints int64. With `name`, the parameter's in its module, it must be finite.
        """
        if hasattr(value, "require"):  # a Parameter
            value = value.require(parameter_name(self.path, name))
        array = np.asarray(value)
        default = "float32" if array.dtype.kind == "f" and array.dtype.itemsize > 4 else array.dtype
        wanted = dtype_of(default if dtype is None else dtype)
        small = array.size <= 16 and not name
        key = (array.shape, array.dtype, wanted, array.tobytes()) if small else None
        if key is None or key not in self._scalars:
            weights = self.weights(array, wanted, name)
            made = self.emit("constant", "add_constant", array.shape, weights)
            if key is None:
                return made
            self._scalars[key] = made
        return self._scalars[key]

    def sizes(self, sizes: Sequence[int | Dim]) -> Tensor:
        """A 1-D int64 shape tensor holding `sizes`, which the engine computes where it must."""
        self._same_network([size for size in sizes if isinstance(size, Dim)])
        return self._sizes.tensor(sizes)

    # Modules

    @property
    def path(self) -> str:
        """Path of the module being emitted, for error messages."""
        return self.scopes.path

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Puts the modules called inside the block under `name`, for networks made of several
        models."""
        with self.scopes.prefixed(name):
            yield

    def call(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``module.forward`` in the module's scope and names what it returns."""
        self._same_network(tensors_in([args, kwargs]))
        with self.scopes.calling(module) as path:
            result = module.forward(*args, **kwargs)
        found = tensors_in(result)
        for index, tensor in enumerate(found):
            returned = path if len(found) == 1 else f"{path}.{index}"
            self._returned[returned] = tensor
            if tensor.is_emitted:
                self._name(tensor, returned)
        return result

    def adopt(self, tensor: Tensor) -> None:
        """Names a pending tensor that has just been emitted after the module that returned it."""
        for path, returned in self._returned.items():
            if returned is tensor:
                self._name(tensor, path)
                return

    def _name(self, tensor: Tensor, path: str) -> None:
        if not path or path in self._named or tensor.name in self._named:
            return
        tensor.itensor.name = path
        self._named.add(path)


def _unwrap(argument: Any) -> Any:
    if isinstance(argument, (list, tuple)):
        return type(argument)(_unwrap(item) for item in argument)
    return argument.itensor if isinstance(argument, Tensor) else argument
