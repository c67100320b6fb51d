"""Declared ranges of axes: checked against the profiles, kept in the sidecar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Axis, Shapes
from trtnet.building.axes import AxisRules
from trtnet.errors import PlanError, ShapeError


def network(**options: Any) -> trtnet.Network:
    """Inputs x (N, 3, H) and y (N, 1), of which one axis has a range and one a guard."""
    net = trtnet.Network("torch", **options)
    x = net.input("x", (Axis("N", 1, 8), 3, Axis("H", 32, 96, multiple_of=32)))
    y = net.input("y", ("N", 1))
    if x.shape[2] % 32 == 0:
        x = x.reshape(x.shape[0], 3, -1, 32).mean(3)
    net.output("z", x.mean(2) + y)
    return net


def test_the_whole_range_is_the_default_profile() -> None:
    side = trtnet.build(network()).sidecar
    assert side["profiles"] == [
        {
            "x": {"min": [1, 3, 32], "opt": [8, 3, 96], "max": [8, 3, 96]},
            "y": {"min": [1, 1], "opt": [8, 1], "max": [8, 1]},
        }
    ]
    assert side["axes"]["N"] == {
        "min": 1,
        "max": 8,
        "multiple_of": 1,
        "places": [["x", 0], ["y", 0]],
        "guards": [],
    }
    assert side["axes"]["H"]["multiple_of"] == 32
    (guard,) = side["axes"]["H"]["guards"]
    assert guard.startswith("H % 32 == 0 is True (")
    assert "test_axes.py:" in guard
    json.dumps(side)


def test_numbers_of_numpy_are_plain_in_the_sidecar() -> None:
    net = trtnet.Network("torch")
    net.output("y", net.input("x", (Axis("N", np.int64(1), np.int32(8)), 3)) * 2)
    json.dumps(trtnet.build(net).sidecar)


def test_given_profiles_inside_the_range() -> None:
    x = Shapes((2, 3, 32), (4, 3, 64), (4, 3, 96))
    y = Shapes((2, 1), (4, 1), (4, 1))
    side = trtnet.build(network(), [{"x": x, "y": y}, {"x": (1, 3, 32), "y": (1, 1)}]).sidecar
    assert [profile["x"]["opt"] for profile in side["profiles"]] == [[4, 3, 64], [1, 3, 32]]


@pytest.mark.parametrize(
    ("x", "texts"),
    [
        (Shapes((1, 3, 31), (1, 3, 64), (1, 3, 96)), ("min: axis H", "31 on axis 2")),
        (Shapes((1, 3, 32), (1, 3, 65), (1, 3, 96)), ("opt: axis H", "65 on axis 2")),
        (Shapes((1, 3, 32), (1, 3, 64), (1, 3, 128)), ("max: axis H", "128 on axis 2")),
    ],
)
def test_profiles_outside_the_range(x: Shapes, texts: Any, raises: Any) -> None:
    said = ("x: ", "32 to 96, a multiple of 32", "H % 32 == 0 is True (", "trtnet.Axis('H'")
    with raises(ShapeError, *texts, *said):
        trtnet.build(network(), {"x": x, "y": (1, 1)})


def test_a_batch_outside_the_range(raises: Any) -> None:
    with raises(ShapeError, "x: min: axis N", "1 to 8", "9 on axis 0"):
        trtnet.build(network(), {"x": (9, 3, 32), "y": (9, 1)})


def test_a_range_without_a_largest_size_is_no_profile(raises: Any) -> None:
    net = trtnet.Network("torch")
    net.output("y", net.input("x", (Axis("N", 2), 3)) * 2)
    with raises(ShapeError, "an input with dynamic axes needs shapes"):
        trtnet.build(net)
    with raises(ShapeError, "min: axis N", "2 or more", "1 on axis 0"):
        trtnet.build(net, {"x": (1, 3)})


def test_a_real_engine_for_the_range() -> None:
    net = trtnet.Network("rtx")
    x = net.input("x", (Axis("N", 1, 4), 3, Axis("H", 8, 24, multiple_of=8)))
    h = x.shape[2]
    padded = trtnet.nn.functional.pad(x, (0, (7 - h % 7) % 7))
    net.output("y", padded.reshape(x.shape[0], 3, -1, 7).amax(3) * h)
    plan = trtnet.build(net)
    assert plan.engine
    assert plan.sidecar["axes"]["H"]["max"] == 24


def test_rules_come_back_from_a_file(tmp_path: Path) -> None:
    trtnet.build(network()).save(tmp_path / "m.engine")
    plan = trtnet.Plan.load(tmp_path / "m.engine")
    rules = AxisRules.stated(plan.described.axes, {"x": 3, "y": 2})
    assert rules.as_json() == plan.sidecar["axes"]
    assert AxisRules.stated(None, {"x": 3}).rules == ()


def axis(**changes: Any) -> dict[str, Any]:
    return {"min": 1, "max": 2, "multiple_of": 1, "places": [["x", 0]], "guards": [], **changes}


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        ([], "wrong value at axes\n  expected: object"),
        ("N", "wrong value at axes\n"),
        ({"N": 3}, "wrong value at axes.N\n  expected: object\n  got: 3"),
        ({"N": {}}, "missing required field 'min', in axes.N"),
        ({"N": axis(places=[])}, "wrong value at axes.N.places\n  expected: array of length >= 1"),
        (
            {"N": axis(places=[["x", -1]])},
            "at axes.N.places[0][1]\n  expected: int >= 0\n  got: -1",
        ),
        ({"N": axis(places=[["x"]])}, "wrong value at axes.N.places[0]"),
        ({"N": axis(guards=3)}, "wrong value at axes.N.guards"),
        ({"N": axis(min="1")}, "wrong value at axes.N.min\n  expected: int\n  got: '1'"),
        ({"N": axis(max=1e300)}, "wrong value at axes.N.max"),
        ({"N": axis(multiple_of=0)}, "wrong value at axes.N.multiple_of"),
    ],
)
def test_rules_that_are_none(stated: Any, text: str, raises: Any) -> None:
    with raises(PlanError, "the sidecar of this plan", text, "build the engine again"):
        _ = trtnet.Plan(b"", {"axes": stated}).described


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"min": 3}, "got: min=3, max=2"),
        ({"places": [["x", 3]]}, "got: axis 3 of x, which the engine does not have"),
        ({"places": [["q", 0]]}, "got: axis 0 of q, which the engine does not have"),
    ],
)
def test_rules_that_do_not_fit(changes: Any, text: str, raises: Any) -> None:
    plan = trtnet.Plan(b"", {"axes": {"N": axis(**changes)}})
    with raises(PlanError, "N: the sidecar's axes do not fit", text, "build the engine again"):
        AxisRules.stated(plan.described.axes, {"x": 3})
