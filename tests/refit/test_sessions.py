"""Sessions that get other weights while they run: each call has the old ones or the new ones."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Plan, Session
from trtnet.engines import pool
from trtnet.engines import slot as slots
from trtnet.errors import ExecutionError, UnsupportedError, UsageError
from trtnet.weights import save, with_lora

pytestmark = pytest.mark.alone

torch = pytest.importorskip("torch")
refitting = pytest.importorskip("trtnet.engines.torch.refitting")


def _input(kind: Any) -> np.ndarray:
    return np.random.default_rng(0).random(kind.shape, np.float32)


def test_outputs_of_a_new_session(kind: Any) -> None:
    a, b = kind.state(0), kind.state(1)
    x = _input(kind)
    with Session(kind.build(a, seed=0), device="cpu") as running:
        first = {name: y.tobytes() for name, y in running(x).items()}
        running.refit(b, calibration=kind.table(b, 1))
        with Session(kind.build(b, seed=1), device="cpu") as fresh:
            want = {name: y.tobytes() for name, y in fresh(x).items()}
            assert {name: y.tobytes() for name, y in running(x).items()} == want != first
            assert running.plan.engine == fresh.plan.engine
        running.refit(a, calibration=kind.table(a, 0))
        assert {name: y.tobytes() for name, y in running(x).items()} == first


def test_no_call_has_some_of_both(kinds: Any) -> None:
    kind = kinds["resnet"]
    states, x = [kind.state(0), kind.state(1)], _input(kind)
    with Session(kind.build(states[0]), device="cpu", contexts=3) as session:
        known = []
        for state in states:
            session.refit(state)
            known.append(session(x)["y"].tobytes())
        seen: list[bytes] = []
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                seen.append(session(x)["y"].tobytes())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(6):
                session.refit(states[turn % 2])
                assert session(x)["y"].tobytes() == known[turn % 2]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(seen) <= set(known)


def test_lora_there_and_back(linear: Any) -> None:
    """A, B, and A again: always merged from the base, so A's bits."""
    base, rng = linear.state(0), np.random.default_rng(3)
    adapters = [
        {"base_model.model.fc.lora_A.weight": rng.random((2, 6), np.float32),
         "base_model.model.fc.lora_B.weight": rng.random((4, 2), np.float32)}
        for _ in range(2)
    ]  # fmt: skip
    x = rng.random((2, 6), np.float32)
    with Session(linear.build(base), device="cpu") as session:
        bits = []
        for adapter in (adapters[0], adapters[1], adapters[0]):
            session.refit(with_lora(base, adapter, alpha=4))
            bits.append((session(x)["y"].tobytes(), session.plan.engine))
        assert bits[0] == bits[2] != bits[1]
        merged = with_lora(base, adapters[0], alpha=4)
        want = x @ merged["fc.weight"].T + merged["fc.bias"]
        np.testing.assert_allclose(np.frombuffer(bits[0][0], "f4").reshape(2, 4), want, rtol=1e-5)


def test_a_failure_leaves_the_old_weights(linear: Any, monkeypatch: Any, raises: Any) -> None:
    x = _input(linear)
    with Session(linear.build(linear.state(0)), device="cpu") as session:
        before, plan = session(x)["y"].tobytes(), session.plan
        for place in ("prepare", "replace"):

            def fail(*args: Any, **kwargs: Any) -> Any:
                raise ExecutionError("no memory")

            with monkeypatch.context() as patch:
                target = "trtnet.engines.torch.engine" if place == "prepare" else refitting
                patch.setattr(f"{target}.prepare" if place == "prepare" else
                              "trtnet.engines.torch.refitting.replace", fail)  # fmt: skip
                with raises(ExecutionError, "no memory"):
                    session.refit(linear.state(1))
            assert session(x)["y"].tobytes() == before
            assert session.plan is plan
        session.refit(linear.state(1))
        assert session(x)["y"].tobytes() != before


def test_contexts_that_cannot_be_closed(linear: Any, monkeypatch: Any, raises: Any) -> None:
    """The new weights are in: no context of the old ones is left, and the session knows it."""
    x, states = _input(linear), [linear.state(0), linear.state(1)]
    with Session(linear.build(states[0]), device="cpu", contexts=2) as session:
        before = session(x)["y"].tobytes()
        held = [session._slots._make() for _ in range(2)]
        for place, slot in zip(session._slots._places, held, strict=True):
            place.item = slot
        with monkeypatch.context() as patch:

            def fail(slot: Any) -> None:
                raise ExecutionError("the GPU is lost")

            patch.setattr(slots.ExecutionSlot, "close", fail)
            with raises(ExecutionError, "the GPU is lost"):
                session.refit(states[1])
        assert not any(place.item in held for place in session._slots._places)
        assert session(x)["y"].tobytes() != before
        session.refit(states[0])
        assert session(x)["y"].tobytes() == before


def test_closed_sessions_and_other_backends(linear: Any, monkeypatch: Any, raises: Any) -> None:
    session = Session(linear.build(linear.state(0)), device="cpu")
    monkeypatch.delattr("trtnet.engines.torch.engine.TorchEngine.prepare_refit")
    with raises(UnsupportedError, "while they run", "plan.refit(state)"):
        session.refit(linear.state(1))
    monkeypatch.undo()
    session.close()
    with raises(ExecutionError, "the session is closed"):
        session.refit(linear.state(1))


def test_in_a_lane_of_the_same_thread(linear: Any) -> None:
    """Refused at once, and by words: the lane would have to end first."""
    x = _input(linear)
    with Session(linear.build(linear.state(0)), device="cpu", contexts=1) as session:
        before = session(x)["y"]
        with session.lane():
            for wait in (lambda: session.refit(linear.state(1)), session.close, lambda: session(x)):
                with pytest.raises(UsageError, match=r"leave the block of session\.lane\(\) first"):
                    wait()
        np.testing.assert_array_equal(session(x)["y"], before)
        session.refit(linear.state(1))
        assert not np.array_equal(session(x)["y"], before)


def test_who_wants_all_places_is_not_starved() -> None:
    """Busy threads that take a place again at once do not keep it from who wants all."""

    class Item:
        def close(self) -> None:
            pass

    places = pool.Pool(Item, 2)
    inside, stop = threading.Event(), threading.Event()
    overlaps = []

    def work() -> None:
        while not stop.is_set():
            lease = pool.Lease()
            places.take(lease)
            overlaps.append(inside.is_set())
            lease.is_held = False
            places.wake()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            begun = time.monotonic()
            with places.exclusive():
                inside.set()
                time.sleep(0.01)
                inside.clear()
            assert time.monotonic() - begun < 30
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not any(overlaps)


class TestExchange:
    """What happens on a GPU, where captured graphs read the memory of the old module."""

    @staticmethod
    def pairs() -> list[tuple[Any, Any]]:
        return [(torch.full((2,), float(i)), torch.full((2,), 10.0 + i)) for i in range(3)]

    def test_values_change_places_and_memory_stays(self) -> None:
        pairs = self.pairs()
        addresses = [old.data_ptr() for old, _ in pairs]
        compiled, new = (_Compiled() for _ in range(2))
        refitting.exchange(pairs, compiled, new)
        assert [float(old[0]) for old, _ in pairs] == [10, 11, 12]
        assert [float(new[0]) for _, new in pairs] == [0, 1, 2]
        assert [old.data_ptr() for old, _ in pairs] == addresses

    def test_all_or_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pairs = self.pairs()
        exchange, count = refitting._exchange, 0

        def fails(old: Any, new: Any) -> None:
            nonlocal count
            count += 1
            if count == 3:
                raise RuntimeError("the GPU is lost")
            exchange(old, new)

        monkeypatch.setattr(refitting, "_exchange", fails)
        with pytest.raises(RuntimeError, match="lost"):
            refitting.exchange(pairs, _Compiled(), _Compiled())
        assert [float(old[0]) for old, _ in pairs] == [0, 1, 2]

    def test_memory_that_tensors_share_is_exchanged_once(self) -> None:
        """A tensor, a part of it, and the same tensor in another module."""
        old, new = torch.arange(6.0), torch.arange(6.0) + 10
        pairs = [(old, new), (old[2:4], new[2:4]), (old.view(2, 3), new.view(2, 3))]
        whole = refitting._storages(pairs)
        assert whole is not None
        assert len(whole) == 1
        refitting.exchange(whole, _Compiled(), _Compiled())
        assert old.tolist() == [10, 11, 12, 13, 14, 15]
        assert new.tolist() == [0, 1, 2, 3, 4, 5]
        apart = torch.arange(2.0)
        assert refitting._storages([(old, new), (old[2:4], apart)]) is None
        assert refitting._storages([(old, new), (apart, new)]) is None

    def test_modules_that_differ_in_more_than_values(self) -> None:
        def module(code: Any, **buffers: Any) -> Any:
            made = torch.fx.symbolic_trace(code)
            for name, value in buffers.items():
                made.register_buffer(name, value)
            return made

        def plain(x: Any) -> Any:
            return x + 1

        def other(x: Any) -> Any:
            return x + 2

        one = torch.ones(2)
        assert refitting.pairs_of(module(plain, w=one), module(plain, w=one.clone())) == []
        assert refitting.pairs_of(module(plain), module(other)) is None
        assert refitting.pairs_of(module(plain, w=one), module(plain, w=one + 1)) is None  # on host
        assert refitting.pairs_of(module(plain, w=one), module(plain, w=one.double())) is None
        assert refitting.pairs_of(module(plain, w=one), module(plain)) is None

    def test_a_module_that_is_built_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between the preparation and its use, of old weights: it would keep what it packed."""

        def nothing() -> None:
            forgotten.append(True)

        for is_late in (False, True):
            forgotten: list[bool] = []
            first, late = (torch.fx.GraphModule({}, torch.fx.Graph()) for _ in range(2))
            contexts = SimpleNamespace(built=[((1,), first)], forget=nothing)
            compiled, new = _Engine("old"), _Engine("new")
            monkeypatch.setattr(refitting, "_all_pairs", lambda *_: [])
            monkeypatch.setattr(refitting, "_synchronize", lambda _: None)
            prepared = refitting.prepare(compiled, new, contexts, b"new")
            contexts.built = [((2,), late)] if is_late else []  # the first one is not used any more
            assert prepared.apply() == b"new"
            assert prepared.keeps_contexts is not is_late
            assert compiled.module == ("new" if is_late else "old")
            assert forgotten == [True] * is_late


class _Engine:
    device, output_shapes, tactics = torch.device("cuda:0"), None, None

    def __init__(self, module: str) -> None:
        self.module = self.forward = self.runtime = module


class _Compiled:
    device, output_shapes = torch.device("cpu"), None


KILLED = """
import os, signal, sys, threading
import trtnet
from trtnet import weights
plan = trtnet.Plan.load(sys.argv[1])
made = plan.refit(weights.load(sys.argv[2]))
print("ready", flush=True)
while True:
    made.save(sys.argv[3])
    plan.save(sys.argv[3])
"""


def test_kill_9_leaves_a_whole_pair(linear: Any, tmp_path: Path) -> None:
    """Of the old engine or of the new one; at whatever moment the writer dies."""
    a, b = linear.state(0), linear.state(1)
    old, new = linear.build(a), linear.build(b)
    source, target = tmp_path / "a.engine", tmp_path / "out.engine"
    old.save(source)
    old.save(target)
    save(tmp_path / "b.safetensors", b)
    for turn in range(3):
        arguments = [sys.executable, "-c", KILLED, *map(str, (source, tmp_path / "b.safetensors",
                                                              target))]  # fmt: skip
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.02 * (turn + 1))
            process.kill()
        found = Plan.load(target)
        assert found.engine in (old.engine, new.engine)
        assert Plan.load(source).engine == old.engine
        with trtnet.Session(found, device="cpu") as session:
            session(np.zeros(linear.shape, np.float32))
