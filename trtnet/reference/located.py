"""Adds the name of the layer to errors that name no place yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trtnet.errors import TrtnetError


@contextmanager
def located(owner: str) -> Iterator[None]:
    """Names `owner`, a layer or tensor, in errors raised inside that name no module yet."""
    try:
        yield
    except TrtnetError as error:
        error.locate(owner)
        raise
