"""The page: the document inside it is the one that was written, whatever names hold."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pages import Script, chain, rows

import trtnet
from trtnet import explorer, graph
from trtnet.cli.main import main
from trtnet.explorer import subject_of
from trtnet.pipeline import Recipe, load_model

pytestmark = pytest.mark.alone

HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "x" * 10_000,
    "." * 10_000,
    "\u202egnp.exe",
    "line\u2028and\u2029paragraph & \u0000 '\"\\",
    "]]>{{}}${x}",
)


def test_names_of_others_remain_text(tmp_path: Path) -> None:
    names = [f"{text}/{text}" for text in HOSTILE]
    path, report = tmp_path / "page.html", tmp_path / "page.json"
    explorer.write(chain(names), path, json=report)
    page = path.read_text("utf-8")
    plain = tmp_path / "plain.html"
    explorer.write(chain(["a/relu"]), plain)
    script = Script(page)
    assert script.tags == Script(plain.read_text("utf-8")).tags  # no other element
    found = json.loads(script.text)
    assert found == json.loads(report.read_text("ascii"))
    assert found["builds"][0]["layers"]["name"] == names
    for sign in ("<", ">", "&", "\u2028", "\u2029"):
        assert sign not in script.text


def test_a_page_needs_neither_network_nor_files(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    explorer.write("lenet5", path)
    page = path.read_text("utf-8")
    assert "src=" not in page.partition('id="document"')[0]
    assert "<link" not in page


def test_resnet50_is_at_most_3_mb(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert main(["explore", "resnet50:fp16", "-o", str(path)]) == 0
    assert path.stat().st_size <= 3e6
    found = json.loads(Script(path.read_text("utf-8")).text)
    assert found["command"] == f"trtnet explore resnet50:fp16 -o {path}"


def test_5000_layers_are_written_in_seconds(tmp_path: Path) -> None:
    names = [f"block{i // 100}.layer{i // 10}.relu{i}/relu" for i in range(5000)]
    start = time.perf_counter()
    explorer.write(chain(names), tmp_path / "page.html")
    assert time.perf_counter() - start < 10


def test_json_alone_needs_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(text: str) -> str:
        raise AssertionError("the page is made")

    monkeypatch.setattr("trtnet.explorer.writing.page", broken)
    path = tmp_path / "page.json"
    assert main(["explore", "lenet5", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["format"] == "trtnet.explorer 1"
    assert main(["explore", "lenet5", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["title"] == "lenet5"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lenet5"], "there is nothing to write"),
        (["lenet5", "-o", "page.html", "--gpu", "h300"], "no GPU 'h300'"),
        (["no_such_model", "-o", "page.html"], "no_such_model"),
    ],
)
def test_errors_leave_no_file(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explore", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_explored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(trtnet.UsageError, match="nothing that can be explored"):
        explorer.write(5)
    for folder in (".", str(tmp_path)):
        with pytest.raises(trtnet.UsageError, match="is a folder, and not a model"):
            explorer.write(folder)


def test_two_networks_are_aligned_by_module_path() -> None:
    found = explorer.write("lenet5:fp16", other="lenet5:fp16")["comparison"]
    assert set(found["modules"]["status"]) == {"equal"}
    assert not found["weights_compared"]
    assert found["differences"]["layer"] == []
    assert found["modules"]["a"] == found["modules"]["b"]
    found = explorer.write("lenet5", other="lenet5:fp16")
    status = {row["path"]: row["status"] for row in rows(found["comparison"]["modules"])}
    assert status[""] == "changed"
    assert status["c1"] == "changed"


def test_networks_of_other_inputs_and_shapes_are_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = explorer.write("lenet5", other="squeezenet1_1")["comparison"]
    costs = [graph.cost(subject_of(name).graph) for name in ("lenet5", "squeezenet1_1")]
    assert found["macs"] == [cost.macs for cost in costs]
    assert main(["diff", "lenet5", "squeezenet1_1"]) == 0
    assert f"{costs[1].macs:,d}" in capsys.readouterr().out


def test_values_are_compared_where_both_networks_have_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that is shown without its weights does not differ from a file that has them."""
    recipe = Recipe("lenet5", weights="random")
    path = str(tmp_path / "lenet5.graph")
    graph.save(path, graph.read(load_model(recipe).define(recipe.policy).definition))
    for pair in (("lenet5", path), (path, "lenet5")):
        found = explorer.write(pair[0], other=pair[1])["comparison"]
        assert set(found["modules"]["status"]) == {"equal"}
        assert not found["weights_compared"]
        assert "not loaded" in found["equal"]
        assert main(["diff", *pair]) == 0
        said = capsys.readouterr().out
        assert "no difference" in said
        assert "values of weights are not compared" in said
    found = explorer.write(path, other=path)["comparison"]
    assert found["weights_compared"]
