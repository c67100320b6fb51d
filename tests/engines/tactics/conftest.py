"""Modules as they are compiled for a GPU, and where kernels run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

HAS_ALL = all(find_spec(name) is not None for name in ("torch", "triton"))
collect_ignore_glob = [] if HAS_ALL else ["*.py"]

if HAS_ALL:
    import torch
    from tactics.oracles import IS_INTERPRETED

    # test_kernels.py starts a process that runs them in the interpreter.
    collect_ignore = [] if IS_INTERPRETED or torch.cuda.is_available() else ["kernels"]


@pytest.fixture
def place() -> Any:
    """Where kernels run."""
    return torch.device("cpu" if IS_INTERPRETED else "cuda")


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compiles a model on the CPU to the module that a GPU gets; see networks.compiled."""
    from tactics import networks

    from trtnet.reference import compiler, half_precision

    monkeypatch.setattr(compiler, "rounds_once", lambda f, _: f in half_precision._ON_CUDA)
    return networks.compiled


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyTorch in the place of the kernels; the module of what stands for them."""
    from tactics import stand_ins

    stand_ins.replace_kernels(monkeypatch)
    return stand_ins
