"""Which sizes are verified, and segmentation models on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.cli.arguments import parse
from trtnet.cli.recipes import build_recipe
from trtnet.cli.zoo import main
from trtnet.errors import ShapeError, UsageError
from trtnet.pipeline import verify_batches
from trtnet.pipeline.shapes import InputShapes, input_shapes, verified_shapes
from trtnet.verification import FINITE, Row, Verification

LRASPP = "lraspp_mobilenet_v3_large"
SMALL = ("--minShapes=1x3x32x32", "--optShapes=1x3x48x64", "--maxShapes=1x3x96x96")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(*flags: str) -> list[tuple[int, ...]]:
    recipe = build_recipe(parse(["resnet50", *flags]))
    return verified_shapes(recipe, input_shapes(recipe, (3, 224, 224)))


def profile(low: str, opt: str, high: str) -> tuple[str, ...]:
    return f"--minShapes={low}", f"--optShapes={opt}", f"--maxShapes={high}"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), ["1x3x224x224"]),
        (("--batch=4",), ["4x3x224x224"]),
        (profile("1x3x64x64", "8x3x64x64", "9x3x64x64"), ["8x3x64x64"]),
        (
            profile("1x3x256x256", "1x3x1026x1282", "1x3x1440x2560"),
            ["1x3x256x256", "1x3x333x513", "1x3x1026x1282"],
        ),
        (profile("1x3x64x64", "4x3x64x64", "4x3x64x96"), ["1x3x64x64", "4x3x64x64"]),
        (profile("1x3x64x31", "2x3x64x64", "2x3x64x64"), ["1x3x64x31", "1x3x64x39", "2x3x64x64"]),
        (
            (*profile("1x3x8x8", "1x3x8x8", "1x3x8x8"), *profile("1x3x9x9", "1x3x9x9", "1x3x9x9")),
            ["1x3x8x8", "1x3x9x9"],
        ),
    ],
)
def test_the_sizes_verified_by_default(flags: tuple[str, ...], expected: list[str]) -> None:
    assert ["x".join(map(str, shape)) for shape in found(*flags)] == expected


@pytest.mark.parametrize("low", range(30, 36))
@pytest.mark.parametrize("high", range(36, 42))
def test_the_odd_size_is_odd_and_in_the_profile(low: int, high: int) -> None:
    shapes = InputShapes(
        (1, 3, "H", "W"), (Shapes((1, 3, low, low), (1, 3, high, high), (1, 3, high, high)),)
    )
    odd = [shape for shape in shapes.varied if shape[2] % 2 and shape[3] % 2]
    assert odd
    for shape in shapes.varied:
        shapes.check(shape)


def test_sizes_to_verify_are_named(raises: Callable[..., Any]) -> None:
    flags = profile("1x3x64x64", "1x3x96x96", "1x3x224x224")
    named = ("--verify-shapes", "1x3x224x224", "--verify-shapes=input:1x3x97x131")
    assert found(*flags, *named) == [(1, 3, 97, 131), (1, 3, 224, 224)]
    with raises(ShapeError, "outside every profile", "1x3x64x64 to 1x3x224x224", "1x3x32x64"):
        found(*flags, "--verify-shapes=1x3x32x64")
    with raises(ShapeError, "outside every profile"):
        found("--verify-shapes=1x3x225x224")
    with raises(UsageError, "cannot read the shape"):
        found("--verify-shapes=large")
    with raises(UsageError, "exclude each other"):
        found(*flags, *named, "--calib-data=random")


def test_modules_are_judged_on_their_own_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[int, ...], bool]] = []
    output = Row("logits", (1, 10), 0.0, 0.0, 1.0, math.inf)
    passed = Verification((), (output,), (), FINITE, FINITE, None, None, None)

    def verify(
        network: Any, model: Any, inputs: dict[str, np.ndarray], local: bool, **_: Any
    ) -> Any:
        calls.append((inputs["input"].shape, local))
        return passed

    monkeypatch.setattr("trtnet.verification.verify", verify)
    network: Any = None
    shapes = [(1, 3, 8, 8), (1, 3, 9, 9)]
    assert verify_batches(network, network, shapes, images=2, seed=0) == (passed, 4)
    assert calls == [(shapes[0], True), (shapes[0], False), (shapes[1], False), (shapes[1], False)]


def test_a_map_of_classes_at_three_sizes() -> None:
    flags = ["--fp16", "--argmax", "--backend=rtx", "--json=r.json", *SMALL]
    assert main([LRASPP, *flags]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["network"]["inputs"][0]["shape"] == [1, 3, -1, -1]
    assert report["network"]["outputs"] == [
        {"name": "classes", "dtype": "int32", "shape": [1, -1, -1]}
    ]
    verify = report["verify"]
    assert verify["against"].startswith(f"{LRASPP} of torchvision ")
    assert verify["shapes"] == [[1, 3, 32, 32], [1, 3, 33, 41], [1, 3, 48, 64]]
    assert verify["inputs"] == 3
    assert verify["passed"] is True
    (row,) = (row for row in verify["rows"] if row["module"] == "classes")
    assert row["positions"] >= 0.999
    sidecar = Plan.load(report["engine"]["path"]).sidecar
    assert sidecar["verification"]["shapes"] == verify["shapes"]
    assert len(sidecar["class_names"]) == 21
    assert sidecar["class_names"][15] == "person"
    assert sidecar["preprocessing"]["resize_size"] == [520]
    assert sidecar["preprocessing"]["std"] == [0.229, 0.224, 0.225]


def test_both_outputs_of_a_model_with_an_auxiliary_head() -> None:
    flags = ["--aux-loss", "--backend=rtx", "--image-size=32", "--num-classes=3", "--json=r.json"]
    assert main(["deeplabv3_mobilenet_v3_large", *flags]) == 0
    report = json.loads(Path("r.json").read_text())
    shapes = {output["name"]: output["shape"] for output in report["network"]["outputs"]}
    assert shapes == {"out": [1, 3, 32, 32], "aux": [1, 3, 32, 32]}
    assert report["verify"]["shapes"] == [[1, 3, 32, 32]]


def test_nothing_is_verified_when_it_is_skipped() -> None:
    assert main(["lenet5", "--backend=rtx", "--skip-verify", "--json=r.json"]) == 0
    assert json.loads(Path("r.json").read_text())["verify"]["shapes"] == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["resnet50", "--argmax"], "resnet50 does not take --argmax"),
        ([LRASPP, "--aux-loss"], f"{LRASPP} does not take --aux-loss"),
        ([LRASPP, "--verify-shapes=1x3x64x64"], "outside every profile"),
        ([LRASPP, "--verify-shapes=1x1x520x520"], "outside every profile"),
    ],
)
def test_bad_usage(argv: list[str], text: str, capsys: pytest.CaptureFixture) -> None:
    assert main(argv) == 2
    assert text in capsys.readouterr().err
