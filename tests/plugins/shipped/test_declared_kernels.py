"""The kernels of the shipped plugins as declared: their launches, and what they compute."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_network
import fake_quick
import pytest
import torch
from shipped_cases import CASES, EMBEDDED, MEAN, STD, Case, network

from trtnet.graph.plugins import mark_of
from trtnet.plugins import quick_plugins, registry, shipped, testing
from trtnet.plugins.kernels import PythonKernel, TritonKernel
from trtnet.plugins.spec import TensorSpec, with_symbolic_sizes
from trtnet.plugins.symbolic_sizes import OPERATIONS, evaluate

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).resolve().parents[3]


def known(size: Any, specs: list[TensorSpec]) -> int:
    return evaluate(size, lambda i, axis: specs[i].shape[axis], lambda op, *n: OPERATIONS[op](*n))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sizes_known_only_at_run_time(case: Case) -> None:
    """The shape rule and the launch give with unknown sizes what they give with known ones."""
    dtypes = next(iter(case.plugin.kernels)).inputs
    fixed = [TensorSpec(x.shape, dtype) for x, dtype in zip(case.inputs, dtypes, strict=True)]
    loose = list(with_symbolic_sizes(list(map(TensorSpec, case.dynamic, dtypes))))
    ruled, unknown = case.plugin.rule(fixed), case.plugin.rule(loose)
    assert [tuple(known(n, fixed) for n in spec.shape) for spec in unknown] == [
        spec.shape for spec in ruled
    ]
    wanted = case.oracle(*(torch.from_numpy(x) for x in case.inputs))
    outputs = wanted if isinstance(wanted, tuple) else (wanted,)
    assert [spec.shape for spec in ruled] == [tuple(y.shape) for y in outputs]
    (kernel,) = set(case.plugin.kernels.values())
    if isinstance(kernel, TritonKernel):
        launch = kernel.launch(case.plugin, [*fixed, *ruled])
        late = kernel.launch(case.plugin, [*loose, *unknown])
        for part, later in zip(launch, late, strict=True):
            assert part == tuple(known(n, fixed) for n in later)
            assert all(isinstance(n, int) for n in part)


def test_single_launches_are_embedded_as_they_are_planned() -> None:
    from trtnet.plugins.shipped.class_map import kernel as class_map
    from trtnet.plugins.shipped.normalize_image import kernel as normalize
    from trtnet.plugins.shipped.yolo_decode import kernel as decode

    images = {"images": (2, 7, 6, 2), "output": (2, 2, 5, 9)}
    head = {"head": (2, 14, 3, 5), "boxes": (2, 30, 4), "scores": (2, 30, 2)}
    plans = {
        "class_map": class_map.plan({"logits": (2, 5, 4, 7), "classes": (2, 20, 31)}),
        "normalize_image": normalize.plan(images, MEAN, STD),
        "yolo_decode": decode.plan(head, "yolov5", 8, ((10, 13), (16, 30))),
    }
    for name, work in plans.items():
        case, planned = CASES[name], work.only
        entry, kernel = next(iter(case.plugin.kernels.items()))
        specs = list(map(TensorSpec, (x.shape for x in case.inputs), entry.inputs))
        launch = kernel.launch(case.plugin, [*specs, *case.plugin.rule(specs)])
        assert launch == ((planned.grid, 1, 1), planned.sizes)
        assert (kernel.warps, kernel.stages) == (planned.warps, planned.stages)
        assert kernel.registers == planned.registers
        assert kernel._function() is planned.kernel


@pytest.mark.parametrize("name", CASES)
def test_what_tensorrt_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On recording doubles: shapes; and of what the engine holds, the kernel and its launch."""
    monkeypatch.setattr(fake_quick, "op", fake_quick.SimpleNamespace())
    monkeypatch.setattr(quick_plugins, "capability", lambda: 90)
    case, sizes = CASES[name], {}
    for x, shape in zip(case.inputs, case.dynamic, strict=True):
        sizes |= {n: size for n, size in zip(shape, x.shape, strict=True) if isinstance(n, str)}
    net = network(case, fake_network.make_backend(), case.dynamic)
    layer = net.definition.get_layer(0)
    mark = mark_of(layer)
    assert mark is not None
    assert (mark.plugin, mark.embedded) == (f"trtnet::{name}", name in EMBEDDED)
    dtypes = next(iter(case.plugin.kernels)).inputs
    fixed = [TensorSpec(x.shape, dtype) for x, dtype in zip(case.inputs, dtypes, strict=True)]
    ruled = case.plugin.rule(fixed)
    if name not in EMBEDDED:
        ((_, shape),) = fake_network.ask_v3(layer.plugin, net.definition._inputs)
        assert tuple(fake_quick.evaluate(n, sizes) for n in shape) == ruled[0].shape
        return
    entry, ptx, told, scalars = layer.plugin.kernel(fake_network.descs_of(net.definition._inputs))
    assert f".entry {entry}(" in ptx
    kernel = next(iter(case.plugin.kernels.values()))
    wanted = kernel.launch(case.plugin, [*fixed, *ruled])
    assert fake_quick.evaluate(told.grid_x, sizes) == wanted.grid[0]
    assert tuple(fake_quick.evaluate(n, sizes) for n in scalars.items) == wanted.scalars
    assert told.block_x.tree == 32 * kernel.warps


def test_what_engines_hold() -> None:
    for name, path in shipped.IMPORT_PATHS.items():
        kinds = {type(kernel) for kernel in registry.load(path).kernels.values()}
        assert kinds == {TritonKernel if name in EMBEDDED else PythonKernel}


# Kernels

INTERPRETED = """
import torch
from trtnet.plugins import Draw, kernel_execution, registry, shipped
from trtnet.plugins.reference_execution import run_reference, tensors_of, torch_dtype
for name, path in shipped.IMPORT_PATHS.items():
    made = registry.load(path)
    for entry, kernel in made.kernels.items():
        plugin, arrays = made.example(Draw(4, largest=4, smallest=2))
        inputs = tensors_of(arrays, entry)
        specs = [kernel_execution.spec_of(x) for x in inputs]
        ruled = plugin.rule(specs)
        outputs = [torch.full(y.shape, 99, dtype=torch_dtype(y.dtype)) for y in ruled]
        if hasattr(kernel, "interpret"):
            kernel.interpret(plugin, [*specs, *ruled], [*inputs, *outputs])
        else:
            kernel_execution.run_kernel(plugin, inputs, outputs)
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        for y, want in zip(outputs, run_reference(plugin, wide)):
            error = float((y.double() - want).norm() / want.double().norm().clamp(min=1e-30))
            print((name, entry.outputs[0].value, y.numel(), error))
"""


def test_declared_kernels_in_tritons_interpreter() -> None:
    """Each fills outputs that held something else; errors are against the reference in float64."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, testing.INTERPRET: "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert {name for name, *_ in rows} == set(shipped.IMPORT_PATHS)
    for name, dtype, count, error in rows:
        assert count > 0, name
        assert error <= (2e-3 if dtype == "float16" else 1e-5), (name, dtype)
