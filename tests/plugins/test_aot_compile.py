"""Kernels are compiled to PTX for six targets on a machine without a driver."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trtnet
from trtnet.plugins import aot_compile, cdiv, cuda_kernel, triton_kernel
from trtnet.plugins.checking import example, specs_of
from trtnet.plugins.examples import Draw

tl = pytest.importorskip("triton.language")
triton = pytest.importorskip("triton")
pytest.importorskip("cuda.bindings.nvrtc")

LeakyGate = importlib.import_module("user_example").LeakyGate

SOURCE = """
extern "C" __global__ void leaky(const x_t* x, const gate_t* gate, int n, output_t* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float value = float(x[i]), opening = 1.0f / (1.0f + expf(-float(gate[i])));
  float leaky = value > 0 ? value : value * slope;
  y[i] = output_t(flip ? -leaky * opening : leaky * opening * steps[1] * scales[0]);
}
"""


@trtnet.plugin("tests::leaky_cuda")
class LeakyCuda:
    slope: float = 0.25
    flip: bool = False
    steps: tuple[int, ...] = (3, 1)
    scales: tuple[float, ...] = (1.0,)

    formats = [  # noqa: RUF012
        ("fp32", "fp32", "->", "fp32"),
        ("fp16", "fp16", "->", "fp16"),
        ("bf16", "fp16", "->", "fp32"),
    ]
    kernel = cuda_kernel(
        SOURCE,
        "leaky",
        grid=lambda self, x, gate, y: [cdiv(y.numel, 256)],
        scalars=lambda self, x, gate, y: [y.numel],
    )

    def outputs(self, x: Any, gate: Any) -> Any:
        return x.like(dtype="fp32") if x.dtype is trtnet.bfloat16 else x

    def reference(self, x: Any, gate: Any) -> Any:
        return torch.nn.functional.leaky_relu(x, self.slope) * torch.sigmoid(gate)


@triton.jit
def wrong_kernel(x, n, y, block: tl.constexpr):
    place = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(y + place, tl.load(x + place) + nowhere, place < n)  # noqa: F821


def compile_one(made: Any, kernel: Any, entry: Any, capability: int) -> aot_compile.PtxKernel:
    plugin, arrays = example(made, Draw(0))
    specs = specs_of(arrays, entry)
    return kernel.compile(plugin, [*specs, *plugin.rule(specs)], capability)


@pytest.mark.parametrize("capability", [80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("made", [LeakyGate, LeakyCuda], ids=["triton", "cuda"])
def test_all_formats_compile_for_all_targets(made: Any, capability: int) -> None:
    for entry, kernel in made.kernels.items():
        binary = compile_one(made, kernel, entry, capability)
        assert re.search(rf"\.target sm_{capability}a?$", binary.ptx, re.MULTILINE)
        [head] = re.findall(rf"\.entry {binary.name}\((.*?)\)", binary.ptx, re.DOTALL)
        kinds = re.findall(r"\.param \.(\w+)", head)
        assert kinds == ["u64", "u64", "u32", "u64"]  # the order in which TensorRT passes them
        assert binary.threads in (128, 256)


@pytest.mark.parametrize(("capability", "version"), [(80, "8.0"), (90, "8.0"), (120, "8.7")])
def test_tritons_ptx_is_for_old_drivers_too(capability: int, version: str) -> None:
    entry, kernel = next(iter(LeakyGate.kernels.items()))
    ptx = compile_one(LeakyGate, kernel, entry, capability).ptx
    assert re.search(r"^\.version (.*)$", ptx, re.MULTILINE)[1] == version  # type: ignore[index]


def test_attributes_are_in_the_code() -> None:
    entry, kernel = next(iter(LeakyCuda.kernels.items()))
    assert "0f3E800000" in compile_one(LeakyCuda, kernel, entry, 90).ptx  # 0.25


def test_what_was_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path))
    made: list[int] = []

    def compile() -> aot_compile.PtxKernel:
        made.append(1)
        return aot_compile.PtxKernel("k", "code", 128, len(made))

    for key, capability in (("a", 80), ("a", 80), ("b", 80), ("a", 90)):
        aot_compile._cached(key, capability, compile)
    assert len(made) == 3
    files = sorted((tmp_path / "kernels").iterdir())
    assert len(files) == 3
    for file in files:
        file.write_text("{}")  # damaged
    assert aot_compile._cached("a", 80, compile).shared == 4
    assert aot_compile._cached("a", 80, compile).shared == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b"code", b"c0de"),  # one character of the PTX
        lambda content: content.replace(b"128", b"256"),
        lambda content: content[:-5],
        lambda content: content.replace(b"128", b"1e400"),
        lambda content: b"[" * 100_000,
        lambda content: b"",
    ],
)
def test_a_damaged_kernel_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path))
    good = aot_compile.PtxKernel("k", "code", 128, 0)
    aot_compile._cached("a", 80, lambda: good)
    [file] = (tmp_path / "kernels").iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    made: list[int] = []
    assert aot_compile._cached("a", 80, lambda: made.append(1) or good) == good  # type: ignore[func-returns-value]
    assert made == [1]
    assert file.read_bytes() == whole


def test_the_kernel_of_another_key_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path))
    first, second = (aot_compile.PtxKernel(name, "code", 128, 0) for name in "ab")
    aot_compile._cached("a", 80, lambda: first)
    [file] = (tmp_path / "kernels").iterdir()
    content = file.read_bytes()
    aot_compile._cached("b", 80, lambda: second)
    [other] = set((tmp_path / "kernels").iterdir()) - {file}
    other.write_bytes(content)
    assert aot_compile._cached("b", 80, lambda: second) == second


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a path")
def test_a_pipe_in_the_cache_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path))
    good = aot_compile.PtxKernel("k", "code", 128, 0)
    aot_compile._cached("a", 80, lambda: good)
    [file] = (tmp_path / "kernels").iterdir()
    file.unlink()
    os.mkfifo(file)
    assert aot_compile._cached("a", 80, lambda: good) == good


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path / "file"))
    binary = aot_compile.PtxKernel("k", "code", 128, 0)
    assert aot_compile._cached("a", 80, lambda: binary) == binary


def test_another_constant_or_source_is_another_kernel() -> None:
    entry, kernel = next(iter(LeakyGate.kernels.items()))
    specs = specs_of([torch.zeros(3), torch.zeros(3)], entry)
    specs = [*specs, specs[0]]
    texts = {kernel.compile(LeakyGate(slope), specs, 80).ptx for slope in (0.1, 0.1, 0.2)}
    assert len(texts) == 2
    changed = dataclasses.replace(kernel, warps=8)
    assert changed.compile(LeakyGate(), specs, 80).threads == 256


def test_a_triton_error_shows_the_users_line(raises: Callable[..., Any]) -> None:
    line = "tl.store(y + place, tl.load(x + place) + nowhere, place < n)"
    number = 1 + next(
        i for i, text in enumerate(Path(__file__).read_text().splitlines()) if line in text
    )
    kernel = triton_kernel(
        wrong_kernel, grid=lambda self, *x: [1], scalars=lambda self, *x: [1],
        constants={"block": 16},
    )  # fmt: skip

    @trtnet.plugin("tests::wrong")
    class Wrong:
        formats = [("fp32", "->", "fp32")]  # noqa: RUF012

        def outputs(self, x: Any) -> Any:
            return x

        def reference(self, x: Any) -> Any:
            return x * 1

        def native(self, x: Any) -> Any:
            return x

    entry = next(iter(Wrong.kernels))
    with raises(trtnet.BuildError, "tests::wrong", f"{Path(__file__).name}:{number}", "nowhere"):
        compile_one(Wrong, kernel, entry, 80)
    with raises(trtnet.UsageError, "not the inputs, the scalars, the outputs", "x, n, y"):
        compile_one(Wrong, dataclasses.replace(kernel, scalars=None), entry, 80)
    with raises(trtnet.ShapeError, "constant block is not known", "a fixed size"):
        unknown = dataclasses.replace(kernel, constants=lambda self, x, y: {"block": None})
        compile_one(Wrong, unknown, entry, 80)


def test_an_nvrtc_error_shows_the_users_line(raises: Callable[..., Any]) -> None:
    entry, kernel = next(iter(LeakyCuda.kernels.items()))
    broken = dataclasses.replace(kernel, source=SOURCE.replace("slope", "slop"), file="gate.cu")
    with raises(trtnet.BuildError, "tests::leaky_cuda", "gate.cu(6)", "value * slop;"):
        compile_one(LeakyCuda, broken, entry, 80)
    with raises(trtnet.BuildError, "no kernel 'missing'", "leaky"):
        compile_one(LeakyCuda, dataclasses.replace(kernel, entry="missing"), entry, 80)


def test_old_gpus_are_refused(raises: Callable[..., Any]) -> None:
    entry, kernel = next(iter(LeakyGate.kernels.items()))
    with raises(trtnet.UnsupportedError, "8.0 and later", "7.5"):
        compile_one(LeakyGate, kernel, entry, 75)


def test_a_source_file_stands_beside_the_declaration() -> None:
    from trtnet.plugins.kernels import as_kernel

    stated = cuda_kernel("plain.cu", "plain", grid=list)
    folder = Path(__file__).parent
    found = as_kernel(stated, __name__)
    assert found is not None
    assert (found.source, found.file) == (  # type: ignore[union-attr]
        (folder / "plain.cu").read_text(),
        str(folder / "plain.cu"),
    )


def test_a_kernel_can_be_named_by_its_place() -> None:
    by_name = triton_kernel("user_example:leaky_gate_kernel", grid=list)
    assert by_name._function() is importlib.import_module("user_example").leaky_gate_kernel


def test_without_a_compiler_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, raises: Callable[..., Any]
) -> None:
    entry, kernel = next(iter(LeakyCuda.kernels.items()))
    for module in ("cuda.bindings.nvrtc", "triton.compiler"):
        monkeypatch.setitem(sys.modules, module, None)
    with raises(trtnet.BackendError, "NVRTC is not installed", "[plugins]"):
        compile_one(LeakyCuda, kernel, entry, 80)
    entry, kernel = next(iter(LeakyGate.kernels.items()))
    with raises(trtnet.BackendError, "Triton is not installed", "[plugins]"):
        compile_one(LeakyGate, kernel, entry, 80)
