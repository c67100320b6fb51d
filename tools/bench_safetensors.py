"""Measures trtnet's safetensors reader and writer against the ``safetensors`` library.

    python tools/bench_safetensors.py [--repeats 9]

Writes ``benchmarks/safetensors.md``: time and memory of loading and saving a file of ResNet-50's
size, which element types each takes, and what each says about damaged files. Needs no TensorRT.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from trtnet import weights, zoo
from trtnet.errors import WeightsError
from trtnet.files import atomic_write

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "safetensors.md"
OURS, LIBRARY = "trtnet", "safetensors"
LOADERS = {
    OURS: ("from trtnet.weights import load", "load(path)"),
    LIBRARY: ("from safetensors.numpy import load_file", "load_file(path)"),
}
DECISION = """\
## Decision

The hand-written reader and writer stay, and the package does not depend on the library:

- the library's numpy reader copies every tensor; ours maps the file, and FP32 weights go to
  TensorRT from there;
- the library's numpy reader has no BF16;
- its writer stores other values for arrays whose values do not lie in order, without an error,
  makes files that only their owner can read, and replaces a symbolic link;
- a damaged file is refused by both, but the library seldom names the tensor, and it accepts a name
  that occurs twice.

Writing times differ by less than the spread of the runs; both replace a file only when the new one
is complete.

Tests hold both directions against the library, which is in the extra `dev`."""
# In a new process: seconds to open the file, anonymous memory that it took, and seconds until
# every byte has been read once.
LOAD = """
import json, sys, time
import numpy as np
{0}
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
path, before, start = sys.argv[1], anonymous(), time.perf_counter()
state = {1}
opened, memory = time.perf_counter() - start, anonymous() - before
total = sum(float(array.sum()) for array in state.values())
print(json.dumps([opened, memory / 1024, time.perf_counter() - start, total]))
"""


def resnet50() -> dict[str, np.ndarray]:
    """Seeded arrays with ResNet-50's names and shapes."""
    rng, model = np.random.default_rng(0), zoo.get_model("resnet50")
    slots = [*model.named_parameters(), *model.named_buffers()]
    return {name: rng.standard_normal(slot.shape, np.float32) for name, slot in slots}


def measure_loading(path: Path, repeats: int) -> dict[str, list[float]]:
    """By loader, the medians of what :data:`LOAD` prints."""
    found: dict[str, list[list[float]]] = {name: [] for name in LOADERS}
    for _ in range(repeats):
        for name, (head, call) in LOADERS.items():
            command = [sys.executable, "-c", LOAD.format(head, call), str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name].append(json.loads(done.stdout))
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)]
            for name, rows in found.items()}  # fmt: skip


def measure_saving(
    folder: Path, state: dict[str, np.ndarray], repeats: int
) -> dict[str, list[float]]:
    """By writer, the median and the shortest time in seconds."""

    def flushed(path: Path) -> None:
        safetensors.numpy.save_file(state, path)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    writers: dict[str, Callable[[Path], Any]] = {
        "trtnet.weights.save: atomic": lambda path: weights.save(path, state),
        "the same with checksum=True": lambda path: weights.save(path, state, checksum=True),
        "safetensors.numpy.save_file": lambda path: safetensors.numpy.save_file(state, path),
        "the same, and a flush to the disk": flushed,
    }
    found: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(repeats):
        for name, writer in writers.items():
            path = folder / "saved.safetensors"
            start = time.perf_counter()
            writer(path)
            found[name].append(time.perf_counter() - start)
            path.unlink()
            os.sync()  # not on the next one's account
    return {name: [statistics.median(times), min(times)] for name, times in found.items()}


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """The bytes of a file with this header, and this claim of its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """A tensor's entry in the header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def type_files() -> Iterator[tuple[str, bytes]]:
    """A small file for each element type that numpy lacks."""
    for dtype, size in (("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)):
        yield dtype, raw({"layer.weight": entry(dtype, [4], 0, 4 * size)}, bytes(4 * size))


def damaged_files() -> Iterator[tuple[str, bytes]]:
    """Files that break the format, each in one way."""
    good = entry("F32", [2], 0, 8)
    twice = b'{"layer.weight":%b,"layer.weight":%b}' % ((json.dumps(good).encode(),) * 2)
    yield "cut short in the data", raw({"layer.weight": good}, bytes(5))
    yield "cut short in the header", raw({"layer.weight": good}, length=500)
    yield "shape and data do not fit", raw({"layer.weight": entry("F32", [3], 0, 8)}, bytes(8))
    yield "tensors overlap", raw({"a": good, "layer.weight": entry("F32", [2], 4, 12)}, bytes(12))
    yield "a hole in the data", raw({"layer.weight": entry("F32", [2], 8, 16)}, bytes(16))
    yield "bytes after the last tensor", raw({"layer.weight": good}, bytes(12))
    yield "a name that occurs twice", raw(twice, bytes(8))
    yield "an unknown element type", raw({"layer.weight": entry("F31", [2], 0, 8)}, bytes(8))
    yield "a negative size", raw({"layer.weight": entry("F32", [-2], 0, 8)}, bytes(8))
    yield "no JSON", raw(b"{]", bytes(8))


WRITERS: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
    OURS: weights.save,
    LIBRARY: lambda path, state: safetensors.numpy.save_file(state, path),
}


def written(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """What each writer does with arrays whose values do not lie in order, and with old files."""
    arrays = {
        "a transposed array": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "every second value of an array": np.arange(8, dtype=np.float32)[::2],
        "a big-endian array": np.arange(3, dtype=">f4"),
    }
    for kind, array in arrays.items():
        yield kind, {name: _stored(folder, name, array) for name in WRITERS}
    yield "permissions of the file, umask 022", {name: _mode(folder, name) for name in WRITERS}
    yield "a symbolic link in its place", {name: _link(folder, name) for name in WRITERS}
    yield (
        "an old file, where the new one does not fit",
        {name: _too_large(folder, name) for name in WRITERS},
    )


def _stored(folder: Path, name: str, array: np.ndarray) -> str:
    path = folder / f"{name}.safetensors"
    WRITERS[name](path, {"x": array})
    return "stored" if np.array_equal(weights.load(path)["x"], array) else "OTHER VALUES, no error"


def _mode(folder: Path, name: str) -> str:
    path, old = folder / f"mode-{name}.safetensors", os.umask(0o022)
    WRITERS[name](path, {"x": np.zeros(1)})
    os.umask(old)
    return f"{path.stat().st_mode & 0o777:o}"


def _link(folder: Path, name: str) -> str:
    link = folder / f"link-{name}.safetensors"
    link.symlink_to(f"target-{name}.safetensors")
    WRITERS[name](link, {"x": np.zeros(1)})
    return "followed" if link.is_symlink() else "replaced"


def _too_large(folder: Path, name: str) -> str:
    path = folder / f"old-{name}.safetensors"
    WRITERS[name](path, {"x": np.zeros(1)})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        WRITERS[name](path, {"x": np.zeros(100_000)})
        answer = "no error"
    except Exception as error:  # of either
        answer = f"`` {' '.join(str(error).replace(str(folder), '').split())} ``"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    return f"{'intact' if path.read_bytes() == before else 'LOST'}: {answer}"


def answers(path: Path) -> dict[str, str]:
    """By reader, what it makes of a file: the type read, or its error in one line."""
    readers: dict[str, Callable[[Path], Any]] = {
        OURS: weights.load,
        LIBRARY: safetensors.numpy.load_file,
    }
    found = {}
    for name, reader in readers.items():
        try:
            read = reader(path)
            found[name] = "read as " + ", ".join(str(array.dtype) for array in read.values())
        except WeightsError as error:
            found[name] = f"`` {error} ``"
        except Exception as error:  # whatever the library raises
            found[name] = f"`` {type(error).__name__}: {error} ``"
    return {name: " ".join(text.replace(f"{path}: ", "").split()).replace("|", "\\|")
            for name, text in found.items()}  # fmt: skip


def page(folder: Path, repeats: int) -> Iterator[str]:
    """The lines of the page."""
    state = resnet50()
    path = folder / "resnet50.safetensors"
    weights.save(path, state)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}"
                         for name in ("safetensors", "numpy"))  # fmt: skip
    yield "# trtnet's safetensors reader and writer against the library"
    yield ""
    yield f"`python tools/bench_safetensors.py --repeats {repeats}`. The file has ResNet-50's"
    yield f"{len(state)} tensors, {path.stat().st_size / 1e6:.1f} MB. Medians; the ways take turns."
    yield "A file is loaded from the page cache, in a new process for each run."
    yield ""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    yield f"{date.today()}; {machine}; {versions}; load average {os.getloadavg()[0]:.0f}."
    yield ""
    yield "## Loading"
    yield ""
    yield "| reader | opened in | memory copied | opened and every byte read in |"
    yield "|---|---|---|---|"
    for name, (opened, memory, whole, _) in measure_loading(path, repeats).items():
        yield f"| `{name}` | {opened * 1e3:.1f} ms | {memory:.1f} MB | {whole * 1e3:.0f} ms |"
    yield ""
    yield "## Saving"
    yield ""
    yield "| writer | median | shortest |"
    yield "|---|---|---|"
    for name, (median, best) in measure_saving(folder, state, repeats).items():
        yield f"| {name} | {median * 1e3:.0f} ms | {best * 1e3:.0f} ms |"
    yield ""
    yield "## Writing"
    yield ""
    yield "| what | trtnet | safetensors.numpy |"
    yield "|---|---|---|"
    for kind, found in written(folder):
        yield f"| {kind} | {found[OURS]} | {found[LIBRARY]} |"
    for title, files in (("Element types that numpy lacks", type_files()),
                         ("Damaged files", damaged_files())):  # fmt: skip
        yield ""
        yield f"## {title}"
        yield ""
        yield "| file | trtnet | safetensors.numpy |"
        yield "|---|---|---|"
        for kind, content in files:
            small = folder / "small.safetensors"
            small.write_bytes(content)
            found = answers(small)
            yield f"| {kind} | {found[OURS]} | {found[LIBRARY]} |"
    yield ""
    yield DECISION


def main() -> int:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = list(page(Path(folder), arguments.repeats))
    with atomic_write(arguments.page) as file:
        file.write(("\n".join(lines) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
