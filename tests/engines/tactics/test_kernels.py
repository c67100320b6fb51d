"""The kernels of the tactics in Triton's interpreter: the tests in the folder kernels/."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")
torch = pytest.importorskip("torch")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# What older versions of Triton say, 3.6 for one, beside NumPy 2.4 and later.
OF_NUMPY = "only 0-dimensional arrays can be converted to Python scalars"


def test_interpreted_kernels() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", str(HERE / "kernels")],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if OF_NUMPY in done.stdout and torch.cuda.is_available():  # where the kernels themselves run
        pytest.skip(f"the interpreter of Triton {triton.__version__} does not know this NumPy")
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None
    assert int(counted[1]) > 100
    assert "skipped" not in done.stdout
