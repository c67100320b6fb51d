"""Figures that a page computes from the document equal the command line's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pages import bounds, exact_sum, rows

from trtnet import explorer
from trtnet.cli.main import main

Json = dict[str, Any]


@pytest.fixture(scope="module", params=["lenet5", "resnet20_digits:int8"])
def document(request: pytest.FixtureRequest) -> Json:
    return json.loads(json.dumps(explorer.write(request.param)))


def cost(capsys: pytest.CaptureFixture[str], *arguments: str) -> Json:
    assert main(["cost", *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_bounds_equal_those_of_trtnet_cost(
    document: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    model = document["title"].partition(":")[0]
    build = document["builds"][0]
    compared = 0
    for variant in build["variants"]:
        for gpu in document["gpus"]:
            own = bounds(variant, gpu)
            if own is None or gpu["key"] not in ("h200", "l40s", "t4"):
                continue
            told = cost(capsys, f"{model}:{variant['key']}", "--gpu", gpu["key"])
            theirs = told["bound"]
            assert [layer["name"] for layer in told["layers"]] == variant["kernels"]["layer"]
            assert own == [layer["seconds"] for layer in told["layers"]]
            assert exact_sum(own) == theirs["seconds"]
            compared += 1
    assert compared >= 10


def test_sums_of_modules_are_those_of_their_kernels(document: Json) -> None:
    build = document["builds"][0]
    modules = list(rows(build["modules"]))
    for variant in build["variants"]:
        kernels = list(rows(variant["kernels"]))
        for number, module in enumerate(modules):
            inside = [k for k in kernels if number <= k["module"] < module["end"]]
            path = module["path"]
            named = [
                k for k in kernels
                if not path or k["layer"].startswith((f"{path}/", f"{path}."))
            ]  # fmt: skip
            assert inside == named


def test_every_layer_is_in_the_kernel_that_it_runs_in(document: Json) -> None:
    build = document["builds"][0]
    kernels = list(rows(build["variants"][0]["kernels"]))
    for layer in rows(build["layers"]):
        if layer["kernel"] >= 0:
            kernel = kernels[layer["kernel"]]
            assert layer["name"] in (kernel["layer"], *kernel["fused"])


def test_parents_stand_before_their_children(document: Json) -> None:
    modules = list(rows(document["builds"][0]["modules"]))
    assert modules[0]["path"] == ""
    assert modules[0]["end"] == len(modules)
    for number, module in enumerate(modules[1:], start=1):
        parent = modules[module["parent"]]
        assert module["parent"] < number < module["end"] <= parent["end"]
        assert module["depth"] == parent["depth"] + 1
        assert module["path"].rpartition(".")[0] == parent["path"]


def test_a_gpu_without_the_precision_has_no_gaps(document: Json) -> None:
    build = document["builds"][0]
    for gpu in document["gpus"]:
        known = bounds(build["variants"][0], gpu) is not None
        assert (gpu["key"] in build["gaps"]) == known


def test_gaps_are_the_largest_ones_first(document: Json) -> None:
    build = document["builds"][0]
    gpu = next(gpu for gpu in document["gpus"] if gpu["key"] == "l40s")
    lost = []
    for kernel in rows(build["variants"][0]["kernels"]):
        flops = gpu["flops"][kernel["precision"]] if kernel["precision"] else None
        compute = 2 * kernel["macs"] / flops if flops else 0.0
        lost.append((kernel["read"] + kernel["written"]) / gpu["bandwidth"] - compute)
    wanted = sorted((one for one in lost if one > 0), reverse=True)[:10]
    assert [gap["seconds"] for gap in build["gaps"]["l40s"]] == pytest.approx(wanted)


def test_ceilings_of_one_s_own_are_a_gpu_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.json"
    path.write_text(
        json.dumps(
            {"mine": {"name": "Mine", "gb_per_s": 40, "tflops": {"tf32": 0.5}, "source": "a guess"}}
        )
    )
    found = cost_page(capsys, "lenet5", "--ceilings", str(path))
    told = cost(capsys, "lenet5", "--ceilings", str(path))
    assert found["start"]["gpu"] == "mine"
    gpu = next(gpu for gpu in found["gpus"] if gpu["key"] == "mine")
    build = found["builds"][0]
    own = bounds(build["variants"][0], gpu)
    assert own == [layer["seconds"] for layer in told["layers"]]
    assert exact_sum(own) == told["bound"]["seconds"]
    assert "mine" in build["gaps"]


def cost_page(capsys: pytest.CaptureFixture[str], *arguments: str) -> Json:
    assert main(["explore", *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)
