"""The best rows by their ranks: what the layers compute, of one pass over the boxes."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from trtnet.engines.torch.selections import any_at, rows_at, select_at_once
from trtnet.reference import rearrange

BOXES, PLACES = 40, 7


def layers(places: torch.Tensor, table: torch.Tensor, axis: int = 1) -> fx.GraphModule:
    """What :mod:`trtnet.detection.selection` adds."""
    root, graph = torch.nn.Module(), fx.Graph()
    for name, value in (("places", places), ("table", table), ("axis", torch.tensor([axis]))):
        root.register_buffer(name, value)
    ranks, mask, axes = graph.placeholder("r"), graph.placeholder("m"), graph.get_attr("axis")
    rows = [graph.call_function(rearrange.insert_axes, (x, axes)) for x in (ranks, mask)]
    same = graph.call_function(torch.eq, (rows[0], graph.get_attr("places")))
    here = graph.call_function(torch.logical_and, (same, rows[1]))
    number = graph.call_method("to", (here, torch.int32))
    weights = graph.call_method("to", (here, torch.float32))
    graph.output({
        "rows": graph.call_function(torch.matmul, (weights, graph.get_attr("table"))),
        "any": graph.call_function(torch.amax, (number, (2,), False)),
    })  # fmt: skip
    return fx.GraphModule(root, graph)


def calls(module: fx.GraphModule) -> set[object]:
    return {node.target for node in module.graph.nodes if node.op == "call_function"}


def numbers(count: int = PLACES) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32).reshape(1, count, 1)


@pytest.mark.parametrize("shape", [(BOXES, 2), (1, BOXES, 3)])
def test_the_same_as_the_layers(shape) -> None:
    random = torch.Generator().manual_seed(2)
    table = torch.randint(-50, 50, shape, generator=random).float()
    made, plain = (layers(numbers(), table) for _ in range(2))
    select_at_once(made)
    assert calls(made) == {rows_at, any_at}
    for images in (1, 3):
        ranks = torch.randint(-2, 12, (images, BOXES), generator=random).float()  # some are equal
        ranks[0, :3] = torch.tensor([float("nan"), 2.5, float("inf")])
        mask = torch.rand((images, BOXES), generator=random) < 0.6
        found, wanted = made(ranks, mask), plain(ranks, mask)
        for name in wanted:
            assert found[name].dtype == wanted[name].dtype
            assert torch.equal(found[name], wanted[name])
        none = made(ranks, torch.zeros_like(mask))
        assert not none["rows"].any()
        assert none["rows"].shape == wanted["rows"].shape


@pytest.mark.parametrize(
    ("places", "table", "axis"),
    [
        (numbers() + 1, torch.ones(BOXES, 2), 1),  # other places
        (numbers().reshape(1, 1, PLACES), torch.ones(BOXES, 2), 2),
        (numbers(), torch.full((BOXES, 2), 0.5), 1),  # sums whose order may matter
        (numbers(), torch.full((BOXES, 2), 2.0**20), 1),
    ],
)
def test_what_differs_stays(places, table, axis) -> None:
    made = layers(places, table, axis)
    select_at_once(made)
    assert torch.matmul in calls(made)
