"""Memory over the run: which tensors are in memory while each kernel runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from trtnet.explorer.columns import transposed
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.explorer.structure import tensor_bytes
from trtnet.graph import Graph
from trtnet.graph.kernels import Kernel
from trtnet.graph.types import TensorShapes

_NOTE = (
    "Tensors between kernels, inputs and outputs included, each from the kernel that writes it to "
    "the last one that reads it. An engine may need more, for workspaces and alignment, or less, "
    "where it fuses more. Weights and constants are apart."
)


def memory(
    graph: Graph, shapes: TensorShapes, kernels: Sequence[Kernel], tree: ModuleTree
) -> dict[str, Any]:
    """The tensors that go through memory, and when they are there.

    A tensor is in memory from the kernel that writes it (an input from the first kernel on) to the
    last one that reads it (an output to the last kernel).

    Args:
        graph: the network.
        shapes: the concrete shape of every tensor.
        kernels: of the network, in execution order.
        tree: of its modules.
    """
    spans = lifetimes(graph, kernels)
    sizes = {name: tensor_bytes(graph, shapes, name) for name in spans}
    live = _sums(spans, sizes, len(kernels))
    producers = {name: layer for layer in graph.layers for name in layer.outputs}
    places = {name: row for row, name in enumerate(graph.tensors)}
    owners = [
        tree.row(module_of(producers[name].name)) if name in producers else -1 for name in spans
    ]
    rows = [
        (places[name], sizes[name], first, last, owner)
        for (name, (first, last)), owner in zip(spans.items(), owners, strict=True)
    ]
    return {
        "steps": len(kernels),
        "live": live,
        "tensors": transposed(("tensor", "bytes", "first", "last", "module"), rows),
        "peak": _peak(live, rows, kernels, tree),
        "weights": sum(
            array.nbytes for layer in graph.layers for array in layer.weights.values()
        ),
        "note": _NOTE,
    }  # fmt: skip


def lifetimes(graph: Graph, kernels: Sequence[Kernel]) -> dict[str, tuple[int, int]]:
    """The first and the last kernel during which each tensor is in memory."""
    first = dict.fromkeys(graph.inputs, 0)
    last: dict[str, int] = {}
    for step, kernel in enumerate(kernels):
        first.update((name, step) for name in kernel.writes)
        last.update((name, step) for name in (*kernel.writes, *kernel.reads))
    last.update((name, len(kernels) - 1) for name in _stored_outputs(graph, first))
    return {name: (step, last[name]) for name, step in first.items() if name in last}


def _stored_outputs(graph: Graph, written: dict[str, int]) -> list[str]:
    """The tensors in memory that the outputs of `graph` are, under other names where a layer only
    renames memory."""
    producers = {name: layer for layer in graph.layers for name in layer.outputs}
    found = []
    for output in graph.outputs:
        name: str | None = output
        while name is not None and name not in written and name in producers:
            name = next(iter(producers[name].inputs), None)
        if name is not None and name in written:
            found.append(name)
    return found


def _sums(spans: dict[str, tuple[int, int]], sizes: dict[str, int], steps: int) -> list[int]:
    changes = [0] * (steps + 1)
    for name, (first, last) in spans.items():
        changes[first] += sizes[name]
        changes[last + 1] -= sizes[name]
    live, now = [], 0
    for change in changes[:steps]:
        now += change
        live.append(now)
    return live


def _peak(
    live: Sequence[int],
    rows: Sequence[tuple[int, int, int, int, int]],
    kernels: Sequence[Kernel],
    tree: ModuleTree,
) -> dict[str, Any] | None:
    """The kernel with the most bytes in memory, and whose they are."""
    if not live:
        return None
    step = max(range(len(live)), key=lambda i: live[i])
    there = [i for i, row in enumerate(rows) if row[2] <= step <= row[3]]
    there.sort(key=lambda i: -rows[i][1])
    owned: dict[int, int] = defaultdict(int)
    for i in there:
        owned[rows[i][4]] += rows[i][1]
    modules = sorted(owned.items(), key=lambda item: -item[1])
    name = kernels[step].layers[0].name
    most = "the network's inputs" if modules[0][0] < 0 else tree.paths[modules[0][0]] or "the model"
    text = (
        f"{live[step] / 1e6:,.2f} MB while {name} runs, {modules[0][1] / 1e6:,.2f} MB of it "
        f"written by {most}"
    )
    return {
        "step": step,
        "bytes": live[step],
        "tensors": there,
        "modules": [list(item) for item in modules],
        "text": text,
    }
