"""``--csv`` of ``trtnet classify`` and ``trtnet segment``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.cli.main import main

NAMES = ["red, dark", "=1+1", "blue\x1b[2J\n"]
PLAIN = {"resize_size": [8, 8], "interpolation": "nearest"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Engines whose classes are the brightest channels, and pictures."""
    monkeypatch.chdir(tmp_path)
    net = trtnet.Network(backend="torch")
    net.output("scores", trtnet.mean(net.input("input", (1, 3, 8, 8)), (2, 3)) * 10.0)
    about = {"preprocessing": PLAIN, "class_names": NAMES}
    trtnet.build(net, sidecar=about).save("means.engine")
    net = trtnet.Network(backend="torch")
    net.output("classes", net.input("input", (1, 3, 8, 8)).argmax(1).int())
    trtnet.build(net, sidecar=about).save("brightest.engine")
    Path("in").mkdir()
    Image.new("RGB", (16, 16), (51, 255, 102)).save("in/a.png")
    half = np.zeros((16, 16, 3), np.uint8)
    half[:4, :, 0], half[4:, :, 2] = 255, 255
    Image.fromarray(half).save("in/c.png")
    return tmp_path


def read(path: str) -> list[dict[str, str]]:
    """As Python's csv module reads it; each row must be one line."""
    text = Path(path).read_bytes().decode()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(text.splitlines()) == 1 + len(rows)
    assert text.isascii()
    assert "\x1b" not in text
    return rows


def test_classify_writes_a_row_for_each_image() -> None:
    Path("in/b.jpg").write_text("only words")
    flags = ["--folder", "in", "--top", "2", "--csv", "out.csv", "--device", "cpu"]
    assert main(["classify", "means.engine", *flags]) == 1
    a, b, c = read("out.csv")
    assert list(a) == [
        *("file", "class", "name", "probability", "class_2", "name_2", "probability_2", "error"),
    ]
    odds = np.exp([2.0, 10.0, 4.0])
    assert (a["file"], a["class"], a["class_2"], a["error"]) == ("in/a.png", "1", "2", "")
    assert (a["name"], a["name_2"]) == ("'=1+1", "blue\\x1b[2J\\n")
    assert float(a["probability"]) == pytest.approx(odds[1] / odds.sum(), rel=1e-5)
    assert (b["file"], b["class"], b["probability_2"]) == ("in/b.jpg", "", "")
    assert b["error"].startswith("in/b.jpg cannot be read as an image expected: PNG")
    assert (c["file"], c["name_2"]) == ("in/c.png", "red, dark")


def test_segment_writes_a_row_for_each_class_of_an_image() -> None:
    flags = ["--folder", "in", "-o", "drawn", "--csv", "out.csv", "--device", "cpu"]
    assert main(["segment", "brightest.engine", *flags]) == 0
    rows = [tuple(row.values()) for row in read("out.csv")]
    assert rows == [
        ("in/a.png", "1", "'=1+1", "1", "drawn/a.png", ""),
        ("in/c.png", "2", "blue\\x1b[2J\\n", "0.75", "drawn/c.png", ""),
        ("in/c.png", "0", "red, dark", "0.25", "drawn/c.png", ""),
    ]


def test_fewer_classes_than_asked_for_leave_cells_empty() -> None:
    flags = ["--image", "in/a.png", "--top", "4", "--csv", "out.csv", "--device", "cpu"]
    assert main(["classify", "means.engine", *flags]) == 0
    (row,) = read("out.csv")
    assert row["probability_3"]
    assert row["probability_4"] == row["class_4"] == ""


def test_a_file_name_that_is_a_formula_still_names_the_file() -> None:
    Image.new("RGB", (8, 8)).save("=1+1.png")
    flags = ["--image", "=1+1.png", "--csv", "out.csv", "--device", "cpu"]
    assert main(["classify", "means.engine", *flags]) == 0
    (row,) = read("out.csv")
    assert row["file"] == "./=1+1.png"
    assert Path(row["file"]).is_file()


def test_to_stdout_and_nothing_else_there(capsys: pytest.CaptureFixture) -> None:
    flags = ["--image", "in/a.png", "--top", "1", "--csv", "-", "--device", "cpu"]
    assert main(["classify", "means.engine", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "file,class,name,probability,error"
    assert len(captured.out.splitlines()) == 2
    assert "backend   torch on cpu" in captured.err


def test_only_one_of_both_goes_to_stdout(capsys: pytest.CaptureFixture) -> None:
    flags = ["--image", "in/a.png", "--csv", "-", "--json", "-"]
    assert main(["classify", "means.engine", *flags]) == 2
    assert "--json - and --csv - exclude each other" in capsys.readouterr().err


def test_no_image_is_overwritten(capsys: pytest.CaptureFixture) -> None:
    assert main(["classify", "means.engine", "--image", "in/a.png", "--csv", "in/a.png"]) == 2
    assert "--csv: in/a.png would replace an image" in capsys.readouterr().err
    assert main(["classify", "means.engine", "--folder", "in", "--csv", "no/out.csv"]) == 2
    assert "--csv: no/out.csv cannot be written" in capsys.readouterr().err


def test_the_table_is_aligned(capsys: pytest.CaptureFixture) -> None:
    """Each cell ends, or begins, where its header does; control characters are escaped."""
    assert main(["classify", "means.engine", "--folder", "in", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("image "))
    table = lines[header : header + 7]
    assert len(table) == 7
    for line in table[1:]:
        end = table[0].index("probability") + len("probability")
        assert line[end - 1] == "%"
        assert line[table[0].index("class") + len("class") - 1].isdigit()
        assert not line[table[0].index("name") - 1].strip()
    assert table[1].startswith("in/a.png ")
    assert table[2].startswith("         ")
    assert table[2].endswith("blue\\x1b[2J\\n")
