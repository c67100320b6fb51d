"""normalize_image: the reference pixel by pixel; the native form and the kernel against it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import trtnet
from trtnet.plugins.shipped.normalize_image import native, reference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(7, 9), (5, 12), (14, 3), (1, 1)]
ROOT = Path(__file__).resolve().parents[3]


def between(index: int, size: int, out_size: int) -> tuple[int, int, float]:
    position = max((index + 0.5) * size / out_size - 0.5, 0.0)
    first = min(int(position), size - 1)
    return first, min(first + 1, size - 1), position - first


@pytest.mark.parametrize("size", SIZES)
def test_reference_follows_half_pixel_centres(
    size: tuple[int, int], rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (2, 7, 9, 3), np.uint8)
    got = reference.normalize_image(torch.from_numpy(images), size, MEAN, STD, torch.float64)
    for row, column in np.ndindex(*size):
        y0, y1, below = between(row, 7, size[0])
        x0, x1, right = between(column, 9, size[1])
        top = images[:, y0, x0] * (1 - right) + images[:, y0, x1] * right
        bottom = images[:, y1, x0] * (1 - right) + images[:, y1, x1] * right
        want = ((top * (1 - below) + bottom * below) / 255 - MEAN) / STD
        np.testing.assert_allclose(got[:, :, row, column], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_native_form_is_the_reference(
    size: tuple[int, int], rng: np.random.Generator, check: Callable[..., None]
) -> None:
    images = rng.integers(0, 256, (2, 7, 9, 3), np.uint8)
    check(
        lambda x: native.normalize_image(x, size, MEAN, STD),
        lambda x: reference.normalize_image(x, size, MEAN, STD, torch.float32),
        images,
        dynamic=[("N", "H", "W", 3)],
        rtol64=1e-6,  # against PyTorch in float32
    )


def test_native_form_gives_the_type_asked_for(net: trtnet.Network) -> None:
    images = net.input("images", (1, 4, 4, 3), "uint8")
    y = native.normalize_image(images, (2, 2), MEAN, STD, trtnet.float16)
    assert (y.shape, y.dtype) == ((1, 3, 2, 2), trtnet.float16)


# Every number of channels, borders, and images that end within a 32-bit word, which is how the
# kernel reads them. A page without access follows them.
INTERPRETED = """
import ctypes
import mmap
import torch
from trtnet.plugins.shipped.triton_launch import run_plan
from trtnet.plugins.shipped.normalize_image import kernel, reference

PAGE = mmap.PAGESIZE
pages = mmap.mmap(-1, 2 * PAGE)
memory = torch.frombuffer(pages, dtype=torch.uint8)
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
assert protect(memory.data_ptr() + PAGE, PAGE, 0) == 0
torch.manual_seed(3)
for shape, size in (
    ((1, 5, 7, 3), (4, 9)), ((2, 3, 1, 3), (5, 3)), ((1, 9, 5, 1), (19, 2)),
    ((2, 3, 3, 4), (3, 3)), ((1, 1, 3, 2), (1, 4)), ((3, 4, 2, 5), (3, 5)),
    ((1, 1, 1, 1), (2, 2)), ((1, 40, 3, 3), (18, 140)), ((2, 3, 3, 4), (3, 4)),
):
    count = torch.Size(shape).numel()
    start = (PAGE - count) // 4 * 4  # aligned, as far as possible at the end of the page
    images = memory[start : start + count].view(shape)
    images.random_(0, 256)
    mean, std = [0.1 * (i + 3) for i in range(shape[3])], [0.2 + 0.01 * i for i in range(shape[3])]
    y = torch.full((shape[0], shape[3], *size), float("nan"))
    work = kernel.plan({"images": shape, "output": tuple(y.shape)}, mean, std)
    run_plan(work, {"images": images, "output": y})
    want = reference.normalize_image(images, size, mean, std, torch.float64)
    print(float((y - want).norm() / want.norm()))
"""


def test_kernel_in_tritons_interpreter_reads_nothing_beyond_the_images() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    errors = [float(line) for line in done.stdout.splitlines()]
    assert len(errors) == 9
    assert max(errors) < 1e-6
