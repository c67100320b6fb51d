"""The functions that PyTorch's own recurrent modules call, called on Tensors; engines of loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn, ops
from trtnet.errors import ShapeError, UnsupportedError

IN, HIDDEN, STEPS, BATCH = 4, 8, 5, 3
CLASSES = {
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "rnn_tanh": torch.nn.RNN,
    "rnn_relu": torch.nn.RNN,
}
FUNCTIONS = {
    "lstm": ops.lstm,
    "gru": ops.gru,
    "rnn_tanh": ops.rnn_tanh,
    "rnn_relu": ops.rnn_relu,
}
CELLS = {
    "lstm": ops.lstm_cell,
    "gru": ops.gru_cell,
    "rnn_tanh": ops.rnn_tanh_cell,
    "rnn_relu": ops.rnn_relu_cell,
}


def weights_like(x: Any, module: Any) -> Any:
    is_real = isinstance(x, torch.Tensor)
    found = [value.detach() for value in module.parameters()]
    return [value.to(x.dtype) for value in found] if is_real else found


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_sequences_through_dispatch(check: Any, name: str, batch_first: bool) -> None:
    module = CLASSES[name](IN, HIDDEN, 2, bidirectional=True)

    def ours(x: Any, *hx: Any) -> Any:
        arrays = [value.detach().numpy() for value in module.parameters()]
        state = hx if name == "lstm" else hx[0]
        return FUNCTIONS[name](x, state, arrays, True, 2, 0.5, False, True, batch_first)

    def theirs(x: Any, *hx: Any) -> Any:
        state = hx if name == "lstm" else hx[0]
        function = getattr(torch._VF, name)
        return function(x, state, weights_like(x, module), True, 2, 0.5, False, True, batch_first)

    shape, named = (STEPS, BATCH, IN), ("L", "N", IN)
    if batch_first:
        shape, named = (BATCH, STEPS, IN), ("N", "L", IN)
    states = [(4, BATCH, HIDDEN)] * (2 if name == "lstm" else 1)
    check(
        ours,
        theirs,
        shape,
        *states,
        dynamic=[named, *((4, "N", HIDDEN) for _ in states)],
        through_torch=True,
    )


@pytest.mark.parametrize("name", CELLS)
def test_cells_through_dispatch(check: Any, name: str) -> None:
    cells = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    module = cells.get(name, torch.nn.RNNCell)(IN, HIDDEN)

    def ours(x: Any, *hx: Any) -> Any:
        arrays = [value.detach().numpy() for value in module.parameters()]
        return CELLS[name](x, hx if name == "lstm" else hx[0], *arrays)

    def theirs(x: Any, *hx: Any) -> Any:
        state = hx if name == "lstm" else hx[0]
        return getattr(torch._VF, f"{name}_cell")(x, state, *weights_like(x, module))

    states = [(BATCH, HIDDEN)] * (2 if name == "lstm" else 1)
    dynamic = [("N", IN), *(("N", HIDDEN) for _ in states)]
    check(ours, theirs, (BATCH, IN), *states, dynamic=dynamic, through_torch=True)


def test_refusals(net: Any, raises: Any) -> None:
    module = torch.nn.LSTM(IN, HIDDEN, 2)
    weights = list(module.parameters())
    x, h = net.input("x", (STEPS, BATCH, IN)), net.input("h", (2, BATCH, HIDDEN))
    with raises(UnsupportedError, "PackedSequence", "padded"):
        torch._VF.lstm(x, torch.tensor([2, 1]), (h, h), weights, True, 2, 0.0, False, False)
    with raises(UnsupportedError, "PackedSequence"):
        trtnet.gru(x, np.array([2, 1]), h, weights, True, 2, 0.0, False, False)
    with raises(UnsupportedError, "dropout in training", "eval()"):
        torch._VF.lstm(x, (h, h), weights, True, 2, 0.1, True, False, False)
    with raises(ShapeError, "number of weights", "got: 8"):
        torch._VF.lstm(x, (h, h), weights, True, 2, 0.0, False, True, False)
    with raises(ShapeError, "(h_0, c_0)"):
        arrays = [weight.detach().numpy() for weight in weights]
        trtnet.lstm(x, h, arrays, True, 2, 0.0, False, False)


class Theirs(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(torch.nn, kind)(IN, HIDDEN, 2, bidirectional=True)

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0]


class Ours(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(IN, HIDDEN, 2, bidirectional=True)

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_torch_backend_and_verification(kind: str, randomize: Any) -> None:
    theirs, ours = randomize(Theirs(kind)), Ours(kind)
    ours.load_state_dict(theirs.state_dict())
    net = trtnet.Network("torch")
    net.output("y", ours(net.input("x", ("L", "N", IN))))
    x = np.random.default_rng(0).standard_normal((STEPS, BATCH, IN)).astype(np.float32)
    found = trtnet.verify(net, theirs, {"x": x})
    assert [row.module for row in found.rows[:2]] == ["rnn[0]", "rnn[1]"]
    assert max(row.rel_l2 for row in (*found.rows, *found.outputs)) < 1e-5
    sizes = trtnet.Shapes(min=(1, 1, IN), opt=(STEPS, BATCH, IN), max=(9, 4, IN))
    session = trtnet.Session(trtnet.build(net, shapes={"x": sizes}))
    for steps, batch in [(1, 1), (9, 4), (STEPS, 1)]:
        x = np.random.default_rng(steps).standard_normal((steps, batch, IN)).astype(np.float32)
        with torch.no_grad():
            wanted = theirs(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session(x=x)["y"], wanted, rtol=1e-4, atol=1e-5)
