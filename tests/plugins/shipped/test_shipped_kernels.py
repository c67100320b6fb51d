"""The shipped Triton kernels: in Triton's interpreter against the references, and compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trtnet.errors import ShapeError

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ("deform_conv2d", "roi_align", "normalize_image", "class_map", "yolo_decode")
DEFORMED = {
    "input": (2, 64, 20, 20),
    "offset": (2, 18, 20, 20),
    "mask": (2, 9, 20, 20),
    "bias": (512,),
    "weight": (512, 64, 3, 3),
    "output": (2, 512, 20, 20),
}
SHARED = 99 << 10  # bytes that a block can have on GPUs of every capability


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What tools/check_plugins.py printed, and the table it wrote."""
    table = tmp_path_factory.mktemp("checked") / "table.md"
    tool = [sys.executable, str(ROOT / "tools" / "check_plugins.py"), "--device", "cpu"]
    done = subprocess.run(
        [*tool, "--shapes", "2", "--largest", "4", "--seed", "5", "--markdown", str(table)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, table.read_text()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_interpreted_kernel_is_the_reference(plugin: str, checked: tuple[str, str]) -> None:
    printed, table = checked
    for precision in ("FP32", "FP16"):
        (line,) = (x for x in table.splitlines() if x.startswith(f"| {plugin} | {precision} | 2 |"))
        assert line.endswith("| passed |")
        assert line in printed


def works() -> list[tuple[str, Any, dict[str, str]]]:
    from trtnet.plugins.shipped.class_map import kernel as class_map
    from trtnet.plugins.shipped.deform_conv2d import kernel as deform
    from trtnet.plugins.shipped.normalize_image import kernel as normalize
    from trtnet.plugins.shipped.roi_align import kernel as roi
    from trtnet.plugins.shipped.yolo_decode import kernel as yolo

    x, pair = (2, 64, 20, 20), (1, 1)
    aligned = {"input": x, "boxes": (9, 5), "output": (9, 64, 7, 7)}
    images, bytes_in = (2, 3, 64, 64), {"images": "u8"}
    normal = ((0.5,) * 3, (0.25,) * 3)
    head = {"head": (2, 255, 20, 20), "boxes": (2, 1200, 4), "scores": (2, 1200, 80)}
    heads = {**head, "head": (2, 144, 20, 20), "boxes": (2, 400, 4), "scores": (2, 400, 80)}
    anchors = ((10, 13), (16, 30), (33, 23))
    return [
        ("deform_conv2d fp16", deform.plan(DEFORMED, True, False, pair, pair, pair), {}),
        ("deform_conv2d fp32", deform.plan(DEFORMED, False, True, pair, pair, pair), {}),
        ("roi_align", roi.plan(aligned, False, 0.25, -1, True), {}),
        ("normalize_image", normalize.plan({"images": (2, 64, 64, 3), "output": images}, *normal),
         bytes_in),
        ("normalize_image resized",
         normalize.plan({"images": (2, 96, 50, 3), "output": images}, *normal), bytes_in),
        ("class_map", class_map.plan({"logits": x, "classes": (2, 160, 160)}), {"classes": "i32"}),
        ("yolo_decode anchors", yolo.plan(head, "yolov5", 8, anchors), {}),
        ("yolo_decode free", yolo.plan(heads, "yolov8", 8), {}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mask": (2, 8, 20, 20)}, "(2, 9, 20, 20)"),
        ({"bias": (64,)}, "(512,)"),
        ({"input": (2, 63, 20, 20)}, "(2, 64, 20, 20)"),
        ({"offset": (1, 18, 20, 20)}, "(2, 18, 20, 20)"),
        ({"offset": (2, 0, 20, 20)}, "(2, 18, 20, 20)"),
    ],
)
def test_shapes_that_would_be_read_beyond_are_refused(
    wrong: dict[str, tuple[int, ...]], words: str, raises: Any
) -> None:
    from trtnet.plugins.shipped.deform_conv2d import kernel

    shapes = {**DEFORMED, **wrong}
    with raises(ShapeError, f"deform_conv2d: {next(iter(wrong))} has another shape", words):
        kernel.check(shapes)


@pytest.mark.parametrize("capability", [80, 90, 120])
def test_kernels_compile_ahead_of_time(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every launch of every plugin, with as much shared memory as each GPU has."""
    from trtnet.plugins import aot_compile

    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path))
    for name, work, types in works():
        default = "fp32" if name.endswith("fp32") else "fp16"
        for launch in work.launches:
            tensors = (*launch.inputs, *launch.outputs)
            signature = launch.signature(dict.fromkeys(tensors, default) | types)
            shape = (launch.warps, launch.stages)
            binary = aot_compile.compile_triton(
                launch.kernel, signature, launch.constants, shape, capability
            )
            assert f".entry {binary.name}(" in binary.ptx, name
            assert binary.shared <= SHARED, name
