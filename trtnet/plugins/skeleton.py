"""``trtnet plugin new``: writes a working plugin, to be changed, and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from trtnet.errors import UsageError
from trtnet.files import atomic_write

_PLUGIN = '''"""The plugin {name}."""

import torch
import triton
import triton.language as tl

import trtnet
from trtnet.plugins import cdiv, triton_kernel

BLOCK = 1024


@triton.jit
def kernel(x, n, y, scale: tl.constexpr, block: tl.constexpr):
    """One program computes `block` elements."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    value = tl.load(x + place, place < n).to(tl.float32)
    tl.store(y + place, (value * scale).to(y.dtype.element_ty), place < n)


@trtnet.plugin("{name}")
class {title}:
    """``x * scale``."""

    scale: float = 2.0

    formats = [("fp32", "->", "fp32"), ("fp16", "->", "fp16")]
    kernel = triton_kernel(
        kernel,
        grid=lambda self, x, y: [cdiv(y.numel, BLOCK)],
        scalars=lambda self, x, y: [y.numel],
        constants={{"block": BLOCK}},
    )

    def outputs(self, x):
        return x

    def reference(self, x):
        return x * self.scale

    def native(self, x):
        return x * self.scale
'''

_TEST = '''"""{title} against its reference: the native form and, on a GPU, the kernel."""

from {module} import {title}
from trtnet.plugins import testing


def test_{module}():
    rows = testing.check({title}, cases=20)
    assert [row.failure for row in rows if row.failure] == []
    assert any(row.cases for row in rows)
'''


def write(name: str, folder: Path) -> list[Path]:
    """Writes ``NAME.py`` and ``test_NAME.py`` to `folder`, and returns their paths.

    Args:
        name: ``leaky_gate``, or with a namespace ``my_ops::leaky_gate``.
        folder: an existing folder.

    Raises:
        UsageError: the name is not allowed, a file exists already, or one cannot be written.
    """
    namespace, _, module = name.rpartition("::")
    namespace = namespace or "custom"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module) or keyword.iskeyword(module):
        raise UsageError(f"{name!r} cannot be the name of a plugin", expected="such as leaky_gate")
    words = {
        "name": f"{namespace}::{module}",
        "module": module,
        "title": "".join(part.capitalize() for part in module.split("_")),
    }
    files = {folder / f"{module}.py": _PLUGIN, folder / f"test_{module}.py": _TEST}
    for path in files:
        if path.exists():
            raise UsageError(f"{path} is there already", fix="choose another name or folder")
    try:
        for path, text in files.items():
            with atomic_write(path) as file:
                file.write(text.format(**words).encode())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to", got=error) from error
    return list(files)
