"""The project's source files and what they import, read without importing them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"trtnet": "trtnet", "zoo": "trtnet.zoo", "weights": "trtnet.weights"}


class Import(NamedTuple):
    """One imported module or name of a module, as an absolute dotted path, and where."""

    target: str
    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


@functools.cache
def modules() -> Mapping[str, tuple[Path, ...]]:
    """Files of each module of trtnet, zoo and weights: its ``.py`` and its ``.pyi``.

    The links trtnet/zoo and trtnet/weights of an installed checkout are not followed.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for folder, package in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py*")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            linked = folder == "trtnet" and parts[0] in PACKAGES
            if file.suffix in (".py", ".pyi") and not linked:
                name = ".".join([package, *parts]).removesuffix(".__init__")
                found[name] = (*found.get(name, ()), file)
    return found


def imports(file: Path, module: str = "") -> Iterator[Import]:
    """Every import of a file, those in functions and under ``TYPE_CHECKING`` too.

    ``from a import b`` gives ``a.b``; ``importlib.import_module("a.b")`` counts as well.

    Args:
        module: name of the module, for relative imports.
    """
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, file, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield from (Import(f"{base}.{alias.name}", file, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            match node.args:
                case [ast.Constant(value=str(name)), *_] if not name.startswith("."):
                    yield Import(name, file, node.lineno)


def module_of(target: str) -> str:
    """The module of this project that holds `target`; "" where none does."""
    while target and target not in modules():
        target = target.rpartition(".")[0]
    return target
