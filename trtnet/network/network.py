"""Network: one ``INetworkDefinition`` being filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from trtnet import ops  # noqa: F401  (adds the operators to Tensor)
from trtnet.backend import Backend, load
from trtnet.dtypes import DType, dtype_of
from trtnet.errors import NetworkError
from trtnet.module import Module
from trtnet.network.casts import Casts
from trtnet.network.constants import Constants
from trtnet.network.forms import check_forms
from trtnet.network.interface import AxisSize, Inputs, check_name, check_output
from trtnet.network.layers import Layers, added_layer, require_same_network
from trtnet.network.loop import Loop
from trtnet.network.naming import Scopes, TensorNames, Watcher
from trtnet.network.quantizer import Quantizer, Ranges, needs_ranges
from trtnet.network.sizes import ShapeTensors
from trtnet.network.weight_memory import WeightMemory
from trtnet.precision.policy import Policy
from trtnet.precision.table import coarsest
from trtnet.recipes.ledger import Ledger
from trtnet.tensor import Dim, FoldableLayer, Guards, Tensor, tensors_in
from trtnet.tensor.value import Value
from trtnet.torch_functions.calling import call_torch_function
from trtnet.weights.container import combined_sha256, data_sha256


class Network:
    """One strongly typed ``INetworkDefinition``, filled by calling modules on its inputs.

    Args:
        backend: a name, see :func:`trtnet.backend.load`, or a loaded
            :class:`trtnet.backend.Backend`.
        precision: a :class:`trtnet.Policy`, or the name of a preset: ``"fp32"``, ``"tf32"``
            (float32 tensors; TF32 arithmetic allowed when built), ``"fp16"``, ``"bf16"``,
            ``"mixed"``, ``"int8"``, ``"fp8"``, ``"int8-weights"``.
        fold_batch_norm: fold each BatchNorm into the convolution, deconvolution or linear layer
            before it; ``False`` keeps a Scale layer.
        calibration: the activations' ranges, for INT8 and FP8. Without it such a network is
            defined in float32 and *observes*: :attr:`observed` is what has to be calibrated.
        plugins: what plugins become: ``"kernel"``, layers of their own; ``"native"``, TensorRT's
            layers; ``"auto"``, the first of the two that the backend has.
        nms: who suppresses boxes: see :func:`trtnet.detection.keeping.keep`.

    Attributes:
        definition: the real ``INetworkDefinition``: add raw layers to it at will.
        inputs, outputs: name to :class:`Tensor`.
        guards: the declared ranges of the inputs' axes, and what the model's code concluded from
            them, as a sequence of :class:`trtnet.tensor.Guard`.
        policy: the policy, and ``precision``, what it computes in: a string.
        ledger: how the weights come from state_dict keys.

    >>> import numpy, trtnet
    >>> from trtnet import nn
    >>> net = trtnet.Network(backend="rtx")
    >>> x = net.input("x", ("N", 3, 8, 8))
    >>> net.output("y", nn.MaxPool2d(2)(x)).shape
    (N, 3, 4, 4)
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    quantizer: Quantizer

    def __init__(
        self,
        backend: str | Backend = "auto",
        precision: str | Policy = "fp32",
        fold_batch_norm: bool = True,
        calibration: Ranges | None = None,
        plugins: str = "auto",
        nms: str = "native",
    ) -> None:
        check_forms(plugins, nms)
        self.policy = precision if isinstance(precision, Policy) else Policy.preset(precision)
        self.backend = backend if isinstance(backend, Backend) else load(backend)
        self.trt: ModuleType = self.backend.trt
        self.calibration = calibration
        self.scopes = Scopes()
        self.fold_batch_norm, self.plugins, self.nms = fold_batch_norm, plugins, nms
        self.builder = self.backend.builder()
        self._dropped: list[Any] = []
        self.ledger = Ledger()
        self._begin()
        self.precision = "fp32" if self.quantizer.is_observing else self.policy.compute
        self.guards = Guards()
        self._inputs = Inputs(self)
        self._layers = Layers(self, self.backend)
        self.inputs = self._inputs.tensors

    def _begin(self) -> None:
        """An empty definition, and what goes with it."""
        self.names = TensorNames(self.scopes.names)
        self.ledger.forget_layers()
        policy, ranges = self.policy, self.calibration
        self.casts = Casts(self, policy, needs_ranges(policy, ranges))
        self.quantizer = Quantizer(self, self.casts, self.names, policy, ranges, self.ledger)
        self.definition = self.backend.create_network(self.builder)
        self.outputs, self.suppresses = {}, False
        self.roots: list[tuple[str, Module]] = []
        self._memory = WeightMemory(self.definition)
        self._constants = Constants(self, self._memory, self.ledger)
        self._sizes = ShapeTensors(self)

    @property
    def is_fresh(self) -> bool:
        """Whether there are no layers and outputs yet."""
        return not (self.definition.num_layers or self.outputs)

    def begin_again(self) -> None:
        """Drops all layers; starts a new :attr:`definition` with the same inputs, for layers of an
        attempt that failed. Tensors of inputs stay, other tensors are of no use any more; what
        still prints them, such as a traceback, may do so."""
        self._dropped.append(self.definition)  # an ITensor without its network ends the process
        roots = self.roots
        self.scopes.forget()
        self._begin()
        self.roots = roots
        for name in self.inputs:
            self.names.take(name)
        self._inputs.again()

    # Inputs and outputs

    def input(self, name: str, shape: Sequence[AxisSize], dtype: object = None) -> Tensor:
        """Declares an input; its type is the policy's ``io``, float32 by default. An axis is an
        int, or a string that names a dynamic axis (axes of one name have one size in every
        input), or a :class:`trtnet.Axis`, a name with a range, or ``None`` or -1 for an unnamed
        dynamic axis.

        Raises:
            NetworkError: the name is taken.
            ShapeError: a size that is neither positive nor dynamic, or an axis that has another
                range in another input.
        """
        check_name(name)
        if name in self.names:
            raise NetworkError("the name is taken", module=name, fix="choose another name")
        made = self._inputs.declare(name, shape, dtype_of(dtype or self.policy.io).of(self.trt))
        self.names.take(name)
        return made

    def add_input(self, name: str, kind: Any, sizes: Sequence[int]) -> Any:
        """The ``ITensor`` of a new input of the definition; ``input()`` declares it."""
        return added_layer(self.backend, self.definition.add_input(name, kind, sizes), name)

    def output(self, name: str, tensor: Tensor, dtype: object = None) -> Tensor:
        """Marks `tensor` as the output `name`. A floating-point one comes out as the policy's
        ``io``, float32 by default. Returns the tensor that was marked."""
        check_output(name, tensor)
        require_same_network(self, [tensor])
        if name in self.outputs or name in self.inputs:
            raise NetworkError("the name is taken", module=name, fix="choose another name")
        default = self.policy.io if tensor.is_floating_point() else tensor.dtype
        tensor = self.cast(tensor, dtype_of(dtype or default))
        used = tensor.itensor.is_network_input or tensor.itensor.is_network_output
        if used or self.quantizer.is_active:  # ranges are stored by name: the tensor keeps its own
            tensor = self.emit("identity", "add_identity", tensor, dims=tensor.shape)
        if name in self.names and tensor.name != name and not self._release(name):
            raise NetworkError(
                "the name is taken by another tensor", module=name, fix="choose another output name"
            )
        tensor.itensor.name = name
        self.names.take(name)
        self.definition.mark_output(tensor.itensor)
        self.outputs[name] = tensor.as_it_is()
        return tensor

    def _release(self, name: str) -> bool:
        """Renames the tensor that a module `name` returned, unless its range is stored by it."""
        return name not in self.quantizer.observed and self.names.release(name)

    @property
    def module_outputs(self) -> dict[str, Tensor]:
        """The tensor each module call returned, by module path; the second call of a module is
        ``path#1``. A module whose layer was folded away has no entry."""
        returned = self.names.returned
        return {path: tensor for path, tensor in returned.items() if tensor.is_emitted}

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the tensors that INT8 and FP8 need a range of, in order."""
        return tuple(self.quantizer.observed)

    @property
    def weights_sha256(self) -> str:
        """Over names and values of all weights of the modules called so far: what a calibration
        of this network belongs to."""
        return combined_sha256([data_sha256(module.state_dict()) for _, module in self.roots])

    @property
    def exactness(self) -> str:
        """The coarsest precision that occurs; :func:`trtnet.verify` takes its tolerances."""
        formats = self.quantizer.formats
        return coarsest(formats) if formats else self.casts.coarsest

    def check(self) -> None:
        """Checks a finished network: :func:`trtnet.build` and :func:`trtnet.verify` call it.

        Raises:
            UsageError: a pattern of the policy that matches none of the modules called, nor one
                inside them.
            WeightsError: a calibration that was made with other weights.
        """
        if self.calibration is not None:
            self.calibration.require_weights(self.weights_sha256)
        named = (root.named_modules(prefix=prefix) for prefix, root in self.roots)
        self.policy.check(path for modules in named for path, _ in modules)

    def tensor(self, itensor: Any) -> Tensor:
        """A :class:`Tensor` for an ``ITensor`` that was added by hand to :attr:`definition`."""
        return Tensor(self, added_layer(self.backend, itensor, self.scopes.path))

    # Emitting

    def emit(
        self,
        op: str,
        method: str,
        *args: Any,
        dims: Sequence[Any] | None = None,
        inputs: Mapping[int, Tensor] | None = None,
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
        inputs: Mapping[int, Tensor] | None = None,
        **attributes: Any,
    ) -> list[Tensor]:
        """:meth:`emit` for a layer with ``len(dims)`` outputs."""
        return self._layers.add(op, method, args, dims, inputs or {}, attributes)

    def loop(self, trips: Tensor | None = None) -> Loop:
        """A loop that runs `trips` times, a scalar, or as :meth:`Loop.run_while` says; what is
        emitted from its slices and states is inside of it."""
        require_same_network(self, [] if trips is None else [trips])
        name = self.scopes.in_path("loop")
        return Loop(self, self.definition.add_loop(), trips, self._layers.boundary, name)

    def defer(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        ndim: int,
        channels: int,
        scaled: Callable[[np.ndarray, np.ndarray, np.ndarray], object],
        emit: Callable[[np.ndarray, np.ndarray | None], Tensor],
    ) -> Tensor:
        """A tensor whose layer ``emit(weight, bias)`` adds on first use, under the path of the
        module that is being emitted, unless a BatchNorm folds into it first. See
        :class:`trtnet.tensor.FoldableLayer`."""
        path = self.path

        def emit_at_path(weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
            with self.scopes.at(path):
                return emit(weight, bias)

        pending = FoldableLayer(
            weight, bias, ndim, channels, self.compute_dtype, scaled, emit_at_path
        )
        return Tensor(self, pending=pending)

    # Weights, constants, casts

    @property
    def compute_dtype(self) -> DType:
        """The type the module being emitted computes in, where it is not quantized."""
        return self.casts.dtype()

    def compute(self, tensor: Tensor, kind: str = "") -> Tensor:
        """`tensor` in the type that a `kind` of layer computes in. Emits its layer immediately,
        so that deep chains do not recurse."""
        return self.cast(tensor, self.casts.dtype(kind)).emitted()

    def cast(self, tensor: Tensor, dtype: DType) -> Tensor:
        """`tensor` as `dtype`, because the policy wants it; a cast back gives `tensor` itself."""
        return self.casts.to(tensor, dtype)

    def convert(self, tensor: Tensor, dtype: DType) -> Tensor:
        """`tensor` as `dtype`, because the model's code wants it: ``tensor.to(dtype)``."""
        return self.casts.convert(tensor, dtype)

    def weights(self, array: np.ndarray | None, dtype: DType | None = None, name: str = "") -> Any:
        """The only maker of ``trt.Weights``: converts `array` once and holds its memory as
        long as the definition lives. ``None`` gives empty weights.

        Raises:
            WeightsError: named values that are NaN or infinite; finite ones that `dtype` cannot
                hold.
        """
        return self._constants.weights(array, dtype or self.compute_dtype, name)

    def weight_buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 memory for computed weights, held as long as the definition."""
        return self._memory.buffer(shape)

    def constant(self, value: Any, dtype: object = None, name: str = "") -> Tensor:
        """A constant tensor from a Parameter, or from whatever :func:`trtnet.values.values_of`
        reads: arrays of numpy, torch and ``ml_dtypes``, lists, numbers.

        `dtype` defaults to the values' own; Python floats and float64 arrays become float32 and
        Python ints int64. With `name`, the parameter's in its module, it must be finite, and the
        memory is shared; without, the values are copied.

        Raises:
            WeightsError: values that are no numbers, or that the type cannot hold.
            UnsupportedError: complex numbers; a type that TensorRT does not compute in.
        """
        return self._constants.constant(value, dtype, name)

    def sizes(self, sizes: Sequence[int | Dim]) -> Tensor:
        """A 1-D int64 shape tensor holding `sizes`, which the engine computes where it must."""
        require_same_network(self, [size for size in sizes if isinstance(size, Dim)])
        return self._sizes.tensor(sizes)

    # Modules

    @property
    def path(self) -> str:
        """Path of the module being emitted."""
        return self.scopes.path

    def has(self, feature: str) -> bool:
        """Whether the TensorRT version has one of :data:`trtnet.backend.FEATURES`."""
        return self.backend.has(feature)

    def builds(self, method: str) -> bool:
        """Whether the builder implements the layers that ``INetworkDefinition.<method>`` adds."""
        return self.backend.builds(method)

    def choose_nms(self) -> str:
        """Who suppresses boxes, for code that is about to."""
        self.suppresses = True
        return self.nms

    def at(self, path: str) -> AbstractContextManager[None]:
        """Emits what is inside the block as if in the module at `path`."""
        return self.scopes.at(path)

    def name_returned(self, value: Value) -> None:
        """Names a value that has just been emitted after the module that returned it."""
        self.names.name_returned(value)

    def watching(self, watcher: Watcher) -> AbstractContextManager[None]:
        """Calls ``watcher(path, module, result)`` after each module that returns inside."""
        return self.names.watching(watcher)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Puts the modules of one of several models, called inside the block, under `name`."""
        with self.scopes.prefixed(name):
            yield

    def call(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``module.forward`` in the module's scope and names what it returns."""
        require_same_network(self, tensors_in([args, kwargs]))
        noting: AbstractContextManager[None] = nullcontext()
        if self.scopes.is_outside:
            self.roots.append((self.scopes.path, module))
            noting = self.ledger.noting(module, self.scopes.path)
        with noting, self.scopes.calling(module) as path:
            result = module.forward_with_hooks(args, kwargs)
        self.names.name_results(path, module, result, [t.source for t in tensors_in(result)])
        return result

    def torch_function(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What a function of PyTorch gives that was called on this network's tensors."""
        return call_torch_function(function, args, kwargs)
