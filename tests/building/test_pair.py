"""An engine and its sidecar: killed, interrupted and simultaneous writers, and readers between."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtnet.building.plan import FORMAT_VERSION, Plan
from trtnet.errors import BuildError, PlanError
from trtnet.files.locks import locked
from trtnet.reading.files import read_bytes

pytestmark = pytest.mark.alone

Raises = Callable[..., Any]
CALLS = ("open", "unlink", "replace", "fsync", "close")  # of os: the steps of a save
MOST_STEPS = 60
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")


def plan(content: bytes, **more: Any) -> Plan:
    stated = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return Plan(content, {"format_version": FORMAT_VERSION, "engine": stated, **more})


OLD, NEW, LATER = plan(b"old", model="old"), plan(b"new one", model="new"), plan(b"later")
SAME = plan(b"old", model="the engine of OLD, described anew")
BARE, OTHER = Plan(b"bare"), Plan(b"without a sidecar")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.engine"


def files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def killed_at(step: int, path: Path, new: Plan, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a forked process that saves `new` got to its `step`-th call, and was killed there."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def deadly(plain: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(*arguments, **more)

            return call

        try:
            for name in CALLS:
                monkeypatch.setattr(os, name, deadly(getattr(os, name)))
            new.save(path)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def whole(new: Plan) -> list[str]:
    return ["m.engine", "m.engine.json"] if new.sidecar else ["m.engine"]


@forks
@pytest.mark.parametrize(
    ("old", "new"), [(OLD, NEW), (OLD, SAME), (OLD, BARE), (BARE, NEW), (BARE, OTHER)]
)
def test_a_kill_at_any_step_leaves_the_old_pair_or_the_new_one(
    path: Path, old: Plan, new: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.save(path)
    seen = []
    for step in range(1, MOST_STEPS):
        if not killed_at(step, path, new, monkeypatch):
            break
        found = Plan.load(path)
        assert found in (old, new), step
        seen.append(found)
        assert path.read_bytes() == found.engine
        old.save(path)  # over what the killed process left
        assert Plan.load(path) == old
        assert files(path) == whole(old), step
    assert Plan.load(path) == new
    assert old in seen
    assert new in seen
    assert len(seen) < MOST_STEPS - 1


@forks
def test_kills_one_after_another_leave_one_of_the_pairs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one killed process left, the next one finds, and is killed as well."""
    OLD.save(path)
    candidates = [OLD, NEW, LATER, BARE]
    for step in range(1, MOST_STEPS, 7):
        for number, new in enumerate((NEW, BARE, LATER, OLD)):
            killed_at(1 + (step * (number + 1)) % MOST_STEPS, path, new, monkeypatch)
            assert Plan.load(path) in candidates
    NEW.save(path)
    assert files(path) == whole(NEW)


@forks
def test_a_kill_in_the_first_save(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, MOST_STEPS):
        was_killed = killed_at(step, path, NEW, monkeypatch)
        if path.exists():
            assert Plan.load(path) == NEW
        if not was_killed:
            break
        NEW.save(path)
        assert files(path) == whole(NEW)
        for entry in path.parent.iterdir():
            entry.unlink()


def test_a_reader_between_the_two_renames(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OLD.save(path)
    plain, seen = os.replace, []

    def watched(source: Any, target: Any) -> None:
        seen.append(Plan.load(path))
        plain(source, target)
        seen.append(Plan.load(path))

    monkeypatch.setattr(os, "replace", watched)
    NEW.save(path)
    assert seen == [OLD, OLD, OLD, NEW, NEW, NEW]


@pytest.mark.parametrize("new", [NEW, BARE])
def test_a_pair_that_is_replaced_while_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, new: Plan
) -> None:
    """The old engine was read; then comes the new pair, and its sidecar is read."""
    OLD.save(path)
    saves = iter([new])

    def slow(*arguments: Any, **more: Any) -> bytes:
        content = read_bytes(*arguments, **more)
        if (next_one := next(saves, None)) is not None:
            next_one.save(path)
        return content

    monkeypatch.setattr("trtnet.building.plan.read_bytes", slow)
    assert Plan.load(path) == new


def test_savers_in_threads_and_readers(path: Path) -> None:
    plans = [plan(bytes([index]) * 1000, index=index) for index in range(4)]
    plans[0].save(path)
    done = threading.Event()
    failed: list[BaseException] = []

    def save(which: Plan) -> None:
        for _ in range(10):
            which.save(path)

    def read() -> None:
        try:
            while not done.is_set():
                assert Plan.load(path) in plans
        except BaseException as error:
            failed.append(error)

    savers = [threading.Thread(target=save, args=(which,)) for which in plans]
    reader = threading.Thread(target=read)
    for thread in (*savers, reader):
        thread.start()
    for thread in savers:
        thread.join()
    done.set()
    reader.join()
    assert not failed
    assert Plan.load(path) in plans
    assert files(path) == whole(OLD)


def test_a_saver_waits_for_another_one(path: Path) -> None:
    OLD.save(path)
    saver = threading.Thread(target=NEW.save, args=(path,))
    with locked(path):
        saver.start()
        time.sleep(0.1)
        assert Plan.load(path) == OLD
    saver.join()
    assert Plan.load(path) == NEW


def test_an_interrupt_while_another_one_saves(path: Path) -> None:
    """While it waits a save is given up; the old pair stays, and nothing else."""
    OLD.save(path)
    with locked(path):
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            NEW.save(path)
        timer.join()
    assert Plan.load(path) == OLD
    assert files(path) == whole(OLD)


def test_interrupts_at_any_moment(path: Path) -> None:
    """Each save is interrupted a little later than the one before."""
    OLD.save(path)
    interrupted = 0
    for number in range(60):
        new = plan(str(number).encode(), number=number)
        before = Plan.load(path)
        timer = threading.Timer(number * 0.0002, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            new.save(path)
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        assert Plan.load(path) in (before, new)
        assert files(path) == whole(OLD)
    assert interrupted


def test_the_new_pair_counts_once_its_engine_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure after that loses nothing: the next writer brings it to an end."""
    OLD.save(path)
    plain = os.replace

    def failing(source: Any, target: Any) -> None:
        if str(target).endswith(".json"):
            raise OSError(5, "Input/output error")
        plain(source, target)

    monkeypatch.setattr(os, "replace", failing)
    NEW.save(path)
    assert files(path) == ["m.engine", "m.engine.json", "m.engine.json.next"]
    assert Plan.load(path) == NEW
    monkeypatch.undo()
    LATER.save(path)
    assert Plan.load(path) == LATER
    assert files(path) == whole(LATER)


def test_an_engine_that_cannot_be_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch, raises: Raises
) -> None:
    """As on Windows, where another process has it open."""
    OLD.save(path)
    plain = os.replace

    def in_use(source: Any, target: Any) -> None:
        if str(target).endswith(".engine"):
            raise PermissionError(13, "The process cannot access the file", str(target))
        plain(source, target)

    monkeypatch.setattr(os, "replace", in_use)
    with raises(BuildError, "what was there is unchanged", "cannot access the file"):
        NEW.save(path)
    assert Plan.load(path) == OLD
    assert files(path) == whole(OLD)


def test_pairs_that_other_programs_made(path: Path, raises: Raises) -> None:
    """An engine that was overwritten is refused, whatever a killed save left beside it."""
    OLD.save(path)
    following = Path(f"{path}.json.next")
    for left in (json.dumps(NEW.sidecar), "{", "[]", json.dumps({"engine": 5})):
        path.write_bytes(b"overwritten")
        following.write_text(left)
        with raises(PlanError, "is not the engine that its sidecar describes"):
            Plan.load(path)
        path.write_bytes(OLD.engine)
        assert Plan.load(path) == OLD
    LATER.save(path)
    assert files(path) == whole(LATER)


def test_a_link_to_an_engine(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.engine").write_bytes(b"?")
    (tmp_path / "store" / "real.json").write_bytes(b"{}")
    (tmp_path / "m.engine").symlink_to(tmp_path / "store" / "real.engine")
    (tmp_path / "m.engine.json").symlink_to(tmp_path / "store" / "real.json")
    NEW.save(tmp_path / "m.engine")
    assert Plan.load(tmp_path / "m.engine") == NEW
    assert sorted(os.listdir(tmp_path / "store")) == ["real.engine", "real.json"]
    assert (tmp_path / "m.engine.json").is_symlink()


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def none(*arguments: Any, **more: Any) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", none)
    monkeypatch.setattr(filelock, "unlock_descriptor", none)
    OLD.save(path)
    NEW.save(path)
    assert Plan.load(path) == NEW
    assert files(path) == whole(NEW)


def test_a_system_that_has_no_more_threads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    NEW.save(path)
    assert Plan.load(path) == NEW
