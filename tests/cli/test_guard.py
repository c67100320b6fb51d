"""The guard around every program: errors, signals and streams that fail."""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from trtnet.cli.guard import program
from trtnet.cli.main import main
from trtnet.cli.streams import say
from trtnet.errors import BuildError, ShapeError, TrtnetError, UnsupportedError, UsageError
from trtnet.files import atomic_write
from trtnet.starting import TRACEBACK, is_program

pytestmark = pytest.mark.alone

SIGNALS = [
    (getattr(signal, name), status, said)
    for name, status, said in (
        ("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")
    )
    if hasattr(signal, name)
]  # fmt: skip
COMMANDS = [
    *(
        "zoo",
        "weights",
        "explain",
        "policy",
        "sensitivity",
        "search",
        "segment",
        "classify",
        "detect",
    ),
    *("run", "bench", "plugin", "doctor", "inspect", "verify", "cost", "diff", "lint"),
]


def guarded(command: Callable[[], object]) -> int:
    @program
    def run(argv: Sequence[str]) -> int:
        command()
        return 0

    return run([])


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


class Panic(BaseException):
    """As libraries in other languages have them."""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("no such flag", fix="see --help"), 2, "no such flag\n  fix: see --help"),
        (ShapeError("two axes"), 2, "two axes"),
        (UnsupportedError("not here"), 2, "not here"),
        (BuildError("no engine"), 1, "no engine"),
        (TrtnetError("it fails"), 1, "it fails"),
        (MemoryError(), 1, "there is too little memory\n  fix: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"), 1, "too little memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "too little memory"),
        (OSError(errno.EACCES, "Permission denied", "a\nb"), 1, "a\\nb: Permission denied"),
        (RecursionError("maximum recursion depth exceeded"), 1, "nested too deeply"),
        (OverflowError("int too large"), 1, "OverflowError: int too large\n  fix: "),
        (KeyError("name"), 1, "KeyError: 'name'"),
        (Panic("rust\nsays\x1b[31m"), 1, "Panic: rust says\\x1b[31m"),
        (UnicodeEncodeError("ascii", "µ", 0, 1, "no"), 1, "UnicodeEncodeError"),
    ],
)
def test_an_error_is_a_sentence_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error)) == status
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert said in text
    assert "Traceback" not in text
    assert (f"{TRACEBACK}=1" in text) == (" not expected" in text)


def test_a_long_line_is_shown_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(UsageError(f"begin {'x' * 10**6} end"))) == 2
    text = capsys.readouterr().err
    assert len(text) < 1000
    assert "error: begin xxx" in text
    assert "(1,000,017 characters)" in text
    assert text.endswith("xxx end\n")


def test_a_traceback_is_there_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    assert guarded(raising(KeyError("name"))) == 1
    text = capsys.readouterr().err
    assert "Traceback (most recent call last)" in text
    assert "error: KeyError: 'name'" in text


@pytest.mark.parametrize(("code", "status"), [(0, 0), (None, 0), (2, 2), ("text", 1)])
def test_a_program_may_exit(code: object, status: int) -> None:
    assert guarded(raising(SystemExit(code))) == status


@pytest.mark.parametrize(("number", "status", "said"), SIGNALS)
def test_a_signal_ends_the_command_and_its_files(
    number: int, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    def write() -> None:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"half")
            signal.raise_signal(number)
            time.sleep(10)

    assert guarded(write) == status
    assert capsys.readouterr().err == f"{said}\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_an_interrupt_that_other_code_turns_into_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("half a module") from None

    assert guarded(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_in_a_destructor_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def command() -> None:
        Interrupted()
        time.sleep(10)

    started = time.monotonic()
    assert guarded(command) == 130
    assert time.monotonic() - started < 5
    assert capsys.readouterr().err == "interrupted\n"


def test_a_program_that_runs_installed_code_imports_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the workers of pytest-xdist do: an interrupt there waits for no import to end."""
    code = "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(10)\n"
    host = compile(code, "/usr/lib/python3/site-packages/host/remote.py", "exec")
    started = time.monotonic()
    assert guarded(lambda: exec(host, {"__name__": "__channelexec__"})) == 130
    assert time.monotonic() - started < 5
    assert capsys.readouterr().err == "interrupted\n"


def test_a_second_interrupt_lets_the_first_clean_up(capsys: pytest.CaptureFixture[str]) -> None:
    cleaned = []

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    assert guarded(command) == 130
    assert cleaned == [True]
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_waits_until_a_library_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch aborts the process when an import inside of its own raises."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    name = "native_library"
    (folder / f"{name}.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nstarted = True\n"
    )
    monkeypatch.syspath_prepend(folder)
    seen = []

    def command() -> None:
        seen.append(importlib.import_module(name).started)
        time.sleep(10)

    assert guarded(command) == 130
    assert seen == [True]


class FailingStream(io.StringIO):
    """A stream that cannot be written, from the first flush on."""

    encoding = "utf-8"

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 1,
         "error: stdout cannot be written: No space left on device\n"),
        (OSError(errno.EIO, "Input/output error"), 1,
         "error: stdout cannot be written: Input/output error\n"),
    ],
)  # fmt: skip
def test_work_goes_on_when_stdout_cannot_be_written(
    error: OSError, status: int, said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def command() -> None:
        say("first", "second")
        print("third", flush=True)
        (tmp_path / "report").write_text("whole")

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", FailingStream(error))
        assert guarded(command) == status
    assert (tmp_path / "report").read_text() == "whole"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("argv", [[name, "--help"] for name in COMMANDS], ids=COMMANDS)
def test_every_command_says_that_stdout_is_full(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", FailingStream(OSError(errno.ENOSPC, "No space left")))
        assert main(argv) == 1
    assert capsys.readouterr().err == "error: stdout cannot be written: No space left\n"
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", FailingStream(BrokenPipeError()))
        assert main(argv) == 0
        patched.setattr(sys, "stdout", None)
        assert main(argv) == 1
        patched.setattr(sys, "stderr", None)
        assert main([argv[0], "--no-such-flag"]) == 2


def test_an_encoding_that_lacks_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        assert guarded(lambda: say("7 µs → 漢字 \ud800")) == 0
    assert raw.getvalue() == b"7 \\xb5s \\u2192 \\u6f22\\u5b57 \\ud800\n"


# Whole processes: few, since each takes half a second.


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    program = f'"{sys.executable}" -m trtnet.cli.main'
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, **variables}
    return subprocess.run(
        ["bash", "-c", line.replace("TRTNET", program)],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("TRTNET doctor | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("TRTNET policy lenet5 --json f.json | true; test -s f.json", 0, ""),
        ("TRTNET policy lenet5 --json f.json > /dev/full; echo $? >&2; test -s f.json", 0,
         "error: stdout cannot be written: No space left on device\n1\n"),
        ("TRTNET zoo --list >&-", 1, "error: stdout cannot be written: it is closed\n"),
        ("TRTNET bild <&- >&- 2>&-", 2, ""),
        ("PYTHONIOENCODING=ascii TRTNET cost lenet5 --gpu l4 | grep -q 'xb5s'", 0, ""),
        ("env -u HOME -u LOGNAME -u USER TRTNET plugin test 1x", 2,
         "error: '1x' is no name of a module\n  expected: my_plugins.py:LeakyGate or "
         "my_plugins:LeakyGate\n  got: 1x\n  fix: name a module, or the path of a Python file\n"),
    ],
)  # fmt: skip
def test_processes(line: str, status: int, said: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize(("number", "status", "said"), SIGNALS)
def test_a_signal_in_code_that_is_made_at_run_time(
    number: int, status: int, said: str, tmp_path: Path
) -> None:
    """As in dataclass(). ``python -m`` takes a KeyboardInterrupt there for one that nobody handles,
    and would end the process by SIGINT."""
    (tmp_path / "its_main.py").write_text(
        "import signal, sys\n"
        "from trtnet.cli.guard import program\n"
        "def main(argv):\n"
        f"    exec('signal.raise_signal({int(number)})\\nwhile True: pass')\n"
        "sys.exit(program(main)())\n"
    )
    done = shell(f'"{sys.executable}" -m its_main', tmp_path)
    assert (done.returncode, done.stderr) == (status, f"{said}\n")


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to itself while it starts")
@pytest.mark.parametrize("module", ["trtnet.zoo", "trtnet.weights", "trtnet.cli.main"])
def test_an_interrupt_while_a_program_starts(module: str, tmp_path: Path) -> None:
    """A module of the standard library that is imported early sends it."""
    (tmp_path / "ast.py").write_text("import os\nos.kill(os.getpid(), 2)\nwhile True: pass\n")
    done = shell(f'"{sys.executable}" -m {module} --help', tmp_path,
                 PYTHONPATH=f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_error_while_a_program_starts(tmp_path: Path) -> None:
    (tmp_path / "ast.py").write_text("raise OSError('a damaged installation')\n")
    done = shell("TRTNET --help", tmp_path,
                 PYTHONPATH=f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: OSError: a damaged installation\n  fix: ")


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (["/usr/bin/trtnet", "run"], ["python", "/usr/bin/trtnet", "run"], True),
        ([r"C:\Scripts\trtnet.exe"], ["python"], True),
        (["-m", "--list"], ["python", "-m", "trtnet.zoo", "--list"], True),
        (["-m"], ["python", "-mtrtnet.weights"], True),
        (["-m"], ["python", "-m", "mine"], False),
        (["mine.py", "trtnet.zoo"], ["python", "mine.py", "trtnet.zoo"], False),
        (["/path/of/trtnet/train.py"], ["python", "train.py"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_programs_of_trtnet_are_known(
    argv: list[str], orig_argv: list[str], expected: bool
) -> None:
    assert is_program(argv, orig_argv) is expected


def test_importing_the_library_changes_no_handler(tmp_path: Path) -> None:
    code = (
        "import signal, sys; import trtnet, trtnet.cli.guard; "
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler; "
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL; "
        "assert sys.excepthook is sys.__excepthook__"
    )
    assert shell(f'"{sys.executable}" -c "{code}"', tmp_path).stderr == ""
