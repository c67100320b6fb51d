"""The text of a ``config.pbtxt``: protobuf's text format of plain Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Union

Field = Union[str, int, bool, "Enumerated", Mapping[str, "Field"], Sequence["Field"]]
"""The value of a field: a mapping is a message, a sequence a repeated field."""


class Enumerated(str):
    """The name of a member of an enumeration, which stands without quotation marks."""


def text_of(message: Mapping[str, Field]) -> str:
    """The text of a message: a line for each field, in order.

    >>> print(text_of({"name": "net", "input": [{"dims": [3, -1], "kind": Enumerated("BIG")}]}))
    name: "net"
    input {
      dims: 3
      dims: -1
      kind: BIG
    }
    <BLANKLINE>
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Field]) -> Iterator[str]:
    for name, value in message.items():
        repeated = isinstance(value, Sequence) and not isinstance(value, str)
        for each in value if repeated else [value]:  # type: ignore[union-attr]
            if isinstance(each, Mapping):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _lines(each))
                yield "}"
            else:
                yield f"{name}: {_scalar(each)}"


def _scalar(value: object) -> str:
    if isinstance(value, Enumerated):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)


def quoted(text: str) -> str:
    """A text in quotation marks; what is not printable ASCII is escaped as bytes of UTF-8.

    >>> print(quoted('a "b"'), quoted(chr(233)))
    "a \\"b\\"" "\\303\\251"
    """
    return '"' + "".join(map(_escaped, text.encode("utf-8", "surrogateescape"))) + '"'


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
