"""New tensors whose sizes or values are known only at run time, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

CASES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "arange": lambda m, x, n, h: m.arange(h),
    "arange of two": lambda m, x, n, h: m.arange(1, h),
    "arange with a step": lambda m, x, n, h: m.arange(1, h, 2, device=x.device),
    "arange downwards": lambda m, x, n, h: m.arange(h, 0, -2),
    "arange to a sum": lambda m, x, n, h: m.arange(n, n + h),
    "arange of halves": lambda m, x, n, h: m.arange(0.5, h),
    "arange by fractions": lambda m, x, n, h: m.arange(0, h, 0.75),
    "arange in float": lambda m, x, n, h: m.arange(h, dtype=m.float32),
    "arange in int32": lambda m, x, n, h: m.arange(end=h, start=0, dtype=m.int32),
    "arange that is empty": lambda m, x, n, h: m.arange(h, h),
    "linspace": lambda m, x, n, h: m.linspace(0, 1, h),
    "linspace to a size": lambda m, x, n, h: m.linspace(-3, h - 1, steps=h),
    "linspace of fixed length": lambda m, x, n, h: m.linspace(0, h - 1, 5),
    "linspace of few": lambda m, x, n, h: m.linspace(2, 3, n - 1),
    "eye": lambda m, x, n, h: m.eye(h),
    "eye of two": lambda m, x, n, h: m.eye(h, 3, dtype=m.int64),
    "zeros": lambda m, x, n, h: m.zeros(n, 4),
    "zeros of a tuple": lambda m, x, n, h: m.zeros((n, 1, h), dtype=m.bool),
    "zeros by keyword": lambda m, x, n, h: m.zeros(size=(n,), dtype=m.int32),
    "ones": lambda m, x, n, h: m.ones([n, 2], dtype=m.long),
    "full": lambda m, x, n, h: m.full((n, 1), 0.5),
    "full of integers": lambda m, x, n, h: m.full((n,), 7),
    "full of booleans": lambda m, x, n, h: m.full((n,), True),
    "full of infinity": lambda m, x, n, h: m.full((h, h), float("-inf")),
    "full of a size": lambda m, x, n, h: m.full((2, 3), h),
    "zeros_like": lambda m, x, n, h: m.zeros_like(x),
    "ones_like": lambda m, x, n, h: m.ones_like(x, dtype=m.bool),
    "full_like": lambda m, x, n, h: m.full_like(x, 2.5),
    "new_zeros": lambda m, x, n, h: x.new_zeros(n, 4),
    "new_ones": lambda m, x, n, h: x.new_ones((n, h), dtype=m.int64),
    "new_full": lambda m, x, n, h: x.new_full((n,), 3),
    "scalar_tensor": lambda m, x, n, h: m.scalar_tensor(h, dtype=m.float32),
    "tensor": lambda m, x, n, h: m.tensor([h, n, 7]),
    "tensor in rows": lambda m, x, n, h: m.tensor([[h, 1.5], [0, n]]),
    "tensor of a size": lambda m, x, n, h: m.tensor(h),
    "as_tensor": lambda m, x, n, h: m.as_tensor([n, h], dtype=m.float32),
    "meshgrid": lambda m, x, n, h: m.stack(m.meshgrid(m.arange(h), m.arange(3), indexing="ij")),
    "meshgrid xy": lambda m, x, n, h: m.meshgrid([m.arange(h), m.arange(3)], indexing="xy")[1],
    "meshgrid of three": lambda m, x, n, h: m.meshgrid(
        m.arange(n), m.arange(1, h + 1), m.arange(2), indexing="xy"
    )[1],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sizes", [(2, 7), (3, 8), (5, 1)])
def test_of_dynamic_sizes(case: str, sizes: tuple[int, int], check: Callable[..., None]) -> None:
    n, h = sizes
    make = CASES[case]
    x = np.zeros((n, 3, h), np.float32)
    if case == "linspace of fixed length" and h == 1:
        pytest.skip("PyTorch's dtype of linspace(0, 0)")
    network = trtnet.Network("rtx")
    ours = network.input("x", ("n", 3, "h"))
    made = make(trtnet, ours, ours.shape[0], ours.shape[2])
    theirs = make(torch, torch.from_numpy(x), n, h)
    network.output("y", made)
    got = trtnet.reference.run(trtnet.graph.read(network.definition), {"x": x})["y"]
    assert str(made.dtype).removeprefix("trtnet.") == str(theirs.dtype).removeprefix("torch.")
    assert got.shape == tuple(theirs.shape)
    np.testing.assert_allclose(got, theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("case", ["arange by fractions", "linspace", "eye", "full", "meshgrid"])
def test_engines_are_built(case: str, build: Callable[..., bytes]) -> None:
    network = trtnet.Network("rtx")
    x = network.input("x", ("n", 3, "h"))
    network.output("y", CASES[case](trtnet, x, x.shape[0], x.shape[2]))
    assert build(network, {"x": (2, 3, 7)})


@pytest.mark.parametrize("case", CASES)
def test_on_the_host_they_are_pytorchs(case: str) -> None:
    x = torch.zeros(2, 3, 7)
    got = CASES[case](trtnet, trtnet.zeros(2, 3, 7), 2, 7)
    wanted = CASES[case](torch, x, 2, 7)
    assert isinstance(got, torch.Tensor)
    torch.testing.assert_close(got.as_subclass(torch.Tensor), wanted)


def test_what_is_refused(net: trtnet.Network, raises: Callable[..., Any]) -> None:
    x = net.input("x", ("n", 3))
    n = x.shape[0]
    for call in (
        lambda: ops.empty(n, 2),
        lambda: ops.empty_like(x),
        lambda: ops.new_empty(x, 2),
    ):
        with raises(UnsupportedError, "nobody has written", "trtnet.zeros"):
            call()
    for call in (
        lambda: ops.rand(n, 2),
        lambda: ops.randn(n),
        lambda: ops.rand_like(x),
        lambda: ops.randn_like(x),
        lambda: ops.bernoulli(x, 0.5),
        lambda: ops.randint(0, 3, (n,)),
        lambda: ops.randperm(n),
        lambda: ops.normal(0.0, 1.0, (n,)),
    ):
        with raises(UnsupportedError, "random numbers", "as an input"):
            call()
    for call in (
        lambda: trtnet.arange(0, n, 0),
        lambda: trtnet.arange(0, 9, n),
        lambda: trtnet.arange(x[0, 0]),
    ):
        with raises(ShapeError, "arange"):
            call()
    with raises(UnsupportedError, "out="):
        trtnet.zeros(n, out=x)
    with raises(UnsupportedError, "indexing"):
        trtnet.meshgrid(x[0], x[0], indexing="yx")
    with raises(ShapeError, "vectors"):
        trtnet.meshgrid(x, x, indexing="ij")
    with pytest.raises(TypeError, match="unexpected keyword 'shape'"):
        trtnet.zeros(n, shape=3)


def test_methods_are_the_functions(net: trtnet.Network) -> None:
    x = net.input("x", ("n", 3))
    sizes = (x.shape[0], 2)
    assert trtnet.Tensor.new_zeros is ops.new_zeros
    made = [ops.new_zeros(x, *sizes), ops.new_ones(x, sizes), ops.new_full(x, sizes, 2)]
    assert [(t.shape[1], t.dtype) for t in made] == [(2, x.dtype)] * 3
