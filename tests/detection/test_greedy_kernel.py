"""The kernels of greedy_nms: in Triton's interpreter, and compiled; no GPU runs them here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).resolve().parents[2]

# Rounds are counted on the matrix of which box suppresses which; NumPy, written for this test.
INTERPRETED = """
import numpy as np, torch, torchvision
from nms_oracle import KINDS
from trtnet.detection.greedy_nms.kernel import greedy_nms

def matrix(boxes, scores, order, groups, threshold):
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    hit = shared / (area[:, None] + area[None] - shared) > threshold
    mine, other = scores[:, None], scores[None]
    better = (mine > other) | ((mine == other) & (order[:, None] < order[None]))
    return hit & better & (groups[:, None] == groups[None])

rng, done = np.random.default_rng(0), 0
np.seterr(all="ignore")
for kind, make in KINDS.items():
    for count in (1, 64, 65, 130):
        boxes, scores = make(rng, count, 1)
        scores = scores[:, 0]
        part = rng.random(count) < 0.9
        order, groups = rng.permutation(count), rng.integers(-1, 2, count)
        hits = matrix(boxes, scores, order, groups, np.float32(0.5))
        masks = [part]
        while len(masks) < count + 6:
            masks.append(part & ~(hits & masks[-1][:, None]).any(0))
        given = [torch.from_numpy(x)[None] for x in (boxes, part, scores, order, groups)]
        for rounds in (None, 1, 3):
            found = greedy_nms(*given, 0.5, rounds)
            want = [masks[-1]] if rounds is None else masks[rounds : rounds + 2]
            assert len(found) == len(want)
            for one, other in zip(found, want):
                assert np.array_equal(one[0].numpy(), other), (kind, count, rounds)
            done += 1
        # Two images that lie one beside the other in memory, as the classes of a tensor do.
        apart = [x.repeat(2, *[1] * (x.dim() - 1)).transpose(0, 1).contiguous().transpose(0, 1)
                 for x in given]
        (found,) = greedy_nms(*apart, 0.5, None)
        for one in found:
            assert np.array_equal(one.numpy(), masks[-1]), (kind, count, "in another layout")
        done += 1
print(done, "calls agree")
"""


def test_interpreted_kernels_follow_the_rule() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80 calls agree" in done.stdout


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_ahead_of_time(capability: int) -> None:
    """And without joining a multiplication to the sum behind it, which would round otherwise."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trtnet.detection.greedy_nms import kernel

    pointers = {
        "candidates": "*u8", "boxes": "*fp32", "scores": "*fp32", "order": "*i64",
        "groups": "*i64", "places": "*i32", "hits": "*i64", "mask": "*u8", "before_mask": "*u8",
        "after_mask": "*u8", "count": "i32", "words": "i32", "rounds": "i32", "threshold": "fp32",
    }  # fmt: skip
    shape = {"width": 16, "rows": 64, "word": 64}
    launches = [
        (kernel._sort, {"word": 64}),
        (kernel._overlaps, {"is_grouped": True, "word": 64}),
        (kernel._scan, shape),
        (kernel._iterate, shape),
    ]
    for function, constants in launches:
        signature = {n: pointers.get(n, "constexpr") for n in function.arg_names}
        source = ASTSource(fn=function, signature=signature, constexprs=constants)
        made = triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False}
        )
        assert f".entry {function.__name__}" in made.asm["ptx"]
        assert "fma.rn.f32" not in made.asm["ptx"]
