"""PyTorch's modes, set for a block and restored after it, also if an interrupt comes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trtnet.host.pytorch import pytorch


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Has PyTorch record no gradients inside the block.

    An interrupt in the middle of entering ``torch.no_grad()`` leaves the caller's thread without
    gradients, and nothing says so.
    """
    torch = pytorch()
    before = torch.is_grad_enabled()
    try:
        torch.set_grad_enabled(False)
        yield
    finally:
        try:
            torch.set_grad_enabled(before)
        except BaseException:  # an interrupt
            torch.set_grad_enabled(before)
            raise
