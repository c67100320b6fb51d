"""The pipeline as a library, without any command line."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trtnet
from trtnet import pipeline, zoo
from trtnet.imaging import image_mode, prepare
from trtnet.pipeline.inputs import data_batches, seeded_batches
from trtnet.pipeline.model import preprocessing_for
from trtnet.quantization import Batches

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Recorder:
    """An observer that keeps what it receives."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []
        self.rows = 0

    def step(self, title: str) -> Any:
        self.steps.append(title)
        return nullcontext(lambda detail: None)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def ranges(self, rows: Sequence[Any]) -> None:
        self.rows += len(rows)


def test_a_recipe_becomes_an_engine_and_a_report() -> None:
    observer = Recorder()
    recipe = pipeline.Recipe(zoo.get_entry("lenet5"), "fp16", backend="rtx", verify_images=2)
    result = pipeline.run(recipe, observer)
    assert observer.steps == ["weights", "define", "verify", "build"]
    assert result.passed
    assert result.plan is not None
    path = Path(result.report["engine"]["path"])
    assert path == Path("engines/lenet5-fp16.engine")
    assert path.read_bytes() == result.plan.engine
    assert result.report["engine"]["sha256"] == hashlib.sha256(result.plan.engine).hexdigest()
    assert result.report["verify"]["inputs"] == 2
    assert result.model.network.precision == "fp16"


def test_ranges_go_to_the_observer() -> None:
    observer = Recorder()
    settings = pipeline.CalibrationSettings(data="random", items=2)
    recipe = pipeline.Recipe(
        "lenet5", "fp16", weights="random", backend="rtx", calibration=settings, verify=False
    )
    result = pipeline.run(recipe, observer)
    assert observer.steps == ["weights", "calibrate", "define", "build"]
    assert observer.rows > 5
    assert result.report["verify"]["passed"] is None


def test_a_policy_is_a_precision() -> None:
    policy = trtnet.Policy("fp16", keep={"c5": "fp32"})
    target = pipeline.find_target(pipeline.Recipe("lenet5", policy, backend="rtx"), values=False)
    assert target.graph.tensors["c5"].dtype == "float32"
    assert target.graph.tensors["c3"].dtype == "float16"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"engine": Path(".")}, "is a directory"),
        ({"precision": "int8"}, "int8 needs calibration data"),
        ({"arguments": {"aux_loss": True}}, "lenet5 does not take --aux-loss"),
        ({"batch": 2, "profiles": (trtnet.Shapes.fixed((1, 1, 32, 32)),)}, "exclude each other"),
        ({"verify_shapes": ((1, 1, 32, 33),)}, "outside every profile"),
    ],
)
def test_faults_are_found_before_the_work(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(trtnet.TrtnetError, match=text):
        pipeline.prepare(pipeline.Recipe("lenet5", backend="rtx", **changes))


def test_weights_by_name_are_those_of_pytorch() -> None:
    entry = zoo.get_entry("lenet5")
    found = pipeline.load_weights(entry)
    assert found.source == "DIGITS_V1"
    model = entry.build()
    model.load_state_dict(found)
    theirs = pipeline.torch_model(entry, model, {})
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, torch.from_numpy(found[name].copy()))


def test_a_missing_weights_file_is_answered_with_what_there_is(raises: Any) -> None:
    entry = zoo.get_entry("lenet5")
    texts = ("missing.pt does not exist", "DIGITS_V1, random", "--list", ".safetensors")
    with raises(trtnet.WeightsError, *texts):
        pipeline.load_weights(entry, "nowhere/missing.pt")
    Path("lenet.safetensors").write_bytes(b"")
    with raises(trtnet.WeightsError, "did you mean lenet.safetensors?"):
        pipeline.load_weights(entry, "lnet.safetensors")


@pytest.mark.parametrize("images", [0, -1])
def test_there_is_something_to_verify_with(images: int) -> None:
    data = Batches(2, 1, lambda part: {"input": np.zeros((len(part), 1))})
    with pytest.raises(trtnet.UsageError, match="at least one image"):
        next(seeded_batches([(1, 2)], images, 0))
    with pytest.raises(trtnet.UsageError, match="at least one image"):
        next(data_batches([(1, 2)], images, data))


def test_random_weights_take_images_as_they_are() -> None:
    found = preprocessing_for((3, 4, 5))
    assert found is not None
    assert image_mode(found) == "RGB"
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    values = prepare(Image.fromarray(image), found)
    np.testing.assert_allclose(values[0], image.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert (
        preprocessing_for((7, 4, 5)) is preprocessing_for((6,)) is preprocessing_for(None) is None
    )


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, trtnet.pipeline as pipeline\n"
        "pipeline.Recipe, pipeline.run, pipeline.find_target, pipeline.abilities\n"
        "print({'torch', 'tensorrt', 'tensorrt_rtx'} & set(sys.modules))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout == "set()\n"


def test_every_exported_name_exists() -> None:
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__doc__, name
    with pytest.raises(AttributeError):
        _ = pipeline.nothing


@pytest.mark.parametrize("folder", ["tools", "trtnet/pipeline"])
def test_nothing_but_command_lines_imports_the_command_line(folder: str) -> None:
    files = sorted((ROOT / folder).glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not any(name.startswith("trtnet.cli") for name in names), file
