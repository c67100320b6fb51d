"""The project's source files and what they import, read without importing them; its wheel."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"trtnet": "trtnet", "zoo": "trtnet.zoo", "weights": "trtnet.weights"}


def tracked_files() -> list[str]:
    """Paths of the files that git has, and of new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    return [name for name in listed.stdout.split("\0") if name]


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


def run_python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """What a Python program prints; `path` is its PYTHONPATH."""
    environment = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """The wheel of a source tree or source distribution, built by pip into `folder`."""
    run_python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder),
               str(source), cwd=folder)  # fmt: skip
    return next(folder.glob("*.whl"))
