"""Typed schemas over documents: what a file may say, declared once for each format.

A schema is a class of typed fields (a ``msgspec.Struct`` or a dataclass) or another type that
msgspec knows. msgspec checks a document in one call of C, tells where it is wrong, needs no other
package and imports in 15 ms; pydantic takes a quarter of a second, as long as `trtnet --help`.
It is imported with the first document all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from trtnet.reading.documents import MOST_BYTES, Source, read_json, shortened
from trtnet.reading.files import FilePath

if TYPE_CHECKING:
    from trtnet.errors import TrtnetError

T = TypeVar("T")
Step = str | int | None
"""From a value to one inside it: a field, an index, or ``None`` for some key of a mapping."""

_STEP = re.compile(r"\.([\w/ ]+)|\[(\d+)\]|\[\.\.\.\]")  # TensorRT has "Format/Datatype"
_EXPECTED = re.compile(r"Expected (?P<type>`.*?`)(?:, got `.*`)?(?P<limit>.*)")
_PLAIN = re.compile(r"\w+")


def checked(value: Any, kind: type[T], source: Source) -> T:
    """`value`, a document, as a `kind`.

    Nothing is converted except an integer to a float, and arrays to the sequences that `kind`
    names.

    Raises:
        TrtnetError: `source.error`: the first place where `value` is no `kind`, what is expected
            there, and what is there.
    """
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refusal(value, kind, source, str(error)) from error


def read_checked(path: FilePath, kind: type[T], source: Source, *, limit: int = MOST_BYTES) -> T:
    """The JSON document in the file `path`, as :func:`checked` gives it."""
    return checked(read_json(path, source, limit=limit), kind, source)


def _refusal(value: Any, kind: Any, source: Source, message: str) -> TrtnetError:
    problem, _, tail = message.partition(" - at ")
    steps = _steps(tail)
    keys: list[str | int] = []
    for index, step in enumerate(steps):
        if step is None:
            value_here = _at(value, keys)
            step = _first_bad_key(value, kind, keys, steps[: index + 1], value_here)
        keys.append(step)
    where = _path(keys)
    found = _EXPECTED.fullmatch(problem)
    if found is None:  # a missing or unknown field, or what the schema's own check says
        said = f"{problem[:1].lower()}{problem[1:]}".replace("`", "'")
        return source.refuse(f"{said}{where and f', in {where}'}", got=shortened(_at(value, keys)))
    expected = found["type"].replace("`", "") + found["limit"]
    what = f"wrong value at {where}" if where else "wrong value"
    return source.refuse(what, expected=_in_json(expected), got=shortened(_at(value, keys)))


def _in_json(expected: str) -> str:
    """msgspec's names of types, as JSON calls them."""
    return expected.replace("str", "string").replace("bool", "true or false")


def _steps(path: str) -> list[Step]:
    """The steps in msgspec's path, such as ``$.profiles[0][...].min``."""
    return [
        name or (int(index) if index else None)
        for name, index in (found.groups() for found in _STEP.finditer(path))
    ]


def _first_bad_key(
    document: Any, kind: Any, keys: list[str | int], steps: list[Step], mapping: Any
) -> str:
    """The key of `mapping`, at `keys` of `document`, that msgspec means by ``[...]``.

    It stops at the first bad one, so the shortest beginning of the mapping that is refused there
    ends with it.
    """
    import msgspec

    names = list(mapping)
    low, high = 0, len(names) - 1
    while low < high:
        middle = (low + high) // 2
        part = {name: mapping[name] for name in names[: middle + 1]}
        try:
            msgspec.convert(_replaced(document, keys, part), kind)
            is_bad = False
        except msgspec.ValidationError as error:
            is_bad = _steps(str(error).partition(" - at ")[2])[: len(steps)] == steps
        low, high = (low, middle) if is_bad else (middle + 1, high)
    return str(names[low])


def _replaced(value: Any, keys: list[str | int], part: Any) -> Any:
    """A copy of `value` with `part` at `keys`."""
    if not keys:
        return part
    copy = value.copy()
    copy[keys[0]] = _replaced(value[keys[0]], keys[1:], part)
    return copy


def _at(value: Any, keys: list[str | int]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _path(keys: list[str | int]) -> str:
    """`keys` as a path, such as ``profiles[0].x.min``."""
    text = ""
    for key in keys:
        if isinstance(key, str) and _PLAIN.fullmatch(key) and key.isascii() and len(key) < 80:
            text += f".{key}" if text else key
        else:
            text += f"[{shortened(key)}]"
    return text
