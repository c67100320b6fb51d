"""Sessions check the declared ranges of axes, and that inputs agree on the axes that they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Axis, Shapes, reference
from trtnet.errors import PlanError, ShapeError


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.fixture
def plan() -> trtnet.Plan:
    """x (N, H) and y (N, 1), profiles wider than what one may give at once."""
    net = trtnet.Network("torch")
    x = net.input("x", (Axis("N", 1, 8), Axis("H", 4, 32, multiple_of=4)))
    y = net.input("y", ("N", 1))
    assert x.shape[1] % 4 == 0
    net.output("z", x.reshape(x.shape[0], -1, 4).sum(2).amax(1, keepdim=True) + y)
    return trtnet.build(net)


@pytest.fixture(params=["memory", "file"])
def session(plan: trtnet.Plan, tmp_path: Path, request: Any) -> Any:
    plan.save(tmp_path / "m.engine")
    source = plan if request.param == "memory" else tmp_path / "m.engine"
    with trtnet.Session(source, device="cpu") as opened:
        yield opened


def test_sizes_inside_the_range(session: Any) -> None:
    for n, h in ((1, 4), (8, 32), (3, 12)):
        assert session(zeros(n, h), zeros(n, 1))["z"].shape == (n, 1)


def test_a_size_that_is_no_multiple(session: Any, raises: Any) -> None:
    words = ("x: ", "axis H", "4 to 32, a multiple of 4", "H % 4 == 0 is True (", "6 on axis 1")
    for _ in range(2):
        with raises(ShapeError, *words):
            session(zeros(2, 6), zeros(2, 1))
    assert session(zeros(2, 8), zeros(2, 1))["z"].shape == (2, 1)


def test_a_size_beyond_the_range_of_a_wider_profile(plan: Any, raises: Any) -> None:
    wide = {"min": [1, 4], "opt": [8, 8], "max": [80, 320]}
    profiles = [{"x": wide, "y": {"min": [1, 1], "opt": [8, 1], "max": [80, 1]}}]
    wider = replace(plan, sidecar={**plan.sidecar, "profiles": profiles})
    with trtnet.Session(wider, device="cpu") as session:
        with raises(ShapeError, "x: ", "axis N", "1 to 8", "9 on axis 0"):
            session(zeros(9, 8), zeros(9, 1))
        with raises(ShapeError, "axis H", "36 on axis 1"):
            session(zeros(8, 36), zeros(8, 1))


def test_inputs_agree_on_the_axis_that_they_share(session: Any, raises: Any) -> None:
    words = ("y: the inputs x and y share the axis N", "axis 0 of size 4", "size 3: (3, 1)")
    with raises(ShapeError, *words, "fix: "):
        session(zeros(4, 8), zeros(3, 1))
    with raises(ShapeError, *words):
        list(session.map([{"x": zeros(4, 8), "y": zeros(3, 1)}]))


def test_a_name_alone_is_shared_too(raises: Any) -> None:
    net = trtnet.Network("torch")
    x, y = net.input("x", ("N", 2)), net.input("y", (3, "N"))
    net.output("z", x.sum(1) * y.sum(0))
    shapes = {
        "x": Shapes((1, 2), (2, 2), (4, 2)),
        "y": Shapes((3, 1), (3, 2), (3, 4)),
    }
    with trtnet.Session(trtnet.build(net, shapes), device="cpu") as session:
        assert session(zeros(2, 2), zeros(3, 2))["z"].shape == (2,)
        with raises(ShapeError, "share the axis N", "axis 1 of size 1, as axis 0 of x"):
            session(zeros(1, 2), zeros(3, 2))
    with raises(ShapeError, "share the axis N", "y: "):
        reference.run(net.definition, {"x": zeros(1, 2), "y": zeros(3, 2)})


def test_a_batch_in_chunks_is_checked_chunk_by_chunk() -> None:
    net = trtnet.Network("torch")
    x = net.input("x", (Axis("N", 1, 4), 2))
    assert x.shape[0] <= 4
    net.output("y", x * 2)
    with trtnet.Session(trtnet.build(net, {"x": (4, 2)}), device="cpu") as session:
        assert session(zeros(10, 2))["y"].shape == (10, 2)


def test_a_sidecar_without_axes_is_not_checked(plan: Any) -> None:
    old = {name: value for name, value in plan.sidecar.items() if name != "axes"}
    with trtnet.Session(replace(plan, sidecar=old), device="cpu") as session:
        assert session(zeros(2, 8), zeros(2, 1))["z"].shape == (2, 1)


def test_a_damaged_sidecar(plan: Any, raises: Any) -> None:
    damaged = replace(
        plan,
        sidecar={
            **plan.sidecar,
            "axes": {"N": {**plan.sidecar["axes"]["N"], "places": [["x", 7]]}},
        },
    )
    with raises(PlanError, "the sidecar's axes do not fit"):
        trtnet.Session(damaged, device="cpu")
