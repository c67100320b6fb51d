"""Steps: the parts of an execution one by one, so that each can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtnet.engines.arrays import View, empty, given, numpy_dtype, view
from trtnet.engines.bound import Bound
from trtnet.engines.lane import Lane
from trtnet.engines.protocol import Binding, Context
from trtnet.engines.signature import Signature
from trtnet.errors import ShapeError, UsageError


class Steps:
    """One lane of a session, driven by hand: :meth:`bind`, :meth:`fill`, then any number of
    :meth:`copy_in`, :meth:`enqueue` and :meth:`copy_out`; after ``stream.synchronize()`` the
    :meth:`results`.

    Attributes:
        device: makes events.
        stream: what everything is enqueued on.
    """

    def __init__(self, lane: Lane, bindings: Sequence[Binding], signature: Signature) -> None:
        self.device, self.stream = lane.device, lane.stream
        self._lane, self._signature = lane, signature
        self._bindings = {binding.name: binding for binding in bindings}
        self._inputs: dict[str, View] = {}
        self._now: Bound | None = None

    @property
    def context(self) -> Context:
        """The context that executes."""
        return self._bound.context

    @property
    def is_captured(self) -> bool:
        """Whether :meth:`enqueue` launches a CUDA graph."""
        return self._bound.graph is not None

    def bind(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Takes these input shapes, executes once on zeros, and captures a CUDA graph if the
        session uses them.

        Raises:
            ShapeError: inputs that the engine does not take in one piece.
        """
        shapes = self._signature.name((), shapes)
        zeros = {
            name: np.zeros(tuple(shape), numpy_dtype(self._bindings[name].dtype))
            for name, shape in shapes.items()
        }
        self._inputs = {name: self._typed(name, array) for name, array in zeros.items()}
        fit = self._signature.fit(self._inputs)
        if fit.pieces is not None:
            raise ShapeError("the batch is not the engine's", expected=fit.pieces, got=shapes)
        self._now = self._lane.bound(self._inputs, fit.profile)
        self.fill(zeros)
        for _ in range(2):  # the second time, a CUDA graph is captured
            self._lane.prepare(self._now)
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
        """Arrays of the outputs that :meth:`copy_out` copied."""
        bound, found = self._bound, {}
        for name in bound.output_shapes:
            dtype = self._bindings[name].dtype
            array = empty("numpy", bound.shape(name), dtype, self.device, 0)
            self.device.copy_on_host(array.address, bound.pinned(name), array.nbytes)
            found[name] = given(array)
        return found

    def _copy(self, target: int, source: int, name: str) -> None:
        self.device.copy(target, source, self._bound.nbytes(name), self.stream.handle)

    def _typed(self, name: str, array: np.ndarray) -> View:
        """bfloat16 comes as bit patterns here."""
        found = view(name, array)
        dtype = self._bindings[name].dtype
        is_bits = found.dtype == numpy_dtype(dtype).name
        return View(found.address, found.shape, dtype, "numpy", owner=array) if is_bits else found

    @property
    def _bound(self) -> Bound:
        if self._now is None:
            raise UsageError("no shapes are bound yet", fix="call bind() first")
        return self._now
