"""``--import``: code of one's own, in every command that opens a model or an engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trtnet import importing
from trtnet.cli import main as program
from trtnet.cli.main import main
from trtnet.plugins import registry
from trtnet.zoo import registry as zoo_registry
from trtnet.zoo.families import HOMES

PLUGIN = """
import trtnet


@trtnet.plugin("{name}")
class Twice:
    formats = [("fp32", "->", "fp32")]

    def outputs(self, x):
        return x

    def reference(self, x):
        return x * 2

    def native(self, x):
        return x * 2
"""
NET = """
import trtnet
from {module} import Twice


class Net(trtnet.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.twice = Twice()

    def forward(self, x):
        return self.twice(x)
"""
COMMANDS = sorted(
    {*program._PROGRAMS, *program._NETWORK_COMMANDS} - {"ceilings", "certify", "doctor", "weights"}
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, in a process that has no plugins, no models but trtnet's own, and none of
    the modules of the tests."""
    monkeypatch.chdir(tmp_path)
    for name in HOMES:  # the models that come with trtnet stay
        zoo_registry.registered(name)
    monkeypatch.setattr(registry, "_DECLARED", {})
    monkeypatch.setattr(zoo_registry, "_ENTRIES", dict(zoo_registry._ENTRIES))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    forget()


def write_plugin(path: str, name: str = "shell::twice") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(PLUGIN.format(name=name))


def forget() -> None:
    """As in a new process."""
    registry._DECLARED.clear()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(Path.cwd())):
            del sys.modules[name]
    importing._SIBLINGS.clear()


def build(place: str = "gates.py") -> None:
    """``e.engine`` of a model that uses the plugin in the file `place`."""
    write_plugin(place)
    Path("net.py").write_text(NET.format(module=Path(place).stem))
    given = ["--import", place] if "/" in place else []
    line = ["zoo", "net.py:Net", "--backend", "torch", "--saveEngine", "e.engine"]
    assert main([*line, *given]) == 0
    np.savez("x.npz", input=np.ones((1, 3, 8, 8), np.float32))
    forget()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_opens_a_model_or_an_engine_has_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [command, *(["test"] if command == "plugin" else []), "--help"]
    assert main(line) == 0
    assert "--import MODULE" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["doctor"], ["plugin", "new"], ["weights", "inspect"]])
def test_commands_that_open_none_do_not(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    assert "--import" not in capsys.readouterr().out


@pytest.mark.parametrize("given", ["plugins/gates.py", "gates"])
def test_an_engine_with_a_plugin_runs_from_the_shell(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build("plugins/gates.py" if "/" in given else "gates.py")
    capsys.readouterr()
    for line in (
        "run e.engine --input x.npz -o y.npz",
        "bench e.engine --duration 0 --iterations 2 --warmUp 0",
        "inspect e.engine --code",
        "cost e.engine",
        "lint e.engine",
        "diff e.engine e.engine",
    ):
        assert main([*line.split(), "--import", given]) == 0, capsys.readouterr().err
        forget()
    assert (np.load("y.npz")["logits"] == 2).all()


def test_the_report_of_a_build_ends_with_a_command_that_works(
    capsys: pytest.CaptureFixture[str],
) -> None:
    build("plugins/of_mine.py")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "trtnet bench" in line]
    command = line.partition(": trtnet ")[2]
    assert command == "bench e.engine --import plugins/of_mine.py"
    assert main([*command.split(), "--duration", "0", "--iterations", "1", "--warmUp", "0"]) == 0


def test_models_that_use_or_register_something(capsys: pytest.CaptureFixture[str]) -> None:
    write_plugin("plugins/gates.py")
    Path("net.py").write_text(NET.format(module="gates"))
    Path("mine.py").write_text(
        "import trtnet\n@trtnet.zoo.register(input_shape=(3, 8, 8))\n"
        "def a_net_of_mine():\n    from net import Net\n    return Net()\n"
    )
    imports = ["--import", "plugins/gates.py", "--import", "mine.py"]
    for line in ("verify net.py:Net --backend torch", "policy a_net_of_mine",
                 "explain lenet5 --input x:1x1x32x32", "verify a_net_of_mine --backend torch",
                 "plugin test shell::twice --cases 2"):  # fmt: skip
        assert main([*line.split(), *imports]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "twice" in out
    assert "shell::twice: 2 examples agree with the reference" in out


def test_without_it_the_message_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    build()
    assert main(["run", "e.engine", "--input", "x.npz"]) == 1
    error = capsys.readouterr().err
    assert "the engine needs the plugin shell::twice version 1" in error
    assert "fix: on a command line: --import gates, in the folder of its file" in error
    assert main(["run", "e.engine", "--input", "x.npz", "--import", "gates"]) == 0


def test_a_plugin_in_the_file_of_the_model_is_named_by_its_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_plugin("net.py")
    text = NET.format(module="x").replace("from x import Twice\n", "")
    Path("net.py").write_text(Path("net.py").read_text() + text)
    line = "zoo net.py:Net --backend torch --saveEngine e.engine"
    assert main([*line.split(), "--import", "net.py"]) == 0  # the same file under another name
    forget()
    assert main([*line.split(), "--force"]) == 0
    np.savez("x.npz", input=np.ones((1, 3, 8, 8), np.float32))
    forget()
    assert main(["run", "e.engine", "--input", "x.npz"]) == 1
    assert "--import net.py, in the folder" in capsys.readouterr().err
    assert main(["run", "e.engine", "--input", "x.npz", "--import", "net.py"]) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere", "there is no module 'nowhere'"),
        ("nowhere", "or name the file: path/file.py"),
        ("gate.py", "fix: did you mean gates.py, other.py, raises.py?"),
        ("folder/gates.py", "there is no folder"),
        ("a b", "there is no file"),
        ("1x", "'1x' is no name of a module"),
        (
            "broken.py",
            "broken.py cannot be imported\n  got: ZeroDivisionError: division by zero, at",
        ),
        ("broken.py", "broken.py:2"),
        ("broken", "broken cannot be imported\n  got: ZeroDivisionError: division by zero, at"),
        ("broken", "broken.py:2"),
        ("raises.py", r"ValueError: \x1b[31mred, at"),
        ("missing.py", "ModuleNotFoundError: No module named 'not_there', at"),
        ("syntax.py", "SyntaxError"),
        ("other.py", "other.py cannot be imported: the plugin shell::twice version 1 is declared"),
        ("other.py", "got: gates:Twice and other:Twice\n  at: "),
        ("other.py", "other.py:5\n  fix: import only one of the two"),
    ],
)
def test_what_cannot_be_imported(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_plugin("gates.py")
    write_plugin("other.py")
    Path("broken.py").write_text("x = 1\nx / 0\n")
    Path("raises.py").write_text("raise ValueError('\\x1b[31mred')\n")
    Path("missing.py").write_text("import not_there\n")
    Path("syntax.py").write_text("def (\n")
    assert main(["cost", "lenet5", "--import", "gates.py", "--import", given]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "\x1b" not in error
    assert "Traceback" not in error


def test_a_sidecar_imports_nothing_and_its_text_is_no_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    build()
    sidecar = Path("e.engine.json")
    text = sidecar.read_text()
    sidecar.write_text(text.replace('"gates"', '"trap; reboot"'))
    assert main(["run", "e.engine", "--input", "x.npz"]) == 1
    error = capsys.readouterr().err
    assert "--import MODULE, in the folder" in error
    assert "reboot" not in error
    Path("trap.py").write_text("raise SystemExit('imported')")
    sidecar.write_text(text.replace('"gates"', '"trap"'))
    assert main(["run", "e.engine", "--input", "x.npz"]) == 1
    assert "imported before the engine is loaded" in capsys.readouterr().err
    assert "trap" not in sys.modules


def test_it_is_read_as_a_file_that_no_output_may_replace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_plugin("gates.py")
    assert main(["cost", "lenet5", "--import", "gates.py", "--json", "gates.py"]) == 2
    assert "would replace" in capsys.readouterr().err
