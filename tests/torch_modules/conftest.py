"""`agrees` and `against_torch`: a module of PyTorch through `from_torch` against itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree

import trtnet
from trtnet.tensor import tensors_in


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


@pytest.fixture
def against_torch() -> Callable[..., None]:
    """`compare`, as a fixture."""
    return compare


def compare(
    module: torch.nn.Module,
    *inputs: np.ndarray | Sequence[int],
    dynamic: Sequence[Sequence[Any]] | None = None,
    precision: str = "fp32",
    rtol: float = 1e-5,
) -> None:
    """The network that the code of `module` defines gives what `module` gives, in float64 where
    the precision is FP32.

    Args:
        inputs: arrays, or shapes of seeded normal values.
        dynamic: shapes with names for dynamic axes; compared besides the fixed ones.
        rtol: largest error relative to the largest magnitude of the expected output.
    """
    random = np.random.default_rng(3)
    arrays = [
        x if isinstance(x, np.ndarray) else random.standard_normal(x).astype(np.float32)
        for x in inputs
    ]
    wide = precision == "fp32"
    given = [torch.from_numpy(x.copy()) for x in arrays]
    reference = copy.deepcopy(module.eval())
    if wide:
        reference = reference.double()
        given = [x.double() if x.is_floating_point() else x for x in given]
    with torch.no_grad():
        wanted = [x.numpy() for x in _real(reference(*given))]
    for shapes in filter(None, ([x.shape for x in arrays], dynamic)):
        net = trtnet.Network("rtx", precision=precision)
        declared = [
            net.input(f"x{i}", shape, x.dtype)
            for i, (shape, x) in enumerate(zip(shapes, arrays, strict=True))
        ]
        results = tensors_in(_parts(trtnet.from_torch(module)(*declared)))
        assert len(results) == len(wanted)
        for i, result in enumerate(results):
            net.output(f"y{i}", result)
        values = {f"x{i}": x for i, x in enumerate(arrays)}
        got = trtnet.reference.run(net.definition, values, float64=wide)
        for i, want in enumerate(wanted):
            scale = float(np.abs(want).max()) if want.size else 0.0
            np.testing.assert_allclose(got[f"y{i}"], want, rtol=rtol, atol=rtol * scale)


def _parts(tree: Any) -> Any:
    """Objects with attributes as lists of them."""
    if hasattr(tree, "__dataclass_fields__"):
        return [_parts(getattr(tree, name)) for name in tree.__dataclass_fields__]
    if isinstance(tree, dict):
        return [_parts(value) for value in tree.values()]
    return [_parts(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def _real(tree: Any) -> list[torch.Tensor]:
    tree = _parts(tree)
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [x for part in tree for x in _real(part)] if isinstance(tree, list) else []
