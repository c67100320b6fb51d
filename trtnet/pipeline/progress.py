"""What the steps of a pipeline report while they run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trtnet.quantization import RangeRow

Update = Callable[[str], None]
"""Takes a detail of the present step, such as ``"8/32 images"``, or a :class:`Counted` one."""


class Counted(str):
    """A detail that counts, for observers that show how far a step is: any other text to the rest.

    Attributes:
        done: how many of `total`.
        total: how many in all.

    >>> detail = Counted("8 of 32 images, 3.1/s", 8, 32)
    >>> print(detail, detail.done / detail.total)
    8 of 32 images, 3.1/s 0.25
    """

    done: int
    total: int

    def __new__(cls, text: str, done: int, total: int) -> Counted:
        found = super().__new__(cls, text)
        found.done, found.total = done, total
        return found


def ignore(detail: str) -> None:
    """An :data:`Update` that does nothing."""


class Observer(Protocol):
    """Receives the steps and the intermediate results of a pipeline."""

    def step(self, title: str) -> AbstractContextManager[Update]:
        """A context that lasts as long as the step `title`, such as ``"build"``."""

    def note(self, text: str) -> None:
        """Receives what was decided for the user, such as a prefix of keys that was dropped."""

    def ranges(self, rows: Sequence[RangeRow]) -> None:
        """Receives what FP16 does to each tensor, worst first, before the network is refused or
        accepted."""


class Silent:
    """An :class:`Observer` that shows nothing."""

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Update]:
        """Does nothing."""
        yield ignore

    def note(self, text: str) -> None:
        """Does nothing."""

    def ranges(self, rows: Sequence[RangeRow]) -> None:
        """Does nothing."""
