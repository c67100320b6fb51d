"""JSON and TOML within limits, and schemas that say where a document is wrong."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from trtnet.errors import PlanError, UsageError
from trtnet.reading.documents import (
    MOST_LEVELS,
    Source,
    from_json,
    from_toml,
    read_json,
    shortened,
    to_json,
)
from trtnet.reading.schema import checked

pytestmark = pytest.mark.alone

SOURCE = Source("f.json", "a table", fix="write it again")


def refusal(content: bytes | str, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        from_json(content, SOURCE, **options)
    return str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)  # fmt: skip


@settings(derandomize=True, deadline=None)
@given(value=JSON, ascii=st.booleans())
def test_json_comes_back(value: Any, ascii: bool) -> None:
    text = to_json(value, SOURCE, ensure_ascii=ascii)
    assert from_json(text, SOURCE) == value
    assert from_json(text.encode(), SOURCE) == value


@settings(derandomize=True, deadline=None)
@given(text=st.text('[]{}"\\,:a1 ', max_size=40))
def test_text_of_brackets_and_quotes(text: str) -> None:
    """The depth is counted without parsing, and must not change what is accepted."""
    try:
        expected = json.loads(text)
    except ValueError:
        assert "it is not JSON" in refusal(text)
    else:
        assert from_json(text, SOURCE) == expected or "occurs twice" in refusal(text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is not JSON\n  got: Expecting value"),
        (b"\xff", "it is not text in UTF-8\n  got: the byte 0xff at offset 0"),
        (b'{"a": 1, "b": 2, "a": 3}', "it is not JSON\n  got: the key 'a' occurs twice"),
        (b"[1e400]", "got: the number 1e400 is not finite"),
        (b"[NaN]", "got: the number NaN is not finite"),
        (b"[-Infinity]", "got: the number -Infinity is not finite"),
        (b"9" * 10_000, "got: an integer of 10000 digits, more than 64 bits hold"),
        (b'["\\ud800"]', "surrogates not allowed"),
        (b'{"\\ud800": 1}', "surrogates not allowed"),
        (b"[" * 65 + b"]" * 65, "it is nested too deeply\n  expected: at most 64 levels"),
        (b"[" * 10_000_000, "it is nested too deeply"),
        (b'{"a":' * 1_000_000, "it is nested too deeply"),
        (b'[{"a":' * 40 + b"1" + b"}]" * 40, "it is nested too deeply"),
    ],
)
def test_what_is_refused(content: bytes, text: str) -> None:
    started = time.perf_counter()
    said = refusal(content)
    assert said.startswith("f.json cannot be used as a table: ")
    assert text in said
    assert said.endswith("\n  fix: write it again")
    assert time.perf_counter() - started < 10


def test_what_looks_deep_but_is_not() -> None:
    assert from_json("[" * MOST_LEVELS + "]" * MOST_LEVELS, SOURCE)
    for text in ('"' + "[" * 1000 + '"', '["' + '\\"[' * 1000 + '"]', '["\\\\", "[[[[["]'):
        assert from_json(text, SOURCE) == json.loads(text)
    assert from_json("[" + "[]," * 1000 + "[]]", SOURCE) == [[]] * 1001


def test_infinite_numbers_on_request() -> None:
    assert from_json("[Infinity, -Infinity]", SOURCE, infinite=True) == [
        float("inf"),
        -float("inf"),
    ]
    assert "1e400 is not finite" in refusal("1e400", infinite=True)


def test_the_mark_that_editors_put_first() -> None:
    assert from_json(b"\xef\xbb\xbf[1]", SOURCE) == [1]


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"x"])
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(UsageError, match="a table: it holds what JSON cannot"):
        to_json([value], SOURCE)


@pytest.mark.parametrize(
    "text",
    [
        'a = "[[[["',
        "a = '{{{{'\n# [[[[\n",
        'a = """\n[[ \\"""[ """\nb = 1',
        "x = '''a\n'[['''",
        "a.b.c = 1",
    ],
)
def test_toml_is_read(text: str) -> None:
    assert from_toml(text.encode(), SOURCE)
    assert from_toml(text.replace("\n", "\r\n").encode(), SOURCE)


@dataclass
class Row:
    """A row of the table below."""

    size: Annotated[int, Meta(ge=0, le=9)]
    names: dict[str, float]


class Table(msgspec.Struct):
    """A schema with every kind of step."""

    rows: list[dict[str, Row]]
    title: str | None = None


def row(**changes: Any) -> dict[str, Any]:
    return {"size": 1, "names": {}, **changes}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (5, "wrong value\n  expected: object\n  got: 5"),
        ({}, "object missing required field 'rows'\n  got: {}"),
        ({"rows": 5}, "wrong value at rows\n  expected: array\n  got: 5"),
        ({"rows": [{"a": row()}, {"b": row(), "c d": 7}]}, "wrong value at rows[1]['c d']\n"),
        ({"rows": [{"a": row(size=10)}]}, "rows[0].a.size\n  expected: int <= 9\n  got: 10"),
        ({"rows": [{"a": row(size=1.0)}]}, "rows[0].a.size\n  expected: int\n  got: 1.0"),
        ({"rows": [{"a": row(size=True)}]}, "rows[0].a.size\n  expected: int\n  got: True"),
        (
            {"rows": [{"a": row(names={"p": 1, "q": 2.5, "r.s": "x", "t": "y"})}]},
            "rows[0].a.names['r.s']\n  expected: float\n  got: 'x'",
        ),
        ({"rows": [], "title": 3}, "wrong value at title\n  expected: string | null\n  got: 3"),
        ({"rows": [{"\x1b[31m": 3}]}, r"wrong value at rows[0]['\x1b[31m']"),
        ({"rows": [{"é": 3}]}, r"wrong value at rows[0]['\xe9']"),
        ({"rows": ["x" * 9999]}, "got: 'xxx"),
    ],
)
def test_the_place_of_what_is_wrong(document: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(document, Table, SOURCE)
    said = str(caught.value)
    assert said.startswith("f.json cannot be used as a table: ")
    assert text in said
    assert len(said) < 500
    assert said.isascii()


def test_a_bad_key_among_many_is_found_soon() -> None:
    names: dict[str, Any] = {f"n{i}": 1.0 for i in range(200_000)}
    names["n150000"] = None
    started = time.perf_counter()
    with pytest.raises(UsageError, match=r"wrong value at rows\[0\].a.names.n150000\n"):
        checked({"rows": [{"a": row(names=names)}]}, Table, SOURCE)
    assert time.perf_counter() - started < 10


def test_values_of_any_size_fit_into_a_message() -> None:
    for value in (
        list(range(10**6)),
        "x" * 10**7,
        {str(i): i for i in range(10**5)},
        [[[[[[1]]]]]],
    ):
        assert len(shortened(value)) < 300


def test_a_source_without_a_file_of_its_own(tmp_path: Any) -> None:
    assert str(Source("", "the note", PlanError).refuse("no")) == "the note cannot be used: no"
    with pytest.raises(UsageError, match="there is no file"):
        read_json(tmp_path / "none", SOURCE)
