"""What the page says of precision and differences is what the command line says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pages import chain, rows

from trtnet import explorer
from trtnet.cli.main import main


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "name", ["resnet20_digits:int8", "mobilenet_v2:fp8", "resnet20_digits:mixed"]
)
def test_precisions_and_reasons_are_those_of_trtnet_policy(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build = explorer.write(name)["builds"][0]
    ours = {row["module"]: row for row in rows(build["modules"]) if row["call"] == 0}
    wanted = told(capsys, "policy", name)["modules"]
    for row in wanted:
        mine = ours[row["module"]]
        assert (mine["precision"], mine["reason"]) == (row["precision"], row["reason"])
        assert (mine["class"], mine["kind"] or "") == (row["type"], row["kind"])
        entries = build["precision"]["entries"]
        if row["kind"]:
            assert entries[mine["entry"]]["value"] == row["precision"]
    assert {path for path, row in ours.items() if row["reason"]} == {
        row["module"] for row in wanted
    }


def test_differences_are_those_of_trtnet_diff(capsys: pytest.CaptureFixture[str]) -> None:
    found = explorer.write("lenet5", other="lenet5:fp16")["comparison"]
    wanted = told(capsys, "diff", "lenet5", "lenet5:fp16")
    differences = list(rows(found["differences"]))
    assert len(differences) == len(wanted["differences"])
    for mine, theirs in zip(differences, wanted["differences"], strict=True):
        assert {key: mine[key] for key in theirs} == theirs
    assert found["macs"] == wanted["macs"]
    assert {name: pair for name, *pair in found["layers"]} == wanted["layers"]
    assert {name: pair for name, *pair in found["casts"]} == wanted["casts"]
    listed = [number for row in rows(found["modules"]) for number in row["differences"]]
    assert sorted(listed) == list(range(len(differences)))


def test_modules_of_one_side_only_are_said() -> None:
    names = ["stem/softmax", "body.0/softmax", "body.1/softmax"]
    found = explorer.write(chain(names[:2]), other=chain(names))["comparison"]
    status = {row["path"]: row["status"] for row in rows(found["modules"])}
    assert status == {
        "": "changed", "stem": "equal", "body": "changed", "body.0": "equal", "body.1": "only b"
    }  # fmt: skip
    assert found["weights_compared"]
