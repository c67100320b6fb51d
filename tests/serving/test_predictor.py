"""Predictor: what it takes, gives and refuses. It needs no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet.errors import ShapeError, UsageError
from trtnet.serving.ray import Predictor

X = np.random.default_rng(3).normal(size=(7, 3)).astype(np.float32)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Of a fixed batch of 4: y = 2x + w, z = x."""
    net = trtnet.Network(backend="torch")
    x, w = net.input("x", (4, 3)), net.input("w", (4, 3))
    net.output("y", x * 2.0 + w)
    net.output("z", x * 1.0)
    path = tmp_path / "m.engine"
    trtnet.build(net).save(path)
    return path


def test_columns_go_in_and_out(engine: Path) -> None:
    """Seven rows, of which three come as an incomplete batch; read-only arrays, as Ray's are."""
    pixels, w = X.copy(), np.ones_like(X)
    pixels.flags.writeable = w.flags.writeable = False
    predict = Predictor(engine, inputs={"x": "pixels", "w": "w"}, outputs={"y": "sum"})
    paths = np.array([f"{i}.png" for i in range(7)], object)
    found = predict({"pixels": pixels, "w": w, "path": paths})
    assert [*found] == ["path", "sum"]
    assert found["path"] is paths
    np.testing.assert_allclose(found["sum"], 2 * X + 1, rtol=1e-6)


def test_the_names_of_the_engine_are_the_default(engine: Path) -> None:
    found = Predictor(str(engine), device="cpu")({"x": X, "w": X})
    np.testing.assert_allclose(found["y"], 3 * X, rtol=1e-6)
    np.testing.assert_array_equal(found["z"], X)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"inputs": {"image": "x"}}, "the engine has no 'image'"),
        ({"inputs": {"x": "x"}}, "no column is named for the input 'w'"),
        ({"outputs": {"logits": "y"}}, "the engine has no 'logits'"),
        ({"outputs": {}}, "none is named"),
    ],
)
def test_names_that_the_engine_does_not_have(
    engine: Path, given: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        Predictor(engine, device="cpu", **given)


@pytest.mark.parametrize(
    ("batch", "kind", "text"),
    [
        ({"x": X}, UsageError, "no column 'w'"),
        ({"x": X, "w": X, "z": X}, UsageError, "'z' is a column of the batch and an output"),
        ({"x": np.array([X, None], object), "w": X}, UsageError, "no array of numbers"),
        ({"x": X[:, :2].copy(), "w": X}, ShapeError, "x"),
    ],
)
def test_batches_that_do_not_fit(
    engine: Path, batch: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        Predictor(engine, device="cpu")(batch)


def test_an_engine_is_named_and_not_sent(engine: Path) -> None:
    with pytest.raises(UsageError, match="opens its engine in the process where it runs"):
        Predictor(trtnet.Plan.load(engine))  # type: ignore[arg-type]
