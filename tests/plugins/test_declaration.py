"""What a declaration must have, and what is refused when it is made."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trtnet
from trtnet import UsageError
from trtnet.plugins import Plugin, Size, TensorSpec, cdiv, cuda_kernel, maximum, minimum, registry
from trtnet.plugins.spec import Format
from trtnet.plugins.symbolic_sizes import OPERATIONS, evaluate

LeakyGate = importlib.import_module("user_example").LeakyGate


def parts(**changes: Any) -> type:
    """A class that declares ``x * 2``, changed."""
    members = {
        "formats": [("fp32", "->", "fp32")],
        "outputs": lambda self, x: x,
        "reference": lambda self, x: x * 2,
        "native": lambda self, x: x * 2,
        "__module__": __name__,
        **changes,
    }
    return type("Double", (), {name: m for name, m in members.items() if m is not None})


def declare(name: str = "tests::double", **changes: Any) -> Any:
    return trtnet.plugin(name)(parts(**changes))


def test_a_pointwise_plugin_takes_a_user_at_most_40_lines() -> None:
    source = Path(inspect.getsourcefile(LeakyGate.reference) or "").read_text()
    lines = source[source.index("@triton.jit") :].splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


def test_a_declaration_is_a_module_with_typed_attributes() -> None:
    gate = LeakyGate(slope=1)
    assert isinstance(gate, Plugin)
    assert isinstance(gate, trtnet.Module)
    assert (gate.slope, repr(gate), LeakyGate(0.5).slope) == (1.0, "LeakyGate(slope=1.0)", 0.5)
    assert (gate.name, gate.version, gate.inputs) == ("tests::leaky_gate", "1", ("x", "gate"))
    assert (gate.fields, gate.state_dict()) == ('{"slope":1.0}', {})
    assert registry.instance("tests::leaky_gate", "1", gate.fields).slope == 1.0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"slope": "0.1"}, "'slope' has the wrong type"),
        ({"slope": float("nan")}, "'slope' has the wrong type"),
        ({"slope": True}, "'slope' has the wrong type"),
        ({"slop": 0.1}, "unexpected keyword argument 'slop'"),
    ],
)
def test_wrong_attributes_are_refused(
    arguments: dict[str, Any], problem: str, raises: Callable[..., Any]
) -> None:
    with raises(UsageError, "tests::leaky_gate", problem):
        LeakyGate(**arguments)


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("bool", True, True),
        ("int", 3, 3),
        ("str", "same", "same"),
        ("tuple[int, ...]", [1, 2], (1, 2)),
        ("tuple[float, ...]", (1, 2.5), (1.0, 2.5)),
    ],
)
def test_attributes_survive_being_stored(kind: str, value: Any, stored: Any) -> None:
    made = declare("tests::stored", __annotations__={"value": kind}, value=value)
    again = registry.instance("tests::stored", "1", made(value).fields)
    assert again.value == stored
    assert type(again.value) is type(stored)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("", "it is not JSON"),
        ("[1]", "wrong value\n  expected: object\n  got: [1]"),
        ('{"self": 3}', "an unknown attribute\n  expected: value\n  got: 'self'"),
        ('{"value": "3"}', "attribute 'value' has the wrong type\n  expected: float\n  got: '3'"),
        ('{"value": 1e400}', "the number 1e400 is not finite"),
        ('{"value": ' + "9" * 400 + "}", "an integer of 400 digits"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_stored_attributes_that_are_none(
    fields: str, text: str, raises: Callable[..., Any]
) -> None:
    declare("tests::restored", __annotations__={"value": "float"}, value=0.5)
    said = "the stored attributes of the plugin tests::restored cannot be used: "
    with raises(trtnet.PlanError, said, text, "build the engine again"):
        registry.instance("tests::restored", "1", fields)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("float", 1.0, 10**400), ("int", 1, 2**64), ("int", 1, -(2**64)), ("str", "a", "\ud800")],
)
def test_attributes_that_cannot_be_stored(
    kind: str, good: Any, bad: Any, raises: Callable[..., Any]
) -> None:
    made = declare("tests::large", __annotations__={"value": kind}, value=good)
    with raises(trtnet.UsageError, "tests::large: attribute 'value' has the wrong type"):
        made(bad)


SHAPE_RULE = "outputs() disagrees"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reference": None}, "lacks reference"),
        ({"outputs": None}, "does not state the shapes of the outputs"),
        ({"formats": None}, "lacks formats"),
        ({"formats": []}, "at least one format"),
        ({"formats": [("fp32", "fp32")]}, "an arrow"),
        ({"formats": [("fp31", "->", "fp32")]}, "a type that does not exist"),
        ({"formats": [("float8_e4m3", "->", "fp32")]}, "no float8 values"),
        ({"formats": [("fp32", "fp32", "->", "fp32")]}, "a type for each input"),
        ({"formats": [("fp32", "->", "fp32"), ("fp16", "->", "fp16", "fp16")]}, "same number"),
        ({"native": None}, "the format float32 -> float32 has no kernel"),
        ({"kernel": 3}, "this is no kernel"),
        ({"kernel": lambda self, x: None}, "takes all inputs, then all outputs"),
        ({"kernel": cuda_kernel("nowhere.cu", "k", grid=list)}, "source cannot be read"),
        ({"native": lambda self, x, y: x}, "native() and reference() take different inputs"),
        ({"outputs": lambda self: 1}, "outputs() and reference() take different inputs"),
        ({"outputs": lambda self, x: 1}, "outputs() gives something else"),
        ({"outputs": lambda self, x: x.like([1])}, SHAPE_RULE),
        ({"outputs": lambda self, x: x.like(dtype="fp16")}, SHAPE_RULE),
        ({"outputs": lambda self, x: (x, x)}, SHAPE_RULE),
        ({"outputs": lambda self, x: x.like([2 * x.shape[0], *x.shape[1:]])}, SHAPE_RULE),
        ({"reference": lambda self, x: x > 0}, SHAPE_RULE),
        ({"reference": lambda self, x: x @ x.new_ones(99)}, "the reference fails on an example"),
        ({"axes": ("N", "M")}, "axes has a text for each input"),
        ({"__annotations__": {"a": "dict"}}, "cannot be stored"),
        ({"__annotations__": {"a": "nonsense"}}, "cannot be read"),
        ({"__annotations__": {"stream": "int"}}, "not allowed"),
        ({"__annotations__": {"inputs": "int"}}, "a name that plugins use"),
        ({"__annotations__": {"a": "int"}, "a": "1"}, "'a' has the wrong type"),
        ({"__annotations__": {"a": "int"}}, "a has no default"),
    ],
)
def test_a_bad_declaration_says_why(
    changes: dict[str, Any], problem: str, raises: Callable[..., Any]
) -> None:
    with raises(UsageError, "tests::bad", problem):
        declare("tests::bad", **changes)
    assert ("tests::bad", "1") not in {(kind.name, kind.version) for kind in registry.declared()}


def test_a_rule_that_errs_only_on_unknown_sizes_is_refused(raises: Callable[..., Any]) -> None:
    def outputs(self: Any, x: TensorSpec) -> TensorSpec:
        return x if isinstance(x.shape[0], int) else x.like([x.shape[0] + 1, *x.shape[1:]])

    with raises(UsageError, SHAPE_RULE, "on unknown sizes"):
        declare("tests::bad", outputs=outputs)


def test_a_rule_may_need_fixed_sizes() -> None:
    def outputs(self: Any, x: TensorSpec) -> TensorSpec:
        return x.like(x.shape if x.shape[0] < 1000 else [1000])

    assert declare("tests::fixed", outputs=outputs).name == "tests::fixed"


@pytest.mark.parametrize("name", ["double", "a.b::c", "trt::double", "tests::", "tests::a-b"])
def test_bad_names(name: str, raises: Callable[..., Any]) -> None:
    with raises(UsageError, "cannot be the name of a plugin"):
        trtnet.plugin(name)


def test_a_name_belongs_to_one_class_and_a_module_can_be_loaded_again(
    raises: Callable[..., Any],
) -> None:
    first, second = declare("tests::again"), declare("tests::again")
    assert registry.find("tests::again", "1") is second is not first
    with raises(UsageError, "declared twice", "user_example:LeakyGate"):
        declare("tests::leaky_gate")
    with raises(trtnet.UnsupportedError, "not declared", "import the module", "tests::again"):
        registry.find("tests::again", "7", "/layer")


def test_plugins_are_found_by_import_path(raises: Callable[..., Any]) -> None:
    assert registry.load("user_example") is LeakyGate
    assert registry.load("user_example:LeakyGate") is LeakyGate
    with raises(UsageError, "user_example:LeakyGate"):
        registry.load("user_example:Leaky")
    with raises(UsageError, "there is no module 'no_such_module'"):
        registry.load("no_such_module")
    with raises(UsageError, "the plugin tests::none is not declared", "leaky_gate version 1"):
        registry.load("tests::none")
    assert registry.load("tests::leaky_gate") is LeakyGate


def test_each_format_may_have_a_kernel_of_its_own(raises: Callable[..., Any]) -> None:
    def one(self: Any, x: Any, y: Any) -> None: ...

    def other(self: Any, x: Any, y: Any) -> None: ...

    formats = {("fp32", "->", "fp32"): one, ("fp16", "->", "fp16"): other}
    made = declare("tests::each", formats=formats, native=None)
    assert [kernel.function for kernel in made.kernels.values()] == [one, other]
    formats["bf16", "->", "bf16"] = None  # type: ignore[index, assignment]
    with raises(UsageError, "tests::bad", "the format bfloat16 -> bfloat16 has no kernel"):
        declare("tests::bad", formats=formats)


def test_a_plugin_is_not_made_from_another(raises: Callable[..., Any]) -> None:
    with raises(UsageError, "cannot be made from another one"):
        trtnet.plugin("tests::child")(type("Child", (LeakyGate,), {}))


def test_inputs_of_a_call_are_checked(net: trtnet.Network, raises: Callable[..., Any]) -> None:
    x = net.input("x", (2, 3))
    with raises(UsageError, "takes 2 tensors", "x, gate"):
        LeakyGate()(x)
    integers = net.input("i", (2, 3), "int32")
    with raises(trtnet.UnsupportedError, "does not take these types", "float16 float16"):
        LeakyGate()(x, integers)


def two_outputs(self: Any, x: Any) -> Any:
    return x, x


def no_output(self: Any, x: Any) -> Any:
    raise trtnet.UnsupportedError("not in this network")


@pytest.mark.parametrize(
    ("act", "dtypes", "problem"),
    [
        (lambda: declare("tests::raises", native=no_output)(), ["fp32"], "not in this network"),
        (
            lambda: declare("tests::two", native=two_outputs)(),
            ["fp32"],
            "native form of tests::two",
        ),
        (LeakyGate, ["fp32"], "LeakyGate takes 2 tensors"),
        (LeakyGate, ["fp32", "int32"], "tests::leaky_gate does not take these types"),
    ],
)
def test_an_error_in_a_network_has_the_path_of_the_module(
    act: Callable[[], Any], dtypes: list[str], problem: str, net: trtnet.Network
) -> None:
    """Also one that a native form raises without a path."""

    class Block(trtnet.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = act()

        def forward(self, *inputs: Any) -> Any:
            return self.act(*inputs)

    inputs = [net.input(f"x{i}", (2, 3), dtype) for i, dtype in enumerate(dtypes)]
    with pytest.raises(trtnet.TrtnetError, match=problem) as caught:
        Block()(*inputs)
    assert caught.value.module == "act"


def test_errors_keep_the_path_that_they_have() -> None:
    from trtnet.errors import located

    with pytest.raises(UsageError) as caught, located("outer"), located("inner"):
        raise UsageError("wrong", expected=1, got=2, fix="take 1")
    assert str(caught.value) == "inner: wrong\n  expected: 1\n  got: 2\n  fix: take 1"
    assert (caught.value.module, caught.value.problem) == ("inner", "wrong")
    with pytest.raises(ValueError, match=r"^foreign$"), located("outer"):
        raise ValueError("foreign")


# Sizes


def test_sizes_are_written_as_they_are_computed() -> None:
    rows = Size("input", 0, 1)
    size = maximum(minimum(cdiv(3 * rows + 1, 4) - 2, 50), 7 - rows) // 2
    for n in (0, 1, 5, 100):
        found = evaluate(size, lambda i, axis, n=n: n, lambda op, *ab: OPERATIONS[op](*ab))
        assert found == max(min(-(-(3 * n + 1) // 4) - 2, 50), 7 - n) // 2
    assert rows * 1 is rows
    assert repr(rows + 1) == "sum(input 0's axis 1, 1)"
    assert {rows, Size("input", 0, 1)} == {rows}


@pytest.mark.parametrize("use", [int, bool, lambda n: n < 3, lambda n: range(n), lambda n: n * 1.5])
def test_an_unknown_size_is_no_number(use: Callable[[Any], Any]) -> None:
    if use is bool:
        assert bool(Size("input", 0, 0))  # like a positive int
        return
    with pytest.raises((trtnet.ShapeError, TypeError)):
        use(Size("input", 0, 0))


@pytest.mark.parametrize("function", [cdiv, minimum, maximum])
@pytest.mark.parametrize("other", [1.5, "2", True, None])
def test_what_is_no_size_is_refused(function: Any, other: Any, raises: Callable[..., Any]) -> None:
    with raises(trtnet.ShapeError, f"{function.__name__}() takes sizes", repr(other)):
        function(Size("input", 0, 0), other)


def test_formats_are_read() -> None:
    read = Format.parse(("fp16", "int32", "->", "bf16"))
    assert str(read) == "float16 int32 -> bfloat16"
    assert TensorSpec((2, 3), trtnet.float32).numel == 6


def test_a_reference_is_held_to_its_rule_in_the_types_of_integers() -> None:
    made = declare(
        "tests::count",
        formats=[("uint8", "->", "int64")],
        outputs=lambda self, x: x.like([x.shape[-1]], "int64"),
        reference=lambda self, x: torch.full(x.shape[-1:], x.numel()),
        native=lambda self, x: x,
    )
    assert [str(entry) for entry in made.kernels] == ["uint8 -> int64"]
