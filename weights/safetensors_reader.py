"""The safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes.

Source: https://github.com/huggingface/safetensors#format. Parsed here so that damage is reported
by tensor name, and so that the tensors are views of one copy of the file.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from trtnet.errors import WeightsError

NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_STORED = {name: np.dtype(kind) for name, kind in (*NUMPY.items(), ("BF16", "<u2"))}
LENGTH_BYTES = 8
_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_AXES = 64  # numpy's limit; it also bounds the work a damaged header can cause
METADATA = "__metadata__"


def looks_like(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `start` could be a safetensors file."""
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    fits = length <= min(_MAX_HEADER, size - LENGTH_BYTES)
    return fits and start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"


def read(content: bytes, path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file; the arrays are views of `content`.

    Raises:
        WeightsError: the file breaks the format; the tensor and the values are named.
    """
    header, start = _header(content, path)
    metadata = _checked_metadata(header.pop(METADATA, {}), path)
    arrays, spans = {}, []
    for name, entry in header.items():
        arrays[name], begin, end = _tensor(content, start, name, entry, path)
        spans.append((begin, end, name))
    _check_spans(spans, len(content) - start, path)
    return arrays, metadata


def _damaged(
    path: Path | str, problem: str, *, tensor: str | None = None, **details: Any
) -> WeightsError:
    return WeightsError(
        f"{path}: {problem}",
        module=None if tensor is None else f"tensor {tensor!a}",
        fix="the file is damaged or incomplete: copy, download or extract it again",
        **details,
    )


def _header(content: bytes, path: Path | str) -> tuple[dict[str, Any], int]:
    """The decoded JSON header, and the file offset of the first tensor byte."""
    if len(content) < LENGTH_BYTES:
        raise _damaged(
            path, "not a safetensors file", expected="at least 8 bytes", got=len(content)
        )
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    available = len(content) - LENGTH_BYTES
    if length > min(available, _MAX_HEADER):
        raise _damaged(
            path,
            "the header's length is impossible, or the file is cut short",
            expected=f"at most {min(available, _MAX_HEADER)} bytes",
            got=f"{length} bytes",
        )
    start = LENGTH_BYTES + length
    try:
        header = json.loads(content[LENGTH_BYTES:start].decode(), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "the header cannot be read", expected="JSON", got=error) from error
    if not isinstance(header, dict):
        raise _damaged(path, "the header cannot be read", expected="a JSON object")
    return header, start


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a JSON object; refuses what plain ``json`` accepts in silence."""
    found = dict(pairs)
    for key in found:
        if not key.isascii():
            key.encode()  # a lone surrogate is no text; UnicodeEncodeError is a ValueError
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]!a} occurs twice")
    return found


def _checked_metadata(metadata: Any, path: Path | str) -> dict[str, str]:
    if isinstance(metadata, dict) and all(_is_text(value) for value in metadata.values()):
        return metadata
    raise _damaged(path, "the metadata cannot be read", expected="a JSON object of strings")


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _tensor(
    content: bytes, start: int, name: str, entry: Any, path: Path | str
) -> tuple[np.ndarray, int, int]:
    """One tensor and its byte span, after every field of its header entry has been checked."""
    fields = ("dtype", "shape", "data_offsets")
    if not (isinstance(entry, dict) and all(field in entry for field in fields)):
        raise _damaged(
            path, "an incomplete entry", tensor=name, expected=", ".join(fields), got=f"{entry!a}"
        )
    dtype, shape, offsets = (entry[field] for field in fields)
    if not isinstance(dtype, str) or dtype not in _STORED:
        raise WeightsError(
            f"{path}: unsupported dtype",
            module=f"tensor {name!a}",
            expected=", ".join(_STORED),
            got=f"{dtype!a}",
            fix="convert this tensor in the program that wrote the file",
        )
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2):
        raise _damaged(
            path,
            "shape and offsets are not lists of sizes",
            tensor=name,
            got=f"shape {shape!a:.80}, data_offsets {offsets!a:.80}",
        )
    stored = _STORED[dtype]
    (begin, end), available = offsets, len(content) - start
    wanted = stored.itemsize
    for size in shape:
        wanted *= size
    if not begin <= end <= available:
        raise _damaged(
            path,
            "the data lies outside the file, which may be cut short",
            tensor=name,
            expected=f"offsets within 0..{available}",
            got=f"{begin}..{end}",
        )
    if end - begin != wanted:
        raise _damaged(
            path,
            "shape and data do not fit",
            tensor=name,
            expected=f"{wanted} bytes for {dtype} {shape}",
            got=f"{end - begin} bytes",
        )
    try:
        flat = np.frombuffer(content, stored, wanted // stored.itemsize, start + begin)
        if dtype == "BF16":  # the upper half of a float32
            flat = np.left_shift(flat.astype(np.uint32), 16).view(np.float32)
        array = flat.reshape(shape)
    except ValueError as error:  # a shape numpy cannot hold: too many or too long axes
        raise _damaged(path, "impossible shape", tensor=name, got=error) from error
    return (array if array.flags.aligned else array.copy()), begin, end


def _sizes(values: Any) -> bool:
    few = isinstance(values, list) and len(values) <= _MAX_AXES
    return few and all(type(size) is int and 0 <= size < 2**63 for size in values)


def _check_spans(spans: list[tuple[int, int, str]], size: int, path: Path | str) -> None:
    """Every data byte belongs to exactly one tensor, as the format demands."""
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            problem = "overlaps the tensor before it" if begin < position else "follows a hole"
            raise _damaged(
                path, f"the data {problem}", tensor=name, expected=f"offset {position}", got=begin
            )
        position = end
    if position != size:
        raise _damaged(
            path, "bytes that belong to no tensor", expected=f"{position} bytes of data", got=size
        )
