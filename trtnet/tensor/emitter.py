"""What tensors and operators ask of the network that they belong to.

:class:`trtnet.Network` is the only implementation; it stands on a floor above the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np

from trtnet.dtypes import DType
from trtnet.tensor.dim import Dim
from trtnet.tensor.guards import Guards

T = TypeVar("T")  # the Tensor class


class CastRules(Protocol[T]):
    """The types that layers compute in; see :class:`trtnet.network.casts.Casts`."""

    def dtype(self, kind: str = "") -> DType:
        """The type that a `kind` of layer computes in, in the module being emitted."""

    def around(self, kind: str, x: T, compute: Callable[[T], T]) -> T:
        """``compute(x)`` in the type of `kind`; the result has the type of `x`."""

    def stored(self, tensor: T, like: T) -> T:
        """`tensor` in the type of `like`, whose memory an in-place operation writes it to."""

    def back(self, tensor: T, dtype: DType | None = None) -> T:
        """`tensor` as `dtype`, by default what the module computes in."""

    def meet(self, tensors: Sequence[T], promoted: DType) -> DType:
        """The type in which `tensors` meet in one layer."""


class QuantizationRules(Protocol[T]):
    """Where Q/DQ pairs stand; see :class:`trtnet.network.quantizer.Quantizer`."""

    def format(self, kind: str, groups: int = 1) -> str | None:
        """The precision that a `kind` of layer is quantized to, if any."""

    def quantizes_activations(self, format: str | None) -> bool:
        """Whether layers of this `format` have quantized inputs."""

    def activation(self, tensor: T, format: str | None, dtype: DType | None = None) -> T:
        """`tensor` as input of a layer quantized to `format`, its Q/DQ pair added."""

    def kernel(
        self,
        weight: np.ndarray,
        format: str | None,
        axis: int,
        name: str,
        dtype: DType | None = None,
    ) -> tuple[np.ndarray | None, dict[int, T]]:
        """What a layer gets as its kernel, and as further inputs."""

    def product(self, tensor: T, format: str | None, convolution: bool = False) -> T:
        """Notes that `tensor` is the result of a product quantized to `format`."""

    def shortcut(self, a: T, b: T) -> tuple[T, T]:
        """The operands of an addition, the shortcut of a residual block quantized."""

    def pooled(self, x: T, axes: Sequence[int]) -> T:
        """The input of an average over `axes`, quantized where it should be."""


class Recipes(Protocol):
    """How weights come from state_dict keys; see :class:`trtnet.recipes.ledger.Ledger`."""

    def derive(
        self, op: str, *arrays: np.ndarray | None, out: np.ndarray | None = None, **options: Any
    ) -> np.ndarray:
        """What the operation `op` computes of weights, noted for refitting."""

    def release(self, array: np.ndarray) -> None:
        """Lets a result of :meth:`derive` go, of which nothing else is computed."""

    def decided_by(self, array: np.ndarray) -> None:
        """Notes that which layers there are depends on the values of `array`."""


class LoopRules(Protocol[T]):
    """A loop of the network being filled; see :class:`trtnet.network.loop.Loop`."""

    def slices(self, tensor: T, axis: int, reverse: bool = False) -> T:
        """In each iteration, the next slice of `tensor` along `axis`."""

    def state(self, first: T) -> T:
        """What :meth:`advance` got in the iteration before; `first` in the first."""

    def advance(self, state: T, value: T) -> None:
        """Gives `state` its value of the next iteration."""

    def run_while(self, state: T) -> None:
        """Ends the loop where the boolean scalar `state` is false."""

    def last(self, state: T) -> T:
        """The value of `state` after the last iteration."""

    def stacked(self, value: T, axis: int, length: int | Dim, reverse: bool = False) -> T:
        """The values of all iterations along the new axis `axis`."""


class Emitter(Protocol[T]):
    """The network as tensors and operators see it; see :class:`trtnet.Network`."""

    @property
    def trt(self) -> ModuleType:
        """The TensorRT package, for its enums."""

    @property
    def definition(self) -> Any:
        """The real ``INetworkDefinition``."""

    @property
    def path(self) -> str:
        """Path of the module being emitted."""

    @property
    def compute_dtype(self) -> DType:
        """The type that the module being emitted computes in."""

    @property
    def fold_batch_norm(self) -> bool:
        """Whether BatchNorms fold into the layer before them."""

    @property
    def casts(self) -> CastRules[T]:
        """The types that layers compute in."""

    @property
    def quantizer(self) -> QuantizationRules[T]:
        """Where Q/DQ pairs stand."""

    @property
    def ledger(self) -> Recipes:
        """How the weights come from state_dict keys."""

    @property
    def guards(self) -> Guards:
        """What is declared of the axes of the inputs, and what was concluded from it."""

    def has(self, feature: str) -> bool:
        """Whether the TensorRT version has one of :data:`trtnet.backend.FEATURES`."""

    def builds(self, method: str) -> bool:
        """Whether the builder implements the layers that a method of the network adds."""

    def choose_nms(self) -> str:
        """Who suppresses boxes: ``"native"``, ``"layer"`` or ``"plugin"``."""

    def add_input(self, name: str, kind: Any, sizes: Sequence[int]) -> Any:
        """The ``ITensor`` of a new input of the definition."""

    @property
    def is_fresh(self) -> bool:
        """Whether there are no layers yet, so that it may :meth:`begin_again`."""

    def begin_again(self) -> None:
        """Drops all layers; starts a new definition with the same inputs."""

    def emit(
        self,
        op: str,
        method: str,
        *args: Any,
        dims: Sequence[Any] | None = None,
        inputs: Mapping[int, T] | None = None,
        **attributes: Any,
    ) -> T:
        """Adds one layer and returns its output."""

    def emit_all(
        self,
        op: str,
        method: str,
        *args: Any,
        dims: Sequence[Sequence[Any] | None],
        inputs: Mapping[int, T] | None = None,
        **attributes: Any,
    ) -> list[T]:
        """Adds one layer with ``len(dims)`` outputs."""

    def loop(self, trips: T | None = None) -> LoopRules[T]:
        """A loop that runs `trips` times, or while a state is true."""

    def defer(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        ndim: int,
        channels: int,
        scaled: Callable[[np.ndarray, np.ndarray, np.ndarray], object],
        emit: Callable[[np.ndarray, np.ndarray | None], T],
    ) -> T:
        """A tensor whose layer is added on first use, unless a BatchNorm folds into it."""

    def compute(self, tensor: T, kind: str = "") -> T:
        """`tensor` in the type that a `kind` of layer computes in, its layer added."""

    def cast(self, tensor: T, dtype: DType) -> T:
        """`tensor` as `dtype`, because the policy wants it."""

    def convert(self, tensor: T, dtype: DType) -> T:
        """`tensor` as `dtype`, because the model's code wants it."""

    def weights(self, array: np.ndarray | None, dtype: DType | None = None, name: str = "") -> Any:
        """``trt.Weights`` over memory that the network holds."""

    def weight_buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 memory for computed weights."""

    def constant(self, value: Any, dtype: object = None, name: str = "") -> T:
        """A constant tensor from a Parameter, array, or number."""

    def sizes(self, sizes: Sequence[int | Dim]) -> T:
        """A 1-D int64 shape tensor holding `sizes`."""

    def at(self, path: str) -> AbstractContextManager[None]:
        """Emits what is inside the block as if in the module at `path`."""

    def name_returned(self, value: Any) -> None:
        """Names a value that has just been emitted after the module that returned it."""

    def watching(self, watcher: Callable[[str, Any, Any], None]) -> AbstractContextManager[None]:
        """Calls ``watcher(path, module, result)`` after each module that returns inside."""

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``module.forward`` in the module's scope."""

    def torch_function(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What a function of PyTorch gives that was called on this network's tensors."""
