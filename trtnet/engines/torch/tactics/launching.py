"""Launches of the tactics' Triton kernels, and their compilation before the first launch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import triton

_ONLY_COMPILES: ContextVar[bool] = ContextVar("only_compiles", default=False)
_MOST_THREADS = 16


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """``kernel[grid](*arguments, **options)``; inside of :func:`only_compiling` nothing runs.

    All kernels of tactics are launched here: one that is not would run on tensors without memory.
    """
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
