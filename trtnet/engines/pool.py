"""Pool: a limited number of objects that threads take turns with."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

from trtnet.errors import ExecutionError, UsageError

_PATIENCE = 0.05  # seconds after which a thread that waits looks again by itself


class Closable(Protocol):
    """Something that is released by :meth:`close`."""

    def close(self) -> None:
        """Releases it; a second call does nothing, or goes on where the first was interrupted."""


T = TypeVar("T", bound=Closable)


class Lease:
    """The right to an object of a pool: one call's, made before :meth:`Pool.take` and ended by
    ``is_held = False``, a single assignment, so that no interrupt comes in between. It also ends
    when nothing refers to it any more. It belongs to the thread that makes it."""

    __slots__ = ("__weakref__", "is_held", "thread")

    def __init__(self) -> None:
        self.is_held = True
        self.thread = threading.get_ident()


class _Place(Generic[T]):
    """Room for one object. Whether it is free follows from its lease alone."""

    def __init__(self) -> None:
        self.item: T | None = None
        self.lease: weakref.ref[Lease] | None = None

    def is_free(self) -> bool:
        return self._holder() is None

    def is_own(self) -> bool:
        """Whether this thread has it."""
        lease = self._holder()
        return lease is not None and lease.thread == threading.get_ident()

    def _holder(self) -> Lease | None:
        lease = None if self.lease is None else self.lease()
        return lease if lease is not None and lease.is_held else None


class Pool(Generic[T]):
    """At most `limit` objects, made when they are needed and closed together.

    An exception can be raised between any two operations: Python runs signal handlers there. So
    nothing is counted that could come to differ from what is so. A place is taken under a lock
    that is written in C, which ``with`` enters and leaves as a whole, by one assignment; one that
    nobody gives back becomes free with its lease; and those who wait look again by themselves,
    in case that the one who should have told them was interrupted.
    """

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        self._make = make
        self._places: tuple[_Place[T], ...] = tuple(_Place() for _ in range(limit))
        self._lock = threading.Lock()
        self._barrier: _Place[T] = _Place()  # free unless somebody wants all places
        self._gates: deque[threading.Lock] = deque()  # one for each thread that waits
        self._closed = False

    def take(self, lease: Lease) -> T:
        """An object for the caller alone, until `lease` ends; then :meth:`wake` is called.

        It is the first that is free, else a new one, or, where the limit is reached, the first to
        become free.

        Raises:
            ExecutionError: the pool is closed.
            UsageError: this thread has objects already, and would wait for itself.
        """
        place = self._claim(lease, self._places)
        if place is None:
            place = self._wait(lease, self._places, until=self._is_vain)
        if place is None or self._closed:
            raise ExecutionError("the session is closed", fix="open another one")
        if place.item is None:
            place.item = self._make()
        return place.item

    def require_none_here(self) -> None:
        """Checks that this thread has no object, as it is about to wait for all of them.

        Raises:
            UsageError: it has, and would wait for itself.
        """
        if any(place.is_own() for place in self._places):
            raise UsageError(
                "this thread is still using the session, and would wait for itself",
                fix="leave the block of session.lane() first, or let the call end",
            )

    def _is_vain(self) -> bool:
        """Whether to wait for an object is of no use, as the pool is closed.

        Raises:
            UsageError: as the thread waits for itself.
        """
        if not self._barrier.is_free() or all(place.is_own() for place in self._places):
            self.require_none_here()
        return self._closed

    def wake(self) -> None:
        """Has one thread that waits look again."""
        if self._gates:
            with suppress(IndexError):  # another thread was faster
                self._gates.popleft().release()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits for the objects in use; inside the block nobody has one. Who asks for one meanwhile
        gets it afterwards. One thread at a time.

        Raises:
            ExecutionError: the pool is closed.
        """
        leases = [Lease()]
        try:
            self._barrier.lease = weakref.ref(leases[0])
            for place in self._places:
                leases.append(Lease())
                self._wait(leases[-1], (place,), until=lambda: self._closed, is_first=True)
                if self._closed:
                    raise ExecutionError("the session is closed", fix="open another one")
            yield
        finally:
            for lease in leases:
                lease.is_held = False
            for _ in range(len(self._gates)):
                self.wake()

    def renew(self) -> None:
        """Inside of :meth:`exclusive`: closes all objects; new ones are made when needed. One that
        cannot be closed is not used any more either; the error is raised at the end."""
        items = [place.item for place in self._places if place.item is not None]
        errors: list[Exception] = []
        for place in self._places:
            place.item = None
        for item in items:
            try:
                item.close()
            except Exception as error:  # the others are closed all the same
                errors.append(error)
        if errors:
            raise errors[0]

    def refuse(self) -> None:
        """Gives nobody an object any more; :meth:`close` has still to be called."""
        self._closed = True

    def close(self) -> None:
        """Waits for the objects in use and closes all. A call that was interrupted is completed by
        the next; one after that does nothing."""
        self._closed = True
        for _ in range(len(self._gates)):
            self.wake()
        errors: list[Exception] = []
        for place in self._places:
            lease = Lease()
            try:
                self._wait(lease, (place,), is_first=True)
                if place.item is not None:
                    place.item.close()
                place.item = None
            except Exception as error:  # the others are closed all the same
                errors.append(error)
                place.item = None
            finally:
                lease.is_held = False
        if errors:
            raise errors[0]

    def _claim(
        self, lease: Lease, places: tuple[_Place[T], ...], is_first: bool = False
    ) -> _Place[T] | None:
        """The first of `places` that is free; from now on it belongs to `lease`. Where somebody
        wants all places, nobody gets one but who `is_first`."""
        with self._lock:
            if not is_first and not self._barrier.is_free():
                return None
            for place in places:
                if place.is_free():
                    place.lease = weakref.ref(lease)
                    return place
        return None

    def _wait(
        self,
        lease: Lease,
        places: tuple[_Place[T], ...],
        until: Callable[[], bool] = lambda: False,
        is_first: bool = False,
    ) -> _Place[T] | None:
        """:meth:`_claim`, as soon as one is free; ``None`` where it is none and ``until()``."""
        gate = threading.Lock()
        gate.acquire()
        is_listed = False
        try:
            while True:
                if not is_listed:
                    self._gates.append(gate)
                place = self._claim(lease, places, is_first)
                if place is not None or until():
                    return place
                is_listed = not gate.acquire(timeout=_PATIENCE)
        finally:
            with suppress(ValueError):
                self._gates.remove(gate)
