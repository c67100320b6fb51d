"""Writes trtnet/tensor/operators.pyi: the signatures of the operators that Tensor has.

    python tools/operator_stubs.py

The operators are attached at run time (see ``trtnet/ops/operator.py``); type checkers read this
file. A test compares it with what is attached.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trtnet.ops
from trtnet.tensor.operators import Operators

PATH = Path(trtnet.__file__).with_name("tensor") / "operators.pyi"
_HEAD = '''"""Written by ``python tools/operator_stubs.py``; do not edit."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import Self

class Operators:
    @property
    def device(self) -> Any: ...
'''


def stub() -> str:
    """The text of the file."""
    attached = {name: value for name, value in vars(Operators).items() if callable(value)}
    return _HEAD + "".join(_method(name, attached[name]) for name in sorted(attached))


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
    PATH.write_text(stub(), encoding="utf-8")
    print(f"written: {PATH}")
