"""LSTM, GRU, RNN and their cells; the functions are in ``trtnet/ops/recurrent.py``."""

from __future__ import annotations

from typing import Any

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.ops.arguments import check_input, require
from trtnet.ops.operands import as_tensor
from trtnet.ops.shape import squeeze, unsqueeze
from trtnet.tensor import Tensor

NONLINEARITIES = ("tanh", "relu")


class RNNBase(Module):
    """What LSTM, GRU and RNN share: parameters, and sequences without a batch.

    `dropout` has no effect: modules behave as in ``eval()``. `device` and `dtype` have none
    either: the network's policy decides on the types.
    """

    computes = "linear"
    gates = 1
    """Rows of the weights that belong to one hidden unit."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if min(input_size, hidden_size, num_layers) < 1:
            raise ShapeError(
                "input_size, hidden_size and num_layers must be positive",
                got=f"{input_size}, {hidden_size} and {num_layers}",
            )
        if not 0 <= proj_size < hidden_size:
            raise ShapeError(
                "proj_size must be smaller than hidden_size", got=f"{proj_size} and {hidden_size}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._names: list[str] = []
        directions = ("", "_reverse") if bidirectional else ("",)
        outputs = proj_size or hidden_size
        for layer in range(num_layers):
            inputs = outputs * len(directions) if layer else input_size
            for end in directions:
                self._add(f"l{layer}{end}", inputs, outputs)

    def _add(self, end: str, inputs: int, outputs: int) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs)}
        shapes["weight_hh"] = (rows, outputs)
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            self._names.append(f"{name}_{end}")
            setattr(self, self._names[-1], Parameter.empty(shape))

    def flatten_parameters(self) -> None:
        """Does nothing: there is no cuDNN buffer."""

    def _compute(self, function: Any, input: Any, states: list[Any] | None) -> list[Tensor]:
        """What `function`, of ``trtnet.ops``, returns; `states` are ``None`` for zeros."""
        if not isinstance(input, Tensor):
            raise UnsupportedError(
                f"{type(self).__name__}: a {type(input).__name__} is not supported",
                expected="a trtnet.Tensor (L, N, features), or (N, L, features) with batch_first",
                fix="give the padded tensor, one sequence per call or sequences of one length; the "
                "number of steps and the batch may be dynamic",
            )
        check_input(input, (2, 3), type(self).__name__)
        is_batched, batch_axis = input.ndim == 3, 0 if self.batch_first else 1
        if not is_batched:
            input = unsqueeze(input, batch_axis)
            if states is not None:
                states = [self._batch_of_one(state, input) for state in states]
        hx: Any = states if states is None or len(states) > 1 else states[0]
        params = [getattr(self, name) for name in self._names]
        shared = (self.bias, self.num_layers, self.dropout, False, self.bidirectional)
        output, *last = function(input, hx, params, *shared, self.batch_first)
        if is_batched:
            return [output, *last]
        return [squeeze(output, batch_axis), *(squeeze(state, 1) for state in last)]

    def _batch_of_one(self, state: Any, like: Tensor) -> Tensor:
        tensor = as_tensor(state, like, align=False)
        if tensor.ndim != 2:
            raise ShapeError(
                f"{type(self).__name__}: an initial state has the wrong rank",
                expected="rank 2, as the input has no batch",
                got=tensor.shape,
            )
        return unsqueeze(tensor, 1)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"


@export
class LSTM(RNNBase):
    """``torch.nn.LSTM``; a loop over the steps, of which there may be any number at run time."""

    gates = 4

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns ``(output, (h_n, c_n))``; `hx` is ``(h_0, c_0)``, by default zeros.

        Raises:
            UnsupportedError: a ``PackedSequence``.
        """
        output, hidden, cell = self._compute(ops.lstm, input, None if hx is None else list(hx))
        return output, (hidden, cell)


@export
class GRU(RNNBase):
    """``torch.nn.GRU``; a loop over the steps, of which there may be any number at run time."""

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        """Returns ``(output, h_n)``; `hx` is ``h_0``, by default zeros.

        Raises:
            UnsupportedError: a ``PackedSequence``.
        """
        output, hidden = self._compute(ops.gru, input, None if hx is None else [hx])
        return output, hidden


@export
class RNN(RNNBase):
    """``torch.nn.RNN``; a loop over the steps, of which there may be any number at run time."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.nonlinearity = _known(nonlinearity)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        """Returns ``(output, h_n)``; `hx` is ``h_0``, by default zeros.

        Raises:
            UnsupportedError: a ``PackedSequence``.
        """
        function = ops.rnn_tanh if self.nonlinearity == "tanh" else ops.rnn_relu
        output, hidden = self._compute(function, input, None if hx is None else [hx])
        return output, hidden


def _known(nonlinearity: str) -> str:
    require(
        nonlinearity in NONLINEARITIES,
        f"no nonlinearity {nonlinearity!r}",
        expected=" or ".join(NONLINEARITIES),
    )
    return nonlinearity


class RNNCellBase(Module):
    """What LSTMCell, GRUCell and RNNCell share; `device` and `dtype` have no effect."""

    computes = "linear"
    gates = 1
    """Rows of the weights that belong to one hidden unit."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = Parameter.empty((rows, input_size))
        self.weight_hh = Parameter.empty((rows, hidden_size))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter.empty((rows,)) if bias else None)

    def _compute(self, function: Any, input: Tensor, states: list[Any] | None) -> list[Tensor]:
        """The next states; `states` are ``None`` for zeros."""
        check_input(input, (1, 2), type(self).__name__)
        is_batched = input.ndim == 2
        if not is_batched:
            input = unsqueeze(input, 0)
            if states is not None:
                states = [unsqueeze(as_tensor(x, input, align=False), 0) for x in states]
        hx: Any = states if states is None or len(states) > 1 else states[0]
        found = function(input, hx, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        after = list(found) if isinstance(found, tuple) else [found]
        return after if is_batched else [squeeze(state, 0) for state in after]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


@export
class LSTMCell(RNNCellBase):
    """``torch.nn.LSTMCell``: one step."""

    gates = 4

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        """Returns the next ``(h, c)``; `hx` is the pair before, by default zeros."""
        hidden, cell = self._compute(ops.lstm_cell, input, None if hx is None else list(hx))
        return hidden, cell


@export
class GRUCell(RNNCellBase):
    """``torch.nn.GRUCell``: one step."""

    gates = 3

    def forward(self, input: Tensor, hx: Any = None) -> Tensor:
        """Returns the next ``h``; `hx` is the one before, by default zeros."""
        return self._compute(ops.gru_cell, input, None if hx is None else [hx])[0]


@export
class RNNCell(RNNCellBase):
    """``torch.nn.RNNCell``: one step."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = _known(nonlinearity)

    def forward(self, input: Tensor, hx: Any = None) -> Tensor:
        """Returns the next ``h``; `hx` is the one before, by default zeros."""
        function = ops.rnn_tanh_cell if self.nonlinearity == "tanh" else ops.rnn_relu_cell
        return self._compute(function, input, None if hx is None else [hx])[0]
