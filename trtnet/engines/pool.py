"""Pool: a limited number of objects that threads take turns with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, Protocol, TypeVar

from trtnet.errors import ExecutionError


class Closable(Protocol):
    """Something that is released by :meth:`close`."""

    def close(self) -> None:
        """Releases it."""


T = TypeVar("T", bound=Closable)


class Pool(Generic[T]):
    """At most `limit` objects, made when they are needed and closed together.

    Taking and giving back one that is free needs no lock: a list's ``pop`` and ``append`` are
    atomic. Only those who wait are counted, under the lock, before they look again.
    """

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        self._make, self._limit = make, limit
        self._idle: list[T] = []
        self._count = self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self) -> T:
        """An object for this thread alone, until :meth:`give`: the one used last, a new one, or,
        where the limit is reached, the first to become free.

        Raises:
            ExecutionError: the pool is closed.
        """
        try:
            item = self._idle.pop()
        except IndexError:
            item = self._make_or_wait()
        if self._closed:
            self.give(item)
            raise _closed()
        return item

    def give(self, item: T) -> None:
        """Gives back an object from :meth:`take`."""
        self._idle.append(item)
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """Waits for the objects in use and closes all; a second call does nothing."""
        items: list[T] = []
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            self._waiting += 1
            while len(items) < self._count:
                item = self._pop()
                if item is None:
                    self._changed.wait()
                else:
                    items.append(item)
            self._waiting -= 1
        with ExitStack() as closing:  # all of them, also if one fails
            for item in items:
                closing.callback(item.close)

    def _make_or_wait(self) -> T:
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    item = self._pop()
                    if item is not None:
                        return item
                    if self._closed:
                        raise _closed()
                    if self._count < self._limit:
                        self._count += 1
                        break
                    self._changed.wait()
            finally:
                self._waiting -= 1
        try:
            return self._make()
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()
            raise

    def _pop(self) -> T | None:
        """A free object, if there is one at this moment."""
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _closed() -> ExecutionError:
    return ExecutionError("the session is closed", fix="open another one")
