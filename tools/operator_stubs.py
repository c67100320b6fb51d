"""Writes operators.pyi and in_place_operators.pyi: signatures of the operators that Tensor has.

    python tools/operator_stubs.py

The operators are attached at run time (see ``trtnet/ops/operator.py``); type checkers read these
files, in ``trtnet/tensor``. A test compares them with what is attached.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trtnet.ops
from trtnet.tensor.in_place_operators import InPlaceOperators
from trtnet.tensor.operators import Operators

FOLDER = Path(trtnet.__file__).with_name("tensor")
_HEAD = '''"""Written by ``python tools/operator_stubs.py``; do not edit."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import Self
'''
_OPERATORS = """
from trtnet.tensor.in_place_operators import InPlaceOperators

class Operators(InPlaceOperators):
    @property
    def device(self) -> Any: ...
"""


def stubs() -> dict[Path, str]:
    """The texts of the files."""
    return {
        FOLDER / "operators.pyi": _HEAD + _OPERATORS + _methods(Operators),
        FOLDER / "in_place_operators.pyi": f"{_HEAD}\nclass InPlaceOperators:\n"
        + _methods(InPlaceOperators),
    }


def _methods(owner: type) -> str:
    attached = {name: value for name, value in vars(owner).items() if callable(value)}
    return "".join(_method(name, attached[name]) for name in sorted(attached))


def _method(name: str, function: Callable[..., Any]) -> str:
    if function.__name__ == "<lambda>":  # a reflected operator
        more = "" if name.startswith("__") else ", *more: Any"
        return f"    def {name}(self, other: Any{more}) -> Self: ...\n"
    signature = inspect.signature(function)
    parameters = ["self"]
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and name.startswith("__"):
            continue  # an operator such as + passes no keywords
        is_marked = any(known.startswith("*") for known in parameters)
        if parameter.kind is parameter.KEYWORD_ONLY and not is_marked:
            parameters.append("*")
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else star
        default = "" if parameter.default is parameter.empty else " = ..."
        parameters.append(f"{star}{parameter.name}: {_own(parameter.annotation)}{default}")
    return f"    def {name}({', '.join(parameters)}) -> {_own(signature.return_annotation)}: ...\n"


def _own(annotation: str) -> str:
    return re.sub(r"\bTensor\b", "Self", annotation)


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path}")
