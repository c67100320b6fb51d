"""Files of weights that claim more than they hold, have very many tensors, or change meanwhile."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from fuzzing import weight_files
from hypothesis import given, settings
from hypothesis import strategies as st

from trtnet.errors import WeightsError
from trtnet.reading import arrays
from trtnet.weights import load, save
from trtnet.weights.__main__ import main

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_strides_that_claim_gigabytes_are_refused(tmp_path: Path, zipped: bool) -> None:
    claims = torch.zeros(1).expand(8_500_000_000)
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(2), "b": claims}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="far larger than the file") as caught:
        load(path)
    assert "b: " in str(caught.value)
    assert "got: 34.00 GB up to this tensor, of shape (8500000000,)" in str(caught.value)


def test_many_tensors_of_one_storage_are_refused(tmp_path: Path) -> None:
    whole = torch.zeros(250_000)
    torch.save({str(i): whole for i in range(1100)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="far larger than the file"):
        load(tmp_path / "w.pth")
    torch.save(
        {str(i): whole for i in range(12)}, tmp_path / "w.pth"
    )  # as models that share layers
    assert len(load(tmp_path / "w.pth")) == 12


def test_usual_strides_are_read(tmp_path: Path) -> None:
    state = {"expanded": torch.arange(3.0).expand(4, 3), "turned": torch.rand(2, 3).t()}
    torch.save(state, tmp_path / "w.pth")
    for name, array in load(tmp_path / "w.pth").items():
        np.testing.assert_array_equal(array, state[name])


def test_a_compressed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_INFLATED", 10**6)
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("w/data.pkl", "w/version"):
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(bytes(10**6))
    with pytest.raises(WeightsError, match=r"its entries are too large .*\n.*\n  got: 2\.0 MB"):
        load(path)


def test_300_000_empty_tensors_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time is linear: 30,000 take a tenth of what 300,000 take, which is some seconds."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"layer.{i}.weight": entry for i in range(30_000)}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    start = time.perf_counter()
    assert main(["inspect", str(path)]) == 0
    assert time.perf_counter() - start < 9
    lines = capsys.readouterr().out.splitlines()
    assert lines[-30_001].split() == ["key", "shape", "dtype"]
    assert lines[-1].split() == ["layer.29999.weight", "0", "float32"]


TRUNCATED = """
import os, sys
import numpy as np
from trtnet.reading import arrays
from trtnet.weights import load, save
from trtnet.graph import load as load_graph

path = sys.argv[1]
weights = load(path)
os.truncate(path, 64)
total = sum(float(array.sum()) for array in weights.values())
save(path + ".copy.safetensors", weights)
print(total, weights.sha256[:4])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses to cut short a mapped file")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".wts"])
def test_a_file_that_is_cut_short_after_loading_does_no_harm(tmp_path: Path, suffix: str) -> None:
    from trtnet.weights import convert

    path = tmp_path / "w.safetensors"
    save(path, {"a": np.ones((500, 500), np.float32), "b": np.full(10, 2, np.float32)})
    if suffix != path.suffix:
        convert(path, tmp_path / f"w{suffix}")
        path = tmp_path / f"w{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATED, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("250020.0 ")


def test_the_hash_is_that_of_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(3)}, path)
    before = load(path).sha256
    weights = load(path)
    torch.save({"a": torch.zeros(3)}, path)
    assert weights.sha256 == before != load(path).sha256


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pth", ".wts"):
        os.mkfifo(tmp_path / f"w{suffix}")
        with pytest.raises(WeightsError, match="not a regular file"):
            load(tmp_path / f"w{suffix}")


@pytest.mark.parametrize("kind", weight_files.CASES)
@settings(max_examples=60, deadline=10_000)
@given(random=st.randoms(use_true_random=False))
def test_any_file_is_read_or_refused(kind: str, random: Random) -> None:
    weight_files.CASES[kind](random)
