"""The table of a study, by operation: what the page adds up to modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.graph import Graph
from trtnet.records import Row

ADDITIVE = ("layers", "casts", "qdq", "time_s", "min_s", "share", "error2_alone",
            "error2_marginal", "saved_s", "saved_marginal_s")  # fmt: skip
"""Columns whose values of a module are the sums of those of its operations."""
_OTHERS = ("low_s", "high_s", "estimated", "sqnr_without_db")
_ALWAYS = ("layers", "casts", "qdq")


def study_columns(
    rows: list[Row], graph: Graph, tree: ModuleTree, about: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns of a study that do not depend on the GPU, without those that nothing is known of.

    Args:
        rows: of a study of `graph`, one for each operation.
        graph: the network.
        tree: of its modules.
        about: the study.
    """
    layers = {layer.name: row for row, layer in enumerate(graph.layers)}
    known = [
        name
        for name in (*ADDITIVE, *_OTHERS)
        if name in _ALWAYS or any(row[name] not in (None, False) for row in rows)
    ]
    return {
        "additive": [name for name in known if name in ADDITIVE],
        "about": dict(about),
        "rows": {
            "module": [_module(row, tree) for row in rows],
            "layer": [-1 if row["layer"] is None else layers[row["layer"]] for row in rows],
            "op": [row["op"] for row in rows],
            **{name: [row[name] for row in rows] for name in known},
        },
    }


def _module(row: Row, tree: ModuleTree) -> int:
    if row["layer"] is not None:
        return tree.row(module_of(row["layer"]))
    return tree.rows.get(row["module"], 0)
