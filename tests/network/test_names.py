"""Modules, inputs and outputs may be called anything, and no two names become one."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import NetworkError, nn
from trtnet.cli.main import main
from trtnet.quantization import activations, calibrate

NAMES = [
    *("class", "lambda", "None", "print", "torch", "self", "cls", "input", "output", "tensor"),
    *("1x", "a.b", "a_b", "a-b", "a/b", "with space", "new\nline", "tab\t", "-", ".", "_", "__x__"),
    *("\u00b5", "\u03bc", "\u00e9", "e\u0301", "\U0001f600", "\ud55c", "x" * 300, "T", "half"),
    *(
        "code",
        "graph",
        "meta",
        "#1",
        "a#1",
        "a[0]",
        "*",
        "{x}",
        "%s",
        "\\",
        "<b>",
        "'",
        '"',
        "/add",
    ),
    *("0", "00", "0_", "constant", "t_class", "t_1x"),
]
# TensorRT RTX 1.7 calls a tensor "_" itself, and makes that of other signs alone.
BUILDABLE = [name for name in NAMES if len(name) > 1 or name.isalnum() or name in "-."]
SHAPE = (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_outputs(name: str, build: Any) -> None:
    """Each beside all the others, and beside what code could make of it."""
    net = trtnet.Network("rtx")
    others = [other for other in NAMES if other != name]
    first, *rest = (net.input(each, SHAPE) for each in (name, *others))
    net.output("/sub", first - 1)
    for index, tensor in enumerate(rest):
        net.output(f"{name}.{index}", first * 2 + tensor)
        if index % 9 == 0:
            net.output(f"{name}_{index}", first - tensor)
    values = np.random.default_rng(1).standard_normal((len(NAMES), *SHAPE)).astype(np.float32)
    arrays = dict(zip((name, *others), values, strict=True))
    read = trtnet.graph.loads(trtnet.graph.dumps(trtnet.graph.read(net.definition)), "it")
    got = trtnet.reference.run(read, arrays)
    module = trtnet.reference.compile(read)
    compiled = module(*map(torch.from_numpy, values))
    assert module.code.isascii() or name in module.code  # only as keys of the result
    assert list(got) == list(compiled) == list(net.outputs)
    for index, array in enumerate(values[1:]):
        wanted = {f"{name}.{index}": values[0] * 2 + array}
        if index % 9 == 0:
            wanted[f"{name}_{index}"] = values[0] - array
        for key, want in wanted.items():
            np.testing.assert_allclose(got[key], want, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(compiled[key].numpy(), want, rtol=1e-6, atol=1e-6)


def test_an_engine_of_all_of_them(build: Any) -> None:
    net = trtnet.Network("rtx")
    first, *rest = [net.input(name, SHAPE) for name in BUILDABLE]
    net.output("sum", sum(rest, first))
    build(net)


def test_no_layer_takes_a_name_that_is_taken(net: Any, raises: Any) -> None:
    x = net.input("/add", SHAPE)
    y = x + 1
    assert y.name == "/add#1"
    net.output("/mul", y + 2)
    z = y * 2
    assert z.name == "/mul#1"
    with raises(NetworkError, "taken", "/mul#1"):
        net.output("/mul#1", y - 3)
    with raises(NetworkError, "taken"):
        net.input("/mul#1", SHAPE)
    net.output("/mul#1", z)
    assert len(set(trtnet.graph.read(net.definition).tensors)) == net.definition.num_layers + 1


@pytest.mark.parametrize("name", ["", None, 3, b"x", "a\0b", "\ud83d"])
def test_what_is_no_name(net: Any, raises: Any, name: Any) -> None:
    with raises(NetworkError, "a name must be"):
        net.input(name, SHAPE)
    with raises(NetworkError, "a name must be"):
        net.output(name, net.input("x", SHAPE))


MODULES = [name for name in BUILDABLE if name not in ("T", "half", "#1", "a#1")]


def model_of(m: Any) -> Any:
    """A module of `m`, which is ``trtnet.nn`` or ``torch.nn``, with children of all names."""

    class Inner(m.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name in ("class", "1x", "a.b", "\u00b5"):
                setattr(self, name, m.Linear(4, 4))

        def forward(self, x: Any) -> Any:
            for name in ("class", "1x", "a.b", "\u00b5"):
                x = getattr(self, name)(x)
            return x

    class Model(m.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name in MODULES:
                setattr(self, name, m.Linear(4, 4))
            self.inner = Inner()

        def forward(self, x: Any) -> Any:
            for name in MODULES:
                x = x + getattr(self, name)(x)
            return self.inner(x)

    return Model()


@pytest.fixture(scope="module")
def pair() -> Any:
    torch.manual_seed(0)
    theirs, ours = model_of(torch.nn).eval(), model_of(nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def define(model: Any, precision: Any = "fp32", backend: str = "rtx", **options: Any) -> Any:
    net = trtnet.Network(backend, precision=precision, **options)
    net.output("class", model(net.input("lambda", ("N", 4))))
    return net


def test_modules_are_verified_by_name(pair: Any) -> None:
    net = define(pair[0])
    found = trtnet.verify(net, pair[1], {"lambda": np.ones((2, 4), np.float32)})
    assert found.passed
    rows = {row.module for row in found.rows}
    assert {*MODULES, "inner.1x", "inner.a.b", "inner.\u00b5"} <= rows
    cost = trtnet.graph.cost(trtnet.graph.read(net.definition), {"lambda": (2, 4)})
    assert cost.macs == 2 * 16 * (len(MODULES) + 4)


def test_engines_build_and_run(pair: Any, build: Any, tmp_path: Path) -> None:
    build(define(pair[0], "fp16"), {"lambda": (2, 4)})
    image = np.ones((2, 4), np.float32)
    shapes = {"lambda": trtnet.Shapes(min=(1, 4), opt=(2, 4), max=(2, 4))}
    net = define(pair[0], backend="torch")
    plan = trtnet.build(net, shapes)
    plan.save(tmp_path / "names.engine")
    with torch.no_grad():
        wanted = pair[1](torch.from_numpy(image)).numpy()
    with trtnet.Session(tmp_path / "names.engine", device="cpu") as session:
        got = session({"lambda": image})
    np.testing.assert_allclose(got["class"], wanted, rtol=1e-4, atol=1e-5)


def test_policies_calibrations_and_files(pair: Any, tmp_path: Path) -> None:
    keep = {glob.escape(name): "fp32" for name in MODULES[::2]}
    policy = trtnet.Policy(compute="int8", keep=keep)
    policy.save(tmp_path / "policy.toml")
    again = trtnet.Policy.load(tmp_path / "policy.toml")
    assert again == policy
    for name, kept in itertools.product(MODULES, [True, False]):
        if kept == (name in MODULES[::2]):
            assert again.precision_of(name, "linear") == ("fp32" if kept else "int8")
    net = define(pair[0], policy)
    read = trtnet.graph.read(net.definition)
    data = [np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)]
    found = calibrate(read, net.observed, data, resume=tmp_path / "journal")
    table = found.table("minmax", weights_sha256=net.weights_sha256)
    table.save(tmp_path / "table.json")
    quantized = define(pair[0], policy, calibration=type(table).load(tmp_path / "table.json"))
    assert activations(trtnet.graph.read(quantized.definition))
    trtnet.weights.save(tmp_path / "weights.safetensors", pair[0].state_dict())
    loaded = trtnet.weights.load(tmp_path / "weights.safetensors")
    assert set(loaded) == set(pair[1].state_dict())


@pytest.mark.parametrize("arguments", [["--code"], ["--json", "-"], []])
def test_it_is_inspected(
    pair: Any, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    net = define(pair[0])
    path = tmp_path / "names.graph"
    trtnet.graph.save(path, trtnet.graph.read(net.definition))
    assert main(["inspect", str(path), *arguments]) == 0
    printed = capsys.readouterr().out
    if arguments == ["--code"]:
        compile(printed, "the code", "exec")
    assert main(["lint", str(path)]) in (0, 1)


@pytest.mark.parametrize("name", ["a#1", "#1", "a#12b"])
def test_a_module_that_is_called_like_a_repeated_call_is_refused(name: str, raises: Any) -> None:
    """``a#1`` is the second call of ``a``: policies and tables would take the one for the other."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, nn.ReLU())

        def forward(self, x: Any) -> Any:
            return getattr(self, name)(x)

    net = trtnet.Network("rtx")
    with raises(NetworkError, "repeated call", name, "another name"):
        nn.Sequential(Model())(net.input("x", SHAPE))
