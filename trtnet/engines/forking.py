"""Forked processes: they have the memory of the first, but none of its threads, nor its GPU."""

from __future__ import annotations

import os

from trtnet.errors import ExecutionError

_IMPORTED_BY = os.getpid()
_FIX = 'start the process with multiprocessing.get_context("spawn")'


def is_forked() -> bool:
    """Whether this process was forked after trtnet was imported."""
    return os.getpid() != _IMPORTED_BY


def require_process(opener: int) -> None:
    """Raises :class:`ExecutionError` unless this is the process `opener`, which opened a session:
    the threads and the GPU's state that it needs are only there, and here its locks may be locked
    for ever."""
    if os.getpid() != opener:
        raise ExecutionError(
            "a session cannot be used in a forked process",
            expected=f"the process that opened it, {opener}",
            got=f"process {os.getpid()}",
            fix=f"open one there, or {_FIX}",
        )


def unusable_gpu(error: ExecutionError) -> ExecutionError:
    """The error for a GPU that gave `error` when it was opened; says so if a fork is the reason."""
    if not is_forked():
        return error
    return ExecutionError(
        "CUDA cannot be used in a process that was forked from one that used it",
        got=error.got or error.problem,
        fix=_FIX,
    )
