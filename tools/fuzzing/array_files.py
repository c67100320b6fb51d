"""Damaged and hostile ``.npy`` and ``.npz`` files.

Each case makes one file out of a random source and reads it. It passes if the file is read, or
refused with an error of trtnet; anything else is raised.
"""

from __future__ import annotations

import contextlib
import io
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from trtnet.errors import TrtnetError
from trtnet.reading.arrays import MOST_INFLATED, NpyFile, read_npy, read_npz

_KINDS = (
    *("<f4", "<f4", ">f4", "<f8", "<i8", ">i2", "|u1", "|b1", "<f2", "<f16"),
    *("|O", "<c8", "<M8[s]", "<U4", "|S3", "|V2", "<f3", "x", "", "=f4", ">>f4", "<f99", "|b8"),
)
_SIZES = (0, 1, 2, 3, 3, 4, 7, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30, -1)
_NAMES = ("x", "y", "labels", "input", "x.npy", "../x", "/abs", "a\\b", "ü", "", "\x01", "x/")
_MOST_HEADERS = 70_000


def npy(random: Random) -> None:
    """A ``.npy`` file, whole and by rows."""
    with _file(random, npy_bytes(random), "x.npy") as path:
        with contextlib.suppress(TrtnetError):
            array = read_npy(path, "an array")
            assert array.nbytes <= path.stat().st_size
            assert array.dtype.isnative
            assert array.dtype.kind in "biuf"
        with contextlib.suppress(TrtnetError):
            rows = NpyFile(path, "an array")
            if rows.shape:
                rows[np.arange(min(rows.shape[0], 3))]


def npz(random: Random) -> None:
    """A ``.npz`` file."""
    with _file(random, npz_bytes(random), "x.npz") as path, contextlib.suppress(TrtnetError):
        arrays = read_npz(path, "arrays")
        total = sum(array.nbytes for array in arrays.values())
        assert total <= path.stat().st_size + MOST_INFLATED
        assert all(array.dtype.kind in "biuf" for array in arrays.values())


def npy_bytes(random: Random) -> bytes:
    """The content of a ``.npy`` file, which may be none."""
    if random.random() < 0.3:
        file = io.BytesIO()
        np.save(file, _array(random))
        return file.getvalue()
    shape = tuple(random.choice(_SIZES) for _ in range(random.choice((0, 1, 2, 2, 4, 40))))
    header = _header(random, random.choice(_KINDS), random.choice((True, False, False)), shape)
    version = random.choice((1, 1, 1, 2, 3, 0, 9))
    length = random.choice((len(header), len(header), 0, 0xFFFF, len(header) + 5))
    width = "<H" if version == 1 else "<I"
    if version != 1 and random.random() < 0.2:
        length = 2**32 - 1
    data = bytes(random.choice((0, 4, 24, 1000)))
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, length) + header + data


def _header(random: Random, kind: str, fortran: bool, shape: tuple[int, ...]) -> bytes:
    fields: dict[str, Any] = {"descr": kind, "fortran_order": fortran, "shape": shape}
    changed = random.random()
    if changed < 0.1:
        fields.pop(random.choice(list(fields)))
    elif changed < 0.2:
        values: tuple[Any, ...] = (None, 1.5, [("a", "<f4")], "x", (1, (2,)), {}, -3, "(" * 900)
        fields[random.choice(list(fields))] = random.choice(values)
    elif changed < 0.25:
        fields["more"] = 1
    text = repr(fields)
    if changed > 0.95:
        text = random.choice(("[" * 9000, "{" * 9000, "1" * 60_000, "(" + "1," * 4000, "\0" * 64))
    return text.encode()[:_MOST_HEADERS] + random.choice((b"\n", b"", b"      \n"))


def npz_bytes(random: Random) -> bytes:
    """The content of a ``.npz`` file, which may be none."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for _ in range(random.choice((0, 1, 1, 2, 5))):
            method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            if random.random() < 0.05:
                method = random.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            info = zipfile.ZipInfo(random.choice(_NAMES) + random.choice((".npy", ".npy", "")))
            info.compress_type = method
            array = npy_bytes(random)
            if random.random() < 0.05:
                array += bytes(10**6)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a name that occurs twice
                archive.writestr(info, array)
    content = bytearray(file.getvalue())
    _lie(random, content)
    return bytes(content)


def _lie(random: Random, content: bytearray) -> None:
    """Changes what the directory says of an entry: flags, method, sizes, place."""
    at = content.rfind(b"PK\1\2")
    if at < 0 or random.random() < 0.5:
        return
    places = ((8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (42, "<I"))
    offset, kind = random.choice(places)
    value = random.choice((0, 1, 8, 9, 99, 0xFFFF, *(() if kind == "<H" else (2**30, 2**32 - 1))))
    struct.pack_into(kind, content, at + offset, value)


def _array(random: Random) -> np.ndarray:
    shape = tuple(random.choice((0, 1, 2, 3, 8)) for _ in range(random.randrange(4)))
    array = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
    array = array.astype(random.choice(("<f4", ">f4", "f8", "i8", "u1", "?", "f2", "c8", "U3")))
    return np.asfortranarray(array) if random.random() < 0.3 else array


def mutated(random: Random, content: bytes) -> bytes:
    """`content` with a few bytes changed, or cut short; often as it is."""
    changed = bytearray(content)
    if changed and random.random() < 0.6:
        for _ in range(random.randrange(4)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        if random.random() < 0.2:
            del changed[random.randrange(len(changed)) :]
    return bytes(changed)


@contextlib.contextmanager
def _file(random: Random, content: bytes, name: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(mutated(random, content))
        yield path


CASES: dict[str, Callable[[Random], None]] = {"npy": npy, "npz": npz}
"""What runs one case of each kind."""
