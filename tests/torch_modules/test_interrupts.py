"""Interrupts while a module is converted, defined or verified: nothing of the caller's changes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.host import without_gradients
from trtnet.torch_modules import waiting
from trtnet.torch_modules.keeping import Kept
from trtnet.torch_modules.waiting import interrupts_wait

pytestmark = pytest.mark.alone

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parents[2] / "tools")
    from fault_sections import library as library_faults

timed = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")


@timed
@pytest.mark.parametrize(
    "phase", ["define", "from_torch", "converted_again", "exported", "verify", "archive"]
)
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_interrupts_at_random_moments(tmp_path, phase):
    outcome = library_faults.storm(library_faults.Phases(tmp_path), phase, 6, seed=0)
    assert outcome.is_good, outcome


class Stop(KeyboardInterrupt):
    """An interrupt at one chosen place."""


class Stopping(torch.nn.Module):
    """Is interrupted in the middle of its code, once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
        self.seen: list[Any] = []
        self.stops = True

    def forward(self, x: Any) -> Any:
        self.seen.append(x)
        self.last = self.layer(x)
        if STOPS and STOPS.pop():
            raise Stop
        return self.last


STOPS: list[bool] = []
WAITS: list[bool] = []


def define(module: Any) -> trtnet.Network:
    network = trtnet.Network("rtx")
    network.output("y", module(network.input("x", (2, 3))))
    return network


def summary(network: trtnet.Network) -> bytes:
    return trtnet.graph.dumps(trtnet.graph.read(network.definition))


@pytest.mark.parametrize(
    ("way", "in_recovery"), [("direct", 0), ("direct", 1), ("direct", 2), ("export", 1)]
)
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_an_interrupt_in_the_modules_code(monkeypatch, way, in_recovery):
    """Also where what is restored is interrupted, and restored at once or before the next run."""
    theirs = Stopping().eval()
    converted: Any = trtnet.from_torch(theirs, way)
    before = dict(vars(converted.torch_module))
    want = summary(define(converted))
    restore, stops = Kept.restore, [True] * in_recovery

    def interrupted(self: Kept) -> None:
        if stops and stops.pop():
            raise Stop
        restore(self)

    monkeypatch.setattr(Kept, "restore", interrupted)
    STOPS[:] = [True]
    with pytest.raises(KeyboardInterrupt):
        define(converted)
    STOPS.clear()
    if in_recovery < 2:
        assert vars(converted.torch_module) == before
    assert theirs.seen == []
    assert torch.is_grad_enabled()
    found = []
    thread = threading.Thread(  # the lock is free
        target=lambda: found.append(
            trtnet.graph.dumps(trtnet.graph.read(define(converted).definition))
        )
    )
    thread.start()
    thread.join(60)
    assert found == [want]
    assert vars(converted.torch_module) == before
    assert torch._C._len_torch_function_stack() == 0


def test_an_interrupt_comes_when_pytorch_has_exported(monkeypatch):
    """Raised inside, it would abort the process; a later one is the user's will."""
    events: list[str] = []
    monkeypatch.setattr(waiting.time, "monotonic", lambda: 3.0 * events.count("wait"))
    before = signal.getsignal(signal.SIGINT)

    def interrupted(*then: str) -> None:
        with interrupts_wait():
            for event in then:
                events.append(event)
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted("first", "second")
    assert events == ["first", "second"]
    with pytest.raises(KeyboardInterrupt):
        interrupted("third", "wait", "not reached")
    assert events[2:] == ["third", "wait"]
    interrupted()
    assert signal.getsignal(signal.SIGINT) == before


def test_signals_that_are_ignored_stay_so(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_wait():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=interrupts_wait().__enter__)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_fork_while_another_thread_defines_a_network():
    """The child, in which that thread does not go on, can use the module."""
    inside, goes_on = threading.Event(), threading.Event()

    class Waiting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = None

        def forward(self, x: Any) -> Any:
            if WAITS and WAITS.pop():
                self.kept = x
                inside.set()
                goes_on.wait()
            return x.relu()

    converted = trtnet.from_torch(Waiting())
    WAITS[:] = [True]
    thread = threading.Thread(target=define, args=[converted])
    thread.start()
    inside.wait()
    child = os.fork()
    if not child:
        signal.alarm(30)  # ends it where it hangs
        is_right = define(converted).definition.num_layers == 1
        os._exit(0 if is_right and converted.torch_module.kept is None else 1)
    goes_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_an_interrupt_that_pytorch_turns_into_an_error_is_still_one(monkeypatch):
    def export(*args: Any, **kwargs: Any) -> Any:
        try:
            raise Stop
        finally:
            raise RuntimeError("Trying to pop empty mode stack")

    monkeypatch.setattr(torch.export, "export", export)
    with pytest.raises(Stop):
        define(trtnet.from_torch(torch.nn.Linear(3, 3), "export"))


def test_gradients_come_back(monkeypatch):
    calls = []
    real = torch.set_grad_enabled

    def interrupted(mode: bool) -> Any:
        real(mode)
        calls.append(mode)
        if len(calls) in (1, 2):
            raise Stop

    monkeypatch.setattr(torch, "set_grad_enabled", interrupted)
    with pytest.raises(Stop), without_gradients():
        pass
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("at", ["register_forward_hook", "register_forward_pre_hook"])
def test_verify_leaves_no_hooks_behind(monkeypatch, at):
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()).train()
    theirs[0].register_forward_hook(lambda *_: None)
    network = define(trtnet.from_torch(theirs))
    original = getattr(torch.nn.Module, at)

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        original(self, *args, **kwargs)  # and the handle is lost
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, at, interrupted)
        with pytest.raises(Stop):
            trtnet.verify(network, theirs, {"x": np.ones((2, 3), "float32")})
    assert [len(part._forward_hooks) for part in theirs.modules()] == [0, 1, 0]
    assert not any(part._forward_pre_hooks for part in theirs.modules())
    assert all(part.training for part in theirs.modules())
    assert trtnet.verify(network, theirs, {"x": np.ones((2, 3), "float32")}).passed
