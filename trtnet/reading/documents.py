"""JSON and TOML of foreign origin, as Python values of bounded size and depth."""

from __future__ import annotations

import json
import math
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trtnet.errors import TrtnetError, UsageError
from trtnet.reading.files import FilePath, read_bytes

MOST_BYTES = 16 << 20
"""The largest document that is parsed, where a reader names no other limit."""

MOST_LEVELS = 64
"""How deep arrays and objects may be nested; no file of trtnet needs a tenth of it."""

_MOST_DIGITS = 20  # 64-bit integers, with or without a sign, have no more
_MOST_KEY_PARTS = 32  # tomllib takes memory for the square of their number

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NO_BRACKET = bytes(set(range(256)) - set(b'"[]{}'))
_AS_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_OPENING = ord("[")
_TOML_MARK = re.compile(r"\"\"\"|'''|[\"'#.,=\n\[\]{}]")
_TOML_ENDS = {
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    '"': re.compile(r'\\.|["\n]'),
    "'''": re.compile("'''"),
    "'": re.compile("['\n]"),
    "#": re.compile("\n"),
}


@dataclass(frozen=True)
class Source:
    """Where a document is from, and what is said of it where it cannot be used.

    Args:
        name: of the file; empty for what is not in a file of its own.
        what: what the document should be, such as ``"a calibration table"``.
        error: the class of the errors.
        fix: what to do about them.
    """

    name: str
    what: str
    error: type[TrtnetError] = UsageError
    fix: str | None = None

    def refuse(self, problem: str, expected: object = None, got: object = None) -> TrtnetError:
        """The error that says `problem` of the document."""
        claim = f"{self.name} cannot be used as {self.what}"
        return self.error(
            f"{claim if self.name else f'{self.what} cannot be used'}: {problem}",
            expected=expected,
            got=got,
            fix=self.fix,
        )


def read_json(
    path: FilePath, source: Source, *, limit: int = MOST_BYTES, infinite: bool = False
) -> Any:
    """The JSON value in the file `path`; the other arguments are those of :func:`from_json`."""
    content = read_bytes(path, source.what, limit, error=source.error, fix=source.fix)
    return from_json(content, source, infinite=infinite)


def from_json(content: bytes | str, source: Source, *, infinite: bool = False) -> Any:
    """The value of the JSON text `content`.

    Refused are, besides text that is not JSON: keys that occur twice in an object, strings that
    no encoding can write, integers beyond 64 bits, floats beyond float64, and values nested
    deeper than :data:`MOST_LEVELS`.

    Args:
        content: text, or its UTF-8 bytes.
        source: for messages.
        infinite: also take ``NaN`` and ``Infinity``, which standard JSON lacks.

    Raises:
        TrtnetError: `source.error`, with what is wrong and where.
    """
    text = _decoded(content, source)
    _require_depth(_json_depth(text), source)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_int,
            parse_float=_float,
            parse_constant=float if infinite else _constant,
        )
        if _SURROGATE.search(text):
            _require_text(value)
    except (ValueError, RecursionError, MemoryError) as error:
        raise _no_document("JSON", error, source) from error
    return value


def to_json(value: Any, source: Source, **options: Any) -> str:
    """`value` as JSON text; `options` are those of :func:`json.dumps`.

    Raises:
        TrtnetError: `source.error`: it has values that JSON lacks, NaN and infinity included.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except (TypeError, ValueError, RecursionError) as error:
        raise source.refuse("it holds what JSON cannot", got=error) from error


def from_toml(content: bytes, source: Source) -> dict[str, Any]:
    """The table of the TOML text `content`; limits and errors are those of :func:`from_json`.

    Keys have at most 32 parts between dots.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    text = _decoded(content, source).replace("\r\n", "\n")
    depth, parts = _toml_depth(text)
    _require_depth(depth, source)
    if parts > _MOST_KEY_PARTS:
        raise source.refuse(
            "a key has too many parts", expected=f"at most {_MOST_KEY_PARTS}", got=parts
        )
    try:
        found: dict[str, Any] = tomllib.loads(text, parse_float=_float)
    except (ValueError, RecursionError, MemoryError) as error:
        raise _no_document("TOML", error, source) from error
    _require_depth(max((depth for depth, _ in _walk(found)), default=0), source)
    return found


def shortened(value: object) -> str:
    """`value` as ASCII text of one line that fits into a message, however large it is."""
    return _SHORT.repr(value).encode("ascii", "backslashreplace").decode()


def _shortener() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, 80, 80, 40
    return short


_SHORT = _shortener()


def _decoded(content: bytes | str, source: Source) -> str:
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")  # editors on Windows write the mark
    except UnicodeDecodeError as error:
        raise source.refuse(
            "it is not text in UTF-8",
            got=f"the byte {content[error.start]:#04x} at offset {error.start}",
        ) from error


def _no_document(language: str, error: Exception, source: Source) -> TrtnetError:
    got = "too much of it for the memory" if isinstance(error, MemoryError) else str(error)
    return source.refuse(f"it is not {language}", got=f"{got:.200}")


def _require_depth(depth: int, source: Source) -> None:
    if depth > MOST_LEVELS:
        raise source.refuse("it is nested too deeply", expected=f"at most {MOST_LEVELS} levels")


# JSON


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of `pairs`; plain ``json`` keeps the last of two equal keys in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shortened(twice)} occurs twice")
    return found


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits, more than 64 bits hold")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40} is not finite")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"the number {text} is not finite")


def _json_depth(text: str) -> int:
    """A depth that `text` reaches if it is more than :data:`MOST_LEVELS`; otherwise 0.

    The parser recurses, so it must not see deeper text.
    """
    content = text.encode("utf-8", "replace").replace(b"\\\\", b"").replace(b'\\"', b"")
    pieces = content.translate(None, _NO_BRACKET).split(b'"')
    brackets = left = b"".join(pieces[::2]).translate(_AS_ONE_KIND)  # those outside of strings
    for _ in range(MOST_LEVELS):
        left = left.replace(b"[]", b"")  # the innermost level
        if not left:
            return 0
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket == _OPENING else -1
        if depth > MOST_LEVELS:
            return depth
    return 0


def _require_text(value: Any) -> None:
    """Raises UnicodeEncodeError, a ValueError, for text with half of a surrogate pair."""
    for _, item in _walk(value):
        for text in item if isinstance(item, dict) else (item,):
            if isinstance(text, str):
                text.encode()


# TOML


def _toml_depth(text: str) -> tuple[int, int]:
    """How deep the brackets of `text` are nested, and the most parts of a key between dots."""
    depth = deepest = dots = most = at = 0
    while mark := _TOML_MARK.search(text, at):
        token, at = mark.group(), mark.end()
        if token in _TOML_ENDS:
            at = _after(text, at, token)
            dots = 0 if token == "#" else dots
        elif token == ".":
            dots += 1
            most = max(most, dots)
        else:
            dots = 0
            depth += (token in "[{") - (token in "]}")
            deepest = max(deepest, depth)
    return deepest, most + 1


def _after(text: str, at: int, token: str) -> int:
    """Where the string or comment that `token` began before `at` is over."""
    for found in _TOML_ENDS[token].finditer(text, at):
        if not found.group().startswith("\\"):
            return found.start() if token == "#" else found.end()
    return len(text)


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Every value inside `value`, and how many containers it is in."""
    waiting = [(0, value)]
    while waiting:
        depth, found = waiting.pop()
        yield depth, found
        if isinstance(found, (dict, list)):
            inner = found.values() if isinstance(found, dict) else found
            waiting += [(depth + 1, item) for item in inner]
