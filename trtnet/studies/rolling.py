"""A study's operations rolled up to modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from trtnet.graph.kernels import PRODUCTS
from trtnet.layer_names import cut, without_calls
from trtnet.records import Row
from trtnet.studies.derived import finished, summed
from trtnet.studies.facts import Facts
from trtnet.studies.operations import empty


def rolled(facts: Facts, operations: Sequence[Row], depth: int) -> list[Row]:
    """One row for each module at `depth`, and for each above it without modules inside; operations
    of other modules keep their rows. In execution order.

    Args:
        operations: the rows of all operations.
    """
    containers = {above for row in operations for above in _around(without_calls(row["module"]))}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for index, row in enumerate(operations):
        path = without_calls(row["module"])
        whole = _depth(path) >= depth or path not in containers
        groups.setdefault((cut(path, depth),) if whole else ("", index), []).append(row)
    rows = [
        _module(facts, key[0], rows) if len(key) == 1 else rows[0] for key, rows in groups.items()
    ]
    return finished(rows, operations)


def tree(facts: Facts, operations: Sequence[Row]) -> list[Row]:
    """A row for each module and, below it, for each of its operations, in the order of the tree.

    Args:
        operations: the rows of all operations.
    """
    own: dict[str, list[Row]] = {path: [] for path in _paths(facts, operations)}
    inside: dict[str, list[Row]] = {path: [] for path in own}
    children: dict[str, list[str]] = {path: [] for path in own}
    for row in operations:
        path = without_calls(row["module"])
        own[path].append(row)
        for above in (path, *_around(path)):
            inside[above].append(row)
    for path in own:
        if path:
            children[_parent(path)].append(path)
    rows: list[Row] = []
    waiting = [""]
    while waiting:
        path = waiting.pop()
        parent = _parent(path) if path else None
        rows.append(_module(facts, path, inside[path]) | {"depth": _depth(path), "parent": parent})
        rows += [row | {"depth": _depth(path) + 1, "parent": path} for row in own[path]]
        waiting += reversed(children[path])
    return finished(rows, operations)


def _paths(facts: Facts, operations: Iterable[Row]) -> Iterator[str]:
    """All modules, each after those around it; some several times."""
    for path in (*facts.classes, *(without_calls(row["module"]) for row in operations)):
        yield from (*reversed([*_around(path)]), path)


def _around(path: str) -> Iterator[str]:
    """The modules around `path`, the innermost first; the last is the model."""
    while path:
        path = _parent(path)
        yield path


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _module(facts: Facts, path: str, rows: Sequence[Row]) -> Row:
    """The row of the module `path`, of whose operations, and those inside, there are `rows`."""
    why = facts.explanations.get(path)
    last = next((row for row in reversed(rows) if row["shape"] is not None), None)
    return empty() | {
        "module": path,
        "call": None,
        "module_class": facts.classes.get(path),
        "kind": None if why is None else why.kind,
        "precision": _precision(rows),
        "rate": _one(row["rate"] for row in rows),
        "dtype": None if last is None else last["dtype"],
        "shape": None if last is None else last["shape"],
        "reason": None if why is None else why.reason,
        "limit": _limit(rows),
        "sqnr_without_db": _only(rows, "error2_marginal")["sqnr_without_db"],
        **summed(rows),
    }


def _only(rows: Iterable[Row], key: str) -> Row:
    """The one of `rows` that has a value of `key`; an empty row where there are none or several."""
    found = [row for row in rows if row[key] is not None]
    return found[0] if len(found) == 1 else empty()


def _precision(rows: Sequence[Row]) -> str | None:
    """That of all products, or else of all operations; ``"mixed"`` where they differ."""
    products = [row["precision"] for row in rows if row["type"] in PRODUCTS]
    return _one(products or [row["precision"] for row in rows])


def _one(values: Iterable[str | None]) -> str | None:
    """The one of `values` that is known, ``"mixed"`` of several, ``None`` of none."""
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else "mixed" if known else None


def _limit(rows: Iterable[Row]) -> str | None:
    """What limits most of the bound's time."""
    times = {"memory": 0.0, "compute": 0.0}
    for row in rows:
        if row["limit"] is not None:
            times[row["limit"]] += row["bound_s"]
    return max(times, key=lambda name: times[name]) if any(times.values()) else None
