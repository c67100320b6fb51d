"""The line of the user's code that is being executed."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

_LIBRARIES = tuple(
    f"{folder}/" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1])
)


_STANDARD = f"{sysconfig.get_path('stdlib')}/"  # of which site-packages may be a part


def _is_users(file: str) -> bool:
    if file.startswith(_STANDARD):
        return "site-packages" in file and not file.startswith(_LIBRARIES)
    return not file.startswith((*_LIBRARIES, "<"))


def user_line() -> str | None:
    """``file:line: code`` of the innermost caller outside of PyTorch, trtnet and Python itself;
    ``None`` where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_users(file):
            code = linecache.getline(file, frame.f_lineno).strip()
            return f"{file}:{frame.f_lineno}: {code}"
        frame = frame.f_back
    return None


def line_of(function: Callable[..., Any]) -> str | None:
    """``file:line: code`` of the first line of a Python function; ``None`` for others."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    text = linecache.getline(code.co_filename, code.co_firstlineno).strip()
    return f"{code.co_filename}:{code.co_firstlineno}: {text}"


def traced_line(stack_trace: str | None) -> str | None:
    """The same of a `stack_trace` that PyTorch keeps: of its last line; ``None`` without one."""
    found = re.findall(r'File "(.+)", line (\d+), in .*\n *(.*)', stack_trace or "")
    return "{}:{}: {}".format(*found[-1]) if found else None
