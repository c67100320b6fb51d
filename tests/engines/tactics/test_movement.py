"""Chains of movements as one gather of rows; the oracle is the module before."""

from __future__ import annotations

import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, specialized, targets
from torch import fx

from trtnet import nn, ops
from trtnet.engines.torch.tactics.movement import gather_rows, take_rows
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.nn import functional as F
from trtnet.reference.rearrange import cut
from trtnet.zoo.shufflenet import channel_shuffle

CPU = torch.device("cpu")
SHAPE = (2, 4, 6, 5)


def windows(x):
    """(N, 4, 6, C) in windows of 2 × 3 positions."""
    n, channels = x.shape[0], x.shape[3]
    x = x.reshape(n, 2, 2, 2, 3, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n * 4, 6, channels)


def images(x):
    """The reverse of `windows`."""
    x = x.reshape(-1, 2, 2, 2, 3, x.shape[2]).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, 4, 6, x.shape[5])


def rolled(x, *shifts):
    return ops.roll(x, shifts, (1, 2))


TAKEN = {
    "a roll": lambda x: rolled(x, 1, -2) * 2,
    "a roll of one axis": lambda x: ops.roll(x, 3, 1) * 2,
    "windows": lambda x: windows(x) * 2,
    "windows and back": lambda x: images(windows(x) * 2) + 1,
    "a roll and windows": lambda x: windows(rolled(x, -1, -1)) * 2,
    "windows back and a roll": lambda x: rolled(images(windows(x) * 2), 1, 1) + 1,
    "an output": lambda x: rolled(x, 1, 1),
    "every other row": lambda x: ops.cat([x[:, ::2], x[:, 1::2]], 1) * 2,
    "rows twice": lambda x: ops.cat([x, x[:, :2]], 1) * 2,
    "a part of a roll": lambda x: rolled(x, 1, 2)[:, 1:3, :4] * 2,
    "the edge again": lambda x: ops.cat([F.pad(x, (0, 0, 1, 1), mode="replicate"), x], 2) * 2,
    "one axis more": lambda x: rolled(x, 1, 1).unsqueeze(1) * 2,
    "two rolls": lambda x: rolled(rolled(x, 1, 1) * 2, -1, -1) + 1,
    "a chain that two read": lambda x: (lambda r: (r * 2, r + 1))(rolled(x, 1, 1)),
}  # fmt: skip
LEFT = {
    "nothing but a view": lambda x: x.reshape(x.shape[0], -1, x.shape[3]) * 2,
    "a permutation": lambda x: x.permute(0, 2, 1, 3) * 2,
    "a roll of the elements of rows": lambda x: ops.roll(x, 1, 3) * 2,
    "neighbours beside each other": lambda x: ops.cat([x[:, ::2], x[:, 1::2]], 3) * 2,
    "parts of rows": lambda x: ops.cat([x[..., :2], x[..., :3]], 3)[..., 1:] * 2,
    "two tensors": lambda x: ops.cat([x * 2, x * 3], 1) + 1,
    "zeros around": lambda x: ops.cat([F.pad(x, (0, 0, 1, 1)), F.pad(x, (0, 0, 1, 1))], 1) * 2,
    "channels dealt out along the last axis": lambda x: (
        ops.cat([x, x], 3).unflatten(3, (2, -1)).transpose(3, 4).flatten(3, 4) * 2
    ),
}

SHARED = {
    "what is used in between": lambda x: (lambda r: (windows(r) * 2, r + 1))(rolled(x, 1, 1)),
    "an output in between": lambda x: (lambda r: (windows(r) * 2, r))(rolled(x, 1, 1)),
}


def rewritten(module, *shapes):
    made = specialized(module, *shapes)
    gather_rows(made, CPU)
    made.graph.lint()
    return made


def check(module, *shapes):
    """The rewritten module, which gives the same."""
    made = rewritten(module, *shapes)
    inputs = inputs_of(shapes)
    for found, wanted in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert torch.equal(found, wanted)
    return made


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("case", TAKEN)
def test_one_gather(case, precision, as_on_a_gpu):
    module = as_on_a_gpu(TAKEN[case], ("N", *SHAPE[1:]), precision=precision)
    made = check(module, SHAPE)
    assert "take_rows" in targets(made)
    assert {"cat", "permute", "reshape"}.isdisjoint(targets(made))


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left(case, as_on_a_gpu):
    module = as_on_a_gpu(LEFT[case], ("N", *SHAPE[1:]))
    assert "take_rows" not in targets(check(module, SHAPE))


@pytest.mark.parametrize("case", SHARED)
def test_movements_that_are_used_elsewhere_too(case, as_on_a_gpu):
    check(as_on_a_gpu(SHARED[case], ("N", *SHAPE[1:])), SHAPE)


@pytest.mark.parametrize("case", {**TAKEN, **LEFT, **SHARED})
def test_rows_of_one_element(case, as_on_a_gpu):
    """Nothing tells such a row from something else of its size, such as zeros around."""
    check(as_on_a_gpu({**TAKEN, **LEFT, **SHARED}[case], ("N", 4, 6, 1)), (2, 4, 6, 1))


def test_a_value_around_that_the_network_computes():
    net = fx.Graph()
    x = net.placeholder("x")
    least = net.call_function(torch.amin, (x,))
    options = {"axes": None, "mode": "FILL", "fill": least}
    padded = net.call_function(cut, (x, (0, -1, 0), (2, 5, 1), (1, 1, 1)), options)
    net.output({"y": net.call_function(torch.cat, ([padded, padded], 1))})
    check(fx.GraphModule({}, net), (2, 3, 1))


def test_shuffled_channels_stay(as_on_a_gpu):
    """Between convolutions images are in channels_last, where rows are no rows of memory."""

    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.last(channel_shuffle(self.first(x), 2))

    made = check(as_on_a_gpu(filled(Shuffled()), ("N", 3, 6, 5)), (2, 3, 6, 5))
    assert "take_rows" not in targets(made)


def test_nested_chains_are_one(as_on_a_gpu):
    made = check(as_on_a_gpu(TAKEN["windows back and a roll"], ("N", *SHAPE[1:])), SHAPE)
    assert targets(made) == ["take_rows", "mul", "take_rows", "add"]


def test_places_are_kept_once_per_chain(as_on_a_gpu):
    made = check(as_on_a_gpu(TAKEN["a roll and windows"], ("N", *SHAPE[1:])), SHAPE)
    (taken,) = made.graph.find_nodes(op="call_function", target=take_rows)
    places = getattr(made, taken.args[1].target)
    assert places.dtype is torch.int32
    assert sorted(places.tolist()) == list(range(2 * 4 * 6))
    assert taken.args[2] == (8, 6, 5) == tuple(taken.meta["value"].shape)
    assert taken.meta["layer"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool], ids=str)
def test_any_type(dtype):
    net = fx.Graph()
    x = net.placeholder("x")
    flipped = net.call_function(torch.permute, (x, (1, 0, 2)))
    net.output({"y": net.call_function(torch.reshape, (flipped, (6, 4)))})
    made = specialize(fx.GraphModule({}, net), [((2, 3, 4), dtype)])
    gather_rows(made, CPU)
    x = torch.arange(24).reshape(2, 3, 4).to(dtype)
    assert targets(made) == ["take_rows"]
    assert torch.equal(made(x)["y"], x.permute(1, 0, 2).reshape(6, 4))


def test_no_rows(as_on_a_gpu):
    check(as_on_a_gpu(TAKEN["a roll"], ("N", *SHAPE[1:])), (0, *SHAPE[1:]))
