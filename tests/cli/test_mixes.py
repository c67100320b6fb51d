"""From sensitivity to an INT8 engine: what one command prints, the next takes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet import weights, zoo
from trtnet.cli import progress
from trtnet.cli.arguments import zoo_parser
from trtnet.cli.main import main
from trtnet.cli.random_weights import RANDOM_WEIGHTS
from trtnet.cli.search import search_parser
from trtnet.pipeline import CalibrationSettings, SearchSettings, load_weights
from trtnet.precision.policy import Policy
from trtnet.quantization import CalibrationTable

ROOT = Path(__file__).parents[2]
ITEMS = 104


@pytest.fixture(autouse=True)
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in a folder with ``digits.npz``, which has labels, ``plain.npy``, which has none, and
    ``rough.safetensors``: LeNet whose INT8 network has between 15 and 25 dB."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.kron(found.images[:ITEMS], np.ones((4, 4)))[:, None].astype(np.float32) / 16
    monkeypatch.chdir(tmp_path)
    np.savez("digits.npz", input=images, labels=found.target[:ITEMS].astype(np.int64))
    np.save("plain.npy", images)
    state = dict(load_weights(zoo.get_entry("lenet5"), None, 0, {}))
    random = np.random.default_rng(0)
    for name in [name for name in state if name.endswith("weight")]:
        outliers = np.where(random.random(state[name].shape) < 1e-3, 2000, 1)
        state[name] = (state[name] * outliers).astype(np.float32)
    weights.save("rough.safetensors", state)


def report(*arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json", "r.json"]) == status
    return json.loads(Path("r.json").read_text())


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    capsys.readouterr()
    assert main([*arguments]) == status
    out, err = capsys.readouterr()
    return (err if status == 2 else out).splitlines()


SEARCH = ("search", "lenet5", "--weights", "rough.safetensors", "--data", "digits.npz")


def test_the_printed_command_works_in_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is printed, in the same folder, whatever the names of files have in them."""
    Path("it's a folder").mkdir()
    os.rename("digits.npz", "the $digits.npz")
    flags = ["--weights", "rough.safetensors", "--seed=3", "--batch", "4", "--items", "18"]
    output = "it's a folder/mix.toml"
    *_, command = printed(capsys, "search", "lenet5", "--data", "the $digits.npz", *flags,
                          "--budget", "sqnr>=15dB", "-o", output)  # fmt: skip
    folder = Path("bin")
    folder.mkdir()
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m trtnet.cli.main "$@"\n'
    (folder / "trtnet").write_text(script)
    (folder / "trtnet").chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{folder.absolute()}{os.pathsep}{os.environ['PATH']}",
    }
    run = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " over 16 items, within the budget sqnr>=15dB" in run.stdout  # whole batches of 4


def test_a_budget_below_the_limit_of_int8_is_what_the_build_verifies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """INT8's own limit is 25 dB; the search was asked for 15."""
    found = report(*SEARCH, "--budget", "sqnr>=15dB", "-o", "mix.toml")
    assert 15 <= found["best"]["sqnr_db"] < 25
    command = capsys.readouterr().out.splitlines()[-1]
    assert found["command"] == command
    built = report(*shlex.split(command)[1:])
    budget = built["verify"]["budget"]
    assert (budget["budget"], budget["items"], budget["passed"]) == ("sqnr>=15dB", 64, True)
    assert budget["sqnr_db"] == pytest.approx(found["best"]["sqnr_db"], abs=1e-6)
    assert built["calibration"]["table"] == "mix.toml.calib.json"
    assert built["calibration"]["reused"] is True
    assert CalibrationTable.load("mix.toml.calib.json").items == 64
    assert Policy.load("mix.toml").as_dict() == found["policy"]
    assert found["policy"]["budget"] == "sqnr>=15dB"


def test_a_failed_build_says_what_to_do_and_that_works(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--weights=rough.safetensors", "--calib-data=digits.npz"]
    *_, advice, command = printed(capsys, "zoo", "lenet5", "--int8", *flags, status=1)
    assert advice == "the fastest mix within this limit is found by"
    assert command == (
        "trtnet search lenet5 --weights=rough.safetensors --batch 1 --to int8 "
        "--budget 'sqnr>=25dB' --data digits.npz -o lenet5-mix.toml"
    )
    *_, command = printed(capsys, *shlex.split(command)[1:])
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize(
    ("flags", "carried"),
    [
        (["--backend=torch"], ["--backend=torch"]),
        (["--backend", "rtx", "--verify-inputs=2", "--json=other.json"], ["--backend", "rtx"]),
        (["--seed=3", "--calib-items", "80"], ["--seed=3"]),
    ],
)
def test_advice_carries_what_the_other_command_takes(
    flags: list[str], carried: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rough = ["--weights", "rough.safetensors", "--calib-data", "plain.npy"]
    *_, command = printed(capsys, "zoo", "lenet5:int8", *flags, *rough, status=1)
    begin = ["trtnet", "search", "lenet5", *carried, "--weights", "rough.safetensors", "--batch"]
    assert shlex.split(command)[: len(begin)] == begin
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("command", ["zoo", "verify"])
def test_a_failure_has_value_limit_and_where_it_is_from(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["lenet5", "--int8", "--weights=rough.safetensors", "--calib-data=digits.npz"]
    found = report(command, *arguments, status=1)
    found = found["verify"] if command == "zoo" else found
    text = f"SQNR {found['sqnr_db']:.1f} dB"
    assert found["limit"] == {
        "measured": text, "required": "SQNR >= 25 dB", "from": "the limit of int8 for outputs",
    }  # fmt: skip
    out = capsys.readouterr().out
    said = f"FAILED: {text} at logits, required is SQNR >= 25 dB, the limit of int8 for outputs"
    assert said in out


def test_a_budget_that_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Policy("int8").save("strict.toml")
    text = Path("strict.toml").read_text()
    Path("strict.toml").write_text(f'budget = "cosine>=0.9999"\n{text}')
    flags = ["--policy=strict.toml", "--weights=rough.safetensors", "--calib-data=digits.npz"]
    lines = printed(capsys, "zoo", "lenet5", *flags, status=1)
    assert not list(Path("engines").glob("*.engine"))
    (said,) = [line for line in lines if line.startswith("verified")]
    assert "FAILED: cosine 0.99" in said
    assert ", required is cosine>=0.9999, the budget of the policy, over 104 items; " in said
    assert "--budget 'cosine>=0.9999'" in lines[-1]


def test_a_budget_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.toml").write_text('compute = "fp16"\nbudget = "sqnr>=30dB"\n')
    lines = printed(capsys, "zoo", "lenet5", "--policy=b.toml", status=2)
    assert lines[0] == "error: the policy has the budget sqnr>=30dB, which is measured on data"
    assert "--calib-data" in lines[-1]
    assert main(["zoo", "lenet5", "--policy=b.toml", "--calib-data=digits.npz"]) == 0


def test_the_ranges_of_other_weights_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    *_, command = printed(capsys, *SEARCH, "--budget=sqnr>=15dB", "-o", "mix.toml")
    weights.save("rough.safetensors", load_weights(zoo.get_entry("lenet5"), None, 0, {}))
    assert main(shlex.split(command)[1:]) == 1
    assert "the calibration table belongs to other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sensitivity", "{}", "--data=plain.npy"],
        ["search", "{}", "--data=plain.npy", "--budget=sqnr>=10dB", "-o", "m.toml"],
        ["zoo", "{}", "--fp16"],
        ["verify", "{}"],
    ],
)
def test_random_weights_are_announced(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = (
        "these are random: the network has learned nothing; its answers, and the errors of a "
        "precision, mean nothing"
    )
    assert said == RANDOM_WEIGHTS
    arguments = [text.format("lenet5") for text in arguments]
    lines = printed(capsys, *arguments, "--weights=random")
    place = lines.index(f"          {said}")
    assert lines[place - 1].startswith("weights   random (seed 0)")
    assert not any(said in line for line in printed(capsys, *arguments))


def test_an_engine_of_random_weights_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("one.npy", np.zeros((1, 1, 32, 32), np.float32))
    for flags, said in (["--weights=random"], 1), ([], 0):
        assert main(["zoo", "lenet5", "--backend=torch", "--saveEngine=a.engine", *flags]) == 0
        lines = printed(capsys, "run", "a.engine", "--input=one.npy", "--device=cpu")
        assert lines.count(f"          {RANDOM_WEIGHTS}") == said


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--data=digits.npz", "--items=8"], "of 8 labels one alone is 12.5 points"),
        (["--data=plain.npy"], "the data has no labels"),
        (["--data=digits.npz", "--items=104"], None),
    ],
)
def test_top1_is_left_out_where_the_data_does_not_tell_it(
    flags: list[str], why: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report("sensitivity", "lenet5", *flags)
    out = capsys.readouterr().out
    assert ("top-1 drop" in out) is (why is None)
    assert found["left_out"] == ({} if why is None else {"top1_drop": why})
    assert {row["top1_drop"] is None for row in found["modules"]} == {why is not None}
    if why is not None:
        assert f"left out  the drop of top-1: {why}" in out.splitlines()


@pytest.mark.parametrize(
    ("data", "budget", "texts"),
    [
        ("plain.npy", "top1_drop<=1", ["got: the data has no labels", "called labels"]),
        ("digits.npz", "top1_drop<=1", ["got: of 64 labels one alone is 1.56 points"]),
    ],
)
def test_a_budget_that_the_data_cannot_show(
    data: str, budget: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, "search", "lenet5", f"--data={data}", f"--budget={budget}", "-o",
                    "m.toml", status=2)  # fmt: skip
    assert lines[0] == f"error: the budget {budget}% cannot be judged"
    for text in texts:
        assert text in "\n".join(lines)


def test_progress_has_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.0)
    flags = [*SEARCH, "--budget=sqnr>=24dB", "-o", "m.toml"]
    found = report(*flags)
    lines = capsys.readouterr().out.splitlines()
    assert "search ... 1 of 5 modules measured, c1" in lines
    assert any(line.startswith("search ... 1 network tried, best SQNR ") for line in lines)
    (last,) = [line for line in lines if line.startswith("search  ")]
    best = found["best"]
    told = f"best SQNR {best['sqnr_db']:.1f} dB, {1e6 * best['seconds']:.2f} µs"
    assert last.endswith(f"{len(found['trials'])} networks tried, {told}")
    assert main([*flags, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["budget"] == "sqnr>=24dB"  # and nothing else


def test_ablation_of_the_mix_that_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(*SEARCH, "--budget=sqnr>=24dB", "-o", "m.toml", "--ablate")
    rows = found["ablations"]
    assert sorted(row["modules"][0] for row in rows) == sorted(found["best"]["changed"])
    assert [row["rel_l2"] for row in rows] == sorted(row["rel_l2"] for row in rows)
    for row in rows:
        added = row["seconds"] - found["best"]["seconds"]
        assert row["seconds_added"] == pytest.approx(added)
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("the mix with one module set back to fp16")
    assert lines[place + 2].startswith("(nothing)")
    assert lines[-1].startswith("trtnet zoo lenet5 ")


def test_sensitivities_feed_the_search(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = report("sensitivity", *SEARCH[1:], "--journal", "s.journal")
    assert "kept in s.journal: trtnet search takes it with --sensitivity" in capsys.readouterr().out
    budget = ["--budget=sqnr>=24dB", "-o", "m.toml"]
    from trtnet.search import sensitivities

    with monkeypatch.context() as patch:
        patch.delattr(sensitivities._Worker, "measure")  # nothing is measured again
        found = report(*SEARCH, *budget, "--sensitivity", "s.journal")
    assert found["modules"] == kept["modules"]
    assert main([*SEARCH, *budget, "--sensitivity", "s.journal"]) == 0


@pytest.mark.parametrize(
    ("model", "flags", "problem"),
    [
        ("lenet5", ["--data=digits.npz"], "its weights are others"),
        ("lenet5", ["--weights=rough.safetensors", "--data=half.npy"], "its data is another"),
        ("lenet5", ["--weights=rough.safetensors", "--data=digits.npz", "--batch=4"],
         "its graph is another: another model, shape or batch"),
        ("lenet5", ["--weights=rough.safetensors", "--data=digits.npz", "--to=fp8"],
         "its modules were changed to another precision (--to)"),
        ("lenet5", ["--weights=rough.safetensors", "--data=digits.npz", "--calibrator=minmax"],
         "its ranges are of another method (--calibrator)"),
    ],
)  # fmt: skip
def test_sensitivities_of_something_else_are_refused(
    model: str, flags: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("half.npy", np.load("plain.npy") / 2)
    assert main(["sensitivity", *SEARCH[1:], "--journal", "s.journal"]) == 0
    before = Path("s.journal").read_bytes()
    search = ["search", model, *flags, "--budget=sqnr>=10dB", "-o", "m.toml"]
    lines = printed(capsys, *search, "--sensitivity=s.journal", status=2)
    said = "error: s.journal cannot be used as the sensitivities of this network: "
    assert lines[0] == said + problem
    assert Path("s.journal").read_bytes() == before


def test_journals_of_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", *SEARCH[1:], "--journal", "s.journal"]) == 0
    lines = Path("s.journal").read_text().splitlines(keepends=True)
    budget = ["--budget=sqnr>=24dB", "-o", "m.toml"]
    told = printed(capsys, *SEARCH, *budget, "--journal=s.journal", status=2)
    assert told[0] == "error: s.journal is the journal of trtnet sensitivity, not of a search"
    assert "--sensitivity s.journal takes its results" in told[1]
    Path("s.journal").write_text("".join(lines[:-1]))  # killed before the last module
    told = printed(capsys, *SEARCH, *budget, "--sensitivity=s.journal", status=2)
    assert told[0] == "error: s.journal does not have all sensitivities"
    assert "got: 4, without output" in told[2]


def test_the_journal_beside_a_policy_makes_room(capsys: pytest.CaptureFixture[str]) -> None:
    budget = ["--budget=sqnr>=24dB", "-o", "m.toml"]
    assert main([*SEARCH, *budget]) == 0
    lines = printed(capsys, *SEARCH, *budget, "--items=16")
    assert "m.toml.journal was of another search: begun anew" in lines
    named = ["--journal=m.toml.journal"]
    assert "another search" in printed(capsys, *SEARCH, *budget, *named, status=2)[0]


def test_the_defaults_of_a_calibration_are_in_one_place() -> None:
    zoo_flags = zoo_parser().parse_args(["lenet5"])
    search_flags = search_parser().parse_args(
        ["lenet5", "--data=plain.npy", "--budget=sqnr>=1dB", "-o", "m.toml"]
    )
    assert zoo_flags.calib_items == CalibrationSettings().items == 512
    methods = {zoo_flags.calibrator, search_flags.calibrator, CalibrationSettings().method,
               SearchSettings("", 1).method}  # fmt: skip
    assert methods == {"mse"}


@pytest.mark.parametrize("batch", [4, 40])
def test_noise_comes_in_batches_of_the_network(
    batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--weights=random", "--data=random", f"--batch={batch}", "--items=40"]
    *_, command = printed(capsys, "search", "lenet5", *flags, "--budget=sqnr>=10dB", "-o", "m.toml")
    assert command.endswith(f"--calib-items {32 if batch == 4 else 40}")
    assert main(shlex.split(command)[1:]) == 0
