"""No output of a command is an input or another output; what cannot be written is found first."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import trtnet
from trtnet import weights
from trtnet.cli import flags, paths
from trtnet.cli import main as program
from trtnet.cli.paths import FileArgument, named_files, output_file, word
from trtnet.errors import UsageError
from trtnet.files.roles import require_distinct, require_writable

LENET = Path(weights.__file__).parent / "lenet5_digits.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of every kind."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(LENET, "w.safetensors")
    network = trtnet.Network(backend="torch")
    network.output("y", network.input("x", (2, 3)) * 2.0)
    trtnet.build(network).save("m.engine")
    np.savez("i.npz", x=np.ones((2, 3), np.float32))
    Path("net.py").write_text("def Net(): ...")
    Path("p.toml").write_text('compute = "fp32"\n')
    Path("images").mkdir()
    Image.new("RGB", (8, 8)).save("images/a.png")
    for name, target in (("engine.link", "m.engine"), ("dangling", "new.json")):
        Path(name).symlink_to(target)
    os.link("w.safetensors", "hard.safetensors")
    return tmp_path


CLASHES = [  # a command, and the names of the two arguments
    ("zoo lenet5 --weights w.safetensors --saveEngine w.safetensors", "--saveEngine", "--weights"),
    ("zoo lenet5 --weights w.safetensors --saveEngine hard.safetensors", "--saveEngine", "--weig"),
    ("zoo lenet5 --weights w.safetensors --save-engine ./w.safetensors", "--saveEngine", "--weig"),
    ("zoo lenet5 --weights w.safetensors --json w.safetensors", "--json", "--weights"),
    ("zoo lenet5 --calib-table t.json --saveEngine t.json", "--calib-table", "--saveEngine"),
    ("zoo lenet5 --calib-table m.engine.json --saveEngine m.engine", "--saveEngine", "--calib"),
    ("zoo lenet5 --saveEngine m.engine --json engine.link", "--json", "--saveEngine"),
    ("zoo lenet5 --saveEngine m.engine --json m.engine.json", "--json", "the sidecar of the eng"),
    ("zoo lenet5 --saveEngine n.engine --json n.engine.json", "--json", "the sidecar of the eng"),
    ("zoo lenet5 --saveEngine x --timingCacheFile x", "--timingCacheFile", "--saveEngine"),
    ("zoo lenet5 --saveEngine p.toml --policy p.toml", "--saveEngine", "--policy"),
    ("zoo lenet5 --calib-data images --json images/a.png", "--json", "an image that --calib-data"),
    ("zoo lenet5 --calib-data i.npz --json i.npz", "--json", "--calib-data"),
    ("zoo net.py:Net --json net.py", "--json", "MODEL"),
    ("zoo --list --json i.npz --calib-data i.npz", "--json", "--calib-data"),
    (
        "zoo lenet5 --json engines/lenet5-tf32.engine.json --skip-verify --backend torch",
        "--json",
        "--saveEngine",
    ),
    (
        "zoo lenet5 --json engines/lenet5-tf32.engine.calib.json --backend torch",
        "--json",
        "the calibration table of the engine",
    ),
    ("weights convert w.safetensors w.safetensors", "target", "source"),
    ("weights convert w.safetensors hard.safetensors", "target", "source"),
    ("weights extract resnet18 --weights w.safetensors -o w.safetensors", "-o", "--weights"),
    ("run m.engine --input i.npz -o i.npz", "-o", "--input"),
    ("run m.engine --input x:i.npz -o i.npz", "-o", "--input"),
    ("run m.engine --input i.npz -o m.engine", "-o", "ENGINE"),
    ("run m.engine --input i.npz --timingCacheFile i.npz", "--timingCacheFile", "--input"),
    ("bench m.engine --timing-cache-file m.engine", "--timingCacheFile", "ENGINE|MODEL"),
    ("bench m.engine --json m.engine", "--json", "ENGINE|MODEL"),
    ("bench engine.link --json m.engine", "--json", "ENGINE|MODEL"),
    ("bench m.engine --json m.engine.json", "--json", "the sidecar of the engine that ENGINE"),
    ("bench m.engine --exportTimes t --exportProfile t", "--exportProfile", "--exportTimes"),
    ("bench m.engine --exportTimes dangling --json new.json", "--exportTimes", "--json"),
    ("search lenet5 --data i.npz --budget cosine>=0.9 -o o --journal o", "-o", "--journal"),
    ("search lenet5 --data i.npz --budget cosine>=0.9 -o o --json o.journal", "--json", "the jour"),
    ("search lenet5 --data i.npz --budget cosine>=0.9 -o i.npz", "-o", "--data"),
    (
        "search lenet5 --data images --budget cosine>=0.9 -o o --plot images/a.png",
        "--plot",
        "an image that --data reads",
    ),
    ("sensitivity lenet5 --data i.npz --journal j --plot j", "--plot", "--journal"),
    ("sensitivity lenet5 --data i.npz --json i.npz", "--json", "--data"),
    ("policy lenet5 --policy p.toml -o p.toml", "-o", "--policy"),
    ("policy lenet5 -o new --json new", "--json", "-o"),
    ("cost m.engine --json m.engine", "--json", "MODEL|GRAPH"),
    ("cost net.py:Net:fp16 --json net.py", "--json", "MODEL|GRAPH"),
    ("lint m.engine --json engine.link", "--json", "MODEL|GRAPH"),
    ("verify net.py:Net --json net.py", "--json", "MODEL"),
    ("diff lenet5 m.engine --json m.engine", "--json", "B"),
    ("diff m.engine lenet5 --json m.engine", "--json", "A"),
    ("inspect m.engine --save m.engine", "--save", "MODEL|GRAPH"),
    ("inspect m.engine --save new --json new", "--json", "--save"),
    ("explain net.py:Net --json net.py", "--json", "MODEL"),
    ("segment m.engine --image images/a.png -o images/a.png", "-o", "an image that --image reads"),
    ("segment m.engine --folder images -o images", "-o", "an image that --folder reads"),
    ("segment m.engine --folder images --json images/a.png", "--json", "--folder"),
    ("segment m.engine --image images/a.png -o o.png --json o.png", "-o", "--json"),
    ("segment m.engine --image images/a.png -o o --json o/a.png", "", "written twice"),
    ("detect m.engine --image images/a.png --coco-json images/a.png", "--coco-json", "--image"),
    ("detect m.engine --image images/a.png -o o --coco-json o/a.png", "", "written twice"),
    ("detect m.engine --image images/a.png --json o --coco-json o", "--coco-json", "--json"),
    ("classify m.engine --image images/a.png --json images/a.png", "--json", "--image"),
    ("classify m.engine --image images/a.png --json m.engine", "--json", "MODEL|ENGINE"),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("line", "one", "other"), CLASHES, ids=lambda value: value[:40])
def test_an_output_that_is_an_input_or_another_output(
    folder: Path, line: str, one: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert program.main(line.split()) == 2
    error = capsys.readouterr().err
    assert "would replace" in error or "would be written twice" in error, error
    assert one in error
    assert other in error
    assert contents(folder) == before


UNWRITABLE = [
    "zoo lenet5 --json nowhere/r.json",
    "zoo lenet5 --saveEngine m.engine/x.engine",
    "zoo lenet5 --timingCacheFile nowhere/t",
    "zoo lenet5 --calib-table nowhere/t.json",
    "zoo --list --json images",
    "weights convert w.safetensors nowhere/w.pth",
    "weights extract resnet18 -o nowhere/w.safetensors",
    "run m.engine --input i.npz -o nowhere/o.npz",
    "bench m.engine --exportTimes images",
    "bench m.engine --timingCacheFile nowhere/t",
    "run m.engine --input i.npz --timingCacheFile images",
    "classify m.engine --image images/a.png --timingCacheFile nowhere/t",
    "search lenet5 --data i.npz --budget cosine>=0.9 -o nowhere/p.toml",
    "sensitivity lenet5 --data i.npz --journal nowhere/j",
    "policy lenet5 -o images",
    "explain net.py:Net --json images/a.png/r.json",
    "inspect m.engine --save nowhere/g",
    "segment m.engine --image images/a.png -o images/a.png/o",
    "classify m.engine --image images/a.png --json nowhere/r",
    "detect m.engine --image images/a.png --coco-json nowhere/r",
    "doctor --json nowhere/r",
    "plugin new gate --directory i.npz/x",
]


@pytest.mark.parametrize("line", UNWRITABLE, ids=lambda value: value[:40])
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.main(line.split()) == 2
    printed = capsys.readouterr()
    assert "cannot be written" in printed.err
    assert "..." not in printed.out, "a step was begun"


def test_a_full_disk_is_found_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert program.main(["zoo", "lenet5", "--json", "r.json"]) == 2
    printed = capsys.readouterr()
    assert "--json: r.json cannot be written" in printed.err
    assert "No space left" in printed.err
    assert "..." not in printed.out


def test_files_that_may_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Two inputs, a journal that goes on, and a report beside the images."""
    assert program.main(["diff", "m.engine", "m.engine", "--json", "images/report.json"]) == 0
    assert program.main(["cost", "m.engine", "--json", "images/report.json"]) == 0
    assert program.main(["run", "m.engine", "--input", "i.npz", "-o", "o.npz"]) == 0
    assert program.main(["run", "m.engine", "--input", "i.npz", "-o", "o.npz"]) == 0
    assert json.loads(Path("images/report.json").read_text())


NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "-", ".", "..", "/", "~", "~nobody", "a:b", "x" * 300, "x/" * 3000, "\0"]),
    st.sampled_from(
        ["m.engine", "images", "images/a.png", "engine.link", "net.py:Net", "/dev/null"]
    ),
)


KINDS = [kind for kind in vars(paths).values() if isinstance(kind, FileArgument)]


@settings(
    max_examples=100, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(texts=st.lists(NAMES, min_size=1, max_size=3), kind=st.sampled_from(KINDS))
def test_whatever_text_stands_for_a_file(
    folder: Path, texts: list[str], kind: FileArgument
) -> None:
    """It is accepted or refused with a sentence, and nothing is written."""
    before = contents(folder)
    with contextlib.suppress(UsageError):
        found = [file for text in texts for file in kind.named("--x", kind(text))]
        require_distinct(found)
        require_writable(found)
    assert contents(folder) == before


def parsers(monkeypatch: pytest.MonkeyPatch) -> Iterator[argparse.ArgumentParser]:
    """The parser of every command."""
    seen: list[argparse.ArgumentParser] = []

    def parse(self: argparse.ArgumentParser, *arguments: object) -> None:
        seen.append(self)
        raise SystemExit

    monkeypatch.setattr(flags.Parser, "parse_args", parse)
    for name, (module, _) in program._PROGRAMS.items():
        importlib.import_module(module)
        program.main([name])
    for name in program._NETWORK_COMMANDS:
        program.main([name])
    assert len(seen) == len(program._PROGRAMS) + len(program._NETWORK_COMMANDS)
    yield from seen


def test_every_argument_of_every_command_says_whether_it_names_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = 0
    for parser in parsers(monkeypatch):
        files = named_files(parser, argparse.Namespace())
        assert [*files] == []  # raises TypeError for an argument that does not say it
        named += sum(isinstance(action.type, FileArgument) for action in parser._actions)
        for action in parser._actions:
            if isinstance(action.default, Path) or action.metavar in ("FILE", "PATH", "DIR"):
                assert isinstance(action.type, FileArgument), (parser.prog, action.dest)
    assert named > 60


def test_a_command_that_forgets_to_say_it() -> None:
    for kind in (None, str, Path):
        parser = flags.Parser(prog="new")
        parser.add_argument("--out", type=kind)
        with pytest.raises(TypeError, match="new: --out does not say whether it names a file"):
            parser.parse_args([])
    parser = flags.Parser(prog="new")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("sub").add_argument("-o")
    with pytest.raises(TypeError, match="-o does not say"):
        parser.parse_args(["sub", "-o", "x"])


def test_the_files_of_a_subcommand() -> None:
    parser = flags.Parser(prog="new")
    commands = parser.add_subparsers(dest="command")
    for name in ("a", "b"):
        commands.add_parser(name).add_argument("-o", type=output_file)
        commands.choices[name].add_argument("--name", type=word)
    found = parser.parse_args(["b", "-o", "x", "--name", "x"])
    assert [(file.flag, file.path) for file in found.files] == [("-o", Path("x"))]
