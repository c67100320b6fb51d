"""The weights and constant tensors of one network."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, dtype_of, to_storage
from trtnet.finite import require_representable
from trtnet.names import parameter_name
from trtnet.network.weight_memory import WeightMemory
from trtnet.tensor import Parameter, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.parameter import require_written

_SMALL = 16  # elements; equal constants up to this size are emitted once


class Constants:
    """Makes the ``trt.Weights`` and the constants of one network.

    Args:
        network: the network.
        memory: what holds the arrays behind the weights.
    """

    def __init__(self, network: Emitter[Tensor], memory: WeightMemory) -> None:
        self._network, self._memory = network, memory
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def weights(self, array: np.ndarray | None, dtype: DType, name: str) -> Any:
        """See :meth:`trtnet.Network.weights`."""
        trt = self._network.trt
        if array is None:  # a Scale layer wants its empty power in the type of its other weights
            return trt.Weights(dtype.of(trt))
        if dtype.is_floating_point and array.size:
            key = parameter_name(self._network.path, name) or "constant"
            require_representable(array, dtype, key, finite=bool(name))
        stored = self._memory.hold(to_storage(array, dtype))
        return trt.Weights(dtype.of(trt), stored.ctypes.data, stored.size)

    def constant(self, value: Any, dtype: object, name: str) -> Tensor:
        """See :meth:`trtnet.Network.constant`."""
        if isinstance(value, Parameter):
            value = value.require(parameter_name(self._network.path, name))
        array = np.asarray(value)
        require_written(array)
        default = "float32" if array.dtype.kind == "f" and array.dtype.itemsize > 4 else array.dtype
        wanted = dtype_of(default if dtype is None else dtype)
        if array.size > _SMALL or name:
            return self._emit(array, wanted, name)
        key = (array.shape, array.dtype, wanted, array.tobytes())
        if key not in self._known:
            self._known[key] = self._emit(array, wanted, name)
        return self._known[key]

    def _emit(self, array: np.ndarray, dtype: DType, name: str) -> Tensor:
        weights = self.weights(array, dtype, name)
        return self._network.emit("constant", "add_constant", array.shape, weights)
