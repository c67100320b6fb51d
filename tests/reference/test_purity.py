"""The reference is an oracle: it knows nothing of what makes engines fast, nor of rooms above."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trtnet.reference
from trtnet import graph
from trtnet.errors import UsageError
from trtnet.graph import Graph, Layer, TensorInfo
from trtnet.reference.operations import register_operation, registered_operation

FILES = sorted(Path(trtnet.reference.__file__).parent.rglob("*.py"))
ALLOWED_ROOMS = {"dtypes", "errors", "graph", "host", "lazy_imports", "reference", "values"}
# A precision setting, not a function: float32 convolutions are to be computed in float32.
ALLOWED_CUDNN = {"torch.backends.cudnn", "torch.backends.cudnn.allow_tf32"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module or name that is imported anywhere in a file, in functions and for types too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that is used, such as ``torch.backends.cudnn.allow_tf32``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string that is no docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    docstrings = {ast.get_docstring(node, clean=False) for node in nodes}
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    yield from (text for text in constants if isinstance(text, str) and text not in docstrings)


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def tree(request) -> ast.AST:
    return ast.parse(request.param.read_text())


def test_only_rooms_below_are_imported(tree):
    rooms = {name.split(".")[1] for name in imported(tree) if name.startswith("trtnet.")}
    assert rooms <= ALLOWED_ROOMS
    assert "trtnet" not in set(imported(tree))


def test_no_fast_kernels_are_imported(tree):
    names = [*imported(tree), *dotted(tree)]
    assert not [name for name in names if name.split(".")[0] in ("triton", "cuda", "cupy")]
    cudnn = {name for name in names if "cudnn" in name or "miopen" in name}
    assert cudnn <= ALLOWED_CUDNN


def test_nothing_is_overwritten(tree):
    """PyTorch's functions that work in place end in an underscore, but for the generators."""
    names = {name.rpartition(".")[2] for name in dotted(tree)}
    in_place = {n for n in names if n.endswith("_") and not n.endswith("__")}
    assert in_place <= {"uniform_", "normal_"}


def test_no_import_is_hidden_in_a_string(tree):
    named = {text for text in strings(tree) if text.startswith("trtnet.")}
    assert not named


def test_registering_an_operation_needs_no_pytorch():
    code = "import sys, trtnet.reference.operations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_operation_is_registered_once():
    ours = registered_operation("PLUGIN_V3")
    register_operation("PLUGIN_V3", ours)  # again: nothing changes
    with pytest.raises(UsageError, match="PLUGIN_V3 have an operation already"):
        register_operation("PLUGIN_V3", lambda layer: None)
    assert registered_operation("PLUGIN_V3") is ours
    assert registered_operation("SOFTMAX") is None  # TensorRT's own layers are not registered


def test_plugins_that_come_with_trtnet_run_without_an_import(tmp_path):
    """A graph that another process has saved is all that is there."""
    path, attributes = tmp_path / "graph.safetensors", {"size": [4, 4]}
    stated = {
        "plugin_name": "class_map", "plugin_namespace": "trtnet", "plugin_version": "1",
        "fields": json.dumps(attributes),
    }  # fmt: skip
    infos = [TensorInfo("x", "float32", (1, 3, 2, 2)), TensorInfo("y", "int32", (1, 4, 4))]
    layer = Layer("map", "PLUGIN_V3", ("x",), ("y",), stated)
    graph.save(path, Graph("net", ("x",), ("y",), (layer,), {info.name: info for info in infos}))
    code = f"""
import numpy as np
from trtnet.graph.archive import load
from trtnet.reference.runner import run
x = np.zeros((1, 3, 2, 2), np.float32)
x[:, 2] = 1
assert (run(load({str(path)!r}), {{"x": x}})["y"] == 2).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
