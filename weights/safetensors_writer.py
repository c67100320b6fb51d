"""Writing safetensors files: atomically, one tensor at a time, equal bytes for equal input."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtnet.errors import WeightsError
from trtnet.files import atomic_write, is_full, reserve
from trtnet.weights.container import CHECKSUM, data_sha256, raw_bytes
from trtnet.weights.safetensors_reader import LENGTH_BYTES, METADATA, NUMPY
from trtnet.workers import Workers

_NAMES = {numpy_name: name for name, numpy_name in NUMPY.items()}


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    itemsize: int
    value: Any

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        size = self.itemsize
        for axis in self.shape:
            size *= axis
        return size


def save(
    path: str | os.PathLike[str],
    state: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    checksum: bool = False,
) -> None:
    """Writes numpy arrays or torch tensors of any layout as a safetensors file, atomically.

    One tensor at a time is written, so no second copy of the weights is made. Equal input gives
    equal bytes. BF16 stays BF16.

    Args:
        path: the file; an old one is replaced only when the new one is complete.
        state: key → array or tensor. Values are stored as they are, NaN included.
        metadata: text to store with them.
        checksum: adds ``sha256``, the :func:`trtnet.weights.data_sha256` of `state` (which must
            then hold numpy arrays), to the metadata; it is computed while writing.

    Raises:
        WeightsError: a value cannot be stored, or the file cannot be written.
    """
    entries = _entries(state)
    notes = dict(metadata or {})
    if checksum:
        notes[CHECKSUM] = "0" * 64  # the header's length must be known before the hash is
    header = _encoded_header(entries, notes)
    size = len(header) + sum(entry.nbytes for entry in entries)
    try:
        # No fsync: weights can be written again and carry a hash.
        with atomic_write(path, durable=False) as file:
            digest = Workers(1).submit(data_sha256, state) if checksum else None
            reserve(file, size)
            file.write(header)
            for entry in entries:
                file.write(raw_bytes(_to_numpy(entry.value)))
            if digest is not None:
                file.seek(0)
                file.write(_encoded_header(entries, {**notes, CHECKSUM: digest.result()}))
    except OSError as error:
        raise _cannot_write(Path(path), size, error) from error


def dumps(state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes that :func:`save` writes.

    Raises:
        WeightsError: a value cannot be stored.
    """
    entries = _entries(state)
    header = _encoded_header(entries, metadata or {})
    return b"".join([header, *(raw_bytes(_to_numpy(entry.value)) for entry in entries)])


def _cannot_write(path: Path, size: int, error: OSError) -> WeightsError:
    fix = "choose another place for the file"
    if is_full(error):
        fix = f"free {size / 1e6:.1f} MB, or choose another place; an old file is unchanged"
    elif error.errno == errno.ENOENT:
        fix = f"create the directory {path.parent}"
    return WeightsError(f"{path} cannot be written", got=error, fix=fix)


def _encoded_header(entries: list[_Entry], metadata: Mapping[str, str]) -> bytes:
    """The length and the JSON header, padded with spaces so that the data starts aligned."""
    header: dict[str, Any] = {}
    if metadata:
        header[METADATA] = {key: metadata[key] for key in sorted(metadata)}
    position = 0
    for entry in entries:
        end = position + entry.nbytes
        header[entry.name] = {
            "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [position, end]
        }  # fmt: skip
        position = end
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise WeightsError("metadata is text only", expected="str → str", got=f"{metadata!a:.200}")
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise WeightsError("a name or a metadata text is not valid Unicode", got=error) from error
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _entries(state: Mapping[str, Any]) -> list[_Entry]:
    """Wide types first, which keeps every tensor aligned."""
    entries = [_entry(name, value) for name, value in state.items()]
    return sorted(entries, key=lambda entry: (-entry.itemsize, entry.name))


def _entry(name: Any, value: Any) -> _Entry:
    if not isinstance(name, str) or name == METADATA:
        raise WeightsError(
            "not a name for a tensor", expected=f"a string other than {METADATA}", got=f"{name!a}"
        )
    if _is_torch(value):
        storable = value.layout == sys.modules["torch"].strided and not value.is_meta
        dtype = _torch_names().get(value.dtype) if storable else None
        itemsize = value.element_size()
    else:
        known = isinstance(value, (np.ndarray, np.generic))
        dtype = _NAMES.get(value.dtype.newbyteorder("<").str) if known else None
        itemsize = value.dtype.itemsize if known else 0
    if dtype is None:
        raise WeightsError(
            "cannot be stored in a safetensors file",
            module=name,
            expected=f"a dense array or tensor of {', '.join((*NUMPY, 'BF16'))}",
            got=f"{type(value).__name__} {getattr(value, 'dtype', '')}".strip(),
        )
    return _Entry(name, dtype, tuple(int(axis) for axis in value.shape), itemsize, value)


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a tensor can only be given where torch is imported already
    return torch is not None and isinstance(value, torch.Tensor)


def _torch_names() -> dict[Any, str]:
    torch = sys.modules["torch"]
    numpy_types = {name: np.dtype(numpy_name).name for name, numpy_name in NUMPY.items()}
    return {getattr(torch, numpy_types.get(n, "bfloat16")): n for n in (*NUMPY, "BF16")}


def _to_numpy(value: Any) -> np.ndarray:
    if _is_torch(value):
        torch = sys.modules["torch"]
        if value.dtype == torch.bfloat16:
            value = value.detach().cpu().contiguous().view(torch.int16)
        value = value.numpy(force=True)
    return np.asarray(value)
