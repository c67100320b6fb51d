"""Positions of largest values, such as maps of classes, and values that are computed as needed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import graph, nn
from trtnet.reference.compiler import compile
from trtnet.reference.runner import execute, prepare, stream
from trtnet.verification import FLOAT64_TOLERANCE, FP16_TOLERANCE, Row, Tolerance, compare
from trtnet.verification.values import Candidates, Values, candidates

SHAPE = (2, 5, 6, 7)


class Classes(torch.nn.Module):
    """The class of each pixel, by scores that are `off` times random numbers different."""

    def __init__(self, off: float = 0.0, shift: int = 0) -> None:
        super().__init__()
        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
        self.register_buffer("noise", off * noise)
        self.shift = shift

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"classes": ((x + self.noise).argmax(1) + self.shift).int()}


def network(precision: str = "fp32") -> trtnet.Network:
    made = trtnet.Network("rtx", precision=precision)
    x = made.input("x", SHAPE)
    made.output("classes", nn.Identity()(x * 1.0).argmax(1).int())
    return made


def scores(gap: float) -> dict[str, np.ndarray]:
    """Of each pixel's classes the best two differ by `gap`, the others by more than one."""
    random = np.random.default_rng(0)
    values = random.permuted(np.broadcast_to(np.arange(-4.0, 1.0), (2, 6, 7, 5)), axis=-1)
    values = np.moveaxis(values, -1, 1)
    return {"x": np.where(values == -1, -gap, values).astype(np.float32)}


@pytest.mark.parametrize(
    ("precision", "float64", "gap", "passes"),
    [
        ("fp32", True, 1e-6, True),  # tied but for rounding
        ("fp32", True, 1e-3, False),
        ("fp32", False, 1e-5, True),
        ("fp32", False, 1e-2, False),
        ("fp16", False, 1e-2, True),
        ("fp16", False, 0.1, True),
        ("fp16", False, 0.9, False),
    ],
)
def test_candidates_as_close_as_values_may_be_off(
    precision: str, float64: bool, gap: float, passes: bool
) -> None:
    made = network(precision)
    wrong = Classes(off=2 * gap)
    result = trtnet.verify(made, wrong, scores(gap), float64=float64, local=False)
    row = result.outputs[0]
    assert row.agreement is not None
    assert row.agreement < 0.9
    assert result.argmax_agreement == row.agreement
    assert result.passed == passes
    assert row.positions is not None
    assert (row.positions == 1) == passes


def test_the_same_positions() -> None:
    result = trtnet.verify(network(), Classes(), scores(1e-3))
    assert result.passed
    assert (result.outputs[0].agreement, result.outputs[0].positions) == (1, 1)
    assert result.argmax_agreement == 1


@pytest.mark.parametrize("shift", [1, -1, 5, -5])
def test_classes_that_are_shifted_diverge(shift: int) -> None:
    result = trtnet.verify(network("fp16"), Classes(shift=shift), scores(0.5))
    assert result.first_divergent == "classes"
    with pytest.raises(trtnet.VerificationError) as caught:
        result.require()
    assert caught.value.expected == "99.90% of the positions as good"
    assert str(caught.value.got).endswith("as good in classes")


@pytest.mark.parametrize(("shift", "passes"), [(0, True), (1, False)])
def test_values_without_a_finite_mean_square(shift: int, passes: bool) -> None:
    inputs = {"x": np.float32(1e30) * scores(0.5)["x"]}
    assert trtnet.verify(network(), Classes(shift=shift), inputs).passed == passes


def test_one_wrong_pixel_in_a_hundred_is_enough() -> None:
    row = Row("classes", (100,), 1.0, 0.1, 0.99, 20.0, agreement=0.99, positions=0.99)
    assert not FLOAT64_TOLERANCE.accepts(row)
    assert not FP16_TOLERANCE.accepts(row)
    assert Tolerance(positions=0.99, agreement=1.0).accepts(row)
    assert str(row) == "99.00% of the positions equal, 99.00% as good"


def test_what_a_tolerance_asks() -> None:
    tolerance = Tolerance(rel_l2=0.01, cosine=0.9, agreement=0.5, positions=0.75)
    floats, whole = torch.zeros(2), torch.zeros(2, dtype=torch.int32)
    rows = (compare("", floats, floats), compare("", whole, whole),
            compare("", whole, whole, torch.tensor([True, False])))  # fmt: skip
    assert [tolerance.asks(row) for row in rows] == [
        "relative L2 <= 0.01, cosine >= 0.9",
        "50.00% of the elements equal",
        "75.00% of the positions as good",
    ]
    assert [tolerance.accepts(row) for row in rows] == [True, True, False]


@pytest.mark.parametrize(
    ("tolerance", "distance"),
    [
        (Tolerance(rel_l2=1e-4), 1e-4),
        (Tolerance(cosine=0.5), 1.0),  # unit vectors at 60° are a unit apart
        (Tolerance(rel_l2=1e-3, cosine=0.5), 1e-3),
    ],
)
def test_the_distance_that_a_tolerance_leaves(tolerance: Tolerance, distance: float) -> None:
    assert tolerance.distance == pytest.approx(distance)


def test_which_tensors_are_positions() -> None:
    made = trtnet.Network("rtx")
    x = made.input("x", SHAPE)
    scored = nn.Identity()(x * 2.0)
    values, several = trtnet.topk(scored, 2, 1)
    single, lowest = trtnet.min(scored, 3)
    outputs = {
        "classes": scored.argmax(1).int(), "kept": scored.argmax(2, keepdim=True),
        "lowest": lowest, "single": single, "several": several, "values": values,
        "next": scored.argmax(1) + 1,
    }  # fmt: skip
    for name, tensor in outputs.items():
        made.output(name, tensor)
    read = graph.read(made.definition)
    (source,) = {layer.inputs[0] for layer in read.layers if layer.type == "TOPK"}
    names = [tensor.name for tensor in made.outputs.values()]
    assert candidates(read, names) == {
        "classes": Candidates(str(source), 1),
        "kept": Candidates(str(source), 2),
        "lowest": Candidates(str(source), 3),
    }


def test_positions_of_another_shape() -> None:
    class Flat(Classes):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"classes": super().forward(x)["classes"].flatten()}

    result = trtnet.verify(network(), Flat(), scores(0.5))
    assert "in PyTorch" in result.outputs[0].note
    assert not result.passed


def deep(precision: str = "fp32") -> tuple[trtnet.Network, torch.nn.Module]:
    theirs = torch.nn.Sequential(*[torch.nn.Tanh() for _ in range(6)])
    ours = nn.Sequential(*[nn.Tanh() for _ in range(6)])
    made = trtnet.Network("rtx", precision=precision)
    made.output("y", ours(made.input("x", (4, 8))))
    return made, theirs


def streamed(made: trtnet.Network, names: list[str]) -> tuple[Any, list[torch.Tensor]]:
    read = graph.read(made.definition)
    arguments = prepare(read, {"x": np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)})
    return compile(read, outputs=names), arguments


def test_a_stream_gives_what_execution_gives_in_order() -> None:
    made, _ = deep()
    names = ["y", "1", "4"]
    module, arguments = streamed(made, names)
    found = dict(stream(module, arguments))
    assert list(found) == ["1", "4", "y"]
    for name, value in execute(module, arguments).items():
        assert torch.equal(found[name], value)


def test_a_stream_forgets_what_it_gave() -> None:
    made, _ = deep()
    alive: list[weakref.ref[torch.Tensor]] = []
    module, arguments = streamed(made, ["0", "1", "2", "3", "4", "y"])
    for _, value in stream(module, arguments):
        alive.append(weakref.ref(value))
        del value
        assert sum(reference() is not None for reference in alive) <= 2


def test_values_are_computed_as_they_are_asked_for_and_dropped_when_used_up() -> None:
    made: list[str] = []

    def values() -> Iterator[tuple[str, torch.Tensor]]:
        for name in "abc":
            made.append(name)
            yield name, torch.full((2,), float(ord(name)))

    found = Values(graph.read(deep()[0].definition), values(), ["a", "b", "b"], keep=False)
    assert found.compare("row", "b", torch.full((2,), 98.0), Tolerance()).rel_l2 == 0
    assert made == ["a", "b"]
    assert float(found["a"][0]) == 97
    found.release("b")
    held = weakref.ref(found["b"])
    found.release("b")
    assert held() is None
    assert float(found["a"][0]) == 97


def test_positions_that_several_modules_return() -> None:
    class Theirs(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax(1)

    class Ours(nn.Module):
        def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
            return (x * 1.0).argmax(1)

    made = trtnet.Network("rtx")
    made.output("y", nn.Sequential(nn.Sequential(Ours()), nn.Identity())(made.input("x", SHAPE)))
    theirs = torch.nn.Sequential(torch.nn.Sequential(Theirs()), torch.nn.Identity())
    found = trtnet.verify(made, theirs, scores(0.5))
    assert [row.module for row in found.rows] == ["0.0", "0", "1"]
    assert {row.positions for row in (*found.rows, *found.outputs)} == {1.0}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_without_the_local_check_the_rows_are_the_same(precision: str) -> None:
    made, theirs = deep(precision)
    inputs = {"x": np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)}
    full, short = (trtnet.verify(made, theirs, inputs, local=local) for local in (True, False))
    assert full.rows == short.rows
    assert full.outputs == short.outputs
    assert bool(full.local) == (precision == "fp16")
    assert not short.local


def test_a_mistake_is_blamed_without_the_local_check_too() -> None:
    made, theirs = deep("fp16")
    theirs[3] = torch.nn.Sigmoid()
    inputs = {"x": np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)}
    found = trtnet.verify(made, theirs, inputs, local=False)
    assert found.first_divergent == "3"
    assert found.blame is not None
    assert found.blame.modules == ("3",)


def test_floats_have_no_positions() -> None:
    row = compare("y", torch.ones(3), torch.ones(3))
    assert row.positions is None
