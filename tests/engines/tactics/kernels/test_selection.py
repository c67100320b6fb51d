"""The best of many values by their kernels, against NumPy's stable sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trtnet.engines.torch.tactics import selection
from trtnet.engines.torch.tactics.selection import largest_of, select_by_kernel, select_largest
from trtnet.reference.index import select_k

SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, -np.inf, 0.0, -0.0, -0.0, 0.0, 1e-40, -1e-40]


def in_order(values: np.ndarray) -> np.ndarray:
    """Positions along the last axis: NaN first, then the largest, of equal ones the first."""
    # A stable sort of what is turned round: the largest of `-values` are first, NaN last.
    keys = np.where(np.isnan(values), -np.inf, -values.astype(np.float64))
    is_number = ~np.isnan(values)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    return np.lexsort((place, keys, is_number), axis=-1)


@pytest.mark.parametrize(
    ("part", "shape", "count", "axis"),
    [(64, (2, 40), 40, 1), (64, (1, 64), 7, 1), (64, (1, 65), 65, 1), (64, (3, 150, 2), 30, 1),
     (64, (2, 250), 150, -1), (64, (0, 30), 2, 1), (None, (1, 1025), 1025, 1)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_choice(part, shape, count, axis, dtype, place, monkeypatch):
    """Parts as they are, and smaller ones: the interpreter sorts 1024 values in a second."""
    if part is not None:
        monkeypatch.setattr(selection, "_PART", part)
        monkeypatch.setattr(selection, "_PAIRS", part)
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=shape).round(1).astype(np.float32)  # with ties
    special = rng.random(shape) < 0.4
    drawn[special] = rng.choice(SPECIAL, special.sum())
    x = torch.from_numpy(drawn).to(dtype).to(place)
    values, index = largest_of(x, count, axis, torch.int64)
    given = np.moveaxis(x.float().cpu().numpy(), axis, -1)
    wanted = in_order(given)[..., :count]
    np.testing.assert_array_equal(index.movedim(axis, -1).cpu().numpy(), wanted)
    found = values.movedim(axis, -1).float().cpu().numpy()
    best = np.take_along_axis(given, wanted, -1)
    np.testing.assert_array_equal(found, best)
    zero = best == 0
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(best[zero]))


@pytest.mark.parametrize(("shape", "is_chosen"), [((2, 8400), True), ((67200, 80), False)])
def test_many_short_rows_are_left_to_pytorch(shape, is_chosen):
    """A grid has no more than 65535 of them, and each would take the memory of 1024 values."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    x.meta["value"] = torch.empty(shape, device="meta")
    options = {"largest": True, "index_dtype": torch.int32}
    node = graph.call_function(select_k, (x, 2, 1), options)
    graph.output(node)
    select_by_kernel(torch.fx.GraphModule({}, graph))
    assert node.target is (select_largest if is_chosen else select_k)
