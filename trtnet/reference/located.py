"""Attaches the name of the layer to errors that name no place yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trtnet.errors import TrtnetError


@contextmanager
def located(owner: str) -> Iterator[None]:
    """Makes errors raised inside name `owner`, a layer or tensor, where they name nothing yet.

    Raises:
        TrtnetError: the error raised inside, of the same class, with `owner` as its module.
    """
    try:
        yield
    except TrtnetError as error:
        if error.module is not None:
            raise
        raise with_owner(error, owner) from error


def with_owner(error: TrtnetError, owner: str | None) -> TrtnetError:
    """A copy of `error` that names `owner` as the place where it happened."""
    return type(error)(
        error.problem, module=owner, expected=error.expected, got=error.got, fix=error.fix
    )
