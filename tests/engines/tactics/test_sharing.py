"""Which tactics are compiled where regions share kernels."""

from __future__ import annotations

import pytest

from trtnet.engines.torch.tactics.choices import Tactic
from trtnet.engines.torch.tactics.sharing import sharing


def ranked(*names, always=(), doubtful=()):
    """Tactics of one problem that have each the kernels after the colon compiled."""
    return [
        (Tactic(name, print, {}, name in always, name in doubtful), frozenset(kernels))
        for name, kernels in (text.split(":") for text in names)
    ]


def chosen(problems, least):
    return {key: "".join(t.name for t in found) for key, found in sharing(problems, least).items()}


@pytest.mark.parametrize(
    ("least", "wanted"),
    [
        (1, {"one": "a", "two": "cd", "three": "f"}),
        (2, {"one": "ab", "two": "cd", "three": "fg"}),
        (9, {"one": "ab", "two": "cde", "three": "fg"}),
    ],
)
def test_the_first_and_what_others_share_are_taken(least, wanted):
    problems = {
        "one": ranked("a:x", "b:y"),
        "two": ranked("c:z", "d:x", "e:w"),
        "three": ranked("f:z", "g:y"),
    }
    assert chosen(problems, least) == wanted


def test_what_most_want_is_compiled_first():
    problems = {"one": ranked("a:1", "b:2", "c:9"), "two": ranked("d:3", "e:4", "f:9")}
    assert chosen(problems, 2) == {"one": "ac", "two": "df"}


def test_what_is_always_timed_is_taken_and_not_counted():
    problems = {"one": ranked("a:1", "b:2", "c:3", "l:7", always="l"), "two": ranked("d:7", "e:8")}
    assert chosen(problems, 2) == {"one": "abl", "two": "de"}


def test_no_kernel_is_compiled_for_a_doubtful_tactic():
    problems = {
        "one": ranked("a:1", "b:2", "c:3", doubtful="bc"),
        "two": ranked("d:4", "e:3", "f:2"),
        "three": ranked("g:4", "h:5", "i:6", doubtful="h"),
        "first": ranked("j:7", "k:8", doubtful="j"),
    }
    assert chosen(problems, 2) == {"one": "ac", "two": "de", "three": "gi", "first": "jk"}
    del problems["two"]
    assert chosen(problems, 2)["one"] == "a"


def test_tactics_without_kernels_are_taken():
    assert chosen({"one": ranked("a:", "b:", "c:1")}, 2) == {"one": "ab"}
    assert chosen({}, 2) == {}
