"""Two networks side by side, aligned by the paths of their modules."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

from trtnet import graph
from trtnet.explorer.columns import transposed
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.explorer.subject import Subject

_STRUCTURE = (
    "the values of weights were not loaded: equal means the same layers, attributes, types, shapes "
    "and inputs"
)
_VALUES = "equal means the same layers, attributes, types, shapes and inputs, and weights of "
_VALUES += "the same values"


def comparison(a: Subject, b: Subject, trees: tuple[ModuleTree, ModuleTree]) -> dict[str, Any]:
    """What differs between the networks `a` and `b`, by module.

    Args:
        a, b: the networks.
        trees: of their modules.
    """
    found = graph.diff(a.graph, b.graph, (a.shapes, b.shapes), values=a.values == b.values)
    modules = [module_of(one.layer) for one in found.differences]
    own: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(modules):
        own[path].append(number)
    first, second = (tree.rows for tree in trees)
    changed = _with_modules_around(own, trees)
    rows = []
    for path in dict.fromkeys((*trees[0].paths, *trees[1].paths)):
        here, there = first.get(path, -1), second.get(path, -1)
        status = "changed" if path in changed else "equal"
        status = "only b" if here < 0 else "only a" if there < 0 else status
        rows.append((path, here, there, status, own.get(path, [])))
    equal = sum(row[3] == "equal" for row in rows)
    compared = a.values and b.values
    return {
        "modules": transposed(("path", "a", "b", "status", "differences"), rows),
        "differences": {
            **transposed(
                ("layer", "what", "a", "b"), map(dataclasses.astuple, found.differences)
            ),
            "module": modules,
        },
        "layers": [[name, *pair] for name, pair in found.layers.items()],
        "casts": [[name, *pair] for name, pair in found.casts.items()],
        "macs": list(found.macs),
        "parameters": list(found.parameters),
        "weights_compared": compared,
        "equal": f"{equal} of {len(rows)} modules proved equal: {_VALUES if compared else ''}"
        f"{'' if compared else _STRUCTURE}",
    }  # fmt: skip


def _with_modules_around(
    own: dict[str, list[int]], trees: tuple[ModuleTree, ModuleTree]
) -> set[str]:
    """The modules that have differences, or modules inside them that have."""
    found = set(own)
    for tree, other in (trees, trees[::-1]):
        for path in tree.paths:
            if path in own or path not in other.rows:
                found.update(tree.around(path))
    return found
