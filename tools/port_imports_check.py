"""Compares models ported by their imports alone with the originals, for ``tools/port_rate.py``.

    python tools/port_imports_check.py LIMIT_S             # reads models from stdin
    python tools/port_imports_check.py timm:resnet18 ...   # tries these, with tracebacks

Each model is made from a copy of its package with changed imports and from the original; it loads
the original's state_dict, and the network's results are compared in float64.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from port_imports import Ported
from port_rate_checks import TOLERANCE, Shape, in_float64, refused, relative, serve, varied
from port_rate_models import accepted_sizes, inputs, make
from torch.utils import _pytree

import trtnet
from trtnet.tensor import Tensor


def main() -> None:
    """Checks each model that stdin or the command line names."""
    first = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        ported = Ported(Path(folder))
        if first.isdecimal():
            serve(lambda name: check(ported, name), int(first))
            return
        for name in sys.argv[1:]:
            print(json.dumps({"name": name, **check(ported, name, show=True)}), flush=True)


def check(ported: Ported, name: str, show: bool = False) -> dict[str, Any]:
    """Whether the ported model `name` computes what the original does.

    Returns:
        ``status`` (``passed``, ``wrong``, ``refused``, or ``invalid`` where PyTorch's module itself
        cannot be run), ``error`` in float64 or the ``reason``, and the ``line`` of the copy;
        ``batch``: the same with a dynamic batch.
    """
    torch.manual_seed(0)
    theirs = varied(make(name).eval())
    size = next(accepted_sizes(name, theirs), None)
    if size is None:
        return {"status": "invalid", "reason": "PyTorch's module accepts no size"}
    shapes = inputs(name, theirs, size)
    state = theirs.state_dict()
    step = "import or __init__"
    try:
        ours = ported.make(name)
        step = "load_state_dict"
        ours.load_state_dict(state)
        ours.eval()
    except Exception as error:  # of many kinds: it is what is looked for
        return {"size": size, "step": step, **_failed(error, show)}
    result = attempt(ours, theirs, shapes, shapes, show)
    if result["status"] == "passed":
        batch: list[Shape] = [("N", *shape[1:]) for shape in shapes]
        larger = [(3, *shape[1:]) for shape in shapes]
        result["batch"] = attempt(ours, theirs, larger, batch, show)
    return {"size": size, **result}


def attempt(
    ours: Any,
    theirs: torch.nn.Module,
    shapes: Sequence[tuple[int, ...]],
    declared: Sequence[Shape],
    show: bool,
) -> dict[str, Any]:
    """:func:`compare`, or why it is refused."""
    try:
        return compare(ours, theirs, shapes, declared)
    except Exception as error:  # of many kinds: it is what is looked for
        return _failed(error, show)


def _failed(error: Exception, show: bool) -> dict[str, Any]:
    if show:
        traceback.print_exc()
    return {**refused(error), "line": _place(error)}


def compare(
    ours: Any,
    theirs: torch.nn.Module,
    shapes: Sequence[tuple[int, ...]],
    declared: Sequence[Shape],
) -> dict[str, Any]:
    """The network of `ours`, read back and executed in float64, against `theirs` in float64.

    Args:
        shapes: of the inputs that are executed.
        declared: the same with names of dynamic axes.
    """
    random = np.random.default_rng(1)
    values = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    network = trtnet.Network("rtx")
    given = [network.input(f"x{index}", shape) for index, shape in enumerate(declared)]
    results = _tensors(ours(*given))
    for index, tensor in enumerate(results):
        network.output(f"y{index}", tensor)
    named = {f"x{index}": value for index, value in enumerate(values)}
    got = trtnet.reference.run(network.definition, named, float64=True)
    wanted = in_float64(theirs, values)
    same = len(wanted) == len(results)
    error = max(relative(got[f"y{i}"], w) for i, w in enumerate(wanted)) if same else math.inf
    status = "passed" if error <= TOLERANCE else "wrong"
    return {"status": status, "error": float(f"{error:.3g}")}


def _place(error: BaseException) -> str:
    """The last line of the copy that the error passed, as in the original."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "ported_" in frame.filename]
    frame = (inside or frames)[-1]
    file = frame.filename.rpartition("ported_")[2] if inside else frame.filename
    return f"{file}:{frame.lineno}: {frame.line}"


def _tensors(results: Any) -> list[Tensor]:
    leaves = _pytree.tree_leaves(results)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


if __name__ == "__main__":
    main()
