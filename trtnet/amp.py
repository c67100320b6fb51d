"""``torch.amp``: the precision of a network is its policy's, so that autocasts change nothing."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

from trtnet.errors import UnsupportedError

T = TypeVar("T")


class autocast(contextlib.ContextDecorator):  # noqa: N801  (PyTorch's name)
    """A context, and a decorator, in which nothing is cast.

    Args:
        device_type: has no effect; the older ``torch.cuda.amp.autocast`` has `enabled` here.
        dtype, cache_enabled: have no effect.
        enabled: ``False``; ``True`` is refused.

    Raises:
        UnsupportedError: it is entered with ``enabled=True``, which would change types.
    """

    def __init__(
        self,
        device_type: Any = None,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        self.enabled = device_type if isinstance(device_type, bool) else enabled

    def __enter__(self) -> autocast:
        if self.enabled:
            raise UnsupportedError(
                "an autocast would choose types inside the model",
                expected="autocast(..., enabled=False)",
                fix="leave it out, and name the precision for the network: Network(precision=...)",
            )
        return self

    def __exit__(self, *_: object) -> None:
        return None


def custom_fwd(fwd: T, **kwargs: Any) -> T:
    """`fwd`, unchanged."""
    return fwd


custom_bwd = custom_fwd
