"""The TensorRT bindings in tests/data/tensorrt_api: what every one of them offers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "data" / "tensorrt_api"


class Api:
    """One binding."""

    def __init__(self, path: Path) -> None:
        described = json.loads(path.read_text())
        self.module, self.version = described["module"], described["version"]
        self.classes: dict[str, Any] = described["classes"]
        self.enums: dict[str, list[str]] = described["enums"]

    def __str__(self) -> str:
        return f"{self.module} {self.version}"

    def overloads(self, owner: str, method: str) -> list[str] | None:
        """``"a,b= -> T"`` for every overload; None where there is no such method."""
        return self._find("methods", owner, method)

    def property(self, owner: str, name: str) -> str | None:
        """Its type, with ``(read-only)`` where it cannot be set."""
        return self._find("properties", owner, name)

    def has(self, path: str) -> bool:
        """Whether there is ``Class``, ``Enum``, ``Class.member`` or ``Enum.MEMBER``."""
        owner, _, member = path.partition(".")
        if owner in self.enums:
            return not member or member in self.enums[owner]
        if not member:
            return owner in self.classes
        return bool(self.overloads(owner, member) or self.property(owner, member))

    def accepts(self, owner: str, method: str, count: int, keywords: set[str]) -> bool:
        """Whether an overload takes `count` positional arguments and these keywords."""
        return any(
            _fits(parameters, count, keywords)
            for parameters, _ in map(parse, self.overloads(owner, method) or ())
        )

    def results(self, owner: str, method: str) -> set[str]:
        """What the overloads return."""
        return {result for _, result in map(parse, self.overloads(owner, method) or ())}

    def members(self, owner: str, kind: str) -> Iterator[str]:
        """Names of a class's own ``"methods"`` or ``"properties"``."""
        yield from self.classes[owner][kind]

    def _find(self, kind: str, owner: str, name: str) -> Any:
        described = self.classes.get(owner)
        if described is None:
            return None
        if name in described[kind]:
            return described[kind][name]
        found = (self._find(kind, base, name) for base in described["bases"])
        return next((entry for entry in found if entry is not None), None)


def parse(overload: str) -> tuple[dict[str, bool], str]:
    """Parameters, whether each may be left out, and the result."""
    inside, _, result = overload.partition(" -> ")
    names = [name for name in inside.split(",") if name]
    return {name.rstrip("="): name.endswith("=") for name in names}, result


def _fits(parameters: dict[str, bool], count: int, keywords: set[str]) -> bool:
    names = list(parameters)
    given = {*names[:count], *keywords}
    required = {name for name, is_optional in parameters.items() if not is_optional}
    clash = set(names[:count]) & keywords
    return count <= len(names) and not clash and required <= given <= set(names)


APIS = tuple(Api(path) for path in sorted(FOLDER.glob("*.json")))
