"""Recurrent layers: LSTM, GRU and RNN, each layer one loop over the steps of the sequence.

The names and arguments are those of the functions that PyTorch's own modules call, such as
``torch.lstm``. The product of the input with its weights is one matrix product over all steps,
outside of the loop, which INT8 and FP8 quantize as they do a linear layer; the product with the
hidden state stays in floating point. Under a policy in half precision the products and the hidden
state of LSTM and RNN are in half precision, as in cuDNN; the gates, LSTM's cell state and GRU's
hidden state, which are sums over all steps so far, are in the type of reductions: float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import check_input, require
from trtnet.ops.indexing import getitem
from trtnet.ops.joining import stack
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.recurrence import (
    GRU,
    LSTM,
    RELU,
    TANH,
    CellWeights,
    Kind,
    Recurrence,
    States,
    of_input,
    run_layer,
    state_sizes,
    state_types,
    zero_states,
)
from trtnet.tensor import Tensor


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
        LSTM, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
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
        GRU, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
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
        TANH, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
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
        RELU, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )


@operator(methods=())
def lstm_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """What ``torch.nn.LSTMCell`` computes for (N, features): the next ``(h, c)``; `hx` is the pair
    before, ``None`` for zeros."""
    hidden, cell = _cell(LSTM, input, hx, CellWeights(w_ih, w_hh, b_ih, b_hh))
    return hidden, cell


@operator(methods=())
def gru_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """What ``torch.nn.GRUCell`` computes for (N, features): the next ``h``; `hx` is the one
    before, ``None`` for zeros."""
    return _cell(GRU, input, _pack(hx), CellWeights(w_ih, w_hh, b_ih, b_hh))[0]


@operator(methods=())
def rnn_tanh_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """What ``torch.nn.RNNCell`` computes; see :func:`gru_cell`."""
    return _cell(TANH, input, _pack(hx), CellWeights(w_ih, w_hh, b_ih, b_hh))[0]


@operator(methods=())
def rnn_relu_cell(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """What ``torch.nn.RNNCell(nonlinearity="relu")`` computes; see :func:`gru_cell`."""
    return _cell(RELU, input, _pack(hx), CellWeights(w_ih, w_hh, b_ih, b_hh))[0]


def _pack(state: Any) -> Any:
    return None if state is None else (state,)


def _single(kind: Kind, input: Any, hx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
    hx = hx if isinstance(arguments[0], bool) else _pack(hx)  # refused in _run: packed
    output, states = _run(kind, input, hx, *arguments)
    return output, states[0]


def _run(
    kind: Kind,
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
        input, last = run_layer(kind, input, 1 if batch_first else 0, weights[own], first[own])
        ends += last
    back = input.network.casts.back
    return input, [back(stack(list(states))) for states in zip(*ends, strict=True)]


def _weights(
    kind: Kind, params: Any, has_biases: bool, count: int, directions: int
) -> list[CellWeights]:
    """`params` for each of `count` layers and directions."""
    each, rest = divmod(len(params), count)
    plain = 4 if has_biases else 2
    if rest or each not in ((plain, plain + 1) if kind is LSTM else (plain,)):
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
        found.append(CellWeights(own[0], own[1], b_ih, b_hh, w_hr, suffix))
    return found


def _first_states(
    kind: Kind, input: Tensor, hx: Any, weights: Sequence[CellWeights], batch: Any
) -> list[States]:
    """The states before the first step, for each layer and direction."""
    sizes = state_sizes(kind, weights[0])
    if hx is None:
        return [zero_states(kind, input.network, batch, sizes)] * len(weights)
    given = []
    for state, size in zip(_pair(kind, hx), sizes, strict=True):
        tensor = as_tensor(state, input, align=False)
        _check_state(kind, tensor, (len(weights), batch, size))
        given.append(tensor)
    cast, types = input.network.cast, state_types(kind, input.network)
    return [
        tuple(cast(getitem(x, i), dtype) for x, dtype in zip(given, types, strict=True))
        for i in range(len(weights))
    ]


def _pair(kind: Kind, hx: Any) -> Sequence[Any]:
    wanted = len(kind.is_wide)
    if not isinstance(hx, (tuple, list)) or len(hx) != wanted:
        raise ShapeError(
            f"{kind.name}: hx must be a tuple (h_0, c_0)", got=f"{type(hx).__name__} {hx!r}"
        )
    return hx


def _check_state(kind: Kind, state: Tensor, wanted: tuple[Any, ...]) -> None:
    fits = state.ndim == len(wanted) and all(
        have == want or not (isinstance(have, int) and isinstance(want, int))
        for have, want in zip(state.shape, wanted, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"{kind.name}: an initial state has the wrong shape", expected=wanted, got=state.shape
        )


def _cell(kind: Kind, input: Tensor, hx: Any, weights: CellWeights) -> States:
    """One step of one layer."""
    check_input(input, 2, f"{kind.name}_cell")
    network, batch = input.network, input.shape[0]
    sizes, types = state_sizes(kind, weights), state_types(kind, network)
    if hx is None:
        states = zero_states(kind, network, batch, sizes)
    else:
        given = [as_tensor(state, input, align=False) for state in _pair(kind, hx)]
        for state, size in zip(given, sizes, strict=True):
            _check_state(kind, state, (batch, size))
        states = tuple(map(network.cast, given, types))
    after = Recurrence(kind, network, weights).step(of_input(input, weights), states)
    return tuple(map(network.casts.back, after))
