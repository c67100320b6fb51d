"""Recurrent layers: LSTM, GRU and RNN, each layer one loop over the steps of the sequence.

The names and arguments are those of the functions that PyTorch's own modules call, such as
``torch.lstm``. The product of the input with its weights is one matrix product over all steps,
outside of the loop, which INT8 and FP8 quantize as they do a linear layer; the product with the
hidden state stays in floating point. Under a policy in half precision the products and the hidden
state of LSTM and RNN are in half precision, as in cuDNN; the gates, LSTM's cell state and GRU's
hidden state, which are sums over all steps so far, are in the type of reductions: float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.activation import relu, sigmoid, tanh
from trtnet.ops.arguments import array_of, check_input, require, shape_of
from trtnet.ops.elementwise import add, mul, sub
from trtnet.ops.indexing import getitem
from trtnet.ops.joining import cat, split, stack
from trtnet.ops.linear import project
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.shape import expand
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class _Kind:
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
class _Weights:
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


_LSTM = _Kind("lstm", 4, (False, True), _lstm_step)
_GRU = _Kind("gru", 3, (True,), _gru_step)
_TANH = _Kind("rnn_tanh", 1, (False,), lambda x, hidden, _: (tanh(add(x, hidden)),))
_RELU = _Kind("rnn_relu", 1, (False,), lambda x, hidden, _: (relu(add(x, hidden)),))


@operator(methods=())
def lstm(
    input: Tensor,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``torch.nn.LSTM`` computes: ``(output, h_n, c_n)``.

    Args:
        input: (L, N, features), or (N, L, features) where `batch_first`; the number of steps L and
            the batch N may be known only at run time.
        hx: ``(h_0, c_0)``, each (layers * directions, N, size); ``None`` for zeros.
        params: per layer and direction ``weight_ih, weight_hh``, with `has_biases` then
            ``bias_ih, bias_hh``, and ``weight_hr`` where the hidden state is projected.
        dropout, train: dropout is refused where it would change the result.

    Raises:
        ShapeError: shapes that do not fit together; a sequence without steps.
        UnsupportedError: dropout in training; a packed sequence.
    """
    output, states = _run(
        _LSTM, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )
    return output, states[0], states[1]


@operator(methods=())
def gru(
    input: Tensor,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """What ``torch.nn.GRU`` computes: ``(output, h_n)``; see :func:`lstm`, `hx` is ``h_0``."""
    return _single(
        _GRU, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )


@operator(methods=())
def rnn_tanh(
    input: Tensor,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """What ``torch.nn.RNN`` computes: ``(output, h_n)``; see :func:`lstm`, `hx` is ``h_0``."""
    return _single(
        _TANH, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )


@operator(methods=())
def rnn_relu(
    input: Tensor,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """What ``torch.nn.RNN(nonlinearity="relu")`` computes: ``(output, h_n)``; see :func:`lstm`,
    `hx` is ``h_0``."""
    return _single(
        _RELU, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )


@operator(methods=())
def lstm_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """What ``torch.nn.LSTMCell`` computes for (N, features): the next ``(h, c)``; `hx` is the pair
    before, ``None`` for zeros."""
    hidden, cell = _cell(_LSTM, input, hx, _Weights(w_ih, w_hh, b_ih, b_hh))
    return hidden, cell


@operator(methods=())
def gru_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """What ``torch.nn.GRUCell`` computes for (N, features): the next ``h``; `hx` is the one
    before, ``None`` for zeros."""
    return _cell(_GRU, input, _pack(hx), _Weights(w_ih, w_hh, b_ih, b_hh))[0]


@operator(methods=())
def rnn_tanh_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """What ``torch.nn.RNNCell`` computes; see :func:`gru_cell`."""
    return _cell(_TANH, input, _pack(hx), _Weights(w_ih, w_hh, b_ih, b_hh))[0]


@operator(methods=())
def rnn_relu_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """What ``torch.nn.RNNCell(nonlinearity="relu")`` computes; see :func:`gru_cell`."""
    return _cell(_RELU, input, _pack(hx), _Weights(w_ih, w_hh, b_ih, b_hh))[0]


def _pack(state: Any) -> Any:
    return None if state is None else (state,)


def _single(kind: _Kind, input: Any, hx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
    hx = hx if isinstance(arguments[0], bool) else _pack(hx)  # refused in _run: packed
    output, states = _run(kind, input, hx, *arguments)
    return output, states[0]


def _run(
    kind: _Kind,
    input: Any,
    hx: Any,
    params: Any,
    has_biases: Any,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, list[Tensor]]:
    """All layers: the output, and each state after the last step, of all layers."""
    if not isinstance(has_biases, (bool, np.bool_)):  # PyTorch's other form of these functions
        raise UnsupportedError(
            f"{kind.name}: a PackedSequence is not supported",
            fix="give the padded (L, N, features) tensor, one sequence per call or sequences of "
            "one length; the number of steps and the batch may be dynamic",
        )
    require(
        not (train and dropout and num_layers > 1),
        f"{kind.name}: dropout in training is not supported",
        got=f"dropout={dropout}, train={train}",
        fix="call module.eval()",
    )
    check_input(input, 3, kind.name)
    directions = 2 if bidirectional else 1
    weights = _weights(kind, params, bool(has_biases), num_layers * directions, directions)
    batch = input.shape[0 if batch_first else 1]
    first = _first_states(kind, input, hx, weights, batch)
    ends: list[States] = []
    for layer in range(num_layers):
        own = slice(layer * directions, (layer + 1) * directions)
        input, last = _layer(kind, input, 1 if batch_first else 0, weights[own], first[own])
        ends += last
    back = input.network.casts.back
    return input, [back(stack(list(states))) for states in zip(*ends, strict=True)]


def _weights(
    kind: _Kind, params: Any, has_biases: bool, count: int, directions: int
) -> list[_Weights]:
    """`params` for each of `count` layers and directions."""
    each, rest = divmod(len(params), count)
    plain = 4 if has_biases else 2
    if rest or each not in ((plain, plain + 1) if kind is _LSTM else (plain,)):
        raise ShapeError(
            f"{kind.name}: the number of weights does not fit",
            expected=f"{plain} for each of {count} layers and directions",
            got=len(params),
        )
    found = []
    for i in range(count):
        own = list(params[i * each : (i + 1) * each])
        b_ih, b_hh = own[2:4] if has_biases else (None, None)
        w_hr = own[plain] if each > plain else None
        suffix = f"_l{i // directions}{'_reverse' if i % directions else ''}"
        found.append(_Weights(own[0], own[1], b_ih, b_hh, w_hr, suffix))
    return found


def _sizes(kind: _Kind, weights: _Weights) -> list[int]:
    """The size of each state."""
    rows, outputs = _shape(weights.w_hh)
    return [outputs, rows // kind.gates][: len(kind.is_wide)]


def _shape(value: Any) -> tuple[Any, ...]:
    return value.shape if isinstance(value, Tensor) else shape_of(value)


def _types(kind: _Kind, network: Emitter[Tensor]) -> list[DType]:
    """The type of each state."""
    wide = network.casts.dtype("reduction")
    return [wide if is_wide else network.compute_dtype for is_wide in kind.is_wide]


def _first_states(
    kind: _Kind, input: Tensor, hx: Any, weights: Sequence[_Weights], batch: Any
) -> list[States]:
    """The states before the first step, for each layer and direction."""
    sizes = _sizes(kind, weights[0])
    if hx is None:
        return [_zeros(kind, input.network, batch, sizes)] * len(weights)
    given = []
    for state, size in zip(_pair(kind, hx), sizes, strict=True):
        tensor = as_tensor(state, input, align=False)
        _check_state(kind, tensor, (len(weights), batch, size))
        given.append(tensor)
    cast, types = input.network.cast, _types(kind, input.network)
    return [
        tuple(cast(getitem(x, i), dtype) for x, dtype in zip(given, types, strict=True))
        for i in range(len(weights))
    ]


def _pair(kind: _Kind, hx: Any) -> Sequence[Any]:
    wanted = len(kind.is_wide)
    if not isinstance(hx, (tuple, list)) or len(hx) != wanted:
        raise ShapeError(
            f"{kind.name}: hx must be a tuple (h_0, c_0)", got=f"{type(hx).__name__} {hx!r}"
        )
    return hx


def _check_state(kind: _Kind, state: Tensor, wanted: tuple[Any, ...]) -> None:
    fits = state.ndim == len(wanted) and all(
        have == want or not (isinstance(have, int) and isinstance(want, int))
        for have, want in zip(state.shape, wanted, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"{kind.name}: an initial state has the wrong shape", expected=wanted, got=state.shape
        )


def _zeros(kind: _Kind, network: Emitter[Tensor], batch: Any, sizes: Sequence[int]) -> States:
    return tuple(
        expand(network.constant(np.zeros((1, size), np.float32), dtype), batch, size)
        for size, dtype in zip(sizes, _types(kind, network), strict=True)
    )


def _layer(
    kind: _Kind, x: Tensor, time: int, weights: Sequence[_Weights], first: Sequence[States]
) -> tuple[Tensor, list[States]]:
    """One layer, all directions in one loop: its output, and the last states of each direction."""
    network, length = x.network, x.shape[time]
    if length == 0:
        raise ShapeError(f"{kind.name}: the sequence has no steps", got=x.shape)
    projected = [_of_input(x, own) for own in weights]
    recurrent = [_Recurrence(kind, network, own) for own in weights]
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


def _cell(kind: _Kind, input: Tensor, hx: Any, weights: _Weights) -> States:
    """One step of one layer."""
    check_input(input, 2, f"{kind.name}_cell")
    network, batch = input.network, input.shape[0]
    sizes, types = _sizes(kind, weights), _types(kind, network)
    if hx is None:
        states = _zeros(kind, network, batch, sizes)
    else:
        given = [as_tensor(state, input, align=False) for state in _pair(kind, hx)]
        for state, size in zip(given, sizes, strict=True):
            _check_state(kind, state, (batch, size))
        states = tuple(map(network.cast, given, types))
    after = _Recurrence(kind, network, weights).step(_of_input(input, weights), states)
    return tuple(map(network.casts.back, after))


def _of_input(x: Tensor, weights: _Weights) -> Tensor:
    """The product of the input with its weights, for all gates."""
    names = f"weight_ih{weights.suffix}", f"bias_ih{weights.suffix}"
    return project(x, weights.w_ih, weights.b_ih, names).emitted()


class _Recurrence:
    """The part of a layer that is inside of its loop; the weights stay outside."""

    def __init__(self, kind: _Kind, network: Emitter[Tensor], weights: _Weights) -> None:
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
        array = array_of(value, name, self._network.path)
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
        return tuple(map(cast, after, _types(self._kind, self._network)))

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
