"""Ports PyTorch code by changing its imports alone, and tries the models of timm and torchvision.

    python tools/port_imports.py rewrite FILE            # prints the file with its imports changed
    python tools/port_imports.py try timm resnet18 ...   # models whose files are ported, compared

``try`` copies the package with changed imports to a temporary folder, makes each model from the
copy and from the original, loads the original's state_dict, and compares the results of a network
in float64. It prints one line of JSON for each model: ``passed`` with the error, or what failed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-5  # relative L2 error in float64


def rewritten(
    source: str, packages: Mapping[str, str] | None = None, module: str | None = None
) -> str:
    """`source` with ``torch`` replaced by ``trtnet`` in its imports, and in nothing else.

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
    if module.partition(".")[0] != "torch":
        return None
    home = "trtnet" + module.removeprefix("torch")
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


def compare(package: str, name: str, size: int) -> dict[str, Any]:
    """Whether the ported model `name` computes what the original does."""
    import torch

    import trtnet
    from trtnet.tensor import tensors_in

    step = "original"
    try:
        originals = importlib.import_module(f"{package}.models")
        torch.manual_seed(0)
        entry = _entry(originals, package, name)
        file = entry.__module__
        theirs = _settled(entry())
        image = torch.randn(2, 3, size, size)
        with torch.no_grad():
            wanted = _flat(theirs.double()(image.double()))
        state = theirs.float().state_dict()
        step = "import"
        module = importlib.import_module(file.replace(package, f"ported_{package}", 1))
        step = "__init__"
        ours = getattr(module, entry.__name__)()
        step = "load"
        ours.load_state_dict(state)
        step = "forward"
        network = trtnet.Network("rtx")
        results = tensors_in(ours.eval()(network.input("x", tuple(image.shape))))
        for index, tensor in enumerate(results):
            network.output(f"y{index}", tensor)
        step = "compare"
        read = trtnet.graph.read(network.definition)
        got = trtnet.reference.run(read, {"x": image.numpy()}, float64=True)
        errors = [_error(got[f"y{i}"], value.numpy()) for i, value in enumerate(wanted)]
    except Exception as error:
        return {"model": name, "step": step, "error": type(error).__name__,
                "says": str(error)[:400], "at": _place(error)}  # fmt: skip
    passed = len(errors) == len(results) and max(errors) <= TOLERANCE
    return {"model": name, "step": "passed" if passed else "WRONG", "relative_l2": max(errors)}


def _entry(originals: Any, package: str, name: str) -> Any:
    if package == "timm":
        return originals._registry._model_entrypoints[name]
    return getattr(originals, name)


def _settled(model: Any) -> Any:
    """The model in evaluation, with no parameter that hides a part of it by being zero."""
    import torch

    held = model.state_dict()
    with torch.no_grad():
        for key, value in [*model.named_parameters(), *model.named_buffers()]:
            if key not in held or not value.is_floating_point():
                continue
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif not value.any() or (value.ndim < 2 and (value == value.flatten()[0]).all()):
                value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


def _flat(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (tuple, list)):
        return [tensor for item in tree for tensor in _flat(item)]
    return [] if tree is None else [tree]


def _error(got: np.ndarray, wanted: np.ndarray) -> float:
    if got.shape != wanted.shape:
        return float("inf")
    norm = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(got - wanted)) / max(norm, 1e-30)


def _place(error: BaseException) -> str:
    """The last line of the ported code that the error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "ported_" in frame.filename]
    frame = (inside or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}: {frame.line}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    rewrite = commands.add_parser("rewrite")
    rewrite.add_argument("file", type=Path)
    trial = commands.add_parser("try")
    trial.add_argument("package", choices=("timm", "torchvision"))
    trial.add_argument("models", nargs="+")
    trial.add_argument("--size", type=int, default=224)
    trial.add_argument("--traceback", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "rewrite":
        print(rewritten(arguments.file.read_text(encoding="utf-8")), end="")
        return
    with tempfile.TemporaryDirectory() as folder:
        port_package(arguments.package, f"ported_{arguments.package}", Path(folder))
        sys.path.insert(0, folder)
        for name in arguments.models:
            print(json.dumps(compare(arguments.package, name, arguments.size)), flush=True)


if __name__ == "__main__":
    main()
