"""Certificates as files, the command, and the page's HTML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet.certify.cases import SET_VERSION
from trtnet.certify.certificate import digest, load, passed, save, signed, summary
from trtnet.certify.page import page
from trtnet.certify.schema import Certificate
from trtnet.cli.main import main

HOSTILE = "</script><script>document.title='taken'</script>\x1b[31m"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small certificate, made by the command."""
    file = tmp_path_factory.mktemp("certificate") / "own.json"
    assert main(["certify", "--only", "lrn", "--precision", "fp32", "--precision", "fp16",
                 "--backend", "torch", "--device", "cpu", "-o", str(file)]) == 0  # fmt: skip
    return file


def changed(file: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    document = json.loads(file.read_text())
    change(document)
    other = folder / "other.json"
    other.write_text(json.dumps(document))
    return other


def test_the_command_writes_a_certificate_and_its_page(made: Path) -> None:
    found = load(made)
    assert [case.key for case in found.cases] == ["lrn:fp32", "lrn:fp16"]
    assert passed(found)
    assert (found.only, found.precisions) == (["lrn"], ["fp32", "fp16"])
    assert sorted(path.name for path in made.parent.iterdir()) == ["own.html", "own.json"]


def test_the_hash_is_what_the_documentation_says(made: Path) -> None:
    document = json.loads(made.read_text())
    wanted = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == wanted


def test_the_command_checks_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "--check", str(made)]) == 0
    told = capsys.readouterr().out
    assert "passed       2" in told
    assert "the content is unchanged" in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it["cases"][0].update(reason="x"), "its content was changed"),
        (lambda it: it["environment"].update(gpu="NVIDIA H200"), "its content was changed"),
        (lambda it: it.update(sha256="0" * 64), "its content was changed"),
        (lambda it: it.update(format="trtnet certificate 2"), "it has another format"),
        (lambda it: it.update(more=1), "fields that certificates do not have"),
        (
            lambda it: it["cases"][0].update(state="certified"),
            "invalid enum value 'certified', in cases[0]",
        ),
        (lambda it: it.pop("cases"), "cases"),
    ],
)
def test_a_changed_file_is_refused(
    made: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["certify", "--check", str(changed(made, tmp_path, change))]) == 2
    told = capsys.readouterr()
    assert words in " ".join(told.err.split())
    assert not told.out


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "\x00"])
def test_foreign_files_are_refused(text: str, tmp_path: Path, raises: Any) -> None:
    file = tmp_path / "foreign.json"
    file.write_text(text)
    with raises(trtnet.UsageError, "cannot be used as a certificate"):
        load(file)


def hostile(made: Path) -> Certificate:
    found = load(made)
    about = dataclasses.replace(found.environment, gpu=HOSTILE, device="cuda", driver=HOSTILE)
    case = dataclasses.replace(found.cases[0], name=HOSTILE, reason=HOSTILE, state="differs")
    return signed(dataclasses.replace(found, environment=about, cases=[case]))


def test_text_of_a_certificate_stays_text(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, file = hostile(made), tmp_path / "hostile.json"
    save(found, file)
    assert main(["certify", "--check", str(file)]) == 1
    assert "\x1b" not in capsys.readouterr().out
    text = page(found)
    assert "<script>document.title" not in text
    parser = Scripts()
    parser.feed(text)
    document = next(text for kind, text in parser.found if kind == "application/json")
    assert json.loads(document)["certificate"]["cases"][0]["name"] == HOSTILE
    assert parser.loads == []


class Scripts(HTMLParser):
    """The scripts of a page, and what it would load."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str | None, str]] = []
        self.loads: list[str] = []
        self._kind: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [given[key] or "" for key in ("src", "data") if key in given]
        if tag == "script":
            self._kind = [given.get("type")]

    def handle_data(self, data: str) -> None:
        if self._kind:
            self.found.append((self._kind.pop(), data))


def test_there_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify"]) == 2
    assert "-o certificate.json" in capsys.readouterr().err


def test_the_help_says_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0, every case was executed and passed" in told


@pytest.mark.parametrize(
    ("options", "word"),
    [(["-o", "c.html"], "c.html"), (["-o", "c.json", "--journal", "c.html"], "c.html")],
)
def test_no_file_is_written_twice(
    options: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The page's own place is not among the arguments."""
    monkeypatch.chdir(tmp_path)
    assert main(["certify", "--only", "lrn:fp32", "--backend", "torch", *options]) == 2
    told = capsys.readouterr().err
    assert f"{word} would be written twice" in told
    assert "--html" in told
    assert not list(tmp_path.iterdir())


def test_check_refuses_what_it_would_ignore(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    more = ["-o", str(other), "--only", "lrn", "--skip-bench"]
    assert main(["certify", "--check", str(made), *more]) == 2
    told = capsys.readouterr()
    assert "-o, --only, --skip-bench" in told.err
    assert not told.out
    assert not other.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.update(tensors=[]), "'lrn:fp32' passed, but nothing of it was compared"),
        (lambda it: it["tensors"][0].update(passed=False), "'lrn:fp32' passed, but its tensor"),
    ],
)
def test_a_case_that_contradicts_itself_is_refused(
    made: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str, raises: Any
) -> None:
    def with_hash(document: dict[str, Any]) -> None:
        change(document["cases"][0])
        document["sha256"] = digest(document)

    with raises(trtnet.UsageError, words):
        load(changed(made, tmp_path, with_hash))


def test_another_set_is_named(made: Path) -> None:
    other = dataclasses.replace(load(made), set_version=SET_VERSION + 1)
    assert (
        f"of set {SET_VERSION + 1}; this version of trtnet has set {SET_VERSION}"
        in (summary(other)[0])
    )


def test_a_page_that_cannot_be_written_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.html").mkdir()
    assert main(["certify", "--only", "lrn:fp32", "-o", str(tmp_path / "c.json")]) == 2
    assert "--html" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["c.html"]
