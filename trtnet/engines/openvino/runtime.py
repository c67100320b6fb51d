"""Runs a compiled module by OpenVINO, where that gives what PyTorch gives."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, fx

from trtnet.engines.openvino.lowering import Lowered, Lowering
from trtnet.engines.openvino.rules import RULES
from trtnet.engines.openvino.values import LoweringError, core, is_exact

Forward = Callable[..., dict[str, Tensor]]
Input = tuple[str, torch.dtype]
Sizes = tuple[tuple[int, ...], ...]

_COMPILED = 4  # sets of shapes whose model is kept


class OpenVinoForward:
    """What a module's ``forward`` does, by OpenVINO; threads may call it at the same time.

    There is a model for each set of input shapes, made when it is first used: of a model for any
    size OpenVINO would not notice operands whose sizes do not fit together. What OpenVINO would
    get wrong without a word is given to PyTorch: inputs with a NaN, an infinity or a square beyond
    float32 (OpenVINO's maxima lose NaN), integers beyond 2**24, places outside of the axis that
    they pick from, inputs for which an output comes out with such a value, and shapes for which
    there is no model, and inputs for which half precision overflows. Moderate inputs whose values
    inside of the network overflow float32 are not recognised unless an output shows it.

    What OpenVINO does not have, and what depends on it, PyTorch does with what OpenVINO gives.

    Args:
        module: a compiled module of the reference.
        inputs: name and type of each input, in order.
        shapes: of each input; the model for these is made at once.
        threads: how many to use.

    Raises:
        LoweringError: OpenVINO has no product of the module.

    Attributes:
        name: the runtime and its version.
        reason: the first layer that PyTorch does, and why; ``""`` where OpenVINO does all.
    """

    def __init__(
        self, module: fx.GraphModule, inputs: Sequence[Input], shapes: Sizes, threads: int
    ) -> None:
        self._module, self._inputs, self._threads = module, inputs, threads
        self._models: OrderedDict[Sizes, _Model | None] = OrderedDict()
        self._lock = threading.Lock()
        model = self._models[shapes] = self._compile(shapes)
        self.name, self.reason = f"openvino {ov.__version__.partition('-')[0]}", model.reason

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        if not all(map(_is_moderate, tensors)):
            return self._by_torch(*tensors)
        model = self._model(tuple(tuple(tensor.shape) for tensor in tensors))
        if model is None or not model.has_places(tensors):
            return self._by_torch(*tensors)
        found = model(tensors)
        if found is None or not all(map(_is_moderate, found.values())):
            return self._by_torch(*tensors)
        return found if model.rest is None else model.rest(*found.values(), *tensors)

    def kernels(self) -> list[tuple[str, str]]:
        """What the model that was used last consists of: kinds of layers, and their types."""
        model = next(model for model in reversed(self._models.values()) if model is not None)
        return model.kernels()

    def _model(self, shapes: Sizes) -> _Model | None:
        """The model for `shapes`; ``None`` where it needs something that OpenVINO does not have."""
        with self._lock:
            if shapes not in self._models:
                try:
                    self._models[shapes] = self._compile(shapes)
                except LoweringError:
                    self._models[shapes] = None
                if len(self._models) > _COMPILED:
                    self._models.popitem(last=False)
            self._models.move_to_end(shapes)
            return self._models[shapes]

    def _compile(self, shapes: Sizes) -> _Model:
        inputs = [(*about, shape) for about, shape in zip(self._inputs, shapes, strict=True)]
        return _Model(Lowering(self._module, RULES).run(inputs), self._threads)

    def _by_torch(self, *tensors: Tensor) -> dict[str, Tensor]:
        forward: Forward = self._module.forward
        return forward(*tensors)


class _Model:
    """A compiled model, and a request for each thread that runs it.

    Attributes:
        rest: what PyTorch does with its values; ``None`` where they are the outputs.
        reason: the first layer that is left to PyTorch, and why.
    """

    def __init__(self, lowered: Lowered, threads: int) -> None:
        self._types = lowered.types
        self._limits = place_limits(lowered.model)
        self.rest: Forward | None = lowered.remainder and lowered.remainder.forward
        self.reason = lowered.reason
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # by default bfloat16 where the CPU has it
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = core().compile_model(lowered.model, "CPU", options)
        except RuntimeError as error:
            raise LoweringError(f"OpenVINO does not compile it: {error}") from error
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def kernels(self) -> list[tuple[str, str]]:
        """Kind and type of each layer that OpenVINO made of it."""
        nodes = self._compiled.get_runtime_model().get_ordered_ops()
        about = [dict(node.get_rt_info()) for node in nodes]
        return [(_text(one["layerType"]), _text(one["runtimePrecision"])) for one in about]

    def has_places(self, tensors: Sequence[Tensor]) -> bool:
        """Whether inputs that are places lie inside of the axes that they pick from."""
        return all(
            not tensors[place].numel()
            or (-count <= int(tensors[place].min()) and int(tensors[place].max()) < count)
            for place, count in self._limits
        )

    def __call__(self, tensors: Sequence[Tensor]) -> dict[str, Tensor] | None:
        """Its values; ``None`` where half precision would not hold some of those inside."""
        given = [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]
        with self._lock:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        request.infer([tensor.contiguous().numpy() for tensor in given], share_inputs=True)
        results = [request.get_output_tensor(n).data for n in range(len(self._compiled.outputs))]
        count = len(self._types)
        is_held = all(value < 1 for value in results[count:])
        found = {
            name: torch.from_numpy(value.copy()).to(dtype)
            for (name, dtype), value in zip(self._types.items(), results[:count], strict=True)
        }
        with self._lock:
            self._idle.append(request)
        return found if is_held else None


def place_limits(model: ov.Model) -> list[tuple[int, int]]:
    """For each gather at places that are an input: which input, and the length of the axis."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Gather" and not _is_constant(node.input_value(1)):
            axis = int(node.input_value(2).get_node().get_data().item())
            place = model.get_parameter_index(node.input_value(1).get_node())
            found.append((place, node.get_input_shape(0)[axis]))
    return found


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, ov.OVAny) else value)


def _is_constant(output: ov.Output) -> bool:
    return bool(output.get_node().get_type_name() == "Constant")


def _is_moderate(value: Tensor) -> bool:
    """Whether float32 holds the squares of all numbers, or all integers."""
    if value.is_floating_point():
        flat = value.reshape(-1).float().numpy()
        return bool(np.isfinite(np.einsum("i,i->", flat, flat)))  # by this thread alone
    if value.dtype == torch.bool or not value.numel():
        return True
    return is_exact(*map(int, value.aminmax()))
