"""Compares code that was written for PyTorch with the same code after its imports changed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

import trtnet

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def rewritten(source: str) -> str:
    """`source` with its imports changed."""
    if "port_imports" not in sys.modules:
        file = TOOLS / "port_imports.py"
        spec = importlib.util.spec_from_file_location("port_imports", file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["port_imports"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["port_imports"])
    return str(sys.modules["port_imports"].rewritten(source))


def both(source: str) -> tuple[ModuleType, ModuleType]:
    """The original and the ported module."""
    original, ported = ModuleType("original"), ModuleType("ported")
    exec(source, original.__dict__)
    exec(rewritten(source), ported.__dict__)
    return original, ported


def compare(source: str, value: np.ndarray, batch: Any = None) -> trtnet.Network:
    """Checks that the class ``Net`` of `source` computes the same in both, in float64.

    Args:
        value: the input.
        batch: size of axis 0 that the network declares, such as ``"n"``.
    """
    original, ported = both(source)
    theirs = original.Net().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.4)
    ours = ported.Net()
    ours.load_state_dict(theirs.state_dict())
    network = trtnet.Network("rtx")
    dtype = "int64" if value.dtype.kind == "i" else "float32"
    shape = (batch or len(value), *value.shape[1:])
    results = _pytree.tree_leaves(ours.eval()(network.input("x", shape, dtype=dtype)))
    for index, tensor in enumerate(results):
        network.output(f"y{index}", tensor)
    got = trtnet.reference.run(network.definition, {"x": value}, float64=True)
    given = torch.from_numpy(value)
    with torch.no_grad():
        wanted = theirs.double()(given.double() if dtype == "float32" else given)
    for index, leaf in enumerate(_pytree.tree_leaves(wanted)):
        np.testing.assert_allclose(got[f"y{index}"], leaf.numpy(), rtol=1e-5, atol=1e-6)
    return network
