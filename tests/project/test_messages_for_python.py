"""Where the library names a flag as a fix, it names the argument of Python too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import ROOT

FLAGS: dict[str, str | tuple[str, ...]] = {  # a flag, and how a Python user says the same
    "--backend": "backend=",
    "--compute-capability": "compute_capabilities",
    "--builderOptimizationLevel": "optimization_level=",
    "--timingCacheFile": "timing_cache",
    "--useCudaGraph": "cuda_graph=",
    "--minShapes": "trtnet.Shapes",
    "--calib-data": "data=",
    "--input": "InputSpec",
    "--import": "import",
    "--saveEngine": "Recipe.engine",
    "--model": "model=",
    "--weights": ("weights=", "plan.refit("),
    "--weights-key": "key=",
    "--preprocess": "preprocess",
    "--class-names": "class_names",
    "--num-classes": "num_classes",
    "--in-channels": "in_channels",
    "--channels": "channels=",
    "--items": "limit=",
    "--sensitivity": "sensitivities=",
}
NOT_FOR_PYTHON = {"ability.py"}  # the report of `trtnet doctor`


def fixes(path: Path) -> Iterator[str]:
    """The texts of ``fix=`` and of constants called FIX in a file, formatted values left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if _is_fix(node):
            texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            yield "".join(text for text in texts if isinstance(text, str))


def _is_fix(node: ast.AST) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg == "fix"
    names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
    return isinstance(node, ast.Assign) and bool({"FIX", "_FIX", "_HINT"}.intersection(names))


FILES = [
    path
    for folder in ("trtnet", "zoo", "weights")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "cli" not in path.relative_to(ROOT).parts and path.name not in NOT_FOR_PYTHON
]


@pytest.mark.parametrize("flag", FLAGS)
def test_a_fix_of_the_library_names_the_argument_too(flag: str) -> None:
    said = FLAGS[flag]
    ways = (said,) if isinstance(said, str) else said
    wrong = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in FILES
        for text in fixes(path)
        if re.search(rf"{flag}(?![\w-])", text) and not any(way in text for way in ways)
    ]
    assert not wrong
