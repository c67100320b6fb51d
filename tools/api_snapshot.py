"""The interface of a TensorRT binding as JSON, for test_api_conformance.py.

    python tools/api_snapshot.py tensorrt_rtx tests/data/tensorrt_api

An overload of a method is ``"input,axes,keep_dims= -> IReduceLayer"``, a parameter with a default
being marked with ``=``; a property is its type. Everything is read off docstrings and classes:
neither a GPU nor a driver is needed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from trtnet.files import atomic_write

_QUALIFIERS = re.compile(
    r"\b(?:\w+\.)*(?:tensorrt|tensorrt_rtx|tensorrt_lean)\.|\bnvinfer1::(?:v_\w+::)?"
)


def describe(module: ModuleType) -> dict[str, Any]:
    """Version, classes (bases, methods, properties) and enumerations of a binding."""
    classes, enums = {}, {}
    for name, found in vars(module).items():
        if not isinstance(found, type) or name.startswith("_"):
            continue
        if hasattr(found, "__members__"):
            enums[name] = sorted(found.__members__)
        else:
            classes[name] = _class(found)
    return {
        "module": module.__name__,
        "version": module.__version__,
        "classes": classes,
        "enums": enums,
    }


def signature(text: str) -> str:
    """``"f(self: T, a: int, b: int = 0) -> int"`` as ``"a,b= -> int"``."""
    text = _QUALIFIERS.sub("", text)
    inside, _, result = text.partition("(")[2].rpartition(") -> ")
    names = []
    for parameter in _split(inside):
        name, has_default = parameter.partition(":")[0].strip(), " = " in parameter
        if name != "self":
            names.append(name + "=" * has_default)
    return f"{','.join(names)} -> {result.strip()}"


def write(described: dict[str, Any], folder: Path) -> Path:
    """One file per version, with one line per class and enumeration."""
    path = folder / f"{described['module']}-{described['version']}.json"
    parts = [f'"{key}": {json.dumps(described[key])}' for key in ("module", "version")]
    for kind in ("classes", "enums"):
        lines = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(described[kind].items()))
        parts.append(f'"{kind}": {{\n' + ",\n".join(lines) + "\n}")
    with atomic_write(path) as file:
        file.write(("{\n" + ",\n".join(parts) + "\n}\n").encode())
    return path


def _class(found: type) -> dict[str, Any]:
    methods, properties = {}, {}
    for name, member in sorted(vars(found).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            doc = (member.fget.__doc__ or "") if member.fget else ""
            kind = _QUALIFIERS.sub("", doc.partition("\n")[0].rpartition("-> ")[2])
            properties[name] = (kind or "object") + ("" if member.fset else " (read-only)")
        elif not isinstance(member, type) and callable(getattr(found, name)):
            methods[name] = _overloads(name, getattr(found, name).__doc__ or "")
    bases = [base.__name__ for base in found.__bases__ if not base.__name__.startswith("pybind")]
    return {
        "bases": [base for base in bases if base != "object"],
        "methods": methods,
        "properties": properties,
    }


def _overloads(name: str, doc: str) -> list[str]:
    lines = re.findall(rf"^(?:\d+\. )?({name}\(.*) *$", doc, flags=re.MULTILINE)
    found = (signature(line) for line in lines if "*args, **kwargs" not in line)
    return list(dict.fromkeys(found))


def _split(parameters: str) -> list[str]:
    """The parts between the commas that are in no bracket and no string."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(parameters):
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            found.append(parameters[start:at])
            start = at + 1
    return [part.strip() for part in (*found, parameters[start:]) if part.strip()]


def main() -> None:
    """Writes the snapshot that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="such as tensorrt or tensorrt_rtx")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(write(describe(importlib.import_module(arguments.module)), arguments.folder))


if __name__ == "__main__":
    main()
