"""What is exported, and what Triton would refuse and is refused before."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet.cli.main import main
from trtnet.errors import UnsupportedError, UsageError
from trtnet.serving.triton import Settings, export, exporting

Make = Callable[..., trtnet.Plan]
IMAGES = {"name": "input", "dtype": "float32", "shape": [-1, 3, 8, 8]}
SCORES = {"name": "scores", "dtype": "float32", "shape": [-1, 3]}
PROFILE = {"input": {"min": [1, 3, 8, 8], "opt": [4, 3, 8, 8], "max": [16, 3, 8, 8]}}


def tensorrt(**changes: Any) -> trtnet.Plan:
    """A plan as TensorRT's builder leaves it; its bytes are never read."""
    sidecar = {
        "backend": {"name": "tensorrt", "version": "10.13.3.9"},
        "model": "net",
        "inputs": [IMAGES],
        "outputs": [SCORES],
        "profiles": [PROFILE],
        "class_names": ["red", "green", "blue"],
        **changes,
    }
    return trtnet.Plan(b"a plan", sidecar)


def config(repository: Path, name: str = "net") -> str:
    return (repository / name / "config.pbtxt").read_text()


def fields(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_an_engine_of_tensorrt(tmp_path: Path) -> None:
    settings = Settings(instances=2, dynamic_batching=100)
    other = tensorrt(backend={"name": "tensorrt", "version": "10.16"})
    done = export(tensorrt(), tmp_path / "r", settings, plans={"8.9": other})
    assert (done.models, done.max_batch) == (("net",), 16)
    assert "TensorRT 10.13.3.9" in done.notes[0]
    text = fields(config(tmp_path / "r"))
    for part in (
        'name: "net" backend: "tensorrt" max_batch_size: 16',
        'input { name: "input" data_type: TYPE_FP32 dims: 3 dims: 8 dims: 8 }',
        'output { name: "scores" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }',
        "instance_group { count: 2 kind: KIND_GPU }",
        "dynamic_batching { max_queue_delay_microseconds: 100 }",
        'model_warmup { name: "batch of 16" batch_size: 16',
        'cc_model_filenames { key: "8.9" value: "model-8.9.plan" }',
    ):
        assert part in text
    assert (tmp_path / "r/net/labels.txt").read_text() == "red\ngreen\nblue\n"
    version = tmp_path / "r/net/1"
    assert sorted(path.name for path in version.iterdir()) == ["model-8.9.plan", "model.plan"]
    assert (version / "model.plan").read_bytes() == b"a plan"


def test_several_profiles_are_all_named(tmp_path: Path) -> None:
    more = {"input": {"min": [17, 3, 8, 8], "opt": [32, 3, 8, 8], "max": [64, 3, 8, 8]}}
    done = export(tensorrt(profiles=[PROFILE, more]), tmp_path)
    assert done.max_batch == 64
    assert 'profile: "0" profile: "1"' in fields(config(tmp_path))


def test_an_engine_of_the_torch_backend_brings_its_code(tmp_path: Path, plan: Make) -> None:
    export(plan(), tmp_path, Settings("means", max_batch=5))
    text = fields(config(tmp_path, "means"))
    assert 'backend: "python"' in text
    assert "max_batch_size: 5" in text
    assert "kind: KIND_AUTO" in text
    assert "dynamic_batching" not in text
    folder = tmp_path / "means" / "1"
    assert "EngineModel as TritonPythonModel" in (folder / "model.py").read_text()
    assert trtnet.Plan.load(folder / "model.engine").sidecar == plan().sidecar


def test_a_fixed_batch_is_served_as_it_is(tmp_path: Path, plan: Make) -> None:
    assert export(plan((2, 2)), tmp_path, Settings("two")).max_batch == 0
    text = fields(config(tmp_path, "two"))
    assert "max_batch_size: 0" in text
    assert "dims: 2 dims: 3 dims: 8 dims: 8" in text


def test_an_ensemble_has_steps_of_the_same_batch(tmp_path: Path, plan: Make) -> None:
    done = export(plan(), tmp_path, Settings("means", ensemble=True))
    assert done.models == ("means", "means_prepare", "means_answer", "means_images")
    for name in done.models:
        assert "max_batch_size: 8" in config(tmp_path, name)
        assert (tmp_path / name / "1").is_dir()
    text = fields(config(tmp_path, "means_images"))
    assert 'platform: "ensemble"' in text
    assert 'input_map { key: "input" value: "between/input" }' in text
    assert 'output { name: "class_names" data_type: TYPE_STRING dims: 3 }' in text


UINT16 = {**SCORES, "dtype": "float8_e4m3"}
REFUSED: dict[str, tuple[trtnet.Plan, Settings, str]] = {
    "no sidecar": (trtnet.Plan(b"a plan"), Settings("net"), "nothing says what the engine's"),
    "a batch beyond the profile": (tensorrt(), Settings(max_batch=17), "a batch of 17"),
    "a profile that begins above 1": (
        tensorrt(profiles=[{"input": {**PROFILE["input"], "min": [2, 3, 8, 8]}}]),
        Settings(), "a batch of 1",
    ),
    "a gap between profiles": (
        tensorrt(profiles=[
            PROFILE, {"input": {which: [20, 3, 8, 8] for which in ("min", "opt", "max")}}
        ]),
        Settings(), "a batch of 17",
    ),
    "a fixed output": (
        tensorrt(outputs=[{**SCORES, "shape": [3]}]), Settings(max_batch=4), "scores",
    ),
    "an output of the batch alone": (
        tensorrt(outputs=[{**SCORES, "shape": [-1]}]), Settings(), "without axes",
    ),
    "no axes": (tensorrt(outputs=[{**SCORES, "shape": []}]), Settings(), "without axes"),
    "a type": (tensorrt(outputs=[UINT16]), Settings(), "no such type"),
    "a name of a tensor": (
        tensorrt(outputs=[{**SCORES, "name": "a\nb"}]), Settings(), "no such name",
    ),
    "a plugin": (
        tensorrt(plugins=[{"name": "mine::gate", "version": "1", "module": "mine"}]),
        Settings(), "mine::gate",
    ),
    "no weights": (
        tensorrt(options={"strip_weights": True}), Settings(), "without its weights",
    ),
    "an ensemble of a fixed batch": (
        tensorrt(inputs=[{**IMAGES, "shape": [1, 3, 8, 8]}], profiles=[]),
        Settings(ensemble=True), "batch may vary",
    ),
    "an ensemble of numbers": (
        tensorrt(inputs=[{**IMAGES, "shape": [-1, 5]}], profiles=[
            {"input": {"min": [1, 5], "opt": [1, 5], "max": [2, 5]}}
        ]),
        Settings(ensemble=True), "does not take images",
    ),
    "an ensemble without preprocessing": (
        tensorrt(), Settings(ensemble=True), "how images are to be prepared",
    ),
    "an ensemble without answers": (
        tensorrt(outputs=[{**SCORES, "shape": [-1, 4, 2, 2, 2]}],
                 preprocessing={"resize_size": [8, 8]}),
        Settings(ensemble=True), "no scores of classes",
    ),
    "an ensemble of boxes before suppression": (
        tensorrt(outputs=[{"name": "boxes", "dtype": "float32", "shape": [-1, 9, 4]},
                          {"name": "scores", "dtype": "float32", "shape": [-1, 9, 3]}],
                 preprocessing={"resize_size": [8, 8]}),
        Settings(ensemble=True), "no scores of classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_triton_would_refuse_is_refused_before(tmp_path: Path, what: str) -> None:
    engine, settings, words = REFUSED[what]
    with pytest.raises((UsageError, UnsupportedError), match=re.escape(words)):
        export(engine, tmp_path / "r", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "a/b"}, "folders and parts of URLs"),
        ({"name": ".hidden"}, "folders and parts of URLs"),
        ({"name": ""}, "folders and parts of URLs"),
        ({"max_batch": 0}, "--max-batch"),
        ({"instances": -1}, "--instances"),
        ({"dynamic_batching": -1}, "--dynamic-batching"),
    ],
)
def test_settings_that_triton_does_not_take(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Settings(**given)


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        ({"sm89": tensorrt()}, "no compute capability"),
        ({"8.9": tensorrt(outputs=[{**SCORES, "name": "other"}])}, "other inputs, outputs"),
        ({"8.9": tensorrt(profiles=[PROFILE, PROFILE])}, "2 profiles"),
    ],
)
def test_plans_for_other_gpus_belong_to_the_same_model(
    tmp_path: Path, plans: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        export(tensorrt(), tmp_path / "r", plans=plans)


def test_engines_of_the_torch_backend_are_for_all_gpus(tmp_path: Path, plan: Make) -> None:
    with pytest.raises(UsageError, match="only engines of TensorRT"):
        export(plan(), tmp_path / "r", Settings("means"), plans={"8.9": plan()})


def test_bfloat16_is_for_tensorrts_backend_alone(tmp_path: Path, plan: Make) -> None:
    brain = [{**SCORES, "dtype": "bfloat16"}]
    export(tensorrt(outputs=brain), tmp_path)
    assert "TYPE_BF16" in config(tmp_path)
    with pytest.raises(UnsupportedError, match="no bfloat16"):
        export(trtnet.Plan(b"", {**plan().sidecar, "outputs": brain}), tmp_path / "r")


def test_two_engines_for_one_gpu_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"a plan")
    command = ["export", "triton", str(tmp_path / "a"), f"-o={tmp_path / 'r'}"]
    assert main([*command, *(f"--plan=8.9:{tmp_path / name}" for name in ("a", "b"))]) == 2
    assert "two engines for the compute capability 8.9" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_model_that_came_during_the_build_is_kept(
    tmp_path: Path, plan: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.served

    def meanwhile(*arguments: Any) -> Any:
        (tmp_path / "means").mkdir(exist_ok=True)
        (tmp_path / "means" / "config.pbtxt").write_text("of somebody else")
        return real(*arguments)

    monkeypatch.setattr(exporting, "served", meanwhile)
    with pytest.raises(UsageError, match="has means already"):
        export(plan(), tmp_path, Settings("means"))
    assert config(tmp_path, "means") == "of somebody else"


def test_the_command_builds_exports_and_keeps_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["export", "triton", "lenet5:fp16", "-o", "r", "--backend", "torch", "--max-batch=3",
               "--dynamic-batching", "--ensemble", "--preprocess", "unit"]  # fmt: skip
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "r: lenet5, lenet5_prepare, lenet5_answer, lenet5_images" in output
    assert f"tritonserver --model-repository={tmp_path / 'r'}" in output
    assert "dynamic_batching { }" in fields(config(tmp_path / "r", "lenet5"))
    sidecar = (tmp_path / "r/lenet5_prepare/1/sidecar.json").read_text()
    assert "--preprocess unit" in sidecar
    before = config(tmp_path / "r", "lenet5")
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    engine = "r/lenet5/1/model.engine"
    assert main(["export", "triton", engine, "-o=r", "--name=lenet5", "--force", "--fp16"]) == 2
    assert "--fp16 cannot be chosen for an engine" in capsys.readouterr().err
    again = ["export", "triton", engine, "-o=r", "--name=lenet5", "--force"]
    assert main(again) == 2
    assert "would go around another engine" in capsys.readouterr().err
    assert config(tmp_path / "r", "lenet5") == before
    assert main([*again, "--ensemble"]) == 0
    assert config(tmp_path / "r", "lenet5") != before
    capsys.readouterr()
    assert main(["export", "torchserve", "lenet5", "-o=r"]) == 2
    assert "torchserve" in capsys.readouterr().err
