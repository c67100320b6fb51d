"""``@operator`` and ``@export``: where a function becomes visible."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import trtnet
from trtnet import nn, ops
from trtnet.exports import export
from trtnet.nn import functional as F
from trtnet.ops.operator import operator
from trtnet.tensor.operators import Operators

TOOLS = Path(__file__).parents[2] / "tools"


def test_an_operator_is_seen_under_all_its_names() -> None:
    for name in ("relu", "softmax", "sigmoid"):
        function = getattr(ops, name)
        assert getattr(trtnet, name) is getattr(F, name) is getattr(trtnet.Tensor, name) is function


def test_modules_and_functions_keep_apart() -> None:
    assert not hasattr(nn, "conv2d")
    assert not hasattr(F, "Conv2d")
    assert not hasattr(ops, "Conv2d")
    for helper in ("np", "math", "Any", "convolve"):
        assert helper not in ops.__all__


def test_every_operator_is_exported() -> None:
    files = [module for name, module in sys.modules.items() if name.startswith("trtnet.ops.")]
    exported = {name for module in files for name in getattr(module, "__all__", ())}
    assert exported == set(ops.__all__)
    assert len(exported) > 100


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An empty module that functions can be defined in."""
    made = ModuleType("made_up_operators")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def _function(module: ModuleType, name: str) -> Any:
    def function(tensor: Any, other: Any = None) -> Any:
        return id(tensor), other if isinstance(other, int) else id(other)

    function.__module__, function.__name__ = module.__name__, name
    return function


def test_methods_follow(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("double", "twice", "__rtwice__"):  # removed again at the end of the test
        monkeypatch.setattr(Operators, name, None, raising=False)
        delattr(Operators, name)
    made = operator(methods=("double", "twice"), reflected="__rtwice__")(_function(module, "two"))
    assert module.__all__ == ["two"]
    tensor: Any = trtnet.Network("torch").input("x", (2,))
    assert tensor.double(3) == tensor.twice(3) == made(tensor, 3) == (id(tensor), 3)
    assert tensor.__rtwice__(3) == (id(3), id(tensor))


def test_a_method_has_one_owner(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="method 'relu' already"):
        operator(methods=("relu",))(_function(module, "rectify"))
    export(_function(module, "once"))
    with pytest.raises(ValueError, match="exports 'once' twice"):
        export(_function(module, "once"))


def test_type_checkers_see_what_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    import operator_stubs

    for path, text in operator_stubs.stubs().items():
        assert path.read_text(encoding="utf-8") == text, "run: python tools/operator_stubs.py"


def test_an_operator_has_one_file(module: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"trtnet\.ops\.activation has an operator 'gelu' already"):
        operator(methods=())(_function(module, "gelu"))
