"""The .wts reader and writer, against upstream's own code, a naive parser and damaged files."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trtnet
from trtnet import reference, zoo
from trtnet.errors import WeightsError
from trtnet.weights import Weights, load, random_state, wts

pytestmark = pytest.mark.alone

RNG = np.random.default_rng(0)
BITS = [
    0x00000000, 0x80000000,  # 0 and -0
    0x00000001, 0x807FFFFF,  # denormal
    0x3F800000, 0xFF7FFFFF, 0x7F800000, 0xFF800000,  # 1, the lowest, infinities
    0x7FC00000, 0xFFC12345, 0x7F800001, 0xFFBFFFFF,  # quiet and signalling NaN, with payloads
]  # fmt: skip


def upstream(model: torch.nn.Module, path: Path) -> None:
    """What tensorrtx's gen_wts.py does, line by line."""
    with open(path, "w") as f:
        f.write("{}\n".format(len(model.state_dict().keys())))  # noqa: UP032
        for k, v in model.state_dict().items():
            vr = v.reshape(-1).cpu().numpy()
            f.write("{} {} ".format(k, len(vr)))  # noqa: UP032
            for vv in vr:
                f.write(" ")
                f.write(struct.pack(">f", float(vv)).hex())
            f.write("\n")


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    model(torch.randn(5, 3, 3, 3))  # counts a batch
    return model


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bits(array: np.ndarray) -> list[int]:
    return array.view(np.uint32).tolist()


def test_upstreams_files_are_read(tmp_path: Path) -> None:
    model = small_model()
    upstream(model, tmp_path / "w.wts")
    weights = load(tmp_path / "w.wts")
    assert weights.flat
    assert list(weights) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], tensor.numpy().reshape(-1))


def test_our_files_are_upstreams(tmp_path: Path) -> None:
    model = small_model()
    upstream(model, tmp_path / "theirs.wts")
    wts.write(tmp_path / "ours.wts", {k: v.numpy() for k, v in model.state_dict().items()})
    assert (tmp_path / "ours.wts").read_bytes() == (tmp_path / "theirs.wts").read_bytes()


def test_every_bit_survives(tmp_path: Path) -> None:
    random = RNG.integers(0, 2**32, (1 << 20) + 3, np.uint32)  # more than is decoded at a time
    state = {
        "special": np.array(BITS, np.uint32).view(np.float32),
        "random": random.view(np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(-0.0, np.float32),
        "naïve.ключ": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    wts.write(tmp_path / "w.wts", state)
    weights = load(tmp_path / "w.wts")
    assert list(weights) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(
            weights[name].view(np.uint32), np.ascontiguousarray(array).reshape(-1).view(np.uint32)
        )
    wts.write(tmp_path / "again.wts", weights)
    assert (tmp_path / "again.wts").read_bytes() == (tmp_path / "w.wts").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "1\na 3  3f800000 00000001 c0000000\n",
        "1 a 3 3f800000 00000001 c0000000",
        "  1\r\n a\t3\r\n3f800000\r\n00000001\r\nc0000000\r\n\r\n",
        "1\na 3 0x3f800000 0X1 0xC0000000  \n",
        "1\na 3 3F800000 1 c0000000\n",
        "1\na 3\t3f800000\t00000001\tc0000000\n",
        "1\na 3   3f800000   00000001   c0000000\n",
        "01\na 003 3f800000 1 \x0bc0000000\x0c\n",
    ],
)
def test_other_spellings(tmp_path: Path, text: str) -> None:
    weights = load(written(tmp_path / "w.wts", text))
    assert bits(weights["a"]) == [0x3F800000, 1, 0xC0000000]


MALFORMED = {
    "no count": ("conv1.weight 1 3f800000\n", "the number of entries cannot be read"),
    "blank": (" \n", "ends before the number of entries"),
    "fewer entries": ("2\na 1 3f800000\n", "ends before the name of entry 2 of 2"),
    "more entries": ("1\na 1 0\nb 1 0\n", "goes on after the last entry, number 1"),
    "trailing garbage": ("1\na 1 0\n\0\0", "goes on after the last entry"),
    "duplicate": ("2\na 1 0\na 1 0\n", "entry 'a': .*occurs twice"),
    "no value count": ("1\na", "entry 'a': .*ends before the count of values"),
    "count is no number": ("1\na 3f 0\n", "entry 'a': .*the count of values cannot be read"),
    "negative count": ("1\na -1 0\n", "entry 'a': .*the count of values cannot be read"),
    "count too small": ("2\na 1 0 0\nb 1 0\n", "the count of values cannot be read"),
    "count too large": ("2\na 3 0 0\nb.c 1 0\n", "entry 'a': .*value 3 of 3 cannot be read"),
    "gigantic count": ("1\na 99999999999 0\n", "entry 'a': .*more values are declared"),
    "endless count": (f"1\na {'9' * 5000} 0\n", "entry 'a': .*the count of values cannot be read"),
    "truncated": ("1\na 3 3f800000 3f8000", "entry 'a': .*ends after 2 of 3 values"),
    "not hexadecimal": ("1\na 2 3f800000 3f80000g\n", "entry 'a': .*value 2 of 2"),
    "a decimal": ("1\na 2 1.0 2.0\n", "entry 'a': .*value 1 of 2"),
    "a sign": ("1\na 2 -1 2\n", "entry 'a': .*value 1 of 2"),
    "an underscore": ("1\na 2 1_0 2\n", "entry 'a': .*value 1 of 2"),
    "a double": ("1\na 2 3ff0000000000000 0\n", "entry 'a': .*value 1 of 2"),
    "nine digits": ("1\na 2 00000000 000000000\n", "entry 'a': .*value 2 of 2"),
    "run together": ("1\na 2 3f80000000000000\n", "entry 'a': .*value 1 of 2"),
    "name is no text": (b"1\n\xff\xfe 1 0\n", "the name of entry 1 of 1 cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_files(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = written(tmp_path / "w.wts", content)
    with pytest.raises(WeightsError, match=message) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text
    assert re.search(r"got: .* at byte \d+ \(line \d\)", text)
    assert "fix: " in text


def test_the_place_of_the_mistake_is_given(tmp_path: Path) -> None:
    path = written(tmp_path / "w.wts", "2\na 1 0\nb 2 3f800000 oops\n")
    with pytest.raises(WeightsError, match=r"got: b'oops' at byte 21 \(line 3\)"):
        load(path)


def test_the_value_is_counted_through_a_long_entry(tmp_path: Path) -> None:
    count = (1 << 20) + 3
    content = f"1\na {count} {' 00000000' * (count - 1)} oops\n"
    with pytest.raises(WeightsError, match=f"value {count} of {count} cannot be read"):
        load(written(tmp_path / "w.wts", content))


def test_known_by_content_or_by_name(tmp_path: Path) -> None:
    content = "1\na 1 3f800000\n"
    for name in ("w.wts", "w.txt", "w"):
        assert load(written(tmp_path / name, content))["a"] == 1
    torch.save({"a": torch.ones(1)}, tmp_path / "checkpoint.wts")
    assert not load(tmp_path / "checkpoint.wts").flat


def test_five_million_values_in_0_3_seconds(tmp_path: Path) -> None:
    state = {f"layer{i}": RNG.standard_normal(500_000, np.float32) for i in range(10)}
    wts.write(tmp_path / "w.wts", state)
    times = []
    for _ in range(5):
        started = time.process_time()  # other programs on this machine do not count
        weights = load(tmp_path / "w.wts")
        times.append(time.process_time() - started)
    assert min(times) <= 0.3
    for name, array in state.items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([0.1]), "cannot store these values exactly"),
        (np.array([1e300]), "cannot store these values exactly"),
        (np.array([2**24 + 1]), "cannot store these values exactly"),
        (np.array([2**63 - 1]), "cannot store these values exactly"),
        (np.array([1j]), "cannot be stored in a .wts file"),
    ],
)
def test_what_a_float32_cannot_say_is_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        wts.write(tmp_path / "w.wts", {"fine": np.ones(1, np.float32), "layer.weight": array})
    assert caught.value.module == "layer.weight"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "two words", "line\n", "\ud800"])
def test_names_that_break_the_format_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="cannot be a name"):
        wts.write(tmp_path / "w.wts", {name: np.ones(1, np.float32)})


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be written"):
        wts.write(tmp_path / "nowhere" / "w.wts", {"a": np.ones(1, np.float32)})


def test_numbers_that_are_float32_are_stored(tmp_path: Path) -> None:
    state = {
        "double": np.array([0.5, np.nan, np.inf]), "half": np.array([65504], np.float16),
        "count": np.array(7), "mask": np.array([True, False]),
    }  # fmt: skip
    wts.write(tmp_path / "w.wts", state)
    for name, array in load(tmp_path / "w.wts").items():
        np.testing.assert_array_equal(array, state[name].reshape(-1))


def test_a_module_gives_the_shapes(tmp_path: Path) -> None:
    model = small_model()
    upstream(torch.nn.DataParallel(model), tmp_path / "w.wts")
    ours = trtnet.nn.Sequential(
        trtnet.nn.Conv2d(3, 4, 3),
        trtnet.nn.BatchNorm2d(4),
        trtnet.nn.Flatten(),
        trtnet.nn.Linear(4, 2),
    )
    ours.load_state_dict(load(tmp_path / "w.wts"))
    held = ours.state_dict()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(held[name], tensor.numpy(), strict=True)  # shape and dtype


def test_weights_of_another_size_are_all_listed(tmp_path: Path) -> None:
    wts.write(tmp_path / "w.wts", {"weight": np.ones(5, np.float32), "b": np.ones(2, np.float32)})
    with pytest.raises(WeightsError, match="3 problem") as caught:
        trtnet.nn.Linear(3, 2).load_state_dict(load(tmp_path / "w.wts"))
    assert "shape of weight: expected (2, 3), got (5,)" in str(caught.value)


def test_only_files_without_shapes_are_reshaped() -> None:
    with pytest.raises(WeightsError, match="shape of weight"):
        trtnet.nn.Linear(3, 2, bias=False).load_state_dict(
            Weights({"weight": np.ones(6, np.float32)})
        )


def test_indices_become_integers_only_if_they_are_some() -> None:
    flat = Weights(
        {
            "a.relative_position_index": np.array([0, 1, 2, 3], np.float32),
            "b.num_batches_tracked": np.array([np.nan], np.float32),
            "c.weight": np.array([1, 2], np.float32),
        },
        flat=True,
    )
    shaped = flat.shaped(
        {"a.relative_position_index": (2, 2), "b.num_batches_tracked": (), "c.weight": (2, 1)}
    )
    assert not shaped.flat
    assert {name: (array.dtype.name, array.shape) for name, array in shaped.items()} == {
        "a.relative_position_index": ("int64", (2, 2)),
        "b.num_batches_tracked": ("float32", ()),
        "c.weight": ("float32", (2, 1)),
    }


def test_resnet50_from_upstream_gives_the_same_logits(tmp_path: Path) -> None:
    """The writer writes what upstream's code does, as tested above, but in seconds."""
    from torchvision import models

    state = random_state("resnet50", seed=3, input_shape=(3, 64, 64))
    wts.write(tmp_path / "resnet50.wts", state)
    ours = zoo.get_model("resnet50")
    ours.load_state_dict(load(tmp_path / "resnet50.wts"))
    network = trtnet.Network("rtx")
    network.output("logits", ours(network.input("input", (1, 3, 64, 64))))
    images = RNG.standard_normal((1, 3, 64, 64)).astype(np.float32)
    found = reference.run(network.definition, {"input": images})["logits"]

    theirs = models.resnet50().eval()
    theirs.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def naive(content: bytes) -> dict[str, list[int]] | None:
    """The grammar, token by token; None for a file that breaks it."""
    tokens = iter(content.split())
    found: dict[str, list[int]] = {}

    def decimal() -> int:
        token = next(tokens)
        if not re.fullmatch(rb"[0-9]{1,18}", token):
            raise ValueError
        return int(token)

    try:
        for _ in range(decimal()):
            name = next(tokens).decode()
            count = decimal()
            values = []
            for _ in range(count):
                token = next(tokens)
                if name in found or not re.fullmatch(rb"(0[xX])?[0-9a-fA-F]{1,8}", token):
                    raise ValueError
                values.append(int(token, 16))
            if name in found:
                raise ValueError
            found[name] = values
        return found if next(tokens, None) is None else None
    except (ValueError, StopIteration):
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def _agrees(path: Path, content: bytes) -> None:
    """Any error other than WeightsError, and any other result, fails the test."""
    path.write_bytes(content)
    found = None
    with contextlib.suppress(WeightsError):
        found = {name: bits(array) for name, array in load(path).items()}
    assert found == naive(content)


_SAMPLE = (
    b"3\nconv.weight 4  3f800000 00000000 7fc00001 80000000\n"
    b"bn.num_batches_tracked 1  40400000\nfc.bias 2  3f000000 bf000000\n"
)
_BYTE = st.sampled_from(b" \n\t\x0b\x1c0123456789abcdefxXg_.-+\x00\xff")


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_files(folder: Path, data: st.DataObject) -> None:
    content = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 1, 1, 9]))
        content[start : start + length] = bytes(data.draw(st.lists(_BYTE, max_size=9)))
    _agrees(folder / "mutated.wts", bytes(content))


_VALUES = st.lists(
    st.one_of(
        st.integers(0, 2**32 - 1).map("{:08x}".format),
        st.integers(0, 2**32 - 1).map("{:x}".format),
        st.integers(0, 2**32 - 1).map("{:#X}".format),
        st.text("0123456789abcdefx", min_size=1, max_size=10),
    ),
    max_size=5,
)
_SPACE = st.sampled_from([" ", " ", " ", "  ", "\n", "\t"])


@settings(max_examples=400, deadline=None)
@given(
    entries=st.lists(st.tuples(st.sampled_from("abcd1"), _VALUES), max_size=3),
    spaces=st.lists(_SPACE, min_size=40, max_size=40),
    error=st.sampled_from([0, 0, 0, 1, -1]),
)
def test_made_up_files(
    folder: Path, entries: list[tuple[str, list[str]]], spaces: list[str], error: int
) -> None:
    tokens = [str(len(entries))]
    for name, values in entries:
        tokens += [name, str(max(0, len(values) + error)), *values]
    text = "".join(token + space for token, space in zip(tokens, spaces, strict=False))
    _agrees(folder / "made_up.wts", text.encode())
