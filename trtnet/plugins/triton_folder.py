"""The folder in which Triton keeps the kernels that it compiles: the user's own.

Triton loads what lies there, and looks neither at who owns it nor at who may write to it.
"""

from __future__ import annotations

from pathlib import Path

from trtnet.errors import ExecutionError
from trtnet.files.own_folder import fault_of

_FIX = "name a folder of your own in TRITON_CACHE_DIR; it is made if it is not there"


def triton_folder() -> Path:
    """Where Triton keeps kernels: ``TRITON_CACHE_DIR``, or ``~/.triton/cache``."""
    from triton import knobs  # takes a second

    return Path(knobs.cache.dir)


def require_own(folder: Path) -> None:
    """Checks that only the user can write to `folder`, in which Triton keeps kernels; makes it so
    where it is not there.

    Raises:
        ExecutionError: it belongs to somebody else, others may write to it, or it cannot be made.
    """
    try:
        fault = fault_of(folder)
    except OSError as error:
        raise ExecutionError(f"Triton's kernels cannot be kept in {folder}", got=error,
                             fix=_FIX) from error  # fmt: skip
    if fault is not None:
        raise ExecutionError(
            f"Triton would load kernels from {folder}, which {fault.problem}",
            expected=fault.expected,
            got=fault.got,
            fix=_FIX if fault.fix is None else f"{fault.fix}; or {_FIX}",
        )
