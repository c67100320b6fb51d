"""LSTM, GRU and RNN against PyTorch: one definition for every length and batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError, WeightsError

IN, HIDDEN, STEPS, BATCH = 4, 8, 4, 3  # TensorRT-RTX builds other sizes slowly at batch 1
KINDS = ("LSTM", "GRU", "RNN")


def flat(result: Any) -> list[Any]:
    """``(output, (h, c))`` as a list."""
    output, states = result
    return [output, *(states if isinstance(states, tuple) else (states,))]


def run(module: Any, x: Any, *hx: Any) -> list[Any]:
    given = (hx if len(hx) > 1 else hx[0],) if hx else ()
    return flat(module(x, *given))


def states_of(kind: str, layers: int, batch: tuple[int, ...], outputs: int = HIDDEN) -> list[Any]:
    return [(layers, *batch, outputs), (layers, *batch, HIDDEN)][: 2 if kind == "LSTM" else 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"num_layers": 3, "bidirectional": True, "dropout": 0.5}],
    ids=["plain", "no_bias", "three_layers_both_ways"],
)
@pytest.mark.parametrize("steps", [1, STEPS])
def test_sequences(
    check_module: Any, kind: str, batch_first: bool, options: Any, steps: int
) -> None:
    shape, named = (steps, BATCH, IN), ("L", "N", IN)
    if batch_first:
        shape, named = (BATCH, steps, IN), ("N", "L", IN)
    check_module(
        getattr(nn, kind)(IN, HIDDEN, batch_first=batch_first, **options),
        getattr(torch.nn, kind)(IN, HIDDEN, batch_first=batch_first, **options),
        shape,
        call=run,
        dynamic=[named],
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_given_states(check_module: Any, kind: str, bidirectional: bool) -> None:
    layers = 4 if bidirectional else 2
    states = states_of(kind, layers, (BATCH,))
    check_module(
        getattr(nn, kind)(IN, HIDDEN, 2, bidirectional=bidirectional),
        getattr(torch.nn, kind)(IN, HIDDEN, 2, bidirectional=bidirectional),
        (STEPS, BATCH, IN),
        *states,
        call=run,
        dynamic=[("L", "N", IN), *((n, "N", size) for n, _, size in states)],
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_states", [False, True])
def test_without_a_batch(
    check_module: Any, kind: str, batch_first: bool, with_states: bool
) -> None:
    states = states_of(kind, 2, ()) if with_states else []
    options = {"bidirectional": True, "batch_first": batch_first}
    check_module(
        getattr(nn, kind)(IN, HIDDEN, **options),
        getattr(torch.nn, kind)(IN, HIDDEN, **options),
        (STEPS, IN),
        *states,
        call=run,
        dynamic=[("L", IN), *states],
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_states", [False, True])
def test_projected_states(check_module: Any, bias: bool, with_states: bool) -> None:
    options: Any = {"num_layers": 2, "bias": bias, "bidirectional": True, "proj_size": 2}
    check_module(
        nn.LSTM(IN, HIDDEN, **options),
        torch.nn.LSTM(IN, HIDDEN, **options),
        (STEPS, BATCH, IN),
        *(states_of("LSTM", 4, (BATCH,), 2) if with_states else []),
        call=run,
    )


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_nonlinearity(check_module: Any, nonlinearity: str) -> None:
    check_module(
        nn.RNN(IN, HIDDEN, 2, nonlinearity),
        torch.nn.RNN(IN, HIDDEN, 2, nonlinearity),
        (STEPS, BATCH, IN),
        call=run,
    )
    check_module(
        nn.RNNCell(IN, HIDDEN, nonlinearity=nonlinearity),
        torch.nn.RNNCell(IN, HIDDEN, nonlinearity=nonlinearity),
        (BATCH, IN),
        (BATCH, HIDDEN),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize("batch", [(), (BATCH,)])
def test_cells(
    check_module: Any, kind: str, bias: bool, with_states: bool, batch: tuple[int, ...]
) -> None:
    states = [(*batch, HIDDEN)] * (2 if kind == "LSTM" else 1) if with_states else []

    def call(cell: Any, x: Any, *hx: Any) -> Any:
        return cell(x, *((hx if len(hx) > 1 else hx[0],) if hx else ()))

    check_module(
        {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}[kind](IN, HIDDEN, bias),
        getattr(torch.nn, f"{kind}Cell")(IN, HIDDEN, bias),
        (*batch, IN),
        *states,
        call=call,
        dynamic=[("N", size) if batch else (size,) for *_, size in [(IN,), *states]],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_definition_runs_at_every_size(kind: str, net: Any, randomize: Any) -> None:
    theirs = randomize(getattr(torch.nn, kind)(IN, HIDDEN, 2, bidirectional=True))
    ours = getattr(nn, kind)(IN, HIDDEN, 2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    for i, y in enumerate(flat(ours(net.input("x", ("L", "N", IN))))):
        net.output(f"y{i}", y)
    read = trtnet.graph.read(net.definition)
    rng = np.random.default_rng(2)
    for steps, batch in [(1, 1), (9, 1), (2, 4), (17, 3)]:
        x = rng.standard_normal((steps, batch, IN)).astype(np.float32)
        got = trtnet.reference.run(read, {"x": x}, float64=True)
        with torch.no_grad():
            wanted = flat(theirs.double()(torch.from_numpy(x).double()))
        for i, one in enumerate(wanted):
            np.testing.assert_allclose(got[f"y{i}"], one.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_sums_in_float32(kind: str, randomize: Any, check_module: Any) -> None:
    check_module(
        getattr(nn, kind)(IN, HIDDEN, bidirectional=True),
        getattr(torch.nn, kind)(IN, HIDDEN, bidirectional=True),
        (6 if kind == "RNN" else 40, 2, IN),  # these weights make a plain RNN chaotic
        call=run,
        precision="fp16",
        rtol=1e-2,
        rtol64=1e-2,
    )
    model = getattr(nn, kind)(IN, HIDDEN)
    model.load_state_dict(randomize(getattr(torch.nn, kind)(IN, HIDDEN)).state_dict())
    net = trtnet.Network("rtx", precision="fp16")
    net.output("y", model(net.input("x", ("L", 2, IN)))[0])
    read = trtnet.graph.read(net.definition)
    states = [layer for layer in read.layers if layer.type == "RECURRENCE"]
    types = {"LSTM": ["float16", "float32"], "GRU": ["float32"], "RNN": ["float16"]}
    assert [read.tensors[state.outputs[0]].dtype for state in states] == types[kind]


def test_the_product_with_the_input_is_outside_of_the_loop_and_quantized(
    randomize: Any,
) -> None:
    model = nn.LSTM(IN, HIDDEN)
    model.load_state_dict(randomize(torch.nn.LSTM(IN, HIDDEN)).state_dict())
    net = trtnet.Network("rtx", precision="int8-weights")
    net.output("y", model(net.input("x", ("L", 2, IN)))[0])
    read = trtnet.graph.read(net.definition)
    assert [layer.type for layer in read.layers].count("DEQUANTIZE") == 1
    products = [layer for layer in read.layers if layer.type == "MATRIX_MULTIPLY"]
    assert [len(read.tensors[layer.outputs[0]].shape) for layer in products] == [3, 2]


def test_parameters_have_pytorchs_names_and_errors_name_them(net: Any, raises: Any) -> None:
    options: Any = {"num_layers": 2, "bidirectional": True, "proj_size": 2}
    ours, theirs = nn.LSTM(IN, HIDDEN, **options), torch.nn.LSTM(IN, HIDDEN, **options)
    wanted = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.named_parameters()} == wanted
    state = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    state["weight_hh_l1_reverse"][0, 1] = np.inf
    ours.load_state_dict(state)
    with raises(WeightsError, "weight_hh_l1_reverse"):
        ours(net.input("x", (STEPS, 1, IN)))


def test_refusals(net: Any, raises: Any, randomize: Any) -> None:
    with raises(ShapeError, "proj_size", "8 and 8"):
        nn.LSTM(IN, HIDDEN, proj_size=HIDDEN)
    with raises(ShapeError, "positive"):
        nn.GRU(IN, 0)
    with raises(UnsupportedError, "sin", "tanh or relu"):
        nn.RNN(IN, HIDDEN, nonlinearity="sin")
    model = nn.LSTM(IN, HIDDEN)
    model.load_state_dict(randomize(torch.nn.LSTM(IN, HIDDEN)).state_dict())
    x = net.input("x", (STEPS, BATCH, IN))
    packed = torch.nn.utils.rnn.PackedSequence(x, torch.tensor([2, 1]))
    with raises(UnsupportedError, "PackedSequence", "padded"):
        model(packed)
    with raises(ShapeError, "LSTM", "rank 2 or 3"):
        model(x[None])
    with raises(ShapeError, "initial state", "(1, 3, 8)", "(1, 2, 8)"):
        model(x, (np.zeros((1, 2, HIDDEN)), np.zeros((1, 2, HIDDEN))))
    with raises(ShapeError, "rank 2", "no batch"):
        model(x[0], (np.zeros((1, 1, HIDDEN)), np.zeros((1, 1, HIDDEN))))
    with raises(ShapeError, "4 features"):
        model(net.input("wide", (STEPS, BATCH, IN + 1)))
    with raises(ShapeError, "no steps"):
        model(x[:0])


@pytest.mark.parametrize("shape", [(STEPS, BATCH, IN), ("L", "N", IN)])
def test_cost_counts_the_body_of_the_loop_once(shape: Any, net: Any, randomize: Any) -> None:
    model = nn.LSTM(IN, HIDDEN)
    model.load_state_dict(randomize(torch.nn.LSTM(IN, HIDDEN)).state_dict())
    net.output("y", model(net.input("x", shape))[0])
    found = trtnet.graph.cost(trtnet.graph.read(net.definition), {"x": (STEPS, BATCH, IN)})
    assert found.macs == 4 * HIDDEN * (STEPS * BATCH * IN + BATCH * HIDDEN)
