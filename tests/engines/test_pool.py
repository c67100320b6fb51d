"""Pools of lanes, and map's order, without an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from trtnet.engines.pool import Lease, Pool
from trtnet.errors import ExecutionError, UsageError
from trtnet.workers import ordered_map


class Thing:
    made: list[Thing]

    def __init__(self) -> None:
        self.is_used, self.closed = threading.Lock(), 0

    def close(self) -> None:
        self.closed += 1


@contextmanager
def borrowed(pool: Pool[Thing]) -> Iterator[Thing]:
    lease = Lease()
    try:
        yield pool.take(lease)
    finally:
        lease.is_held = False
        pool.wake()


def test_a_pool_makes_no_more_than_its_limit_and_lends_each_to_one_thread():
    made = []
    pool = Pool(lambda: made.append(Thing()) or made[-1], 3)

    def use(_):
        with borrowed(pool) as thing:
            assert thing.is_used.acquire(blocking=False)
            time.sleep(0.001)
            thing.is_used.release()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(200)))
    assert 1 <= len(made) <= 3
    pool.close()
    pool.close()
    assert [thing.closed for thing in made] == [1] * len(made)
    with pytest.raises(ExecutionError, match="closed"), borrowed(pool):
        pass


def test_a_pool_recovers_when_making_fails():
    answers = iter([MemoryError("no room"), Thing()])

    def make():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pool = Pool(make, 1)
    with pytest.raises(MemoryError), borrowed(pool):
        pass
    with borrowed(pool) as thing:
        assert isinstance(thing, Thing)


def test_an_object_that_nobody_gives_back_is_lent_again():
    pool = Pool(Thing, 1)
    lease = Lease()
    thing = pool.take(lease)
    got = []

    def wait():
        with borrowed(pool) as again:
            got.append(again)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    assert not got
    del lease  # as when the call that holds it is gone; nobody wakes those who wait
    thread.join(5)
    assert got == [thing]
    pool.close()


def test_those_who_wait_need_not_be_woken():
    pool = Pool(Thing, 1)
    lease, got = Lease(), []
    pool.take(lease)

    def wait():
        with borrowed(pool) as thing:
            got.append(thing)

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    lease.is_held = False
    for thread in threads:
        thread.join(5)
    assert len(got) == 5


def test_closing_goes_on_after_a_failure_and_after_an_interrupt():
    class Stubborn(Thing):
        def __init__(self, error: BaseException | None) -> None:
            super().__init__()
            self.error = error

        def close(self) -> None:
            super().close()
            error, self.error = self.error, None
            if error is not None:
                raise error

    things = [Stubborn(ValueError("first")), Stubborn(KeyboardInterrupt()), Stubborn(None)]
    waiting = iter(things)
    pool = Pool(lambda: next(waiting), 3)
    leases = [Lease() for _ in things]
    for lease in leases:
        pool.take(lease)
    for lease in leases:
        lease.is_held = False
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert [thing.closed for thing in things] == [1, 1, 0]
    pool.close()
    assert [thing.closed for thing in things] == [1, 2, 1]
    pool.close()
    assert [thing.closed for thing in things] == [1, 2, 1]


def test_closing_while_many_threads_take_turns():
    for _ in range(20):
        pool, stop = Pool(Thing, 2), []

        def work(pool=pool, stop=stop):
            try:
                while not stop:
                    with borrowed(pool) as thing:
                        assert not thing.closed
            except ExecutionError:
                return

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.002)
        closing = threading.Thread(target=pool.close)
        closing.start()
        closing.join(5)
        stop.append(True)
        assert not closing.is_alive()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()


def test_closing_wakes_those_who_wait():
    pool, waiting, failed = Pool(Thing, 1), threading.Event(), []

    def wait():
        waiting.set()
        try:
            with borrowed(pool):
                pass
        except ExecutionError as error:
            failed.append(error)

    lease = Lease()
    thing = pool.take(lease)
    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    closing = threading.Thread(target=pool.close)
    closing.start()
    thread.join(5)
    assert not thread.is_alive()
    assert len(failed) == 1
    assert closing.is_alive()
    assert not thing.closed
    lease.is_held = False
    closing.join(5)
    assert thing.closed
    assert not closing.is_alive()


def test_results_come_in_order_though_they_end_in_another():
    def work(i):
        time.sleep(0.02 if i % 3 == 0 else 0)
        return i

    assert list(ordered_map(work, range(20), 4)) == list(range(20))


def test_work_overlaps():
    meeting = threading.Barrier(2, timeout=5)  # two items must be under way at once
    assert len(list(ordered_map(lambda _: meeting.wait(), range(6), 2))) == 6


def test_nothing_further_is_begun_after_a_failure():
    begun = []

    def work(i):
        begun.append(i)
        if i == 2:
            raise ValueError(i)
        return i

    results = ordered_map(work, range(1000), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)
    assert len(begun) < 10


def test_no_thread_waits_for_itself():
    pool = Pool(Thing, 2)
    with borrowed(pool) as first, borrowed(pool):
        with pytest.raises(UsageError, match="would wait for itself"), borrowed(pool):
            pass
        with pytest.raises(UsageError, match="would wait for itself"):
            pool.require_none_here()
        with ThreadPoolExecutor(1) as other:  # which waits for this one
            got = other.submit(lambda: pool.require_none_here() or pool.take(Lease()))
            time.sleep(0.1)
            assert not got.done()
            pool._places[0].lease = None
            assert got.result(5) is first
    pool.require_none_here()


def test_no_thread_waits_for_one_that_waits_for_it():
    pool, has_begun = Pool(Thing, 2), threading.Event()

    def take_all():
        has_begun.set()
        with pool.exclusive():
            pass

    with ThreadPoolExecutor(1) as other:
        with borrowed(pool):
            waiting = other.submit(take_all)
            has_begun.wait(5)
            while pool._barrier.is_free():
                time.sleep(0.01)
            with pytest.raises(UsageError, match="would wait for itself"), borrowed(pool):
                pass
        waiting.result(5)
