"""`against_torch`: a module of PyTorch through `from_torch`, against itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.tensor import tensors_in


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
