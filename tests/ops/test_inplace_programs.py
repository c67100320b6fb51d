"""Random programs of views and in-place writes, which PyTorch runs too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import NetworkError

Tensors = list[Any]
SHAPE = (4, 2, 6)


def _view(pick: np.random.Generator, x: Any) -> Callable[[Any], Any]:
    """A function that makes a view of tensors with the shape of `x`."""
    rank, sizes = x.ndim, [int(size) for size in x.shape]
    axis = int(pick.integers(rank)) if rank else 0
    order = [int(i) for i in pick.permutation(rank)]
    start, step = int(pick.integers(0, max(sizes[axis], 1))), int(pick.integers(1, 3))
    cut = (slice(None),) * axis + (slice(start, None, step),)
    count = int(np.prod(sizes))
    flat = [n for n in (1, 2, 3, 4, 6) if count % n == 0]
    rows = int(pick.choice(flat)) if flat else 1
    choices: list[Callable[[Any], Any]] = [
        lambda x: x.permute(*order),
        lambda x: x.transpose(axis, -1),
        lambda x: x[cut],
        lambda x: x[(slice(None),) * axis + (start - sizes[axis],)],
        lambda x: x.unbind(axis)[start],
        lambda x: x.chunk(2, axis)[-1],
        lambda x: x.unsqueeze(axis)[..., None],
        lambda x: x.squeeze(),
        lambda x: x.mT if x.ndim > 1 else x[None],
        lambda x: x.flatten(axis),
        lambda x: x.reshape(rows, -1),
        lambda x: x.contiguous(),
        lambda x: x.detach().data,
        lambda x: x.narrow(axis, start, sizes[axis] - start),
        lambda x: x.clone(),
    ]
    return choices[int(pick.integers(len(choices)))]


def _write(pick: np.random.Generator, x: Any, y: Any) -> Callable[[Any, Any], Any]:
    """A function that changes tensors with the shape of `x` in place; the other one reads `y`."""
    rank, sizes = x.ndim, [int(size) for size in x.shape]
    axis = int(pick.integers(rank)) if rank else 0
    number = int(pick.integers(-16, 17)) / 8
    at = int(pick.integers(sizes[axis])) if rank else 0
    cut = (slice(None),) * axis + (slice(at, None, 2),)
    one = (slice(None),) * axis + (at,)
    choices: list[Callable[[Any, Any], Any]] = [
        lambda x, y: x.add_(number),
        lambda x, y: x.mul_(y.mean()),
        lambda x, y: x.relu_(),
        lambda x, y: x.sub_(y.flatten()[0].clone()).tanh_(),
        lambda x, y: torch.nn.functional.relu(x, inplace=True),
        lambda x, y: x.fill_(number),
        lambda x, y: x.__setitem__(cut, number),
        lambda x, y: x.__setitem__(one, y.sum()),
        lambda x, y: x.__setitem__(one, x[one] * number),
        lambda x, y: x.__setitem__(x > number, number),
        lambda x, y: x.masked_fill_(x < 0, number),
        lambda x, y: x[one].neg_(),
        lambda x, y: x[cut].add_(1).mul_(number),
        lambda x, y: x.copy_(x * x),
        lambda x, y: x.unsqueeze_(0).squeeze_(0),
        lambda x, y: x.clamp_(-1, 1),
    ]
    return choices[int(pick.integers(len(choices)))]


def _program(seed: int, length: int) -> Callable[[Any], Tensors]:
    """Every tensor that the program makes is returned, as it is at the end."""
    pick = np.random.default_rng(seed)
    shadow = [torch.zeros(SHAPE)]
    steps: list[tuple[str, int, int, Any]] = []
    for _ in range(length):
        i, j = (int(k) for k in pick.integers(len(shadow), size=2))
        if pick.random() < 0.5 or not shadow[i].numel():
            function = _view(pick, shadow[i]) if shadow[i].ndim else (lambda x: x * 2)
            if not function(shadow[i]).numel() or function(shadow[i]).ndim > 5:
                continue
            shadow.append(function(shadow[i]))
            steps.append(("view", i, j, function))
        elif not shadow[j].numel() or not shadow[i].ndim:
            continue
        else:
            steps.append(("write", i, j, _write(pick, shadow[i], shadow[j])))

    def run(x: Any) -> Tensors:
        made = [x]
        for kind, i, j, function in steps:
            if kind == "view":
                made.append(function(made[i]))
            else:
                function(made[i], made[j])
        return made

    return run


@pytest.mark.parametrize("group", range(10))
def test_programs(group: int) -> None:
    values = np.random.default_rng(group).standard_normal(SHAPE).astype(np.float32)
    refused: list[str] = []
    for seed in range(group * 25, group * 25 + 25):
        run = _program(seed, 9)
        wanted = run(torch.from_numpy(values).double().clone())
        net = trtnet.Network("rtx")
        try:
            made = run(net.input("x", SHAPE))
            assert [t.shape for t in made] == [tuple(t.shape) for t in wanted], seed
            for index, tensor in enumerate(made):
                net.output(f"y{index}", tensor)
        except NetworkError as error:  # whether PyTorch makes a copy is not known
            refused.append(str(error))
            continue
        got = trtnet.reference.run(trtnet.graph.read(net.definition), {"x": values}, float64=True)
        for index, tensor in enumerate(wanted):
            np.testing.assert_allclose(
                got[f"y{index}"], tensor.numpy(), 1e-9, 1e-9, err_msg=f"{seed}: {index}"
            )
    assert len(refused) < 3
    assert all("copies some tensors and shares the memory of others" in text for text in refused)
