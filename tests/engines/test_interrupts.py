"""Interrupts at any moment, and forks: no context is lost, and nothing is left half done."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import plans
import pytest

import trtnet
from trtnet.engines.bound_context import BoundContext
from trtnet.engines.slot import ExecutionSlot
from trtnet.errors import ExecutionError
from trtnet.workers import Job, Workers, ordered_map

pytestmark = pytest.mark.alone

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parents[2] / "tools")
    from fault_sections import session as session_faults
    from fault_sections.storm import Storm

timed = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def slow(function):
    """`function`, after some milliseconds."""

    def call(*arguments):
        time.sleep(0.002)
        return function(*arguments)

    return call


@timed
def test_a_session_under_interrupts():
    pytest.importorskip("torch")
    outcome = session_faults.storm(60, "cpu", 0, threads=1)
    assert outcome.is_good, outcome


@timed
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_a_session_on_a_gpu_under_interrupts(fake_trt, fake_cuda, monkeypatch, cuda_graph):
    """The doubles refuse what CUDA refuses: capturing twice, a destroyed stream, freed memory. The
    GPU takes longer than several interrupts to end its work."""
    monkeypatch.setattr(fake_cuda, "cudaDeviceSynchronize", slow(fake_cuda.cudaDeviceSynchronize))
    session = trtnet.Session(fake_trt.plan(), cuda_graph=cuda_graph, contexts=2)
    inputs = [rows(count, 4) for count in (1, 2, 8, 2)]
    wrong = []

    def once() -> None:
        fake_cuda.calls.clear()
        for x in inputs:
            if not np.array_equal(session(x)["y"], 2 * x + 1):
                wrong.append(x)

    storm = Storm(1, shortest=0.1, longest=1.0)
    storm.run(once, 300)
    once()
    assert not wrong
    lanes = [session.lane() for _ in range(2)]
    for lane in lanes:
        lane.__enter__()
    for lane in lanes:
        lane.__exit__(None, None, None)
    session.close()
    gc.collect()
    assert not any(fake_cuda.live.values())


@timed
def test_opening_and_closing_under_interrupts(fake_trt, fake_cuda):
    before = threading.active_count()

    def once() -> None:
        fake_cuda.calls.clear()
        with trtnet.Session(fake_trt.plan()) as session:
            session(rows(2, 4))

    Storm(2, shortest=0.1, longest=3.0).run(once, 100)
    once()
    deadline = time.monotonic() + 5
    while any(fake_cuda.live.values()) and time.monotonic() < deadline:
        gc.collect()  # the threads that were still loading an engine end too
        time.sleep(0.01)
    assert not any(fake_cuda.live.values())
    assert threading.active_count() == before


class Stop(KeyboardInterrupt):
    """An interrupt at one chosen place."""


def stop(*_: object, **__: object) -> None:
    raise Stop


PLACES = [
    (ExecutionSlot, "_enter"),
    (ExecutionSlot, "_leave"),
    (ExecutionSlot, "_copy_in"),
    (ExecutionSlot, "_empty"),
    (BoundContext, "bind_buffers"),
    (BoundContext, "set_shapes"),
    (BoundContext, "enqueue"),
    (BoundContext, "_set_address"),
    (BoundContext, "capture"),
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[1])
@pytest.mark.parametrize("is_after", [False, True])
def test_an_interrupt_at_each_step_leaves_the_slot_usable(
    fake_trt, fake_cuda, monkeypatch, place, is_after
):
    kind, name = place
    original = getattr(kind, name)

    def interrupted(self, *args, **kwargs):
        if is_after:
            original(self, *args, **kwargs)
        raise Stop

    with trtnet.Session(fake_trt.plan(), contexts=1) as session:
        for warm in (0, 1, 3):  # without a graph; when it is captured; with one
            for _ in range(warm):
                session(rows(2, 4))
            with monkeypatch.context() as patch:
                patch.setattr(kind, name, interrupted)
                with contextlib.suppress(Stop):
                    session(rows(2, 4))
            for count in (2, 8, 2, 2, 2):
                x = rows(count, 4) + 1
                assert np.array_equal(session(x)["y"], 2 * x + 1)
    gc.collect()
    assert not any(fake_cuda.live.values())


def test_a_recovery_that_was_asked_for_twice_leaves_the_next_execution_alone(
    fake_trt, fake_cuda, monkeypatch
):
    x, gates = rows(2, 4), [threading.Event(), threading.Event()]
    with trtnet.Session(fake_trt.plan(), contexts=1) as session:
        session(x)
        with monkeypatch.context() as patch:
            patch.setattr(ExecutionSlot, "_enter", stop)
            with contextlib.suppress(Stop):
                session(x)
        for gate in gates:  # the device's thread is busy when two who wait for it are interrupted
            session._device._own.submit(gate.wait, 10)
            with monkeypatch.context() as patch:
                patch.setattr(Job, "result", stop)
                with contextlib.suppress(Stop):
                    session(x)
        gates[0].set()
        slot = session._slots._places[0].item
        while slot._used is not None:  # recovered once
            time.sleep(0.001)
        copy = ExecutionSlot._copy_in

        def recover_again_and_copy(*arguments):
            gates[1].set()
            slot.device.aside(lambda: None)
            copy(*arguments)

        monkeypatch.setattr(ExecutionSlot, "_copy_in", recover_again_and_copy)
        assert np.array_equal(session(x)["y"], 2 * x + 1)


def test_a_lane_that_is_left_by_an_error_leaves_the_slot_usable(fake_trt):
    x = rows(2, 4)
    with trtnet.Session(fake_trt.plan(), contexts=1) as session:
        with contextlib.suppress(Stop), session.lane() as lane:
            lane.bind({"x": (2, 4)})
            lane.enqueue()
            raise Stop
        assert np.array_equal(session(x)["y"], 2 * x + 1)


def test_an_interrupted_close_is_completed_by_the_next(fake_trt, fake_cuda, monkeypatch):
    session = trtnet.Session(fake_trt.plan())
    session(rows(2, 4))
    with monkeypatch.context() as patch:
        patch.setattr(ExecutionSlot, "close", stop)
        with pytest.raises(Stop):
            session.close()
    with pytest.raises(ExecutionError, match="closed"):
        session(rows(2, 4))
    session.close()
    assert not any(fake_cuda.live.values())


def test_memory_that_cannot_grow_is_not_used_after_it_was_freed(fake_trt, fake_cuda):
    with trtnet.Session(fake_trt.plan(), cuda_graph=False, contexts=1) as session:
        session(rows(2, 4))
        fake_cuda.fail("cudaMalloc", "cudaErrorMemoryAllocation")
        with pytest.raises(ExecutionError, match="memory"):
            session(rows(8, 4))
        for count in (2, 8):
            x = rows(count, 4)
            assert np.array_equal(session(x)["y"], 2 * x + 1)


def test_workers_end_with_their_owner():
    ran, workers = threading.Event(), Workers(2)
    workers.submit(ran.set).result()
    assert ran.is_set()
    count = session_faults.thread_count()
    del workers
    deadline = time.monotonic() + 5
    while session_faults.thread_count() >= count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session_faults.thread_count() < count


def test_the_thread_of_a_closed_session_serves_the_next(fake_trt):
    def thread(session: trtnet.Session) -> int:
        session(rows(2, 4))
        return session._device.aside(threading.get_ident)

    found = set()
    for _ in range(3):
        with trtnet.Session(fake_trt.plan()) as session:
            found.add(thread(session))
    assert len(found) == 1
    with trtnet.Session(fake_trt.plan()) as first, trtnet.Session(fake_trt.plan()) as second:
        assert thread(first) != thread(second)


@timed
def test_a_map_under_interrupts_completes_what_it_has_begun():
    begun, ended = [], []

    def work(i: int) -> int:
        begun.append(i)
        time.sleep(0.0005)
        ended.append(i)
        return i

    def once() -> None:
        assert list(ordered_map(work, range(8), 3)) == list(range(8))

    Storm(3).run(once, 100)
    deadline = time.monotonic() + 5
    while len(begun) != len(ended) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(begun) == len(ended)


# Forks


def _in_child(function) -> str:
    """What `function` gives in a forked process; a child that hangs is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = str(function())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        timer = threading.Timer(20, os.kill, (child, signal.SIGKILL))
        timer.start()
        text = pipe.read().decode()
        os.waitpid(child, 0)
        timer.cancel()
    return text or "no answer"


@forks
@pytest.mark.parametrize("is_used", [False, True])
def test_a_session_is_refused_in_a_forked_process(is_used):
    x = rows(4, 3, 8, 8)
    with trtnet.Session(plans.path("static"), device="cpu") as session:
        if is_used:
            session(x)
        for use in (
            lambda: session(x),
            lambda: list(session.map([x])),
            lambda: session.lane().__enter__(),
        ):
            answer = _in_child(use)
            assert answer.startswith("ExecutionError: a session cannot be used in a forked process")
            assert 'multiprocessing.get_context("spawn")' in answer
        assert _in_child(session.close) == "None"
        assert session(x)["y"].shape == (4, 4, 8, 8)


@forks
def test_a_fork_while_other_threads_use_the_session():
    x, over = rows(4, 3, 8, 8), threading.Event()
    with trtnet.Session(plans.path("static"), device="cpu", contexts=1) as session:

        def work() -> None:
            while not over.is_set():
                session(x)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        answers = {_in_child(use)[:14] for use in (lambda: session(x), session.close) * 5}
        over.set()
        for thread in threads:
            thread.join(10)
    assert answers == {"ExecutionError", "None"}


@forks
def test_a_session_that_the_child_opens():
    x = rows(4, 3, 8, 8)

    def use() -> bool:
        with trtnet.Session(plans.path("static"), device="cpu") as own:
            return np.array_equal(own(x)["y"], want)

    with trtnet.Session(plans.path("static"), device="cpu") as session:
        want = session(x)["y"]
        assert _in_child(use) == "True"


_THREADS_OF_PYTORCH = """
import os, sys, numpy, torch, trtnet
torch.set_num_threads(4)
x = numpy.ones((4, 3, 8, 8), "float32")
torch.nn.Conv2d(64, 64, 3)(torch.randn(4, 64, 64, 64))  # its threads are started
with trtnet.Session(sys.argv[1], device="cpu") as session:
    want = session(x)["y"]
    if not os.fork():
        with trtnet.Session(sys.argv[1], device="cpu") as own:
            print(numpy.allclose(own(x)["y"], want, atol=1e-5), flush=True)
        os._exit(0)
    os.wait()
"""


@forks
def test_a_session_that_the_child_opens_when_pytorch_had_threads():
    command = [sys.executable, "-c", _THREADS_OF_PYTORCH, str(plans.path("static"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "True\n", ended.stderr


@forks
def test_a_gpu_that_was_used_before_the_fork_is_refused(fake_trt, fake_cuda):
    def use() -> None:
        fake_cuda.fail("cudaSetDevice", "cudaErrorInitializationError")
        trtnet.Session(fake_trt.plan())

    with trtnet.Session(fake_trt.plan()) as session:
        session(rows(2, 4))
        answer = _in_child(use)
    assert "CUDA cannot be used in a process that was forked from one that used it" in answer
    assert 'multiprocessing.get_context("spawn")' in answer


def _double(x: int) -> int:
    return 2 * x


@forks
def test_processes_that_leave_the_session_alone():
    x = rows(4, 3, 8, 8)
    with trtnet.Session(plans.path("static"), device="cpu") as session:
        session(x)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_double, range(4)) == [0, 2, 4, 6]
        torch = pytest.importorskip("torch")
        loader = torch.utils.data.DataLoader(
            torch.from_numpy(x), num_workers=1, multiprocessing_context="fork"
        )
        assert len(list(loader)) == 4
        assert session(x)["y"].shape == (4, 4, 8, 8)
