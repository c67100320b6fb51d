"""Nothing that came from outside controls the terminal or passes for a line of trtnet's."""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trtnet
from trtnet import graph, nn, weights
from trtnet.analysis.comparing import Difference
from trtnet.cli.guard import program
from trtnet.cli.main import main
from trtnet.cli.progress import Progress
from trtnet.cli.streams import Output, for_control, say
from trtnet.cli.tables import table
from trtnet.errors import TrtnetError
from trtnet.escaping import printable
from trtnet.graph.types import Graph, Layer, TensorInfo

EVIL = "\x1b]0;x\x07\x1b[31m[red]\u202e\ud800\u200b\x85\r\n\nerror: forged"
SEEN = "[red]"  # of EVIL, also where rich prints
texts = st.text(st.characters(codec=None), max_size=40)


def controls(text: str, keep: str = "\n") -> list[str]:
    """Characters of `text` that a terminal obeys or that hide what is there."""
    return [
        char for char in text
        if char not in keep and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]  # fmt: skip


@given(texts, st.sampled_from(["", "\n", "\n\t"]))
def test_printable(text: str, keep: str) -> None:
    shown = printable(text, keep)
    assert not controls(shown, keep)
    assert all(char in keep or char.isprintable() for char in shown)
    assert printable(shown, keep) == shown
    assert shown.isprintable() or keep
    if text.isprintable():
        assert shown == text
    shown.encode()  # no half of a surrogate pair


@given(*[texts] * 5)
def test_no_part_of_an_error_controls_or_forges(
    problem: str, module: str, expected: str, got: str, fix: str
) -> None:
    error = TrtnetError(problem, module=module, expected=expected, got=got, fix=fix)
    text = str(error)
    assert not controls(text)
    others = text.split("\n")[1:]
    assert others[-1].startswith("  ")
    labels = [line for line in others if not line.startswith("    ")]
    assert [line.split(":")[0] for line in labels] == ["  expected", "  got", "  fix"]


@given(st.lists(st.lists(texts, min_size=2, max_size=2), max_size=4))
def test_a_row_is_a_line(rows: list[list[str]]) -> None:
    stream = io.StringIO()
    table((("a", "left"), ("b", "right")), rows, stream)
    assert not controls(stream.getvalue())
    assert stream.getvalue().count("\n") == 1 + len(rows)


@given(st.lists(texts, min_size=1, max_size=4))
def test_what_is_said_is_as_many_lines(lines: list[str]) -> None:
    stream = io.StringIO()
    say(*lines, stream=stream)
    assert not controls(stream.getvalue(), keep="\n\t")
    assert stream.getvalue().count("\n") == len(lines)


@given(texts)
def test_whoever_prints_in_a_command_is_escaped(text: str) -> None:
    stream = io.StringIO()
    print(text, file=Output(stream))
    assert not controls(stream.getvalue(), keep="\n\t")


def test_what_draws_on_a_terminal_is_not_escaped() -> None:
    stream = io.StringIO()
    output = Output(stream)
    print("\x1b[1m", file=for_control(output), end="")  # type: ignore[arg-type]
    assert stream.getvalue() == "\x1b[1m"
    assert for_control(stream) is stream


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_spinner_shows_names_as_they_are_read() -> None:
    stream = Terminal()
    with Progress(stream).step(EVIL) as update:
        update(EVIL)
    for harmful in ("\x1b]", "\x1b[31m", "\u202e", "\u200b", "\x85", "\nerror"):
        assert harmful not in stream.getvalue()
    assert SEEN in stream.getvalue()


def evil_graph() -> Graph:
    names = [f"x{EVIL}", f"y{EVIL}"]
    tensors = {name: TensorInfo(name, "float32", (1, 4)) for name in names}
    layer = Layer(f"relu{EVIL}", "ACTIVATION", (names[0],), (names[1],),
                  {"type": "RELU", "alpha": 0.0, "beta": 0.0})  # fmt: skip
    return Graph("evil", (names[0],), (names[1],), (layer,), tensors)


@pytest.mark.parametrize(
    "argv",
    [
        ["inspect", "FILE"],
        ["inspect", "FILE", "--code"],
        ["cost", "FILE", "--gpu=l4"],
        ["lint", "FILE", "--explain"],
        ["diff", "FILE", "lenet5"],
        ["verify", "FILE"],
        ["inspect", f"{EVIL}.py:Net"],
        ["policy", EVIL],
        ["zoo", "--list", EVIL],
        ["zoo", "lenet5", f"--weights={EVIL}.safetensors", "--backend=rtx"],
        ["zoo", "lenet5", f"--precision={EVIL}"],
        ["run", EVIL, "--input=x"],
        ["bench", "lenet5", f"--shapes={EVIL}"],
        ["bench", "lenet5", f"--exportTimes={EVIL}/x"],
        ["segment", "unet", f"--image={EVIL}", "-o=x.png"],
        ["detect", f"{EVIL}.engine", f"--image={EVIL}", f"--coco-json={EVIL}"],
        ["plugin", "test", EVIL],
        ["plugin", "new", EVIL],
        ["weights", "inspect", EVIL],
        ["weights", "convert", EVIL, EVIL],
        ["doctor", EVIL],
        [EVIL],
    ],
    ids=lambda argv: " ".join(argv)[:20].replace(EVIL[:20], "EVIL"),
)
def test_names_in_every_command(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    graph.save(tmp_path / "evil.graph", evil_graph())
    assert main([text.replace("FILE", "evil.graph") for text in argv]) in (0, 1, 2)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert text
    assert not controls(text)
    assert "\nerror: forged" not in text


def test_names_in_an_engine_and_its_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = trtnet.Network(backend="torch")
    x = net.input("x", ("N", 3))
    net.output("scores\x1b[31m\nerror: forged", nn.ReLU()(x))
    sizes = trtnet.Shapes(min=(1, 3), opt=(1, 3), max=(4, 3))
    evil = EVIL.replace("\ud800", "")
    about = {"class_names": [f"{evil}{i}" for i in range(3)], "weights": {"source": evil}}
    trtnet.build(net, {"x": sizes}, sidecar=about).save(tmp_path / "e.engine")
    np.save("x.npy", np.ones((1, 3), np.float32))
    assert main(["run", "e.engine", "--input=x.npy"]) == 0
    text = capsys.readouterr().out
    assert not controls(text)
    assert "\nerror: forged" not in text
    assert "error: forged2" in text


def test_keys_of_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = EVIL.replace("\ud800", "")
    weights.save(tmp_path / "w.safetensors", {key: np.ones(1, np.float32)}, {key: key})
    assert main(["weights", "inspect", str(tmp_path / "w.safetensors")]) == 0
    text = capsys.readouterr().out
    assert not controls(text)
    assert "\nerror: forged" not in text
    assert text.count(SEEN) == 3


def test_a_difference_is_a_line() -> None:
    assert not controls(str(Difference(EVIL, "input", EVIL, EVIL)), keep="")


def test_other_libraries_print_through_the_same_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @program
    def command(argv: object) -> int:
        print(EVIL)
        print(EVIL, file=sys.stderr)
        sys.stdout.writelines([EVIL])
        return 0

    assert command([]) == 0
    captured = capsys.readouterr()
    assert not controls(captured.out + captured.err)
