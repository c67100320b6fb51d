"""Gives errors the module path, or the plugin's name, in one place."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType

from trtnet.errors import TrtnetError


class ErrorPath(ContextDecorator):
    """Context manager and decorator: errors of trtnet that have no module path get `path`.

    Args:
        path: module path in the network, or the plugin's name where there is no network.

    >>> from trtnet.errors import UsageError
    >>> with ErrorPath("layer1.act"):
    ...     raise UsageError("too many anchors")
    Traceback (most recent call last):
    trtnet.errors.UsageError: layer1.act: too many anchors
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, TrtnetError):
            error.locate(self._path)
