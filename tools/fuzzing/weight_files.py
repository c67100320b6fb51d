"""Damaged and hostile files of weights: safetensors, PyTorch checkpoints, ``.wts``, darknet's."""

from __future__ import annotations

import contextlib
import copy
import json
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzzing.array_files import mutated
from trtnet.errors import TrtnetError
from trtnet.reading.arrays import MOST_INFLATED
from trtnet.weights import load

_NUMBERS: tuple[Any, ...] = (
    *(0, 1, 4, 8, 2**31, 2**40, 2**62, 2**63, 2**64, -1, 1.5, True, None, "8"),
    *([8], {}, 1e308),
)


def safetensors(random: Random) -> None:
    """A safetensors file with a header that lies."""
    entries = {
        f"t{i}": {"dtype": "F32", "shape": [2], "data_offsets": [8 * i, 8 * i + 8]}
        for i in range(3)
    }
    header: dict[str, Any] = {"__metadata__": {"a": "b"}, **entries}
    for _ in range(random.randrange(4)):
        change_json(random, header, _NUMBERS)
    text = json.dumps(header).encode()
    length = random.choice((len(text), len(text), len(text), 0, 2**40, 2**64 - 1))
    content = struct.pack("<Q", length) + text + bytes(random.choice((24, 24, 0, 25)))
    _load(random, content, "w.safetensors")


def checkpoint(random: Random) -> None:
    """A PyTorch checkpoint of strange tensors."""
    import torch

    state = {f"layer.{i}": _tensor(random, torch) for i in range(random.randrange(4))}
    saved: Any = {"state_dict": state} if random.random() < 0.3 else state
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.pth")
        torch.save(saved, path, _use_new_zipfile_serialization=random.random() < 0.7)
        content = path.read_bytes()
    _load(random, content, "w.pth")


def pickled_module(random: Random) -> None:
    """A checkpoint with a whole model, some part of which is something else."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    vars(model)["names"] = {0: "a", 1: "b"}
    owners = [model, *model]
    for _ in range(random.randrange(3)):
        owner = random.choice(owners)
        part = random.choice(["_parameters", "_buffers", "_modules", "names"])
        strange: tuple[Any, ...] = (
            model,
            None,
            {},
            set,
            3,
            Path("x"),
            _tensor(random, torch),
            torch.nn.ReLU(),
        )
        if part == "names" or random.random() < 0.2:
            owner.__dict__[part] = random.choice(strange)
        elif type(owner.__dict__[part]) is dict:
            owner.__dict__[part][random.choice(("0", "weight", "x.y", 3))] = random.choice(strange)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.pt")
        torch.save({"model": model, "ema": random.choice((None, model))}, path)
        content = path.read_bytes()
    _load(random, content, "w.pt")


_CFG = b"""[net]
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[route]
layers=-1
groups=2
group_id=1
[maxpool]
size=2
stride=2
[convolutional]
filters=12
[yolo]
mask=0,1
anchors=1,2,3,4
classes=1
"""


def darknet(random: Random) -> None:
    """A description of darknet's with its file."""
    content = struct.pack("<iiiq", 0, random.choice((1, 2, 2, 2, -1, 10**9)), 0, 0)
    content += np.arange(4 * 4 + 108 + 12 + 24, dtype="<f4").tobytes()
    lines = _CFG.split(b"\n")
    for _ in range(random.randrange(3)):
        at = random.randrange(len(lines))
        key = lines[at].partition(b"=")[0]
        strange = (b"-1", b"0", b"1e9", b"99999999999", b"x", b"", b"nan", b"1,2,3", b"-1,-1,-2")
        lines[at] = random.choice((b"", b"[yolo]", key + b"=" + random.choice(strange)))
    _load(random, content, "w.weights", {"w.cfg": mutated(random, b"\n".join(lines))})


def wts(random: Random) -> None:
    """A ``.wts`` file."""
    tokens = [b"2", b"a", b"3", b"3f800000", b"0", b"7fc00000", b"b", b"1", b"40000000"]
    for _ in range(random.randrange(3)):
        strange = (b"99999999999999", b"-1", b"zz", b"", b"\xff", b"3f8000001", b"a", b"0x1")
        tokens[random.randrange(len(tokens))] = random.choice(strange)
    _load(random, random.choice((b" ", b"\n", b"  ")).join(tokens), "w.wts")


def _tensor(random: Random, torch: Any) -> Any:
    size = random.choice((1, 3, 2**10, 2**33, 2**40, 2**61))
    makers: tuple[Callable[[], Any], ...] = (
        lambda: torch.arange(12.0).reshape(3, 4).t(),
        lambda: torch.zeros(1).expand(size),
        lambda: torch.zeros(1, 1).expand(size, 3),
        lambda: torch.arange(9.0).as_strided((3, 3), (2, 1), 2),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.ones(2, dtype=torch.complex64).conj(),
        lambda: torch._neg_view(torch.ones(2)),
        lambda: torch.ones(3).bfloat16(),
        lambda: torch.ones(3).to(torch.float8_e4m3fn),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.nn.Parameter(torch.ones(2)),
        lambda: random.choice((None, 3, "text", [1.0], {})),
    )
    return random.choice(makers)()


def change_json(random: Random, value: Any, choices: tuple[Any, ...]) -> None:
    """Replaces, removes or doubles one entry somewhere in `value`, a JSON object or array."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and random.random() < 0.85:
            value = value[key]
            continue
        action = random.random()
        if action < 0.15:
            del value[key]
        elif action < 0.25 and isinstance(value, list):
            value.append(copy.deepcopy(value[key]))
        else:
            value[key] = copy.deepcopy(random.choice(choices))
        return


def _load(
    random: Random, content: bytes, name: str, beside: Mapping[str, bytes] | None = None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(mutated(random, content))
        for other, text in (beside or {}).items():
            Path(folder, other).write_bytes(text)
        with contextlib.suppress(TrtnetError):
            weights = load(path)
            claimed = sum(array.nbytes for array in weights.values())
            assert claimed <= 16 * path.stat().st_size + MOST_INFLATED
            for array in weights.values():
                if array.nbytes < 10**6:
                    np.ascontiguousarray(array)


CASES: dict[str, Callable[[Random], None]] = {
    "checkpoint": checkpoint,
    "darknet": darknet,
    "pickled module": pickled_module,
    "safetensors": safetensors,
    "wts": wts,
}
"""What runs one case of each kind."""
