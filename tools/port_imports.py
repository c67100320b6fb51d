"""Ports PyTorch code by changing its imports alone.

    python tools/port_imports.py FILE      # prints the file with its imports changed

:class:`Ported` does so with timm and torchvision; ``tools/port_rate.py --imports`` tries the
models of the copies.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def rewritten(
    source: str, packages: Mapping[str, str] | None = None, module: str | None = None
) -> str:
    """`source` with ``torch`` replaced by ``trtnet``, and ``einops`` by ``trtnet.einops``, in its
    imports, and in nothing else.

    Modules of PyTorch that trtnet has no counterpart of, such as ``torch.distributed``, stay.

    Args:
        packages: further modules to replace, with all below them.
        module: name of the package that the source is in; relative imports become absolute.
    """
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()
    for node in reversed(list(_imports(ast.parse(source)))):
        changed = _changed(node, packages or {}, module)
        if changed is None:
            continue
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        data = data[:begin] + changed.encode() + data[end:]
    return data.decode()


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return iter(sorted(found, key=lambda node: (node.lineno, node.col_offset)))


def _changed(
    node: ast.Import | ast.ImportFrom, packages: Mapping[str, str], module: str | None
) -> str | None:
    if isinstance(node, ast.ImportFrom):
        if node.level and module is None:
            return None
        name = "." * node.level + (node.module or "")
        absolute = importlib.util.resolve_name(name, module) if node.level else name
        home = _counterpart(absolute, packages) or (absolute if node.level else None)
        if home is None:
            return None
        return ast.unparse(ast.ImportFrom(home, node.names, 0))
    statements = [_import_of(alias, packages) for alias in node.names]
    if all(changed is None for changed in statements):
        return None
    kept = (
        changed or ast.unparse(ast.Import([alias]))
        for changed, alias in zip(statements, node.names, strict=True)
    )
    return "; ".join(kept)


def _import_of(alias: ast.alias, packages: Mapping[str, str]) -> str | None:
    home = _counterpart(alias.name, packages)
    if home is None:
        return None
    if alias.asname:
        return f"import {home} as {alias.asname}"
    top, _, below = alias.name.partition(".")
    first = home.removesuffix(f".{below}") if below else home
    extra = f"import {home}; " if below else ""
    return f"{extra}import {first} as {top}"


def _counterpart(module: str, packages: Mapping[str, str]) -> str | None:
    for old, new in packages.items():
        if f"{module}.".startswith(f"{old}."):
            return new + module.removeprefix(old)
    first = module.partition(".")[0]
    if first not in ("torch", "einops"):
        return None
    home = "trtnet" + module.removeprefix("torch") if first == "torch" else f"trtnet.{module}"
    try:
        return home if importlib.util.find_spec(home) else None
    except ModuleNotFoundError:  # the parent is no package
        return None


def port_package(package: str, name: str, folder: Path) -> None:
    """Writes the layers and models of timm, or torchvision's models, as package `name` of `folder`.

    The ``__init__`` of the models imports none of them, so that each file is tried for itself.
    """
    home = Path(importlib.import_module(package).__file__ or "").parent
    parts = {"timm": ("layers", "models"), "torchvision": ("models", "ops")}[package]
    moved = {f"{package}.{part}": f"{name}.{part}" for part in parts}
    for part in parts:
        for file in (home / part).rglob("*.py"):
            target = folder / name / file.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = file.read_text(encoding="utf-8")
            parent = ".".join((package, *file.relative_to(home).parent.parts))
            if target.relative_to(folder / name).as_posix() == "models/__init__.py":
                source = _private_imports(source) if package == "timm" else ""
            target.write_text(rewritten(source, moved, parent), encoding="utf-8")
    (folder / name / "__init__.py").write_text("")


def _private_imports(source: str) -> str:
    return "\n".join(
        ast.unparse(node)
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("_")
    )


class Ported:
    """Copies of timm and torchvision with changed imports, in a folder that Python finds; each is
    made when it is first needed.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._copied = folder, set[str]()
        sys.path.insert(0, str(folder))

    def make(self, name: str) -> Any:
        """The model ``timm:NAME`` or ``torchvision:NAME`` of the copy."""
        library, _, model = name.partition(":")
        if library not in self._copied:
            port_package(library, f"ported_{library}", self._folder)
            self._copied.add(library)
        entry = _entry(library, model)
        home = importlib.import_module(entry.__module__.replace(library, f"ported_{library}", 1))
        return getattr(home, entry.__name__)(**_no_weights(entry))


def _no_weights(builder: Any) -> dict[str, None]:
    names = ("weights", "weights_backbone")
    return {name: None for name in names if name in inspect.signature(builder).parameters}


def _entry(library: str, name: str) -> Any:
    if library == "timm":
        return importlib.import_module("timm").model_entrypoint(name)
    return importlib.import_module("torchvision.models").get_model_builder(name)


def main() -> None:
    """Prints a file with its imports changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    print(rewritten(parser.parse_args().file.read_text(encoding="utf-8")), end="")


if __name__ == "__main__":
    main()
