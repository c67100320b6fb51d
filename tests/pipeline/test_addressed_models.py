"""Models that are addressed, have no PyTorch counterpart and may state no shape: every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trtnet
from trtnet import nn, pipeline, weights
from trtnet.building.plan import Plan
from trtnet.cli.main import main
from trtnet.pipeline.float64 import compare_with_float64
from trtnet.pipeline.precision_suffix import split_precision
from trtnet.pipeline.recipe import default_engine

AGAINST = "itself in float64: no PyTorch counterpart"
SHAPE = "--input=x:1x3x16x16"
Addressed = Callable[..., str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(*arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json", "r.json"]) == status
    return json.loads(Path("r.json").read_text())


def test_it_builds_and_says_what_it_was_compared_with(
    addressed: Addressed, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report("zoo", f"{addressed()}:fp16", "--verify-inputs=3")
    verify = found["verify"]
    assert (verify["against"], verify["passed"], verify["inputs"]) == (AGAINST, True, 3)
    assert [row["module"] for row in verify["rows"]] == ["logits"]
    assert 0 < verify["rel_l2"] < 1e-2
    assert verify["argmax_agreement"] == 1.0
    assert (found["model"], found["precision"]) == ("Tiny", "fp16")
    assert found["engine"]["path"] == "engines/Tiny-fp16.engine"
    assert found["weights"]["origin"] == "random"
    assert Plan.load("engines/Tiny-fp16.engine").sidecar["verification"]["against"] == AGAINST
    assert f"verified  yes, against {AGAINST}: 1 tensor, 3 images" in capsys.readouterr().out
    again = report("zoo", addressed(), "--fp16", "--verify-inputs=3")["engine"]
    assert again["reused"] is True


def test_the_error_is_that_of_the_precision(addressed: Addressed) -> None:
    """The same layers by hand in PyTorch, in double precision."""
    model = pipeline.load_model(pipeline.Recipe(addressed(), backend="rtx"))
    half, exact = (model.define(trtnet.Policy(name)) for name in ("fp16", "fp32"))
    image = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    found = compare_with_float64(half, exact, {"input": image})
    w = {name: torch.from_numpy(array.copy()).double() for name, array in model.weights.items()}
    f = torch.nn.functional
    x = f.conv2d(torch.from_numpy(image).double(), w["conv.weight"], w["conv.bias"], padding=1)
    x = f.batch_norm(x, w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"])
    x = f.conv_transpose2d(f.relu(x), w["up.weight"], w["up.bias"], stride=2, groups=2)
    x = f.relu(f.group_norm(x, 2, w["norm.weight"], w["norm.bias"])).mean((2, 3))
    wanted = f.linear(x, w["fc.weight"], w["fc.bias"]).numpy()
    ours = trtnet.reference.run(half.definition, {"input": image})["logits"]
    [row] = found.outputs
    assert row.rel_l2 == pytest.approx(
        np.linalg.norm(ours - wanted) / np.linalg.norm(wanted), rel=1e-2
    )
    assert row.rel_l2 > 1e-5  # FP16 rounds
    assert found.passed


class Overflowing(nn.Module):
    """Its values do not fit into FP16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return self.conv(x * 1e4).mean((2, 3))


def test_a_precision_that_is_too_coarse_fails(
    addressed: Addressed, capsys: pytest.CaptureFixture[str]
) -> None:
    address = addressed(Overflowing)
    state = {"conv.weight": np.full((4, 3, 1, 1), 9, np.float32), "conv.bias": np.ones(4, "f4")}
    weights.save("w.safetensors", state)
    found = report("zoo", address, "--fp16", "--weights=w.safetensors", status=1)
    assert (found["verify"]["passed"], found["verify"]["first_divergent"]) == (False, "logits")
    assert found["engine"]["path"] is None
    out = capsys.readouterr().out
    assert "in fp16 the network is further from itself in float64 than it may be" in out
    assert report("zoo", address, "--weights=w.safetensors")["verify"]["passed"] is True


def test_a_quantized_one_is_compared_with_float64(addressed: Addressed) -> None:
    flags = ["--int8", "--calib-data=random", "--calib-items=8"]
    found = report("zoo", addressed(), *flags)
    assert found["verify"]["passed"] is True
    assert 1e-4 < found["verify"]["rel_l2"] < 0.06
    assert found["calibration"]["items"] == 8


@pytest.mark.parametrize(
    "command",
    [
        ["verify", "{}:fp16"],
        ["inspect", "{}:fp16"],
        ["cost", "{}", "--gpu=l40s"],
        ["lint", "{}"],
        ["diff", "{}", "{}"],
        ["policy", "{}:int8"],
        ["bench", "{}", "--duration=0", "--iterations=1", "--warmUp=0", "--device=cpu"],
        ["sensitivity", "{}", "--data=random", "--items=8"],
        ["search", "{}", "--data=random", "--items=8", "--budget=sqnr>=20dB", "-o", "p.toml"],
    ],
)
@pytest.mark.parametrize("states_its_shape", [True, False])
def test_every_command(addressed: Addressed, command: list[str], states_its_shape: bool) -> None:
    address = addressed() if states_its_shape else addressed(image=None)
    arguments = [text.format(address) for text in command]
    if not states_its_shape and command[0] != "policy":
        arguments.append(SHAPE)
    assert report(*arguments)


def test_a_search_says_how_to_build_what_it_found(
    addressed: Addressed, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data=random", "--items=8", "--budget=sqnr>=20dB", "-o", "p.toml"]
    assert main(["search", addressed(image=None), SHAPE, *flags]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert command == (
        f"trtnet zoo {addressed(image=None)} {SHAPE} --batch 8 --policy p.toml "
        "--calib-table p.toml.calib.json --calib-data random --calib-items 8"
    )
    found = report(*command.split()[1:])
    assert found["engine"]["path"] == "engines/Tiny-p.engine"
    assert found["calibration"]["reused"] is True
    assert found["verify"]["budget"]["passed"] is True


def test_classify_and_run(addressed: Addressed, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 30), "red").save("red.png")
    flags = ["--image=red.png", "--device=cpu", "--top=2"]
    found = report("classify", addressed(image=None), SHAPE, *flags)
    assert found["random"] is True
    assert len(found["images"][0]["classes"]) == 2
    np.save("x.npy", np.zeros((1, 3, 16, 16), np.float32))
    engine = report("zoo", addressed(image=None), SHAPE, "--backend=torch")["engine"]["path"]
    assert main(["run", engine, "--input=x:x.npy", "--device=cpu", "-o", "out.npz"]) == 0
    assert np.load("out.npz")["logits"].shape == (1, 10)


def test_the_input_has_the_name_and_the_shape_that_are_given(addressed: Addressed) -> None:
    address = addressed(image=None)
    inputs = report("zoo", address, "--input=image:1x3x16x24", "--batch=2", "--skip-verify")
    assert inputs["network"]["inputs"] == [
        {"name": "image", "dtype": "float32", "shape": [2, 3, 16, 24]}
    ]
    names = ("--minShapes=image:1x3x16x16", "--optShapes=image:2x3x16x16")
    dynamic = report(
        *("zoo", address, "--input=image:1x3x16x16", *names, "--maxShapes=image:4x3x16x16"),
    )
    assert dynamic["network"]["inputs"][0]["shape"] == [-1, 3, 16, 16]
    assert dynamic["verify"]["shapes"] == [[2, 3, 16, 16]]
    profile = Plan.load(dynamic["engine"]["path"]).sidecar["profiles"][0]
    assert profile["image"]["max"] == [4, 3, 16, 16]


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        ([], ["does not state the shape of its input", "--input input:1x3x224x224"]),
        (["--input=x:1x3xHxW"], ["cannot read the shape 'x:1x3xHxW'"]),
        (["--input=x:1x3x8x8", "--input=y:1x3"], ["--input: models have one input", "trtnet.Net"]),
        ([SHAPE, "--weights=IMAGENET1K_V1"], ["no weights called", "random, or the path"]),
        ([SHAPE, "--minShapes=input:1x3x8x8", "--optShapes=1x3x8x8", "--maxShapes=1x3x8x8"],
         ["write x:1x3x8x8"]),
        ([SHAPE, "--verify-shapes=x:1x3x8"], ["wrong rank", "4 sizes"]),
    ],
)  # fmt: skip
def test_bad_usage(
    addressed: Addressed, flags: list[str], texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zoo", addressed(image=None), *flags]) == 2
    error = capsys.readouterr().err
    for text in texts:
        assert text in error


class Sum(nn.Module):
    """Of vectors, as two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: trtnet.Tensor) -> tuple[trtnet.Tensor, trtnet.Tensor]:
        y = self.fc(x)
        return y, y.sum(1)


def test_inputs_that_are_no_images(addressed: Addressed) -> None:
    shapes = ["--minShapes=1x6", "--optShapes=2x6", "--maxShapes=8x6"]
    found = report("zoo", addressed(Sum, (6,)), *shapes)
    outputs = [(output["name"], output["shape"]) for output in found["network"]["outputs"]]
    assert outputs == [("output0", [-1, 4]), ("output1", [-1])]
    assert found["verify"]["passed"] is True


class Doubled(nn.Module):
    """Takes an input without a batch axis."""

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return x * 2


@pytest.mark.parametrize("shapes", [["--input=x:6"], ["--input=x:6", "--minShapes=2",
                                    "--optShapes=6", "--maxShapes=9"]])  # fmt: skip
def test_inputs_of_one_axis(addressed: Addressed, shapes: list[str]) -> None:
    found = report("zoo", addressed(Doubled, None), *shapes)
    assert found["verify"]["max_abs"] == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("resnet50", ("resnet50", None)),
        ("resnet50:int8-weights", ("resnet50", "int8-weights")),
        ("net.py:Net", ("net.py:Net", None)),
        ("net.py:Net:fp16", ("net.py:Net", "fp16")),
        ("package.module:net", ("package.module:net", None)),
        ("module:net:bf16", ("module:net", "bf16")),
        (r"C:\nets\net.py:Net", (r"C:\nets\net.py:Net", None)),
        (r"C:\nets\net.py:Net:fp8", (r"C:\nets\net.py:Net", "fp8")),
    ],
)
def test_a_precision_is_told_from_a_callable(text: str, wanted: tuple[str, str | None]) -> None:
    assert split_precision(text) == wanted


@pytest.mark.parametrize("text", ["resnet50:fp17", "net.py:Net:fp17", r"C:\net.py:Net:fp17"])
def test_a_precision_that_does_not_exist(text: str, raises: Any) -> None:
    with raises(trtnet.UsageError, "unknown precision 'fp17'", "did you mean fp16"):
        split_precision(text)


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("resnet50", "resnet50-fp16.engine"),
        ("../models/net.py:Net", "Net-fp16.engine"),
        (r"C:\nets\net.py:Net", "Net-fp16.engine"),
        ("package.module:Outer.Net", "Outer.Net-fp16.engine"),
        ("a/b c", "a_b_c-fp16.engine"),
    ],
)
def test_engine_files_have_safe_names(model: str, file: str) -> None:
    assert default_engine(model, "fp16") == Path("engines") / file
