"""``nox``: the suite with the oldest and with the newest dependencies, and the linters.

Each session installs trtnet as README.md says, in an environment of its own; the suites write what
they ran with, and the result, to benchmarks/versions.md.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "newest", "oldest"]
INSTALL = ("-e", ".[rtx,torch,dev]")


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """The suite with the minimum versions that pyproject.toml promises."""
    session.install(*INSTALL, "--constraint", "tests/oldest.txt")
    session.run("python", "tools/run_versions.py", "oldest", *session.posargs)


@nox.session
def newest(session: nox.Session) -> None:
    """The suite with the versions that pip picks today, as CI runs it."""
    session.install(*INSTALL)
    session.run("python", "tools/run_versions.py", "newest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and mypy, with the newest dependencies: mypy reads their types."""
    session.install(*INSTALL)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
