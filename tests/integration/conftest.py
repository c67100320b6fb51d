"""What tests of runs over many images begin with."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from batches import COUNT, save_engine, save_images


@pytest.fixture
def pyarrow() -> None:
    """pyarrow, which writes and reads the results."""
    if os.environ.get("TRTNET_INTEGRATION"):  # a skip would be a failure there
        importlib.import_module("pyarrow.parquet")
    else:
        pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A folder with ``m.engine`` and fifty images in ``in``; their pixels."""
    monkeypatch.chdir(tmp_path)
    save_engine(Path("m.engine"))
    return save_images(Path("in"), COUNT)
