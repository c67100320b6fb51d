"""The file of a builder's choices."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from trtnet.engines.torch.tactics import timing_cache
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.errors import UsageError

HERE = {"gpu": "some GPU", "torch": "2.9"}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "choices.json"


@pytest.fixture
def written(path):
    cache = TimingCache(HERE, path)
    cache.put("product (1, 2, 3)", "tile 16", {"keep": 3.0, "tile 16": 1.23456})
    cache.put("windows", "keep", {"keep": 1.0, "warps 4": float("inf")})
    cache.save()
    return path


def test_choices_come_back(written):
    cache = TimingCache(HERE, written)
    assert len(cache) == 2
    assert cache.get("product (1, 2, 3)") == "tile 16"
    assert cache.get("windows") == "keep"
    assert cache.get("another") is None
    assert (cache.ignored, cache.is_changed) == (None, False)


def test_a_choice_that_comes_while_others_are_written_is_written_too(path, monkeypatch):
    """One thread keeps tactics, and another the way to run a network."""
    cache = TimingCache(HERE, path)
    cache.put("one", "keep", {"keep": 1.0})

    def dumps(held, *args, write=json.dumps, **options):
        text = write(held, *args, **options)
        if "two" not in held["choices"]:
            cache.put("two", "keep", {"keep": 2.0})
        return text

    monkeypatch.setattr(json, "dumps", dumps)
    cache.save()
    cache.save()
    assert len(TimingCache(HERE, path)) == 2


def test_what_was_not_written_is_written_the_next_time(path, monkeypatch):
    cache = TimingCache(HERE, path)
    cache.put("one", "keep", {"keep": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(timing_cache, "atomic_write", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cache.save()
    cache.save()
    assert len(TimingCache(HERE, path)) == 1


def test_the_file_holds_words_and_numbers(written):
    held = json.loads(written.read_bytes())
    assert held["machine"] == HERE
    assert held["choices"]["product (1, 2, 3)"] == {
        "tactic": "tile 16",
        "us": {"keep": 3.0, "tile 16": 1.23},
    }


def test_the_same_choices_make_the_same_file(written, tmp_path):
    other = TimingCache(dict(reversed(HERE.items())), tmp_path / "other")
    other.put("windows", "keep", {"warps 4": float("inf"), "keep": 1.0})
    other.put("product (1, 2, 3)", "tile 16", {"tile 16": 1.23456, "keep": 3.0})
    other.save()
    assert (tmp_path / "other").read_bytes() == written.read_bytes()


def test_later_choices_are_added(written):
    cache = TimingCache(HERE, written)
    cache.put("more", "keep", {"keep": 1.0})
    assert cache.is_changed
    cache.save()
    assert not cache.is_changed
    assert len(TimingCache(HERE, written)) == 3


def test_nothing_is_written_without_choices(path):
    TimingCache(HERE, path).save()
    assert not path.exists()


def test_a_cache_without_a_file():
    cache = TimingCache(HERE)
    cache.put("a", "keep", {"keep": 1.0})
    cache.save()
    assert cache.get("a") == "keep"


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({**HERE, "torch": "3.0"}, "torch '2.9', here '3.0'"),
        ({**HERE, "triton": "4"}, "triton None, here '4'"),
        ({"gpu": "some GPU"}, "torch '2.9', here None"),
    ],
)
def test_choices_of_another_machine_are_not_used(machine, words, written):
    before = written.read_bytes()
    cache = TimingCache(machine, written)
    assert cache.ignored == f"the timing cache is of another machine: {words}"
    assert len(cache) == 0
    assert cache.get("windows") is None
    cache.save()  # nothing was chosen
    assert written.read_bytes() == before


def sound(**changed):
    return {"format": "trtnet timing cache 1", "machine": HERE, "choices": {}, **changed}


FOREIGN = {
    "nothing": b"",
    "words": b"hello",
    "half": b'{"format": "trtnet timing cache 1", "machine": {"gp',
    "not UTF-8": b"\xff\xfe\x00{}",
    "a list": b"[]",
    "a number": b"3",
    "another format": json.dumps(sound(format="trtnet timing cache 2")).encode(),
    "no machine": json.dumps(sound(machine=None)).encode(),
    "numbers in the machine": json.dumps(sound(machine={"gpu": 3})).encode(),
    "no choices": json.dumps(sound(choices=[])).encode(),
    "a choice of no words": json.dumps(sound(choices={"a": {"tactic": 3}})).encode(),
    "a choice without a tactic": json.dumps(sound(choices={"a": {}})).encode(),
    "a choice that is a word": json.dumps(sound(choices={"a": "keep"})).encode(),
    "brackets": b"[" * 200_000,
    "a long number": b"1" * 5000,
    "a pickle": pickle.dumps(sound()),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_other_files_are_refused_and_left_as_they_are(content, path):
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        TimingCache(HERE, path)
    assert str(path) in str(caught.value)
    assert "no timing cache" in str(caught.value)
    assert "remove this one" in str(caught.value)
    assert path.read_bytes() == content


def test_no_code_of_a_file_runs(path, tmp_path):
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (touched,))

    for content in (pickle.dumps(Evil()), f"open({str(touched)!r}, 'w')".encode()):
        path.write_bytes(content)
        with pytest.raises(UsageError):
            TimingCache(HERE, path)
    assert not touched.exists()


def test_a_huge_file_is_refused_unread(path, monkeypatch):
    with path.open("wb") as file:
        file.truncate((1 << 26) + 1)  # a hole, no memory
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(UsageError, match="larger than"):
        TimingCache(HERE, path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no timing cache"):
        TimingCache(HERE, tmp_path)


def test_a_write_that_fails_leaves_the_old_file(written, monkeypatch):
    before = written.read_bytes()
    cache = TimingCache(HERE, written)
    cache.put("a", "keep", {"keep": 1.0})

    def fail(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        patch.setattr(Path, "replace", fail)
        with pytest.raises(Exception, match="no space left"):
            cache.save()
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]
    assert cache.is_changed  # so that it can be saved later
    cache.save()
    assert len(TimingCache(HERE, written)) == 3


def test_it_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import " + timing_cache.__name__
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
