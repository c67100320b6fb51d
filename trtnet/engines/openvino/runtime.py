"""Runs a compiled module by OpenVINO, where that gives what PyTorch gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, fx

from trtnet.engines.openvino.emitters import RULES
from trtnet.engines.openvino.lowering import Lowering

Forward = Callable[..., dict[str, Tensor]]
Input = tuple[str, torch.dtype, Sequence[int]]


class OpenVinoForward:
    """What a module's ``forward`` does, by OpenVINO; threads may call it at the same time.

    As OpenVINO's maxima lose NaN, inputs with a NaN or an infinity are given to PyTorch, and so are
    those for which an output comes out with one.

    Raises:
        LoweringError: OpenVINO does not have all that the module needs.

    Attributes:
        name: the runtime and its version.
        threads: how many it uses.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Input], threads: int) -> None:
        model = Lowering(module, RULES).model(inputs)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # by default bfloat16 where the CPU has it
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = ov.Core().compile_model(model, "CPU", options)
        self._module, self.threads = module, threads
        self._names = [name for node in module.graph.nodes if node.op == "output"
                       for name in node.args[0]]  # fmt: skip
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self.name = f"openvino {ov.__version__.partition('-')[0]}"

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        if not all(map(_is_finite, tensors)):
            return self._by_torch(*tensors)
        with self._lock:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        arrays = [tensor.contiguous().numpy() for tensor in tensors]
        request.infer(arrays, share_inputs=True)
        found = {
            name: torch.from_numpy(request.get_output_tensor(place).data.copy())
            for place, name in enumerate(self._names)
        }
        with self._lock:
            self._idle.append(request)
        return found if all(map(_is_finite, found.values())) else self._by_torch(*tensors)

    def _by_torch(self, *tensors: Tensor) -> dict[str, Tensor]:
        forward: Forward = self._module.forward
        return forward(*tensors)


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(np.isfinite(value.sum().item()))
