"""One recurrent layer: a loop over the steps of a sequence. See :mod:`trtnet.ops.recurrent`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32
from trtnet.errors import ShapeError
from trtnet.ops.activation import relu, sigmoid, tanh
from trtnet.ops.arguments import array_of, shape_of
from trtnet.ops.elementwise import add, mul, sub
from trtnet.ops.joining import cat, split
from trtnet.ops.linear import project
from trtnet.ops.operands import as_tensor
from trtnet.ops.shape import expand
from trtnet.tensor import Tensor, same_size
from trtnet.tensor.emitter import Emitter

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of recurrence.

    Attributes:
        name: of the function, for errors.
        gates: how many rows of the weights belong to one hidden unit.
        is_wide: of each state, whether it is kept in the type of reductions.
        step: ``step(x, hidden, states)``: the next states from the products of the weights with
            the input and with the hidden state.
    """

    name: str
    gates: int
    is_wide: tuple[bool, ...]
    step: Callable[[Tensor, Tensor, States], States]


@dataclass(frozen=True)
class CellWeights:
    """The weights of one direction of one layer, in PyTorch's order, and what names end with."""

    w_ih: Any
    w_hh: Any
    b_ih: Any
    b_hh: Any
    w_hr: Any = None
    suffix: str = ""


def _lstm_step(x: Tensor, hidden: Tensor, states: States) -> States:
    """Hochreiter and Schmidhuber, https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate
    of Gers et al."""
    i, f, g, o = split(add(x, hidden), x.shape[-1] // 4, -1)
    cell = add(mul(sigmoid(f), states[1]), mul(sigmoid(i), tanh(g)))
    return mul(sigmoid(o), tanh(cell)), cell


def _gru_step(x: Tensor, hidden: Tensor, states: States) -> States:
    """Cho et al., https://arxiv.org/abs/1406.1078, in cuDNN's form: the reset gate multiplies the
    product with the hidden state."""
    size = x.shape[-1] // 3
    parts = zip(*(split(product, size, -1) for product in (x, hidden)), strict=True)
    (r_x, r_h), (z_x, z_h), (n_x, n_h) = parts
    new = tanh(add(n_x, mul(sigmoid(add(r_x, r_h)), n_h)))
    return (add(mul(sub(states[0], new), sigmoid(add(z_x, z_h))), new),)


LSTM = Kind("lstm", 4, (False, True), _lstm_step)
GRU = Kind("gru", 3, (True,), _gru_step)
TANH = Kind("rnn_tanh", 1, (False,), lambda x, hidden, _: (tanh(add(x, hidden)),))
RELU = Kind("rnn_relu", 1, (False,), lambda x, hidden, _: (relu(add(x, hidden)),))


def state_sizes(kind: Kind, weights: CellWeights) -> list[int]:
    """The size of each state."""
    rows, outputs = _shape(weights.w_hh)
    return [outputs, rows // kind.gates][: len(kind.is_wide)]


def _shape(value: Any) -> tuple[Any, ...]:
    return value.shape if isinstance(value, Tensor) else shape_of(value)


def state_types(kind: Kind, network: Emitter[Tensor]) -> list[DType]:
    """The type of each state."""
    wide = network.casts.dtype("reduction")
    return [wide if is_wide else network.compute_dtype for is_wide in kind.is_wide]


def zero_states(kind: Kind, network: Emitter[Tensor], batch: Any, sizes: Sequence[int]) -> States:
    """States of zeros, each (batch, size)."""
    return tuple(
        expand(network.constant(np.zeros((1, size), np.float32), dtype), batch, size)
        for size, dtype in zip(sizes, state_types(kind, network), strict=True)
    )


def run_layer(
    kind: Kind, x: Tensor, time: int, weights: Sequence[CellWeights], first: Sequence[States]
) -> tuple[Tensor, list[States]]:
    """One layer, all directions in one loop: its output, and the last states of each direction."""
    network, length = x.network, x.shape[time]
    if same_size(length, 0):
        raise ShapeError(f"{kind.name}: the sequence has no steps", got=x.shape)
    projected = [of_input(x, own) for own in weights]
    recurrent = [Recurrence(kind, network, own) for own in weights]
    count = as_tensor(length, x, align=False) if not isinstance(length, int) else None
    trips = network.constant(length, int32) if count is None else network.convert(count, int32)
    loop = network.loop(trips)
    outputs, states = [], []
    for reverse, (gates, cell, start) in enumerate(zip(projected, recurrent, first, strict=True)):
        before = tuple(loop.state(state) for state in start)
        after = cell.step(loop.slices(gates, time, bool(reverse)), before)
        for old, new in zip(before, after, strict=True):
            loop.advance(old, new)
        hidden = network.cast(after[0], network.compute_dtype)
        outputs.append(loop.stacked(hidden, time, length, bool(reverse)))
        states.append(tuple(loop.last(state) for state in before))
    return cat(outputs, -1), states


def of_input(x: Tensor, weights: CellWeights) -> Tensor:
    """The product of the input with its weights, for all gates."""
    names = f"weight_ih{weights.suffix}", f"bias_ih{weights.suffix}"
    return project(x, weights.w_ih, weights.b_ih, names).emitted()


class Recurrence:
    """The part of a layer that is inside of its loop; the weights stay outside."""

    def __init__(self, kind: Kind, network: Emitter[Tensor], weights: CellWeights) -> None:
        self._kind, self._network = kind, network
        self._wide, narrow = network.casts.dtype("reduction"), network.compute_dtype
        self._hh = self._constant(weights.w_hh, narrow, f"weight_hh{weights.suffix}")
        self._hr = self._bias = None
        if weights.w_hr is not None:
            self._hr = self._constant(weights.w_hr, narrow, f"weight_hr{weights.suffix}")
        if weights.b_hh is not None:
            self._bias = self._constant(weights.b_hh, self._wide, f"bias_hh{weights.suffix}", True)

    def _constant(self, value: Any, dtype: DType, name: str, is_row: bool = False) -> Tensor:
        if isinstance(value, Tensor):
            return self._network.cast(value, dtype)
        array = array_of(value, name, self._network)
        return self._network.constant(array[None] if is_row else array, dtype, name)

    def step(self, gates: Tensor, states: States) -> States:
        """The states after one step, each in the type that it has between steps."""
        cast = self._network.cast
        hidden = cast(self._product(states[0], self._hh), self._wide)
        if self._bias is not None:
            hidden = add(hidden, self._bias)
        wide = tuple(cast(state, self._wide) for state in states)
        after = list(self._kind.step(cast(gates, self._wide), hidden, wide))
        if self._hr is not None:
            after[0] = self._product(after[0], self._hr)
        return tuple(map(cast, after, state_types(self._kind, self._network)))

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        """``x @ weight.T``, in the type of the weight."""
        operations = self._network.trt.MatrixOperation
        return self._network.emit(
            "recurrent",
            "add_matrix_multiply",
            self._network.cast(x, weight.dtype),
            operations.NONE,
            weight,
            operations.TRANSPOSE,
            dims=[x.shape[0], weight.shape[0]],
        )
