"""``axes``: shapes as text, their expressions, and the errors of declarations that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UsageError
from trtnet.plugins import Draw, TensorSpec
from trtnet.plugins.axes import Axes, parse_axes
from trtnet.plugins.spec import with_symbolic_sizes
from trtnet.plugins.symbolic_sizes import OPERATIONS, evaluate

Raises = Callable[..., Any]


def declare(**parts: Any) -> Any:
    """A gated linear unit with other `parts`; ``None`` leaves a part out."""
    whole = {
        "formats": [("fp32", "->", "fp32")],
        "axes": ("N 2*C H W", "->", "N C H W"),
        "reference": lambda self, x: x.chunk(2, 1)[0] * torch.sigmoid(x.chunk(2, 1)[1]),
        "native": lambda self, x: x,
        **parts,
    }
    space = {name: part for name, part in whole.items() if part is not None}
    return trtnet.plugin("tests::unit")(type("Unit", (), space))


def shape_of(kind: Any, *shapes: tuple[int, ...], **attributes: Any) -> Any:
    return kind(**attributes).rule([TensorSpec(shape, float32) for shape in shapes])[0].shape


@pytest.mark.parametrize(
    ("stated", "shapes", "expected"),
    [
        (("N C", "->", "N C"), [(2, 3)], (2, 3)),
        (("N 2*C H W", "->", "N C H W"), [(5, 8, 2, 3)], (5, 4, 2, 3)),
        (("N C*2", "->", "C N 1"), [(5, 8)], (4, 5, 1)),
        (("N 2*C+1", "->", "C"), [(5, 9)], (4,)),
        (("N 8-C", "->", "C"), [(5, 6)], (2,)),
        (("N (C+1)*3", "->", "C"), [(5, 9)], (2,)),
        (("N C H W", "->", "N C//2 H+1 cdiv(W,4)"), [(1, 7, 3, 9)], (1, 3, 4, 3)),
        (("N C H W", "->", "N C*H*W minimum(H,W) maximum(H,W)"), [(1, 2, 3, 4)], (1, 24, 3, 4)),
        (("N 2*C", "N C", "->", "N C"), [(1, 8), (1, 4)], (1, 4)),
        (("N C//2", "N C", "->", "C"), [(1, 3), (1, 7)], (7,)),
        (("N C+K", "N C", "->", "K"), [(1, 9), (1, 7)], (2,)),
        (("N C+H", "C 2*H", "->", "H C"), [(1, 9), (5, 8)], (4, 5)),
        (("", "->", ""), [()], ()),
        (("B 4", "->", "B"), [(3, 4)], (3,)),
    ],
)
def test_expressions(
    stated: tuple[str, ...], shapes: list[tuple[int, ...]], expected: tuple[int, ...]
) -> None:
    """With known sizes, and the same with sizes that are known only at run time."""
    axes = Axes.of(stated, "xy"[: len(shapes)], ())
    assert axes.output_shapes(shapes, {}) == (expected,)
    unknown = with_symbolic_sizes([TensorSpec((-1,) * len(shape), float32) for shape in shapes])
    (symbolic,) = axes.output_shapes([spec.shape for spec in unknown], {})
    values = tuple(
        evaluate(size, lambda i, axis: shapes[i][axis], lambda op, a, b: OPERATIONS[op](a, b))
        for size in symbolic
    )
    assert values == expected


def test_attributes_are_names_too() -> None:
    kind = declare(
        __annotations__={"groups": "int"},
        groups=2,
        axes=("N groups*C", "->", "N C"),
        reference=lambda self, x: x.reshape(x.shape[0], self.groups, -1).sum(1),
    )
    assert shape_of(kind, (2, 6)) == (2, 3)
    assert shape_of(kind, (2, 6), groups=3) == (2, 2)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 5, 2, 2), ("the size 5 of the input x is not 2*C for any C", "a multiple of 2")),
        ((1, 4, 2), ("the input x has another number of axes", "4: N 2*C H W", "3: (1, 4, 2)")),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_the_network(
    shape: tuple[int, ...], said: tuple[str, ...], raises: Raises
) -> None:
    network = trtnet.Network("torch")
    with raises(ShapeError, *said):
        declare()()(network.input("x", shape))


def test_tensors_for_the_constructor_are_refused(raises: Raises) -> None:
    x = trtnet.Network("torch").input("x", (1, 4, 2, 2))
    with raises(UsageError, "no tensors", "make the plugin first, and then call it: Unit()(x)"):
        declare()(x)


def test_sizes_that_differ_are_refused(raises: Raises) -> None:
    axes = Axes.of(("N C", "C 4"), ("x", "y"), ())
    with raises(ShapeError, "axis 0 of the input y does not fit the others", "C = 3", "got: 2"):
        axes.bind([(1, 3), (2, 4)], {})
    with raises(ShapeError, "axis 1 of the input y", "expected: 4", "got: 5"):
        axes.bind([(1, 3), (3, 5)], {})
    with raises(ShapeError, "the output's axis H-3 would be -1", "H = 2"):
        Axes.of(("H", "->", "H-3"), ("x",), ()).output_shapes([(2,)], {})
    with raises(ShapeError, "the axis 4//H divides by zero"):
        Axes.of(("H", "->", "4//H"), ("x",), ()).output_shapes([(0,)], {})


def test_dynamic_axes_of_a_network() -> None:
    network = trtnet.Network("torch")
    y = declare()()(network.input("x", ("N", 8, "H", 3)))
    assert str(y.shape) == "(N, 4, H, 3)"
    network.output("y", y)
    sizes = trtnet.Shapes((1, 8, 1, 3), (2, 8, 4, 3), (4, 8, 8, 3))
    array = np.random.default_rng(0).normal(size=(2, 8, 5, 3)).astype("float32")
    with trtnet.Session(trtnet.build(network, {"x": sizes})) as session:
        got = session(array)["y"]
    a, b = np.split(array.astype("float64"), 2, 1)
    assert np.abs(got - a / (1 + np.exp(-b))).max() < 1e-6


def test_examples_have_the_sizes_that_are_stated() -> None:
    for seed in range(40):
        x, y = Draw(seed).named("N 2*C H-2", "C N//2+1 H")
        assert x.shape[1] == 2 * y.shape[0]
        assert x.shape[2] == y.shape[2] - 2 >= 1
    (x,) = Draw(0).named("N-50")
    assert x.size >= 1
    with pytest.raises(UsageError, match="no sizes were found"):
        Draw(0).named("0*N")


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("N 2C H W", 'write "N 2*C H W"'),
        ("N 2 * C H W", 'write "N 2*C H W"'),
        ("N,C,H,W", 'write "N C H W"'),
        ("(N, C, H)", 'write "N C H"'),
        ("N C/2", 'write "N C//2"'),
        ("N cdiv(H, 2)", 'write "N cdiv(H,2)"'),
        ("N -1", "give an axis of any size a name"),
        ("N ?", "give an axis of any size a name"),
        ("... C", "declare outputs()"),
        ("*B C", "declare outputs()"),
        ("N C**2", "give an axis"),
        ("N C%2", "give an axis"),
        ("N C.x", "give an axis"),
        ("N C[0]", "give an axis"),
        ("N f(C)", "give an axis"),
        ("N 1.5*C", "give an axis"),
        ("N True", "give an axis"),
        ("N cdiv(C)", "give an axis"),
        ("N 'C'", "give an axis"),
        ("N (lambda:0)()", "give an axis"),
        ("N __import__('os').remove('victim')", "give an axis"),
        ("N " + "(" * 300, "give an axis"),
        ("N " + "9" * 40, "give an axis"),
    ],
)
def test_texts_that_are_no_axes(
    text: str, better: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("victim").touch()
    with pytest.raises(UsageError, match="is no axis") as caught:
        parse_axes(text)
    assert better in str(caught.value.fix)
    assert Path("victim").exists()


def two(self: Any, x: Any, gate: Any) -> Any:
    return x * gate


WRONG = [  # what someone may declare, and what the message says
    ({"axes": "N 2*C H W"}, "axes is a tuple of texts", 'fix: write axes = ("N 2*C H W",)'),
    (
        {"axes": "N 2*C H W -> N C H W"},
        "axes is a tuple of texts",
        'fix: write axes = ("N 2*C H W", "->", "N C H W")',
    ),
    ({"axes": ("N 2C H W", "->", "N C H W")}, "'2C' in 'N 2C H W'", 'write "N 2*C H W"'),
    ({"axes": [("N", "C"), ("N", "C")]}, "axes is a tuple of texts", '("N C H W", "->", "N C H'),
    ({"axes": {"x": "N C"}}, "axes is a tuple of texts", "axes of x"),
    ({"axes": 4}, "axes is a tuple of texts", "got: 4"),
    ({"axes": ("N C", "N C", "->", "N C")}, "axes has a text for each input", "axes of x"),
    ({"axes": ("N C", "->")}, "after an arrow one for each output", "got: 'N C', '->'"),
    ({"axes": ("N 2*C H W", "->", "N D H W")}, "names D, which no input states", "C"),
    ({"axes": ("N Ch H W", "->", "N ch H W")}, "names ch, which no input", "did you mean Ch?"),
    ({"axes": ("N C//2 H W", "->", "N C H W")}, "C cannot be computed from the axis C//2",
     "state C itself in an input"),
    ({"axes": ("N C*K", "->", "N C")}, "C and K cannot be computed from the axis C*K", "C alone"),
    ({"axes": ("N C*C", "->", "N C")}, "C cannot be computed from the axis C*C", "such as 2*C"),
    ({"axes": ("N 2*C H W",)}, "does not state the shapes of the outputs", '"->", "N C H W")'),
    ({"axes": None}, "does not state the shapes of the outputs", "def outputs(self, x): return x"),
    ({"outputs": lambda self, x: x}, "stated twice, by axes and by outputs()", "leave out"),
    ({"axes": ("N C H W", "->", "N C H W")}, "axes disagree with the rest of the declaration",
     "got: reference gives float32"),
    ({"axes": ("N 2*C", "->", "N C", "N C")}, "have different outputs", "expected: 2, as axes"),
    ({"axes": ("N C H W", "->", "N C//2 H W")}, "the reference fails on an example",
     "write it as 2*C"),
    ({"axes": ("N", "->", "N")}, "the reference fails on an example", "mend axes, now 'N'"),
    ({"axes": None, "outputs": lambda self, x: x.like([x.shape[7]])},
     "outputs() fails on an example", 'axes = ("N C H W", "->", "N C H W")'),
    ({"reference": lambda self, x: x.chunk(2, 1)[0].float()[..., :1]}, "axes disagree",
     "mend axes, or reference()"),
    ({"reference": lambda self, x: x.chunk(2, 1)[0] > 0}, "axes disagree", "output types"),
    ({"reference": lambda self, x: x.chunk(2, 1)}, "axes disagree", "return 1 tensors"),
    ({"reference": lambda self, x: 3}, "the reference gives no tensor", "got: int"),
    ({"reference": lambda self, x: torch.ones(1, 1) @ x.chunk(2, 1)[0][0, 0, :1]},
     "the reference fails on an example", "not in float64"),
    ({"reference": lambda x: x}, "reference() takes self", "def reference(self, x, gate)"),
    ({"reference": lambda self, *x: x[0]}, "then each input by name", "got: reference(self, *x)"),
    ({"reference": two}, "axes has a text for each input", "axes of x, gate"),
    ({"formats": ("fp32", "->", "fp32")}, "a format is the types", 'formats = [("fp32", "->"'),
    ({"formats": "fp32 -> fp32"}, "a format is the types", "formats is a list of them"),
    ({"formats": [("fp32", "fp32", "->", "fp32")]}, "a type for each input",
     'fix: formats = [("float32", "->", "float32")]'),
    ({"example": lambda cls, draw: (cls(), [draw.array(1, 2, 1, 1)])},
     "example() is a classmethod", "@classmethod above def example(cls, draw)"),
    ({"example": classmethod(lambda cls: None)}, "example() is a classmethod", "takes draw"),
    ({"example": classmethod(lambda cls, draw: [draw.array(1, 2, 1, 1)])},
     "a plugin and a list of arrays", "return cls(), [draw.array(2, 4)]"),
    ({"example": classmethod(lambda cls, draw: (cls(), draw.array(1, 2, 1, 1)))},
     "a plugin and a list of arrays", "an array (1, 2, 1, 1)"),
    ({"example": classmethod(lambda cls, draw: (cls(), [draw.array(2, 4)]))},
     "example() and axes disagree: the input x has another number of axes", "4: N 2*C H W"),
    ({"example": classmethod(lambda cls, draw: (cls(), [draw.array(1, 3, 1, 1)]))},
     "example() and axes disagree: the size 3 of the input x is not 2*C", "draw.named"),
    ({"example": classmethod(lambda cls, draw: (cls(), [torch.ones(1, 2, 1, 1)]))},
     "a plugin and a list of arrays", "Tensor"),
    ({"example": classmethod(lambda cls, draw: (cls(), [draw.array((1, 2))]))},
     "example() fails", "draw.array(2, 4)"),
    ({"__annotations__": {"groups": "int"}}, "groups has no default", "groups: int = 1"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "problem", "fix"), WRONG)
def test_a_wrong_declaration_gets_the_right_one(
    parts: dict[str, Any], problem: str, fix: str, raises: Raises
) -> None:
    with raises(UsageError, "tests::unit: ", problem, fix):
        declare(**parts)


def test_something_else_than_a_class(raises: Raises) -> None:
    decorate: Any = trtnet.plugin("tests::unit")
    with raises(UsageError, "a plugin is declared as a class"):
        decorate(lambda x: x)
