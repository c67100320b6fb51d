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

from trtnet.engines.openvino.emitters import RULES
from trtnet.engines.openvino.lowering import Lowering, LoweringError

Forward = Callable[..., dict[str, Tensor]]
Input = tuple[str, torch.dtype]
Sizes = tuple[tuple[int, ...], ...]

_COMPILED = 4  # sets of shapes whose model is kept


class OpenVinoForward:
    """What a module's ``forward`` does, by OpenVINO; threads may call it at the same time.

    There is a model for each set of input shapes, made when it is first used: of a model for any
    size OpenVINO would not notice operands whose sizes do not fit together. As OpenVINO's maxima
    lose NaN, inputs with a NaN or an infinity are given to PyTorch, and so are those for which an
    output comes out with one, and shapes for which there is no model.

    Args:
        module: a compiled module of the reference.
        inputs: name and type of each input, in order.
        shapes: of each input; the model for these is made at once.
        threads: how many to use.

    Raises:
        LoweringError: OpenVINO does not have all that the module needs.

    Attributes:
        name: the runtime and its version.
    """

    def __init__(
        self, module: fx.GraphModule, inputs: Sequence[Input], shapes: Sizes, threads: int
    ) -> None:
        self._module, self._inputs, self._threads = module, inputs, threads
        self._models: OrderedDict[Sizes, _Model | None] = OrderedDict()
        self._lock = threading.Lock()
        self._models[shapes] = self._compile(shapes)
        self.name = f"openvino {ov.__version__.partition('-')[0]}"

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        if not all(map(_is_finite, tensors)):
            return self._by_torch(*tensors)
        model = self._model(tuple(tuple(tensor.shape) for tensor in tensors))
        found = None if model is None else model(tensors)
        if found is None or not all(map(_is_finite, found.values())):
            return self._by_torch(*tensors)
        return found

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
        return _Model(Lowering(self._module, RULES).model(inputs), self._threads)

    def _by_torch(self, *tensors: Tensor) -> dict[str, Tensor]:
        forward: Forward = self._module.forward
        return forward(*tensors)


class _Model:
    """A compiled model, and a request for each thread that runs it."""

    def __init__(self, model: ov.Model, threads: int) -> None:
        self._names = [result.get_friendly_name() for result in model.get_results()]
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # by default bfloat16 where the CPU has it
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = ov.Core().compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise LoweringError(f"OpenVINO does not compile it: {error}") from error
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def __call__(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        with self._lock:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        request.infer([tensor.contiguous().numpy() for tensor in tensors], share_inputs=True)
        found = {
            name: torch.from_numpy(request.get_output_tensor(place).data.copy())
            for place, name in enumerate(self._names)
        }
        with self._lock:
            self._idle.append(request)
        return found


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(np.isfinite(value.sum().item()))
