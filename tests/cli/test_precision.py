"""Precision on the command line: calibration, policies, range safety, sensitivity, search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import weights, zoo
from trtnet.building.plan import Plan
from trtnet.cli.main import main
from trtnet.pipeline import load_weights
from trtnet.pipeline.random_weights import random_weights
from trtnet.precision.policy import Policy
from trtnet.quantization import CalibrationTable

INT8_SQNR = 25.0  # dB: the aim for quantized networks


@pytest.fixture(autouse=True)
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Works in an empty folder but for ``digits.npz``, with labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.kron(found.images[:32], np.ones((4, 4)))[:, None].astype(np.float32) / 16
    np.savez(tmp_path / "digits.npz", input=images, labels=found.target[:32].astype(np.int64))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(*arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json", "r.json"]) == status
    return json.loads(Path("r.json").read_text())


def failure(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> str:
    assert main(list(arguments)) == status
    return capsys.readouterr().err


def lenet_overflowing(path: str) -> None:
    """LeNet whose c1 gives a hundred thousand times what it should."""
    entry = zoo.get_entry("lenet5")
    state = dict(load_weights(entry, None, 0, {}))
    for name in ("c1.weight", "c1.bias"):
        state[name] = state[name] * np.float32(1e5)
    weights.save(path, state)


@pytest.mark.parametrize(
    ("flags", "method"),
    [
        (["--int8"], "mse"),
        (["--int8", "--calibrator", "percentile"], "percentile"),
        (["--fp8", "--compute-capability", "8.9"], "mse"),
    ],
)
def test_a_quantized_engine(flags: list[str], method: str) -> None:
    found = report("zoo", "lenet5", *flags, "--calib-data", "digits.npz", "--verify-inputs", "8")
    precision = flags[0].removeprefix("--")
    assert found["precision"] == precision
    assert found["verify"]["passed"] is True
    assert found["verify"]["inputs"] == 8
    assert found["verify"]["sqnr_db"] >= INT8_SQNR
    assert found["verify"]["argmax_agreement"] == 1.0
    calibration = found["calibration"]
    assert (calibration["method"], calibration["items"]) == (method, 32)
    assert (calibration["data"], calibration["reused"]) == ("digits.npz", False)
    table = CalibrationTable.load(calibration["table"])
    assert len(table.ranges) == calibration["tensors"] == 5
    plan = Plan.load(Path(found["engine"]["path"]))
    kept = {key: calibration[key] for key in calibration.keys() - {"reused", "seconds"}}
    assert plan.sidecar["calibration"] == kept
    assert plan.sidecar["policy"]["compute"] == precision
    assert not list(Path("engines").glob("*.calib-*"))  # the journal is gone


def test_fp8_alone_says_which_gpus_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = report("zoo", "lenet5", "--fp8", "--skip-verify", "--calib-data", "digits.npz")
    built_for = found["engine"]["compute_capabilities"]
    assert built_for[:2] == ["8.9", "12.0"]
    assert Plan.load(Path(found["engine"]["path"])).sidecar["compute_capabilities"] == built_for
    said = f"fp8: built for compute capability {', '.join(built_for)}; 8.0 and 8.6 lack it"
    assert found["engine"]["note"] == said
    assert said in capsys.readouterr().out


def test_ranges_are_reused_until_something_changes() -> None:
    flags = ["zoo", "lenet5", "--int8", "--skip-verify", "--calib-data"]
    first = report(*flags, "digits.npz")
    again = report(*flags, "digits.npz")
    assert (again["calibration"]["reused"], again["engine"]["reused"]) == (True, True)
    assert again["calibration"]["sha256"] == first["calibration"]["sha256"]
    np.save("other.npy", 2 * np.load("digits.npz")["input"])
    assert report(*flags, "other.npy")["calibration"]["reused"] is False
    assert report(*flags, "digits.npz", "--calibrator=minmax")["calibration"]["reused"] is False
    Path("engines/lenet5-int8.engine.calib.json").write_text("damaged")
    changed = report(*flags, "digits.npz", "--calibrator=minmax")
    assert changed["calibration"]["reused"] is False
    assert changed["engine"]["reused"] is True


def test_a_table_serves_other_engines(capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--calib-data", "digits.npz", "--calib-table", "t.json"]
    made = report("zoo", "lenet5", "--int8", "--skip-verify", *data)
    assert (made["calibration"]["table"], made["calibration"]["reused"]) == ("t.json", False)
    read = report("zoo", "lenet5", "--int8", "--batch=4", "--skip-verify", "--calib-table=t.json")
    assert (read["calibration"]["data"], read["calibration"]["reused"]) == (None, True)
    other = ["--weights", "random", "--skip-verify", "--calib-table", "t.json"]
    text = failure(capsys, "zoo", "lenet5", "--int8", *other, status=1)
    assert "other weights" in text
    text = failure(capsys, "zoo", "resnet20_digits", "--int8", "--calib-table=t.json", status=1)
    assert "other weights" in text  # and not that it lacks a tensor
    text = failure(capsys, "zoo", "lenet5", "--int8", "--calib-table", "missing.json", status=2)
    assert "missing.json" in text


def test_noise_for_random_weights() -> None:
    flags = ["--weights", "random", "--int8", "--calib-data", "random", "--calib-items", "8"]
    found = report("zoo", "lenet5", *flags)
    assert found["calibration"]["items"] == 8
    assert found["verify"]["sqnr_db"] >= INT8_SQNR


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--int8"], ["int8 needs calibration data", "--calib-data"]),
        (["--int8", "--calib-data", "random"], ["noise says nothing about trained weights"]),
        (["--int8", "--calib-data", "nothing.npy"], ["nothing.npy"]),
        (["--int8", "--calib-data", "empty"], ["no calibration data"]),
        (["--int8", "--calib-data", "small.npy"], ["batch 1", "wrong shape", "8, 8"]),
        (["--int8", "--calib-data", "nan.npy"], ["NaN", "batch 1"]),
        (["--fp8", "--calib-data=digits.npz", "--compute-capability=8.0"], ["8.9", "12.0"]),
        (["--fp8", "--calib-data", "digits.npz", "--compute-capability=8.6"], ["8.6"]),
        (["--policy", "nowhere.toml"], ["matches no module", "layer9"]),
    ],
)
def test_bad_input(
    flags: list[str], texts: list[str], digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    np.save("small.npy", np.zeros((4, 1, 8, 8), np.float32))
    np.save("nan.npy", np.full((4, 1, 32, 32), np.nan, np.float32))
    Policy("fp16", keep={"layer9": "fp32"}).save("nowhere.toml")
    text = failure(capsys, "zoo", "lenet5", "--skip-verify", "--backend=rtx", *flags, status=2)
    for wanted in texts:
        assert wanted in text
    assert not list(digits.glob("engines/*.engine"))


def test_a_policy_decides_module_by_module() -> None:
    Policy("fp16", keep={"c5": "fp32"}).save("mine.toml")
    found = report("zoo", "lenet5", "--policy", "mine.toml")
    assert found["engine"]["path"] == "engines/lenet5-mine.engine"
    assert (found["precision"], found["calibration"]) == ("fp16", None)
    structure = report("inspect", "lenet5", "--policy", "mine.toml")
    assert structure["tensors"]["c5"]["dtype"] == "float32"
    assert structure["tensors"]["c3"]["dtype"] == "float16"


def test_what_every_module_gets_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = report("policy", "resnet18:int8", "-o", "p.toml")
    by_name = {row["module"]: row for row in found["modules"]}
    assert by_name["layer1.0.conv1"]["precision"] == "int8"
    assert by_name["bn1"]["reason"].startswith("folded")
    assert by_name["relu"]["reason"] == "takes the type of its input"
    assert found["policy"]["compute"] == "int8"
    assert Policy.load("p.toml") == Policy.preset("int8")
    capsys.readouterr()
    assert main(["policy", "vit_b_16", "--fp16"]) == 0
    text = capsys.readouterr().out
    assert "encoder.ln" in text
    assert "normalization stays in FP32" in text
    assert "suppression" not in text
    assert report("policy", "lenet5:fp16")["always"] == {}
    assert main(["policy", "lenet5", "--policy", "missing.toml"]) == 2
    assert main(["policy", "lenet5:fp16", "-o", "missing/p.toml"]) == 2


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_no_policy_changes_of_a_detector(
    precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report("policy", f"yolox_shapes:{precision}")
    assert found["always"] == {"coding of boxes": "fp32", "suppression": "fp32"}
    assert main(["policy", "yolox_shapes", f"--{precision}"]) == 0
    text = capsys.readouterr().out
    assert "\nsuppression: fp32, whatever the policy\n" in text

    # and so it is: what lies outside of the backbone and the head
    model = zoo.get_model("yolox_shapes")
    model.load_state_dict(random_weights(model, "yolox_shapes"))
    network = trtnet.Network("rtx", Policy.preset("fp16"))
    for name, tensor in model(network.input("input", (1, 3, 64, 64))).items():
        network.output(name, tensor)
    graph = trtnet.graph.read(network.definition)
    types = {
        graph.tensors[output].dtype
        for layer in graph.layers
        if not layer.name.startswith(("backbone", "head"))
        for output in layer.outputs
    }
    assert "float32" in types
    assert "float16" not in types


def test_fp16_is_refused_for_a_network_that_overflows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lenet_overflowing("large.safetensors")
    flags = ["lenet5", "--fp16", "--weights", "large.safetensors", "--calib-data", "digits.npz"]
    for command in ("zoo", "verify"):
        assert main([command, *flags]) == 1
        told = capsys.readouterr()
        assert "what FP16 does to the values" in told.out
        assert "c1: values overflow in FP16" in told.err
        assert '"c1": "fp32"' in told.err
    line = next(line for line in told.err.splitlines() if "keep = " in line)
    # The policy that the message suggests
    pairs = line[line.index("{") + 1 : line.rindex("}")].replace(":", " =").split(", ")
    policy = ['compute = "fp16"', "[keep]", *pairs]
    Path("fixed.toml").write_text("\n".join(policy))
    fixed = ["--policy", "fixed.toml", *flags[2:]]
    found = report("zoo", "lenet5", *fixed)
    assert found["verify"]["passed"] is True


def test_fp16_that_fits_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "lenet5", "--fp16", "--calib-data", "digits.npz"]) == 0
    text = capsys.readouterr().out
    assert "FP16 holds all 15 tensors: at most 0.02% of its range (c5)\n" in text
    assert "what FP16 does" not in text
    assert "equal to lenet5 of torch" in text


def test_looks_at_the_structure_need_no_data() -> None:
    cost = report("cost", "lenet5:int8", "--gpu", "l4")
    assert {layer["precision"] for layer in cost["layers"]} >= {"int8"}
    assert (
        report("cost", "lenet5:fp16", "--gpu", "l4")["bound"]["seconds"]
        > (cost["bound"]["seconds"])
    )
    layers = report("inspect", "lenet5:int8")["layers"]
    assert "QUANTIZE" in {layer["type"] for layer in layers}


def test_verify_int8_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--calib-data" in failure(capsys, "verify", "lenet5:int8", status=2)
    found = report("verify", "lenet5:int8", "--calib-data", "digits.npz")
    assert found["passed"] is True
    assert found["sqnr_db"] >= INT8_SQNR


def test_sensitivity(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    flags = ["--data", "digits.npz", "--journal", "j", "--plot", "s.png"]
    found = report("sensitivity", "lenet5", *flags)
    assert {row["module"] for row in found["modules"]} == {"c1", "c3", "c5", "f6", "output"}
    errors = [row["rel_l2"] for row in found["modules"]]
    assert errors == sorted(errors, reverse=True)
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    assert "SQNR dB" in text
    assert "5 modules, each alone in int8; 8 items" in text
    assert report("sensitivity", "lenet5", *flags) == found
    assert failure(capsys, "sensitivity", "lenet5", *flags, "--to", "fp8", status=2)


def test_search_writes_a_policy_that_builds() -> None:
    pytest.importorskip("matplotlib")
    flags = ["--data", "digits.npz", "--budget", "sqnr>=53dB", "--plot", "p.svg"]
    found = report("search", "lenet5", *flags, "-o", "p.toml")
    assert found["best"]["sqnr_db"] >= 53
    policy = Policy.load("p.toml")
    assert found["policy"] == policy.as_dict()
    assert policy.keep
    assert set(policy.keep).isdisjoint(found["best"]["changed"])
    assert Path("p.svg").read_bytes().startswith(b"<?xml")
    built = report("zoo", "lenet5", "--policy", "p.toml", "--calib-data", "digits.npz",
                   "--batch", "32")  # fmt: skip
    assert built["verify"]["passed"] is True
    assert built["verify"]["sqnr_db"] == pytest.approx(found["best"]["sqnr_db"], abs=1.0)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--budget", "psnr>=30"], "cannot read the budget"),
        (["--budget", "sqnr>=300"], "exceeded before any module is int8"),
        (["--budget", "sqnr>=30", "-o", "missing/p.toml"], "missing/p.toml"),
        (["--budget", "sqnr>=30", "--plot", "p.pdf"], ".png or .svg"),
        (["--budget", "sqnr>=30", "--gpu", "h2000"], "no GPU"),
        (["--budget", "sqnr>=30", "--data", "nothing"], "nothing"),
        (["--budget", "sqnr>=30", "--data", "random"], "noise says nothing"),
    ],
)
def test_bad_searches(flags: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    usual = ["search", "lenet5", "--data", "digits.npz", "-o", "p.toml"]
    assert text in failure(capsys, *usual, *flags, status=2)
    assert not Path("p.toml").exists()


@pytest.mark.parametrize("flag", ["--int8", "--noTF32", "--precision=bf16"])
def test_a_suffix_and_a_flag_are_two_precisions(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "choose one precision" in failure(capsys, "verify", "lenet5:fp16", flag, status=2)
    assert "choose one precision" in failure(capsys, "zoo", "lenet5:fp16", flag, status=2)
