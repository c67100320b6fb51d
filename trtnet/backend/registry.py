"""The registry of backends. A new one is a folder with a description, and one entry here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trtnet.backend.description import BackendDescription
from trtnet.backend.interface import runs_only
from trtnet.backend.rtx import DESCRIPTION as RTX
from trtnet.backend.tensorrt import DESCRIPTION as TENSORRT
from trtnet.backend.torch import DESCRIPTION as TORCH
from trtnet.errors import BackendError
from trtnet.names import did_you_mean

AUTO = "auto"

# In the order in which ``"auto"`` tries them.
_BACKENDS: dict[str, BackendDescription] = {}


def register(description: BackendDescription) -> None:
    """Makes a backend known everywhere: ``backend=``, ``--backend``, sessions, messages.

    Raises:
        BackendError: the name is taken.
    """
    if description.name in (AUTO, *_BACKENDS):
        raise BackendError(
            f"there is a backend {description.name!r} already", fix="choose another name"
        )
    _BACKENDS[description.name] = description


@contextlib.contextmanager
def registered(description: BackendDescription) -> Iterator[None]:
    """:func:`register` for the length of a ``with`` block."""
    register(description)
    try:
        yield
    finally:
        del _BACKENDS[description.name]


def descriptions() -> tuple[BackendDescription, ...]:
    """All backends, in the order in which ``"auto"`` tries them."""
    return tuple(_BACKENDS.values())


def names(*, defining: bool = False) -> tuple[str, ...]:
    """The names of all backends.

    Args:
        defining: only those with a TensorRT package of their own, which defines networks.
    """
    return tuple(d.name for d in descriptions() if d.package is not None or not defining)


def choices() -> tuple[str, ...]:
    """The values of ``backend=`` and ``--backend``: ``"auto"``, then the :func:`names`."""
    return (AUTO, *names())


def portable() -> BackendDescription:
    """The first backend whose engines run on a CPU too."""
    return next(found for found in descriptions() if not found.needs_gpu)


def description(name: str) -> BackendDescription:
    """The description of the backend called `name`.

    Raises:
        BackendError: there is none of this name.
    """
    for about in descriptions():
        small = about.runtime(name)
        if small is not None:
            raise runs_only(about, small)
    if name not in _BACKENDS:
        raise BackendError(
            f"unknown backend {name!r}",
            expected=", ".join(choices()),
            got=name,
            fix=did_you_mean(name, choices()),
        )
    return _BACKENDS[name]


for _description in (TENSORRT, RTX, TORCH):
    register(_description)
