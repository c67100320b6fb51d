"""Loop: one ``ILoop`` of a network that is being filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from trtnet.tensor import Dim, Tensor
from trtnet.tensor.emitter import Emitter

Add = Callable[[str, Callable[[], Any], Sequence[Sequence[Any] | None]], tuple[Any, list[Tensor]]]


class Loop:
    """A loop with a number of iterations that is known before it starts, or that runs while a state
    is true.

    TensorRT keeps a network flat: a layer is inside of the loop if it depends on a slice or a
    state. What is needed outside leaves by :meth:`last` or :meth:`stacked`.

    Args:
        loop: the new ``ILoop``.
        network: that the loop is in.
        trips: the number of iterations, a scalar; ``None`` where :meth:`run_while` ends the loop.
        add: ``add(op, layer, dims)`` names the boundary layer that ``layer()`` adds and reads its
            outputs; it returns both.
        name: of the loop.
    """

    def __init__(
        self, network: Emitter[Tensor], loop: Any, trips: Tensor | None, add: Add, name: str
    ) -> None:
        self._loop, self._trips, self._add = loop, trips, add
        self._trt: ModuleType = network.trt
        self._states: dict[Any, Any] = {}
        self._loop.name = name
        if trips is not None:
            self._limit(trips, "COUNT")

    def _limit(self, value: Tensor, kind: str) -> None:
        itensor, limit = value.itensor, getattr(self._trt.TripLimit, kind)
        self._add("trip_limit", lambda: self._loop.add_trip_limit(itensor, limit), [])

    def run_while(self, state: Tensor) -> None:
        """Before each iteration the boolean scalar `state` is looked at; where it is false the loop
        ends."""
        self._limit(state, "WHILE")

    def slices(self, tensor: Tensor, axis: int, reverse: bool = False) -> Tensor:
        """In each iteration, the next slice of `tensor` along `axis`, which it then lacks; from
        the back, where `reverse`."""
        itensor = tensor.itensor
        dims = [size for i, size in enumerate(tensor.shape) if i != axis]
        _, outputs = self._add(
            "slice", lambda: self._loop.add_iterator(itensor, axis, reverse), [dims]
        )
        return outputs[0]

    def state(self, first: Tensor) -> Tensor:
        """A value that each iteration hands to the next: `first` in the first iteration, then what
        :meth:`advance` was given."""
        itensor = first.itensor
        layer, outputs = self._add(
            "state", lambda: self._loop.add_recurrence(itensor), [first.shape]
        )
        self._states[outputs[0].itensor] = layer
        return outputs[0]

    def advance(self, state: Tensor, value: Tensor) -> None:
        """Gives `state` its value of the next iteration."""
        layer = self._states[state.itensor]
        layer.set_input(1, value.itensor)

    def last(self, state: Tensor) -> Tensor:
        """The value that `state` has after the last iteration."""
        itensor, kind = state.itensor, self._trt.LoopOutput.LAST_VALUE
        _, outputs = self._add(
            "last", lambda: self._loop.add_loop_output(itensor, kind, 0), [state.shape]
        )
        return outputs[0]

    def stacked(self, value: Tensor, axis: int, length: int | Dim, reverse: bool = False) -> Tensor:
        """The values of all iterations along the new axis `axis`, whose size `length` is the number
        of iterations; the last one first, where `reverse`."""
        kinds = self._trt.LoopOutput
        kind = kinds.REVERSE if reverse else kinds.CONCATENATE
        itensor, dims, trips = value.itensor, list(value.shape), self._trips
        assert trips is not None, "a loop that runs while a state is true has no known length"
        dims.insert(axis, length)

        def add() -> Any:
            layer = self._loop.add_loop_output(itensor, kind, axis)
            if layer is not None:
                layer.set_input(1, trips.itensor)
            return layer

        return self._add("stack", add, [dims])[1][0]
