"""The weights and constant tensors of one network."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, dtype_of, to_storage
from trtnet.finite import require_in_range, require_representable
from trtnet.names import parameter_name
from trtnet.network.weight_memory import WeightMemory
from trtnet.recipes.ledger import Ledger
from trtnet.tensor import Parameter, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.parameter import require_written
from trtnet.values import values_of

_SMALL = 16  # elements; equal constants up to this size are emitted once


class Constants:
    """Makes the ``trt.Weights`` and the constants of one network.

    Args:
        network: the network.
        memory: what holds the arrays behind the weights.
        ledger: what notes which keys they come from.
    """

    def __init__(self, network: Emitter[Tensor], memory: WeightMemory, ledger: Ledger) -> None:
        self._network, self._memory, self._ledger = network, memory, ledger
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def weights(self, array: np.ndarray | None, dtype: DType, name: str) -> Any:
        """See :meth:`trtnet.Network.weights`."""
        trt = self._network.trt
        if array is None:  # a Scale layer wants its empty power in the type of its other weights
            return trt.Weights(dtype.of(trt))
        if dtype.is_floating_point and array.size:
            key = parameter_name(self._network.path, name) or "constant"
            require_representable(array, dtype, key, finite=bool(name))
        elif dtype is not DType.BOOL and array.dtype.kind in "iu" and array.size:
            require_in_range(array, dtype, parameter_name(self._network.path, name) or "constant")
        stored = self._memory.hold(to_storage(array, dtype))
        # TensorRT takes an address only of values, and an empty array of numpy has one too.
        address = stored.ctypes.data if stored.size else 0
        made = trt.Weights(dtype.of(trt), address, stored.size)
        key = parameter_name(self._network.path, name)
        self._ledger.made(made, address, array, dtype.value, key)
        return made

    def constant(self, value: Any, dtype: object, name: str) -> Tensor:
        """See :meth:`trtnet.Network.constant`."""
        key = parameter_name(self._network.path, name) if name else ""
        if isinstance(value, Parameter):
            value = value.require(key)
        found = values_of(value, key)
        require_written(found.array)
        own = "float32" if found.dtype == "float64" else found.dtype
        wanted = dtype_of(own if dtype is None else dtype)
        # The caller may change its own array before the engine is built; parameters are shared.
        array = found.array
        # Equal values of two keys are two constants: another state_dict may tell them apart.
        source = self._ledger.find(array)
        if not name:
            array = found.array.copy()
            self._ledger.copied(found.array, array)
        if array.size > _SMALL or name:
            return self._emit(array, wanted, name)
        small = (array.shape, array.dtype, wanted, array.tobytes(), source)
        if small not in self._known:
            self._known[small] = self._emit(array, wanted, name)
        made = self._known[small].as_it_is()  # the model may work in place on what it gets
        made.is_dense = True
        return made

    def _emit(self, array: np.ndarray, dtype: DType, name: str) -> Tensor:
        weights = self.weights(array, dtype, name)
        made = self._network.emit("constant", "add_constant", array.shape, weights)
        made.is_dense = True
        return made
