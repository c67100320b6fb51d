"""Launches of the tactics' Triton kernels, and their compilation before the first launch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import triton
from torch import Tensor

_ONLY_COMPILES: ContextVar[bool] = ContextVar("only_compiles", default=False)
_NOTED: ContextVar[set[Hashable] | None] = ContextVar("noted", default=None)
_MOST_THREADS = 16
_UNIT = 8
_ALIGNED = 16  # Triton compiles other kernels for integers that are multiples of it


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """``kernel[grid](*arguments, **options)``; inside of :func:`only_compiling` nothing runs.

    All kernels of tactics are launched here: one that is not would run on tensors without memory.
    """
    noted = _NOTED.get()
    if noted is not None:
        noted.add(_identity(kernel, arguments, options))
        return
    kernel.run(*arguments, grid=grid, warmup=_ONLY_COMPILES.get(), **options)


@contextmanager
def only_compiling() -> Iterator[None]:
    """Inside, :func:`launch` has kernels compiled, and launches none. Tensors may be on PyTorch's
    device ``meta``."""
    token = _ONLY_COMPILES.set(True)
    try:
        yield
    finally:
        _ONLY_COMPILES.reset(token)


def unit_of(*sizes: int) -> int:
    """The largest of 8, 4, 2 and 1 of which all of `sizes` are multiples. A kernel that is given
    sizes in units of it is compiled once for all multiples, and moves so many values at a time for
    each of them; single values of half precision cannot be loaded ahead."""
    return math.gcd(_UNIT, *sizes)


def kernels_of(call: Callable[[], Any]) -> frozenset[Hashable]:
    """What identifies the kernels that `call` would launch: equal where one compilation serves
    both. Nothing is compiled, and tensors may be on PyTorch's device ``meta``."""
    with nothing_launched() as noted, suppress(Exception):  # it fails again where it is launched
        call()
    return frozenset(noted)


@contextmanager
def nothing_launched() -> Iterator[set[Hashable]]:
    """Inside, :func:`launch` notes what identifies each kernel, and does nothing else. Tensors may
    be on PyTorch's device ``meta``."""
    noted: set[Hashable] = set()
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def _identity(kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Hashable:
    """A kernel and what Triton compiles it for: constants, types, and of integers whether they are
    1 or multiples of 16."""
    parameters = zip(kernel.params, arguments, strict=False)
    given = (_specialized(parameter, value) for parameter, value in parameters)
    return (kernel, *given, *sorted(options.items()))


def _specialized(parameter: Any, value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return str(value.dtype)
    if isinstance(value, int) and not parameter.is_constexpr:
        return "int" if parameter.do_not_specialize else (value == 1, value % _ALIGNED == 0)
    return "float" if isinstance(value, float) and not parameter.is_constexpr else value


def compile_ahead(calls: Iterable[Callable[[], Any]]) -> None:
    """Compiles the kernels that `calls` would launch for the present CUDA device, each once and
    several at a time: Triton's compiler releases Python's lock. What cannot be compiled fails again
    where it is launched."""
    count = min(_MOST_THREADS, os.cpu_count() or 1)
    with (
        _Compilers(count, "trtnet-triton") as pool,
        triton.AsyncCompileMode(pool),
        only_compiling(),
    ):
        for call in calls:
            with suppress(Exception):
                call()


class _Compilers(ThreadPoolExecutor):
    """Threads whose calls give None instead of raising: an error would end Triton's mode before all
    is compiled, and in some versions keep it active. It looks for a kernel that is None again."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        def call() -> Any:
            with suppress(Exception):
                return function(*arguments, **options)
            return None

        return super().submit(call)
