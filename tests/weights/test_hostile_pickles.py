"""Checkpoints that try to run something from the places where whole models have their parts."""

from __future__ import annotations

import builtins
import collections
import contextlib
import ctypes
import functools
import importlib
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trtnet.errors import WeightsError
from trtnet.weights import load

pytestmark = pytest.mark.alone


class Reduced:
    """Is pickled as any function and its arguments, with a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.parts

    def __call__(self) -> None:
        """Pickle asks that what is called can be; it is the result of another call."""


class Net(torch.nn.Module):
    """A model with a part that the attack takes the place of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3)
        self.names = {0: "a", 1: "b"}


def _module_function(name: str) -> Any:
    """`name` of a module, as ``getattr`` finds it in a chain."""
    return Reduced(getattr, Reduced(importlib.import_module, "os"), name)


def _write(path: Path) -> str:
    return f"open({str(path)!r}, 'w')"


CALLS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda path: Reduced(os.system, f"touch '{path}'"),
    "subprocess": lambda path: Reduced(subprocess.check_call, ["touch", str(path)]),
    "eval": lambda path: Reduced(builtins.eval, _write(path)),
    "exec": lambda path: Reduced(builtins.exec, _write(path)),
    "open": lambda path: Reduced(builtins.open, str(path), "w"),
    "getattr chain": lambda path: Reduced(_module_function("system"), f"touch '{path}'"),
    "method of a path": lambda path: Reduced(Reduced(getattr, path, "touch")),
    "partial": lambda path: Reduced(functools.partial(os.system, f"touch '{path}'")),
    "torch.save": lambda path: Reduced(torch.save, {}, str(path)),
    "torch.hub": lambda path: Reduced(torch.hub.load_state_dict_from_url, path.as_uri()),
    "torch function behind a rebuild": lambda path: Reduced(
        torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (f"touch '{path}'",), {}
    ),
    "numpy": lambda path: Reduced(np.save, str(path), 1),
    "map": lambda path: Reduced(list, Reduced(map, os.system, [f"touch '{path}'"])),
    "default of a dict": lambda path: Reduced(
        collections.defaultdict.__missing__,
        Reduced(collections.defaultdict, functools.partial(open, str(path), "w")), 1,
    ),
    "class of one's own": lambda path: Reduced(
        type, "C", (torch.nn.Module,), {"__del__": os.system}
    ),
    "code": lambda path: Reduced(builtins.eval, Reduced(compile, _write(path), "x", "eval")),
    "runpy": lambda path: Reduced(importlib.import_module, "this"),
    "no arguments": lambda path: Reduced(builtins.breakpoint),
    "argument of a class": lambda path: Reduced(torch.nn.Conv2d, 1, 2, 3),
    "library": lambda path: Reduced(ctypes.CDLL, str(path)),
}  # fmt: skip


def _as_attribute(call: Any) -> Any:
    net = Net()
    net.extra = call
    return {"model": net}


def _as_module(call: Any) -> Any:
    net = Net()
    net._modules["inner"] = call
    return net


def _as_parameter(call: Any) -> Any:
    net = Net()
    net.conv._parameters["weight"] = call
    return {"ema": net, "model": net}


def _as_buffer_set(call: Any) -> Any:
    net = Net()
    object.__setattr__(net, "_non_persistent_buffers_set", call)
    return net


PLACES = [_as_attribute, _as_module, _as_parameter, _as_buffer_set]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("name", CALLS)
def test_calls_in_every_place_are_refused(name: str, place: Any, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "best.pt"
    torch.save(place(CALLS[name](canary)), path)
    before = set(sys.modules)
    with pytest.raises(WeightsError, match="could execute code"):
        load(path)
    assert not canary.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["os.system", "eval", "getattr chain", "torch.save", "partial"])
def test_they_are_real_attacks(name: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "best.pt"
    torch.save(_as_attribute(CALLS[name](canary)), path)
    torch.load(path, weights_only=False)
    assert canary.exists()


def archive(path: Path, content: bytes, values: bytes = b"\0" * 16, **entries: bytes) -> Path:
    """A checkpoint of the pickle `content`, with one storage."""
    with zipfile.ZipFile(path, "w") as file:
        for name, text in (("data.pkl", content), ("byteorder", b"little"), ("data/0", values),
                           ("version", b"3\n"), *entries.items()):  # fmt: skip
            file.writestr(f"best/{name}", text)
    return path


def text(value: str) -> bytes:
    """Pickle's BINUNICODE."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(numel: int = 4, size: int = 4, stride: int = 1) -> bytes:
    """A float32 tensor of the storage ``0``, which says that it has `numel` values."""
    number = [b"J" + struct.pack("<i", count) for count in (numel, size, stride)]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
        + text("0") + text("cpu") + number[0] + b"tQK\0" + number[1] + b"\x85" + number[2]
        + b"\x85\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def module(parameters: bytes = b"", modules: bytes = b"", more: bytes = b"") -> bytes:
    """A module of an unknown class; the arguments are entries of dicts."""
    parts = (("_parameters", parameters), ("_buffers", b""), ("_modules", modules))
    state = b"".join(text(name) + b"}(" + entries + b"u" for name, entries in parts)
    return b"cgone.nn\nNet\n)\x81}(" + state + more + b"ub"


PROTO, STOP = b"\x80\x02", b"."
ONE = module(text("weight") + tensor())
OPCODES = {
    "object with arguments": b"cgone.nn\nNet\n" + text("x") + b"\x85\x81",
    "method instead of a class": b"cgone.nn\nNet\n" + text("x") + b"\x85R",
    "state that is a list": b"cgone.nn\nNet\n)\x81]b",
    "state of numbers": b"cgone.nn\nNet\n)\x81}(K\0K\1ub",
    "state twice": ONE + b"}(" + text("a") + b"K\1ub",
    "slots that are a list": b"cgone.nn\nNet\n)\x81N]\x86b",
    "state of a class": b"cgone.nn\nNet\n}(" + text("__call__") + b"K\1ub",
    "items of an object": ONE + text("a") + b"K\1s",
    "item appended to an object": ONE + b"K\1a",
    "getattr of a number": b"cbuiltins\ngetattr\nK\1" + text("real") + b"\x86R",
    "getattr with a default": b"cbuiltins\ngetattr\n" + ONE + text("a") + b"N\x87R",
    "result of getattr called": b"cbuiltins\ngetattr\n" + ONE + text("a") + b"\x86R)R",
    "getattr of getattr": b"cbuiltins\ngetattr\ncbuiltins\ngetattr\n" + ONE + text("a")
    + b"\x86R" + text("b") + b"\x86R",
    "parameter of an object": b"ctorch._utils\n_rebuild_parameter\n(" + ONE
    + b"\x88ccollections\nOrderedDict\n)RtR",
    "tensor of an unknown class": b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n"
    + b"_rebuild_parameter\ncgone\nT\n(" + tensor() + b"\x88ccollections\nOrderedDict\n)Rt}tR",
    "unknown class behind a rebuild": b"ctorch._tensor\n_rebuild_from_type_v2\n(cgone\nt\ncgone\n"
    + b"t\n)}tR",
    "names with a newline in reduce": b"cos\nsystem\n" + text("true") + b"\x85R",
    "posix": b"cposix\nsystem\n" + text("true") + b"\x85R",
    "dotted name": b"ctorch\nnn.modules.Module.__init__\n" + text("true") + b"\x85R",
    "newer opcodes": b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R",
    "instance by name": b"(iposix\nsystem\n",
    "extension registry": b"\x82\x01)R",
    "foreign storage": b"(" + text("module") + b"cgone\nT\n" + text("a.py") + text("x=1") + b"tQ",
}  # fmt: skip


@pytest.mark.parametrize("inside", [True, False], ids=["in a model", "alone"])
@pytest.mark.parametrize("name", OPCODES)
def test_opcodes_that_models_do_not_need_are_refused(
    name: str, inside: bool, tmp_path: Path
) -> None:
    content = OPCODES[name]
    if inside:
        content = module(text("weight") + tensor(), more=text("extra") + content)
    path = archive(tmp_path / "best.pt", PROTO + content + STOP)
    with pytest.raises(WeightsError) as caught:
        load(path)
    assert "fix: " in str(caught.value)


def test_the_assembled_model_is_read(tmp_path: Path) -> None:
    """What the other tests change is itself in order."""
    values = np.arange(4, dtype="<f4")
    path = archive(tmp_path / "best.pt", PROTO + ONE + STOP, values.tobytes())
    np.testing.assert_array_equal(load(path)["weight"], values)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (text("w") + tensor(numel=10**9), "cannot be read as a PyTorch checkpoint"),
        (text("w") + tensor(size=10**9), "cannot be read as a PyTorch checkpoint"),
        (text("w") + tensor(size=2 * 10**9, stride=0), "far larger than the file"),
        (text("w") + b"K\1", "Can only hold tensors under 'w', but got int"),
        (b"K\1" + tensor(), "Can only name what is in a module by text"),
        (b"cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x7f\x85R", "cannot be read"),
    ],
)
def test_impossible_parameters(parameters: bytes, message: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "best.pt", PROTO + module(parameters) + STOP)
    with pytest.raises(WeightsError, match=message):
        load(path)


def _nested(depth: int) -> bytes:
    head, tail = module(modules=b"\1").split(b"\1")
    return (head + text("m")) * depth + ONE + tail * depth


def test_modules_inside_of_each_other(tmp_path: Path) -> None:
    path = archive(tmp_path / "best.pt", PROTO + _nested(50) + STOP)
    assert list(load(path)) == ["m." * 50 + "weight"]
    for depth in (101, 3000):
        archive(path, PROTO + _nested(depth) + STOP)
        with pytest.raises(WeightsError, match="too many inside of each other"):
            load(path)


def test_a_module_that_holds_itself(tmp_path: Path) -> None:
    net = Net()
    net._modules["again"] = net
    torch.save(net, tmp_path / "best.pt")
    with pytest.raises(WeightsError, match="too many inside of each other"):
        load(tmp_path / "best.pt")


@pytest.mark.parametrize("leaf", ["tensor", "empty"])
def test_modules_that_double(leaf: str, tmp_path: Path) -> None:
    """A few dozen modules that name each other twice are 2**40 in a state_dict."""
    net = torch.nn.Module()
    if leaf == "tensor":
        net.weight = torch.nn.Parameter(torch.ones(1))
    for _ in range(40):
        outer = torch.nn.Module()
        outer.a, outer.b = net, net
        net = outer
    torch.save({"model": net}, tmp_path / "best.pt")
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=r"too many|far larger"):
        load(tmp_path / "best.pt")
    assert time.perf_counter() - started < 60


def test_dicts_and_lists_that_double_beside_a_model(tmp_path: Path) -> None:
    value: Any = {"x": 1}
    for _ in range(60):
        value = {"a": value, "b": [value, value]}
    value["self"] = value
    net = Net()
    net.bomb = value
    torch.save({"model": net, "bomb": value}, tmp_path / "best.pt")
    started = time.perf_counter()
    assert list(load(tmp_path / "best.pt")) == ["conv.weight", "conv.bias"]
    assert time.perf_counter() - started < 20


def test_a_key_that_doubles_is_shortened(tmp_path: Path) -> None:
    """A tuple of a tuple twice, and so on, is short in a file, and 2**22 numbers as text."""
    key = b"K\1" + b"".join(b"q%ch%c\x86" % (level, level) for level in range(22))
    path = archive(tmp_path / "best.pt", PROTO + b"}" + key + b"K\1s" + STOP)
    started = time.perf_counter()
    with pytest.raises(WeightsError, match="a dict with the keys") as caught:
        load(path)
    assert len(str(caught.value)) < 1000
    assert time.perf_counter() - started < 3


def test_two_tensors_under_one_key(tmp_path: Path) -> None:
    net = Net()
    net._parameters["conv.bias"] = torch.nn.Parameter(torch.ones(2))
    torch.save(net, tmp_path / "best.pt")
    with pytest.raises(WeightsError, match=r"one tensor under 'conv\.bias'"):
        load(tmp_path / "best.pt")


def test_more_classes_than_any_model_has(tmp_path: Path) -> None:
    names = b"".join(b"cgone\nT%d\n0" % number for number in range(600)).replace(b"0c", b"c")
    path = archive(tmp_path / "best.pt", PROTO + names[:-1] + STOP)
    with pytest.raises(WeightsError, match="Can only read 500 classes"):
        load(path)


def test_an_entry_that_occurs_twice(tmp_path: Path) -> None:
    path = archive(tmp_path / "best.pt", PROTO + ONE + STOP)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("best/data.pkl", PROTO + OPCODES["posix"] + STOP)
    with pytest.raises(WeightsError, match=r"2 called 'best/data\.pkl'"):
        load(path)


@pytest.mark.parametrize("name", ["../canary", "/tmp/canary", "best/../../canary"])
def test_names_that_lead_out_are_no_paths(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = archive(folder / "best.pt", PROTO + ONE + STOP)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
    with contextlib.suppress(WeightsError):
        assert list(load(path)) == ["weight"]
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


@pytest.mark.parametrize("kind", ["tar", "pickle", "torch 1.5"])
def test_old_forms(kind: str, tmp_path: Path) -> None:
    path, canary = tmp_path / "best.pt", tmp_path / "canary"
    call = CALLS["os.system"](canary)
    if kind == "torch 1.5":
        torch.save(_as_attribute(call), path, _use_new_zipfile_serialization=False)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(_as_attribute(call), protocol=2))
    else:
        import tarfile

        content = pickle.dumps(call, protocol=2)
        with tarfile.open(path, "w") as file:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))
    with pytest.raises(WeightsError, match=r"could execute code|not a weights file"):
        load(path)
    assert not canary.exists()
