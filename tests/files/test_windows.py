"""What works without the modules and functions that only POSIX systems have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sources import ROOT, modules

from trtnet.files import atomic, atomic_write, locks, temporary

MODULES = {  # of Python, that Windows has not
    *("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "spwd"),
    *("crypt", "nis", "readline", "curses", "ossaudiodev"),
}
NAMES = {  # attributes that Windows has not
    "os": {
        *("fork", "forkpty", "register_at_fork", "posix_fallocate", "posix_fadvise", "sendfile"),
        *("getuid", "geteuid", "getgid", "getegid", "getgroups", "setuid", "setgid", "setsid"),
        *("getpgid", "getpgrp", "setpgid", "killpg", "getsid", "uname", "wait", "wait3", "wait4"),
        *("chown", "fchown", "fchmod", "lchown", "chroot", "mkfifo", "mknod", "pathconf"),
        *("sched_getaffinity", "sched_setaffinity", "nice", "getloadavg", "getpriority"),
        *("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_SYNC"),
        *("O_TMPFILE", "WNOHANG", "WIFSIGNALED", "WTERMSIG", "statvfs", "fstatvfs", "pread"),
        *("pwrite", "fdatasync", "sync", "memfd_create", "setxattr", "getxattr", "sysconf"),
    },
    "signal": {
        *("SIGHUP", "SIGALRM", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGCHLD", "SIGXFSZ"),
        *("SIGQUIT", "SIGSTOP", "SIGCONT", "SIGBUS", "alarm", "setitimer", "pthread_sigmask"),
        *("pthread_kill", "sigwait", "sigtimedwait", "siginterrupt", "pause"),
    },
    "time": {"tzset", "clock_gettime", "CLOCK_MONOTONIC"},
    "mmap": {"MAP_PRIVATE", "MAP_SHARED", "PROT_READ", "PROT_WRITE"},
    "socket": {"AF_UNIX"},
}

HIDING = """
import builtins, errno, importlib, mmap, os, signal, socket, sys, time
names, modules, hidden_modules, ours = eval(sys.stdin.read())
skipped = set()
def load():
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:  # a package that is not installed here
            if str(error.name).startswith("trtnet") or error.name in hidden_modules:
                raise
            skipped.add(name)
load()  # with all that other packages import
for name in [name for name in sys.modules if name.partition(".")[0] == "trtnet"]:
    del sys.modules[name]
plain = builtins.__import__
def importing(name, globals=None, *rest, **more):
    own = (globals or {}).get("__name__", "").startswith("trtnet")
    if own and name.partition(".")[0] in hidden_modules:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain(name, globals, *rest, **more)
builtins.__import__ = importing
for module, attributes in names.items():
    for attribute in attributes:
        vars(sys.modules[module]).pop(attribute, None)
skipped.clear()
load()
import pathlib, tempfile
from trtnet.building.plan import Plan
from trtnet.journal import ResultJournal
from trtnet.cli.main import main
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "m.engine"
    for content in (b"first", b"second"):
        Plan(content).save(path)
    assert Plan.load(path).engine == b"second"
    assert os.listdir(folder) == ["m.engine"]
    assert main(["doctor", "--json", os.path.join(folder, "r.json")]) == 0
    assert main(["zoo", "lenet5", "--json", folder]) == 2
print(len(modules) - len(skipped), "modules")
"""


def test_every_module_imports_without_what_is_only_posix(tmp_path: Path) -> None:
    names = [name for name in modules() if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIDING],
        input=repr((NAMES, names, MODULES, str(ROOT))),
        capture_output=True, text=True, timeout=600, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-2]) > 0.9 * len(names), done.stdout


def uses(tree: ast.AST) -> Iterator[tuple[ast.Attribute, ast.AST]]:
    """Attributes of NAMES, each with the innermost function around it, or the file."""

    def visit(node: ast.AST, around: ast.AST) -> Iterator[tuple[ast.Attribute, ast.AST]]:
        inner = node if isinstance(node, ast.FunctionDef | ast.ClassDef) else around
        named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if named and node.attr in NAMES.get(node.value.id, ()):
            yield node, around
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner)

    yield from visit(tree, tree)


def test_what_is_only_posix_is_asked_for_before_it_is_used() -> None:
    unguarded = []
    for files in modules().values():
        for file in files:
            for use, around in uses(ast.parse(file.read_text(encoding="utf-8"))):
                if f'"{use.attr}"' not in ast.unparse(around).replace("'", '"'):
                    unguarded.append(f"{file}:{use.lineno} {use.attr}")
    assert not unguarded


class Windows:
    """``os`` as it is on Windows, as far as open files are concerned."""

    name = "nt"

    def __init__(self, busy: int = 0) -> None:
        self.busy, self.closed = busy, False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def replace(self, source: Any, target: Any) -> None:
        if self.busy:
            self.busy -= 1
            raise PermissionError(13, "The process cannot access the file", str(target))
        open_now = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{fd}")}  # fmt: skip
        assert str(source) not in open_now, "Windows renames no open file"
        os.replace(source, target)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("nothing tells which files are open")
    simulated = Windows()
    for module in (atomic, locks, temporary):
        monkeypatch.setattr(module, "os", simulated)
    return simulated


def test_a_file_that_is_open_elsewhere_is_replaced_a_little_later(
    windows: Windows, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    windows.busy = 3
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_that_stays_open_elsewhere(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    windows.busy = 10**9
    monkeypatch.setattr(atomic, "_PATIENCE_SECONDS", 0.1)
    expected = "another program has the file open"
    with pytest.raises(PermissionError, match=expected), atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_locks_and_abandoned_files(windows: Windows, tmp_path: Path) -> None:
    """A file that was closed just now may be about to be renamed: it stays for ten minutes."""
    with temporary.temporary_file(tmp_path / "file") as (_, used):
        name = used
    for age in (0, 3600):
        name.touch()
        os.utime(name, (name.stat().st_mtime - age,) * 2)
        with locks.locked(tmp_path / "file"):
            temporary.remove_abandoned(tmp_path)
        assert name.exists() == (age == 0)
    assert os.listdir(tmp_path) == []
