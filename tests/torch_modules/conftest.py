"""`agrees`: a module of PyTorch through `from_torch` against itself in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree

import trtnet


@pytest.fixture
def agrees() -> Callable[..., trtnet.Network]:
    """`module_agrees`, as a fixture."""
    return module_agrees


def module_agrees(
    module: torch.nn.Module,
    *inputs: torch.Tensor,
    declared: Sequence[Sequence[Any]] | None = None,
    precision: str = "fp32",
    way: str = "direct",
    rtol: float = 1e-9,
) -> trtnet.Network:
    """The network that `module` defines, executed in float64, gives what the module gives.

    Args:
        declared: shapes of the network's inputs; by default those of `inputs`.
        precision: of the network, which is then executed in it.
        way: see :func:`trtnet.from_torch`.
        rtol: largest L2 error relative to the module's result.
    """
    module.eval()
    net = trtnet.Network("rtx", precision=precision)
    shapes = declared or [tuple(x.shape) for x in inputs]
    given = [
        net.input(f"x{i}", shape, x.dtype)
        for i, (x, shape) in enumerate(zip(inputs, shapes, strict=True))
    ]
    results = _pytree.tree_leaves(trtnet.from_torch(module, way)(*given))
    for index, result in enumerate(results):
        net.output(f"y{index}", result)
    values = {f"x{i}": x.numpy() for i, x in enumerate(inputs)}
    exact = precision == "fp32"
    got = trtnet.reference.run(net.definition, values, float64=exact)
    with torch.no_grad():
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        wanted = _pytree.tree_leaves(copy.deepcopy(module).double()(*wide))
    assert len(results) == len(wanted)
    for index, want in enumerate(wanted):
        have, want = got[f"y{index}"], want.numpy()
        assert have.shape == want.shape
        error = np.linalg.norm(have - want) / max(np.linalg.norm(want), 1e-30)
        assert error <= rtol, f"output {index}: {error:.2e}"
    return net
