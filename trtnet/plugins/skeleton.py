"""``trtnet plugin new``: writes a working plugin, to be changed, and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.plugins.axes import example_of
from trtnet.plugins.spec import ARROW

_PLUGIN = '''"""The plugin {name}."""

import triton
import triton.language as tl

import trtnet
from trtnet.plugins import cdiv, triton_kernel

BLOCK = 1024


@triton.jit
def kernel({inputs}, n, {outputs}, scale: tl.constexpr, block: tl.constexpr):
    """One program computes `block` elements."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    value = {loads}
{stores}


@trtnet.plugin("{name}")
class {title}:
    """``{text}``."""

    scale: float = 2.0

    formats = [
{formats}
    ]
    kernel = triton_kernel(
        kernel,
        grid=lambda self, {tensors}: [cdiv({first}.numel, BLOCK)],
        scalars=lambda self, {tensors}: [{first}.numel],
        constants={{"block": BLOCK}},
    )

    # For shapes that differ, state them in place of outputs():
    # axes = {axes}
    def outputs(self, {inputs}):
        return {specs}

    def reference(self, {inputs}):
        return {results}

    def native(self, {inputs}):
        return {results}
'''

_TEST = '''"""{title} against its reference: the native form and, on a GPU, the kernel."""

from {module} import {title}
from trtnet.plugins import testing


def test_{module}():
    rows = testing.check({title}, cases=20)
    assert [row.failure for row in rows if row.failure] == []
    assert any(row.cases for row in rows)
'''


def write(name: str, folder: Path, inputs: int = 1, outputs: int = 1) -> list[Path]:
    """Writes ``NAME.py`` and ``test_NAME.py`` to `folder`, and returns their paths.

    Args:
        name: ``leaky_gate``, or with a namespace ``my_ops::leaky_gate``.
        folder: an existing folder.
        inputs, outputs: how many tensors the plugin takes and gives.

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
        **_tensors(_numbered("x", inputs), _numbered("y", outputs)),
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


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}{i}" for i in range(count)]


def _tensors(inputs: list[str], outputs: list[str]) -> dict[str, str]:
    """The parts of the files that depend on the tensors: output `i` is the sum of the inputs times
    the attribute `scale`, plus `i`."""
    added = " + ".join(inputs)
    total = added if len(inputs) == 1 else f"({added})"
    more = ["", *(f" + {i}" for i in range(1, len(outputs)))]
    types = [[*[kind] * len(inputs), ARROW, *[kind] * len(outputs)] for kind in ("fp32", "fp16")]
    loads = [f"tl.load({name} + place, place < n).to(tl.float32)" for name in inputs]
    stores = [
        f"    tl.store({name} + place, (value * scale{plus}).to({name}.dtype.element_ty), "
        "place < n)"
        for name, plus in zip(outputs, more, strict=True)
    ]
    return {
        "inputs": ", ".join(inputs),
        "outputs": ", ".join(outputs),
        "tensors": ", ".join([*inputs, *outputs]),
        "first": outputs[0],
        "loads": "\n    value += ".join(loads),
        "stores": "\n".join(stores),
        "text": f"{total} * scale",
        "formats": "\n".join(f"        ({_quoted(row)})," for row in types),
        "axes": example_of(inputs, len(outputs)),
        "specs": ", ".join(inputs[:1] * len(outputs)),
        "results": ", ".join(f"{total} * self.scale{plus}" for plus in more),
    }


def _quoted(texts: list[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)
