"""``tools/host_cost.py``: what it says of a graph; a CUDA runtime is imitated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

host_cost = pytest.importorskip("host_cost")


def runtime(kinds: list[str], edges: list[tuple[int, int, Any]]) -> Any:
    """CUDA's functions on one graph; without a number of entries they give that number alone."""

    def listed(rows: list[Any], columns: int, count: int) -> tuple[Any, ...]:
        if not count:
            return (0, *[None] * columns, len(rows))
        assert count == len(rows)
        return (0, *(map(list, zip(*rows, strict=True)) if rows else [[]] * columns), count)

    return SimpleNamespace(
        cudaGraph_t=lambda handle: handle,
        cudaGraphGetNodes=lambda graph, count=0: listed([(k,) for k in kinds], 1, count),
        cudaGraphNodeGetType=lambda kind: (0, SimpleNamespace(name=f"cudaGraphNodeType{kind}")),
        cudaGraphGetEdges=lambda graph, count=0: listed(edges, 3, count),
    )


FULL, EARLY, OLD = (SimpleNamespace(type=value) for value in (0, 1, b"\0"))


@pytest.mark.parametrize(
    ("kinds", "edges", "words"),
    [
        (["Kernel"] * 3, [(0, 1, FULL), (1, 2, OLD)], "3 kernels, one line"),
        (["Kernel", "Memset", "Kernel"], [(0, 1, FULL), (1, 2, EARLY)],
         "2 kernels, 1 Memset, one line, 1 early"),
        (["Kernel"] * 3, [(0, 1, FULL)], "3 kernels, 1 edges"),
        (["Kernel"], [], "1 kernels, one line"),
    ],
)  # fmt: skip
def test_what_a_graph_consists_of(
    kinds: list[str], edges: list[Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_cost.cuda, "runtime", lambda: runtime(kinds, edges))
    assert host_cost.census(7) == words


def test_the_options() -> None:
    found = host_cost.parsed(["resnet50", "vit_b_16", "--batch", "64"])
    assert (found.models, found.batch, found.precision) == (["resnet50", "vit_b_16"], [64], "fp16")
