"""Copies of the project: as a fresh clone has it, and as a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sources import ROOT, build_wheel, tracked_files


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has, or would have: no links, nothing built."""
    source = tmp_path_factory.mktemp("source") / "trtnet"
    for name in tracked_files():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="session")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds of the clone."""
    source = tmp_path_factory.mktemp("source") / "trtnet"
    shutil.copytree(clone, source)
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))
