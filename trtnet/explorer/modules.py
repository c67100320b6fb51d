"""The module tree of a network: the modules of its model, and the calls that its layers name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trtnet.explorer.columns import Columns, repeated
from trtnet.precision.policy import Explanation

_CALL = re.compile(r"#(\d+)")
_DEEPEST = 64  # modules inside each other; more is a name that only looks like a path


def module_of(layer: str) -> str:
    """The path of the module call in the name of a `layer`, ``<module path>/<op>``.

    >>> module_of("layer1.0.relu#1/relu"), module_of("a layer of another program")
    ('layer1.0.relu#1', '')
    """
    return layer.rpartition("/")[0]


class ModuleTree:
    """The calls of modules, each after the one around it.

    Args:
        classes: class by path, of every module of the model in its order; empty for a graph.
        calls: paths as layers name them.
    """

    def __init__(self, classes: Mapping[str, str], calls: Iterable[str]) -> None:
        children: dict[str, list[str]] = {"": []}
        around: dict[str, str] = {}
        for path in (*classes, *calls):
            above = ""
            for name in _around(path):
                if name not in children:
                    children[name] = []
                    children[above].append(name)
                    around[name] = above
                above = name
        self.paths = list(_preorder(children))
        self.rows = {path: row for row, path in enumerate(self.paths)}
        self._classes, self._around = classes, around

    def row(self, path: str) -> int:
        """The row of the module call `path`."""
        return self.rows[path]

    def around(self, path: str) -> list[str]:
        """The module call `path` and those around it, the model last."""
        found = [path]
        while path:
            path = self._around[path]
            found.append(path)
        return found

    def columns(self, explained: Sequence[Explanation], entries: Mapping[str, int]) -> Columns:
        """The tree as columns.

        Args:
            explained: what the policy says of the modules that compute.
            entries: by module path, which entry of the policy decided.
        """
        plain = [_CALL.sub("", path) for path in self.paths]
        known = {row.module: row for row in explained}
        said = [known.get(path) for path in plain]
        numbers = [_CALL.findall(path.rpartition(".")[2]) for path in self.paths]
        parents = [self.rows[self._around[path]] if path else -1 for path in self.paths]
        return {
            "path": self.paths,
            "name": [path.rpartition(".")[2] for path in self.paths],
            "module": plain,
            "call": [int(found[-1]) if found else 0 for found in numbers],
            "parent": parents,
            "depth": _depths(parents),
            "end": _ends(parents),
            "class": repeated(self._classes.get(path) for path in plain),
            "kind": repeated((row.kind or None) if row else None for row in said),
            "precision": repeated(row.precision if row else None for row in said),
            "reason": repeated(row.reason if row else None for row in said),
            "entry": [entries.get(path, -1) for path in plain],
        }


def classes_of(roots: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """The class of each module of the models `roots`, by path."""
    return {
        path: type(module).__name__
        for prefix, root in roots
        for path, module in root.named_modules(prefix=prefix)
    }


def _around(path: str) -> Iterator[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``; none of the root."""
    parts = path.split(".", _DEEPEST) if path else []
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _preorder(children: Mapping[str, Sequence[str]]) -> Iterator[str]:
    waiting = [""]
    while waiting:
        path = waiting.pop()
        yield path
        waiting.extend(reversed(children[path]))


def _depths(parents: Sequence[int]) -> list[int]:
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return depths


def _ends(parents: Sequence[int]) -> list[int]:
    """The row after the last one inside each module."""
    ends = list(range(1, len(parents) + 1))
    for row in range(len(parents) - 1, 0, -1):
        ends[parents[row]] = max(ends[parents[row]], ends[row])
    return ends
