"""tensorrtx's ``.wts`` files: text, written as upstream writes it, read at memory speed.

The file is the number of entries, then for each entry its name, its count and that many values,
all apart by white space. A value is the bit pattern of a float32 as up to 8 hexadecimal digits,
the most significant first: ``3f800000`` is 1.0. Shapes and dtypes are not in the file.
Source: https://github.com/wang-xinyu/tensorrtx.

Upstream's scripts write 8 digits and a space for each value. Such runs are decoded as a whole;
other spellings (``0x``, fewer digits, tabs, line ends) value by value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from trtnet.errors import WeightsError
from trtnet.files import atomic_write

_START = re.compile(rb"\s*[0-9]+\s")
_TOKEN = re.compile(rb"\S+")
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_VALUE = re.compile(rb"(?:0[xX])?[0-9a-fA-F]{1,8}")
_STRIDE = 9  # bytes of a value as upstream writes it: a space and 8 digits
_RUN = 1 << 20  # values decoded at a time, which bounds the memory beside the result
_DAMAGED = "the file is damaged or incomplete: copy it, or write it again"


def looks_like(content: bytes) -> bool:
    """Whether the file begins with a count of entries."""
    return _START.match(content[:32]) is not None


def read(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """The entries in their order: flat float32 arrays with exactly the file's bits.

    Raises:
        WeightsError: the file breaks the format; the entry and the place are named.
    """
    scanner = _Scanner(content, path)
    total = scanner.number("the number of entries")
    arrays: dict[str, np.ndarray] = {}
    for index in range(total):
        name = scanner.name(f"the name of entry {index + 1} of {total}")
        if name in arrays:
            scanner.refuse("the name occurs twice", name, expected="one entry for each name")
        count = scanner.number("the count of values", name)
        arrays[name] = scanner.values(name, count)
    scanner.end(total)
    return arrays


def write(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """Writes what upstream's scripts write for a PyTorch state_dict, byte for byte; atomically.

    Args:
        path: the file; an old one is replaced only when the new one is complete.
        state: key → array of any shape, in C order. Integers and other floats are stored as the
            float32 of the same value.

    Raises:
        WeightsError: a name has white space, a value is no float32, or the file cannot be
            written; an old one is intact.
    """
    bits = {name: _bits(name, array) for name, array in state.items()}
    try:
        with atomic_write(path, durable=False) as file:
            file.write(b"%d\n" % len(bits))
            for name, values in bits.items():
                file.write(b"%s %d " % (name.encode(), values.size))
                for start in range(0, values.size, _RUN):
                    digits = values[start : start + _RUN].astype(">u4").tobytes().hex(" ", 4)
                    file.write(b" " + digits.encode())
                file.write(b"\n")
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be written", got=error, fix="choose another place for the file"
        ) from error


def _bits(name: str, array: np.ndarray) -> np.ndarray:
    """The float32 bit patterns of an array, after checking that both halves of an entry fit."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        encoded = b""
    if _TOKEN.fullmatch(encoded) is None:
        raise WeightsError(
            "cannot be a name in a .wts file",
            module=ascii(name),
            expected="Unicode text without white space",
            fix="rename the entry, or write a safetensors file",
        )
    if array.dtype.kind not in "fiub":
        raise WeightsError(
            "cannot be stored in a .wts file", module=name, expected="numbers", got=array.dtype
        )
    if array.dtype == np.float32:  # also NaN keeps its bits
        return np.ascontiguousarray(array, "=f4").reshape(-1).view(np.uint32)
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(np.float32)
        back = converted.astype(array.dtype)
    if not np.array_equal(back, array, equal_nan=array.dtype.kind == "f"):
        raise WeightsError(
            "a .wts file cannot store these values exactly",
            module=name,
            expected="values that are float32 numbers",
            got=array.dtype,
            fix="convert it to float32 first, or write a safetensors file",
        )
    return converted.reshape(-1).view(np.uint32)


class _Scanner:
    """Reads one token after the other from the file; errors name the byte and the line."""

    def __init__(self, content: bytes, path: Path) -> None:
        self._content = content
        self._path = path
        self._start = self._position = 0  # start and end of the last token

    def name(self, what: str) -> str:
        """The next token as text; `what` names it in errors."""
        token = self._token(what)
        try:
            return token.decode()
        except UnicodeDecodeError:
            self.refuse(f"{what} cannot be read", expected="UTF-8 text")

    def number(self, what: str, name: str | None = None) -> int:
        """The next token as a decimal number; `name` is its entry's, for errors."""
        token = self._token(what, name)
        if _DECIMAL.fullmatch(token) is None:
            self.refuse(f"{what} cannot be read", name, expected="a decimal number",
                        fix="the count before it may be too small, or " + _DAMAGED)  # fmt: skip
        return int(token)

    def values(self, name: str, count: int) -> np.ndarray:
        """The next `count` values as float32; `name` is the entry's, for errors."""
        most = (len(self._content) - self._position) // 2  # a space and a digit each
        if count > most:
            self.refuse("more values are declared than the file has room for", name,
                        expected=f"at most {most}")  # fmt: skip
        bits = np.empty(count, np.uint32)
        for start in range(0, count, _RUN):
            run = bits[start : start + _RUN]
            if not self._regular(run):
                self._irregular(run, name, start, count)
        return bits.view(np.float32)

    def end(self, total: int) -> None:
        """Checks that nothing follows the last of `total` entries."""
        if _TOKEN.search(self._content, self._position):
            self._token("the end")
            self.refuse(f"the file goes on after the last entry, number {total}",
                        expected="the end of the file")  # fmt: skip

    def refuse(
        self,
        problem: str,
        name: str | None = None,
        *,
        expected: str | None = None,
        fix: str = _DAMAGED,
    ) -> NoReturn:
        """Raises the error about the last token."""
        token = self._content[self._start : min(self._position, self._start + 40)]
        found = repr(token) if token else "the end of the file"
        line = self._content[: self._start].count(b"\n") + 1
        raise WeightsError(
            f"{self._path}: {problem}",
            module=None if name is None else f"entry {name!a}",
            expected=expected,
            got=f"{found} at byte {self._start} (line {line})",
            fix=fix,
        )

    def _token(self, what: str, name: str | None = None) -> bytes:
        found = _TOKEN.search(self._content, self._position)
        if found is None:
            self._start = self._position = len(self._content)
            self.refuse(f"the file ends before {what}", name)
        self._start, self._position = found.span()
        return found.group()

    def _regular(self, run: np.ndarray) -> bool:
        """Decodes values written as upstream does; False, without moving, where they are not.

        ``bytes.fromhex`` skips white space. With spaces at every ninth byte, 4 bytes for each
        value can only come from 8 digits between each two spaces.
        """
        first = _TOKEN.search(self._content, self._position)
        start = first.start() - 1 if first else len(self._content)
        end = start + _STRIDE * len(run)
        text = self._content[start:end]
        spaces = np.frombuffer(text, np.uint8)[_STRIDE::_STRIDE]
        if len(text) != end - start or (spaces != ord(" ")).any():
            return False
        try:
            decoded = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            return False
        if len(decoded) != 4 * len(run) or self._content[end : end + 1].strip():
            return False
        run[:] = np.frombuffer(decoded, ">u4")
        self._position = end
        return True

    def _irregular(self, run: np.ndarray, name: str, start: int, count: int) -> None:
        tokens = _TOKEN.finditer(self._content, self._position)
        numbers = self._checked(islice(tokens, len(run)), name, start, count)
        decoded = np.fromiter(numbers, np.uint32)
        if len(decoded) < len(run):
            self._start = self._position = len(self._content)
            self.refuse(f"the file ends after {start + len(decoded)} of {count} values", name,
                        expected=f"{count} values")  # fmt: skip
        run[:] = decoded

    def _checked(
        self, tokens: Iterator[re.Match[bytes]], name: str, start: int, count: int
    ) -> Iterator[int]:
        for index, found in enumerate(tokens, start + 1):
            self._start, self._position = found.span()
            if _VALUE.fullmatch(found.group()) is None:
                self.refuse(f"value {index} of {count} cannot be read", name,
                            expected="up to 8 hexadecimal digits",
                            fix="the count may be too large, or " + _DAMAGED)  # fmt: skip
            yield int(found.group(), 16)
