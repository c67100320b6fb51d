"""npz and npy files of foreign origin, as a user meets them."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from fuzzing import array_files
from hypothesis import given, settings
from hypothesis import strategies as st

from trtnet.cli.arrays import write_results
from trtnet.errors import UsageError
from trtnet.reading import arrays
from trtnet.reading.arrays import NpyFile, entry_name, read_npy, read_npz

ARRAYS: dict[str, np.ndarray] = {
    "single": np.arange(6, dtype=np.float32).reshape(2, 3),
    "big_endian": np.arange(4, dtype=">i8"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(3, np.int16),
    "empty": np.zeros((0, 4), np.float16),
    "flags": np.array([True, False]),
}


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def with_header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "x.npz", **ARRAYS)
    found = read_npz(tmp_path / "x.npz", "arrays")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].shape, found[name].dtype.isnative) == (array.shape, True)
        np.save(tmp_path / "x.npy", array)
        np.testing.assert_array_equal(read_npy(tmp_path / "x.npy", "an array"), array)
        if array.ndim:
            rows = np.arange(len(array))[::-1]
            np.testing.assert_array_equal(NpyFile(tmp_path / "x.npy", "rows")[rows], array[rows])
    only = read_npz(tmp_path / "x.npz", "arrays", only=("flags", "other"))
    assert list(only) == ["flags"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no .npy file\n  expected: an input\n  got: nothing"),
        (b"text", "it is no .npy file"),
        (npy(np.ones(9))[:-1], "it is cut short"),
        (npy(np.array([{}], object), allow_pickle=True), "pickled objects, which are never loaded"),
        (npy(np.ones(2, np.complex64)), "complex numbers"),
        (npy(np.array(["2020-01-01"], "M8[D]")), "points in time"),
        (npy(np.array(["a"])), "got: text"),
        (npy(np.zeros(2, [("a", "<f4")])), "structures"),
        (npy(np.zeros(2, "V2")), "raw bytes (a type that numpy lacks, such as bfloat16)"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 1000000000)}"),
         "0 bytes for float32 (9, 1000000000), which takes 36000000000"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "its header"),
        (with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**64},)}}"),
         "its shape is impossible"),
        (with_header("{'descr': '<f4'}"), "its header is damaged"),
        (with_header("[" * 9999), "its header is damaged"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1), "4294967295 bytes"),
    ],
)  # fmt: skip
def test_damaged_npy_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_npy(path, "an input")
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def corrupt_deflate() -> bytes:
    content = bytearray(zipped(("x.npy", npy(np.arange(999.0))), method=zipfile.ZIP_DEFLATED))
    content[200:230] = b"\xff" * 30
    return bytes(content)


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def claiming(size: int) -> bytes:
    """An archive whose entry says that it has `size` bytes."""
    content = bytearray(zipped(("x.npy", npy(np.zeros(10)))))
    struct.pack_into("<I", content, content.rfind(b"PK\1\2") + 24, size)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zipped(("x.npy", npy(np.zeros(10)))))
    struct.pack_into("<H", content, content.rfind(b"PK\1\2") + 8, 1)
    return bytes(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "it is no .npz file, or a damaged one"),
        (npy(np.ones(2)), "it is no .npz file"),
        (zipped(("x.npy", npy(np.ones(2))))[:-30], "it is no .npz file, or a damaged one"),
        (corrupt_deflate(), "'x' cannot be read"),
        (encrypted(), "'x' cannot be read: it is encrypted"),
        (zipped(("notes.txt", b"hello")), "'notes.txt' cannot be read: it is no .npy file"),
        (zipped(("x.npy", npy(np.ones(2))), ("x", b"")), "'x' cannot be read: the name occurs"),
        (zipped(("x.npy", npy(np.ones(2)) + b"more")), "it does not have the size of its array"),
        (zipped(("x.npy", npy(np.ones(2))), method=zipfile.ZIP_LZMA), "its compression is none of"),
        (claiming(4_000_000_000), "its entries are too large for a file of its size"),
        (claiming(900_000_000), "it does not have the size of its array"),
    ],
)
def test_damaged_npz_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_npz(path, "an input")
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_bomb_is_refused_before_it_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "MOST_INFLATED", 10**6)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(20_000_000, np.uint8))
    with pytest.raises(UsageError, match=r"got: 20\.0 MB in 0\.0\d MB"):
        read_npz(tmp_path / "x.npz", "an input")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    for read in (read_npy, read_npz, NpyFile):
        with pytest.raises(UsageError, match="not a regular file"):
            read(tmp_path / "x.npy", "an input")


def test_rows_of_a_file_that_changes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((100, 50)))
    rows = NpyFile(path, "calibration data")
    assert rows[np.array([99])].shape == (1, 50)
    os.truncate(path, 1000)
    with pytest.raises(UsageError, match="changed while it was in use"):
        rows[np.array([99])]


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("logits", "logits"),
        ("block/0", "block/0"),
        ("a:0", "a:0"),
        ("../../x", "..%2F..%2Fx"),
        ("/etc/x", "%2Fetc%2Fx"),
        ("C:\\x", "C%3A%5Cx"),
        ("a\\..\\b", "a%5C..%5Cb"),
        ("a\0b", "a%00b"),
        ("..", ".."),
        ("", ""),
        ("50%2F", "50%252F"),
    ],
)
def test_names_of_outputs_stay_in_the_directory(tmp_path: Path, name: str, entry: str) -> None:
    assert entry_name(name) == entry
    assert unquote(entry) == name
    write_results(tmp_path / "o.npz", {name: np.ones(2)})
    with zipfile.ZipFile(tmp_path / "o.npz") as archive:
        archive.extractall(tmp_path / "deep" / "er")
        assert archive.namelist() == [f"{entry}.npy"]
    (found,) = (path for path in tmp_path.rglob("*.npy"))
    assert (tmp_path / "deep" / "er") in found.parents
    with np.load(tmp_path / "o.npz") as loaded:
        np.testing.assert_array_equal(loaded[entry], np.ones(2))


@pytest.mark.parametrize("kind", array_files.CASES)
@settings(max_examples=80, deadline=10_000)
@given(random=st.randoms(use_true_random=False))
def test_any_file_is_read_or_refused(kind: str, random: Random) -> None:
    array_files.CASES[kind](random)
