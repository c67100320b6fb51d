"""Steps: the parts of an execution one by one, so that each can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtnet.engines.arrays import View, as_result, empty, numpy_dtype, view
from trtnet.engines.bound_context import BoundContext
from trtnet.engines.protocol import Binding, Context
from trtnet.engines.signature import Signature
from trtnet.engines.slot import ExecutionSlot
from trtnet.errors import ShapeError, UsageError


class Steps:
    """The steps of an execution: :meth:`bind`, :meth:`fill`, then any number of :meth:`copy_in`,
    :meth:`enqueue` and :meth:`copy_out`; after ``stream.synchronize()`` the :meth:`results`.

    Attributes:
        device: makes events.
        stream: what everything is enqueued on.
    """

    def __init__(
        self, slot: ExecutionSlot, bindings: Sequence[Binding], signature: Signature
    ) -> None:
        self.device, self.stream = slot.device, slot.stream
        self._slot, self._signature = slot, signature
        self._bindings = {binding.name: binding for binding in bindings}
        self._inputs: dict[str, View] = {}
        self._now: BoundContext | None = None

    @property
    def context(self) -> Context:
        """The context that executes."""
        return self._bound.context

    @property
    def is_captured(self) -> bool:
        """Whether :meth:`enqueue` launches a CUDA graph."""
        return self._bound.graph is not None

    @property
    def capture_failure(self) -> str | None:
        """Why no CUDA graph could be captured; ``None`` if none has failed."""
        return self._bound.capture_failure

    def bind(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Sets the input shapes, by name, executes on zeros, and captures a CUDA graph if the
        session uses them.

        Raises:
            ShapeError: shapes outside the engine's profiles, or a batch that would be executed in
                several chunks.
        """
        shapes = self._signature.name((), shapes)
        zeros = {
            name: np.zeros(tuple(shape), numpy_dtype(self._bindings[name].dtype))
            for name, shape in shapes.items()
        }
        self._inputs = {name: self._typed(name, array) for name, array in zeros.items()}
        fit = self._signature.fit(self._inputs)
        if fit.chunk_size is not None:
            raise ShapeError("the batch is not the engine's", expected=fit.chunk_size, got=shapes)
        self._now = self._slot.bound(self._inputs, fit.profile)
        self.fill(zeros)
        for _ in range(2):  # the second time at the latest, a CUDA graph is captured
            self._slot.prepare(self._now, at_once=True)
            self.copy_in()
            self.enqueue()
            self.stream.synchronize()

    def fill(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Puts values of the bound shapes into pinned memory."""
        for name, array in arrays.items():
            value = self._typed(name, array)
            if value.shape != self._inputs[name].shape or value.dtype != self._inputs[name].dtype:
                raise ShapeError(
                    "these values do not fit what is bound",
                    module=name,
                    expected=f"{self._inputs[name].dtype} {self._inputs[name].shape}",
                    got=f"{value.dtype} {value.shape}",
                )
            self.device.copy_on_host(self._bound.pinned(name), value.address, value.nbytes)

    def copy_in(self) -> None:
        """Enqueues the copies of all inputs from pinned memory to the device."""
        bound = self._bound
        for name in self._inputs:
            if not self._bindings[name].on_host:
                self._copy(bound.address(name), bound.pinned(name), name)

    def enqueue(self) -> None:
        """Enqueues one execution."""
        self._bound.enqueue(self.stream.handle)

    def copy_out(self) -> None:
        """Enqueues the copies of all outputs to pinned memory."""
        bound = self._bound
        for name in bound.output_shapes:
            self._copy(bound.pinned(name), bound.address(name), name)

    def results(self) -> dict[str, Any]:
        """The outputs by name, as numpy arrays; call it after :meth:`copy_out` has ended."""
        bound, found = self._bound, {}
        for name in bound.output_shapes:
            dtype = self._bindings[name].dtype
            array = empty("numpy", bound.shape(name), dtype, self.device, 0)
            self.device.copy_on_host(array.address, bound.pinned(name), array.nbytes)
            found[name] = as_result(array)
        return found

    def _copy(self, target: int, source: int, name: str) -> None:
        self.device.copy(target, source, self._bound.nbytes(name), self.stream.handle)

    def _typed(self, name: str, array: np.ndarray) -> View:
        """The memory of `array`; types that numpy lacks come as bit patterns."""
        found = view(name, array)
        dtype = self._bindings[name].dtype
        is_bits = found.dtype == numpy_dtype(dtype).name
        return View(found.address, found.shape, dtype, "numpy", owner=array) if is_bits else found

    @property
    def _bound(self) -> BoundContext:
        if self._now is None:
            raise UsageError("no shapes are bound yet", fix="call bind() first")
        return self._now
