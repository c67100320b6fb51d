"""The safetensors reader and writer, against the `safetensors` library and damaged files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trtnet.errors import WeightsError
from trtnet.weights import data_sha256, load, save

RNG = np.random.default_rng(0)
DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
STATE: dict[str, np.ndarray] = {
    **{f"t.{d}": RNG.integers(0, 2, (2, 3)).astype(d) for d in DTYPES},
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "strided": np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::3],
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "big_endian": np.arange(3, dtype=">i4"),
    "naïve ключ": np.ones(1, np.int8),
}


def raw_file(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header, which may be JSON-able or bytes, and this claimed length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_our_files_are_read_by_the_library(tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", STATE, {"b": "2", "a": "ü"})
    theirs = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert theirs.keys() == STATE.keys()
    for name, array in STATE.items():
        assert theirs[name].shape == array.shape
        assert theirs[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(theirs[name], array)
    with safetensors.safe_open(tmp_path / "w.safetensors", "np") as opened:
        assert opened.metadata() == {"a": "ü", "b": "2"}


def test_the_librarys_files_are_read(tmp_path: Path) -> None:
    state = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in STATE.items()}
    state["big_endian"] = state["big_endian"].astype("<i4")
    safetensors.numpy.save_file(state, tmp_path / "w.safetensors", {"key": "value"})
    ours = load(tmp_path / "w.safetensors")
    assert ours.metadata == {"key": "value"}
    assert set(ours) == set(state)
    for name, array in state.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(ours[name], array)


def test_torch_tensors_are_stored_as_they_are(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    state = {
        "parameter": parameter,
        "bf16": torch.tensor([[1.0, -2.5], [3e38, 1e-40]], dtype=torch.bfloat16),
        "bf16.scalar": torch.tensor(0.5, dtype=torch.bfloat16),
        "half": torch.tensor([65504.0, float("nan")], dtype=torch.float16),
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
    }
    save(tmp_path / "w.safetensors", state)
    theirs = safetensors.torch.load_file(tmp_path / "w.safetensors")
    for name, tensor in state.items():
        assert theirs[name].dtype == tensor.dtype
        torch.testing.assert_close(theirs[name], tensor.data, rtol=0, atol=0, equal_nan=True)
    ours = load(tmp_path / "w.safetensors")
    for name in ("bf16", "bf16.scalar"):
        assert ours[name].dtype == np.float32
        np.testing.assert_array_equal(ours[name], state[name].float().numpy())


def test_arrays_are_views_of_one_copy_and_cannot_be_written_to(tmp_path: Path) -> None:
    state = {"a": np.ones(3, np.int8), "b": np.ones(1, np.float32), "c": np.ones(2, np.int64)}
    save(tmp_path / "w.safetensors", state)
    weights = load(tmp_path / "w.safetensors")
    owners = set()
    for array in weights.values():
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        owners.add(id(owner))
        assert isinstance(owner, bytes)
        assert not array.flags.writeable
        assert array.flags.aligned
    assert len(owners) == 1
    with pytest.raises(ValueError, match="read-only"):
        weights["a"][0] = 2
    with pytest.raises(TypeError):
        weights["a"] = np.zeros(4)  # type: ignore[index]


def test_unaligned_tensors_are_aligned_by_copying(tmp_path: Path) -> None:
    header = {"a": entry("I8", [1], [0, 1]), "b": entry("F32", [2], [1, 9])}
    data = b"\1" + struct.pack("<2f", 1.5, -2)
    weights = load(raw_file(tmp_path / "w.safetensors", header, data))
    assert weights["b"].flags.aligned
    np.testing.assert_array_equal(weights["b"], np.float32([1.5, -2]))


def test_equal_input_gives_equal_bytes_and_the_hash_is_of_the_sorted_tensors(
    tmp_path: Path,
) -> None:
    save(tmp_path / "a.safetensors", STATE, {"x": "1", "y": "2"}, checksum=True)
    backwards = dict(reversed(STATE.items()))
    save(tmp_path / "b.safetensors", backwards, {"y": "2", "x": "1"}, checksum=True)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    expected = hashlib.sha256()
    for name in sorted(STATE):
        little_endian = STATE[name].astype(STATE[name].dtype.newbyteorder("<"))
        digest = hashlib.sha256(little_endian.tobytes()).hexdigest()
        expected.update(f"{digest} {name}\n".encode())
    weights = load(tmp_path / "a.safetensors")
    assert weights.metadata["sha256"] == expected.hexdigest() == data_sha256(weights)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert weights.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_can_be_saved_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, {"a": np.arange(5000.0)})
    weights = load(path)
    save(path, weights, {"again": "yes"})
    np.testing.assert_array_equal(weights["a"], np.arange(5000.0))
    np.testing.assert_array_equal(load(path)["a"], np.arange(5000.0))


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ones(2, np.complex64), "ndarray complex64"),
        (np.array(["text"]), "ndarray <U4"),
        ([1.0, 2.0], "list"),
        (torch.ones(2, dtype=torch.complex64), "Tensor torch.complex64"),
        (torch.ones(2, device="meta"), "Tensor torch.float32"),
        (torch.eye(2).to_sparse(), "Tensor torch.float32"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, value: Any, got: str) -> None:
    with pytest.raises(WeightsError, match=r"layer\.weight: cannot be stored") as caught:
        save(tmp_path / "w.safetensors", {"fine": np.ones(1), "layer.weight": value})
    assert f"got: {got}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "metadata", "problem"),
    [
        ({"__metadata__": np.ones(1)}, {}, "not a name for a tensor"),
        ({1: np.ones(1)}, {}, "not a name for a tensor"),
        ({"\ud800": np.ones(1)}, {}, "not valid Unicode"),
        ({"a": np.ones(1)}, {"epoch": 3}, "metadata is text only"),
    ],
)
def test_bad_names_and_metadata(tmp_path: Path, state: Any, metadata: Any, problem: str) -> None:
    with pytest.raises(WeightsError, match=problem):
        save(tmp_path / "w.safetensors", state, metadata)
    assert list(tmp_path.iterdir()) == []


EIGHT = b"\0" * 8


@pytest.mark.parametrize(
    ("header", "data", "length", "message"),
    [
        (b"", b"", None, "the header cannot be read"),
        (b"{}", b"", 1000, "impossible, or the file is cut short"),
        (b"{}", b"", 2**63, "impossible, or the file is cut short"),
        (b"{nonsense}", b"", None, "the header cannot be read"),
        (b'{"a":' * 50_000, b"", None, "the header cannot be read"),
        (b'{"\xff": 1}', b"", None, "the header cannot be read"),
        (b"[1, 2]", b"", None, "JSON object"),
        (b'{"a": {}, "a": {}}', b"", None, "'a' occurs twice"),
        ({"__metadata__": {"a": 1}}, b"", None, "metadata cannot be read"),
        ({"__metadata__": {"a": "\ud800"}}, b"", None, "metadata cannot be read"),
        ({"a": 3}, b"", None, "tensor 'a': .*incomplete entry"),
        ({"a": {"dtype": "F32", "shape": [2]}}, EIGHT, None, "tensor 'a': .*incomplete entry"),
        ({"a": entry("F8_E4M3", [8])}, EIGHT, None, "unsupported dtype"),
        ({"a": entry(["F32"])}, EIGHT, None, "unsupported dtype"),
        ({"a": entry(shape=[-1])}, EIGHT, None, "not lists of sizes"),
        ({"a": entry(shape=[True, 2])}, EIGHT, None, "not lists of sizes"),
        ({"a": entry(shape=[2.0])}, EIGHT, None, "not lists of sizes"),
        ({"a": entry(shape="2")}, EIGHT, None, "not lists of sizes"),
        ({"a": entry(shape=[1] * 65)}, EIGHT, None, "not lists of sizes"),
        ({"a": entry(offsets=[0])}, EIGHT, None, "not lists of sizes"),
        ({"a": entry(offsets=[0, 9])}, EIGHT, None, "outside the file, which may be cut short"),
        ({"a": entry(offsets=[8, 0])}, EIGHT, None, "outside the file"),
        ({"a": entry(shape=[3])}, EIGHT, None, "12 bytes for F32"),
        ({"a": entry(shape=[0, 2**62, 2**62], offsets=[0, 0])}, b"", None, "impossible shape"),
        ({"a": entry(), "b": entry()}, EIGHT, None, "tensor 'b': .*overlaps"),
        ({"a": entry(offsets=[4, 12])}, EIGHT + b"1234", None, "tensor 'a': .*follows a hole"),
        ({"a": entry()}, EIGHT + b"1", None, "bytes that belong to no tensor"),
    ],
)
def test_damaged_files(
    tmp_path: Path, header: Any, data: bytes, length: int | None, message: str
) -> None:
    path = raw_file(tmp_path / "w.safetensors", header, data, length)
    with pytest.raises(WeightsError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "fix: " in str(caught.value)


@pytest.mark.parametrize("keep", [1, 7, 8, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    save(path, {"a": np.ones(2000, np.float32), "b": np.ones(2, np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="fix: the file is damaged or incomplete"):
        load(path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    save(path, {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.int64)}, {"k": "v"})
    return path.read_bytes(), path.with_name("mutated.safetensors")


def _load_or_refuse(path: Path, content: bytes) -> None:
    """Any error other than WeightsError, and any array that cannot be read, fails the test."""
    path.write_bytes(content)
    with contextlib.suppress(WeightsError):
        weights = load(path)
        assert all(isinstance(array.sum(), np.generic) for array in weights.values())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bytes_raise_only_weights_errors(
    sample: tuple[bytes, Path], data: st.DataObject
) -> None:
    content = bytearray(sample[0])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    _load_or_refuse(sample[1], bytes(content[:cut]))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I8", "X"]) | _JSON,
        "shape": st.lists(st.integers(-1, 2**70), max_size=3) | _JSON,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | _JSON,
    }
)


@settings(max_examples=300, deadline=None)
@given(header=st.dictionaries(st.text(max_size=4), _ENTRY | _JSON, max_size=3) | _JSON)
def test_made_up_headers_raise_only_weights_errors(sample: tuple[bytes, Path], header: Any) -> None:
    text = json.dumps(header).encode()
    _load_or_refuse(sample[1], struct.pack("<Q", len(text)) + text + bytes(32))
