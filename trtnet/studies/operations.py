"""The rows of a study's operations: one for each layer, and for no constant that takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtnet.analysis.attribution import Share, attribute
from trtnet.analysis.precisions import computed_precisions
from trtnet.graph.kernels import PRODUCTS
from trtnet.graph.types import Layer
from trtnet.layer_names import INSERTED, LayerName, without_calls
from trtnet.records import Row
from trtnet.studies.derived import finished, summed
from trtnet.studies.facts import Facts
from trtnet.studies.measured import UNATTRIBUTED, measured


def operation_rows(facts: Facts) -> list[Row]:
    """The rows of all operations of `facts`, in execution order.

    Casts, quantizations and dequantizations of one call are one row each. Layers of an engine that
    are of no layer of the network have a row of the model itself, called as the engine calls them.
    """
    merged: dict[tuple[Any, ...], Row] = {}
    for row in _rows(facts):
        inserted = row["type"] in INSERTED
        key = row["module"], row["call"], row["op"], None if inserted else row["layer"]
        merged[key] = _together(merged[key], row) if key in merged else row
    rows = [*merged.values()]
    _add_errors(facts, rows)
    return finished(rows, rows)


def _rows(facts: Facts) -> Iterator[Row]:
    shares = attribute(facts.cost, facts.bound, facts.attribution)
    times = measured(facts.profile, facts.graph, facts.cost, facts.bound, facts.attribution)
    precisions = computed_precisions(facts.graph)
    for layer in facts.graph.layers:
        if layer.type == "CONSTANT" and layer.name not in times:
            continue
        name = LayerName.read(layer.name, layer.type)
        share = shares.get(layer.name)
        row = _row(facts, layer, name, precisions[layer.name])
        row |= _cost(share, has_bound=facts.bound is not None)
        row |= times.get(layer.name, UNATTRIBUTED).row()
        yield row
    for engine_layer, time in times.items():
        if time.is_of_no_layer:
            yield empty() | {"op": engine_layer} | time.row()


def _row(facts: Facts, layer: Layer, name: LayerName, precision: str | None) -> Row:
    info = facts.graph.tensors[layer.outputs[0]] if layer.outputs else None
    why = facts.explanations.get(without_calls(name.module))
    return empty() | {
        "layer": layer.name,
        **name.row,
        "module_class": facts.classes.get(without_calls(name.module)),
        "type": layer.type,
        "kind": None if why is None else why.kind,
        "precision": None if layer.type in INSERTED else precision,
        "dtype": None if info is None else info.dtype,
        "shape": None if info is None else [*facts.shapes[info.name]],
        "reason": None if why is None else why.reason,
        "layers": 1,
        "casts": int(layer.type == "CAST"),
        "qdq": int(layer.type in ("QUANTIZE", "DEQUANTIZE")),
    }


def _cost(share: Share | None, *, has_bound: bool) -> Row:
    share = share or Share("", None)
    return {
        "kernel": share.kernel or None,
        "rate": share.rate,
        "macs": share.macs,
        "parameters": share.parameters,
        "bytes_read": share.bytes_read,
        "bytes_written": share.bytes_written,
        "compute_s": share.compute if has_bound else None,
        "memory_s": share.memory if has_bound else None,
        "bound_s": share.seconds if has_bound else None,
    }


def _together(first: Row, second: Row) -> Row:
    """The row of both; what does not follow from both is that of the first."""
    return first | summed([first, second])


def _add_errors(facts: Facts, rows: list[Row]) -> None:
    """Puts the error of each module into the row of its first product, or else of its first
    operation, in its first call."""
    home: dict[str, Row] = {}
    for row in rows:
        if row["call"] == 0 and row["layer"] is not None and row["precision"] is not None:
            best = home.get(row["module"])
            if best is None or (best["type"] not in PRODUCTS and row["type"] in PRODUCTS):
                home[row["module"]] = row
    for module, error in facts.errors.items():
        if module not in home:  # it computes something, but no layer has its name
            home[module] = empty() | {"module": module}
            rows.append(home[module])
        home[module] |= error.row()


def empty() -> Row:
    """A row of which nothing is known."""
    return dict(_EMPTY)


_EMPTY: Row = {
    "layer": None,
    "module": "",
    "call": 0,
    **dict.fromkeys(("op", "kernel", "module_class", "type", "kind", "precision", "rate")),
    **dict.fromkeys(("dtype", "shape")),
    **dict.fromkeys(("layers", "macs", "parameters", "bytes_read", "bytes_written"), 0),
    **dict.fromkeys(("intensity", "compute_s", "memory_s", "bound_s", "bound_share", "limit")),
    **dict.fromkeys(("time_s", "min_s", "low_s", "high_s", "share", "gap")),
    "estimated": False,
    "reason": None,
    "casts": 0,
    "qdq": 0,
    **dict.fromkeys(("error2_alone", "sqnr_alone_db", "error2_marginal", "sqnr_without_db")),
    **dict.fromkeys(("saved_s", "saved_marginal_s", "benefit")),
}
"""All keys of a row, in order."""
