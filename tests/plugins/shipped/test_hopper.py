"""deform_conv2d's kernel for Hopper GPUs: compiled anywhere, run where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchvision

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed")

from trtnet.plugins.shipped.deform_conv2d.hopper import kernel as hopper
from trtnet.plugins.shipped.deform_conv2d.hopper import schedule

TILES = {"narrow": schedule.NARROW, "middle": schedule.MIDDLE, "wide": schedule.WIDE}
LARGEST = 227 << 10  # bytes of shared memory that a block has on Hopper
REGISTERS = 65536  # of an SM
CONSTANTS = {
    "channels": 128, "groups": 2, "in_group": 64, "out_group": 70, "offset_channels": 128,
    "taps": 9, "window_w": 3, "has_mask": True, "has_bias": False, "together": 4,
}  # fmt: skip


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize("name", TILES)
def test_it_compiles_without_a_gpu(name: str, split: int) -> None:
    tile = TILES[name]
    binary = hopper.compile({**CONSTANTS, "in_group": 128, "groups": 1}, tile, split)
    assert re.search(r"^\.target sm_90a$", binary.ptx, re.MULTILINE)
    assert f"wgmma.mma_async.sync.aligned.m64n{tile.out_channels}k16" in binary.ptx
    assert tile.per_sm * (binary.shared + 1024) <= LARGEST + 1024
    assert tile.per_sm * binary.threads * 64 <= REGISTERS
    sampling, multiplying = tile.registers
    used = tile.samplers * sampling + (binary.threads - tile.samplers) * multiplying
    assert tile.per_sm * used <= REGISTERS
    matrices = tile.stages * 2 * 64 * (tile.pixels + tile.out_channels)
    assert 4 * tile.pixels * tile.out_channels <= matrices  # blocks exchange their sums there


@pytest.mark.parametrize("together", [1, 2, 4, 8])
def test_the_preparation_compiles_without_a_gpu(together: int) -> None:
    names = ("channels", "groups", "in_group", "out_group", "taps")
    constants = {name: CONSTANTS[name] for name in names}
    binary = hopper.compile_preparation({**constants, "together": together})
    assert re.search(r"^\.target sm_90a$", binary.ptx, re.MULTILINE)
    assert "griddepcontrol.launch_dependents" in binary.ptx


def cases() -> Iterator[tuple[Any, ...]]:
    """Input, output channels, offset groups, groups, window, stride, padding, dilation."""
    yield (2, 256, 9, 40), 144, 2, 2, (3, 3), (1, 1), (1, 1), (1, 1)
    yield (1, 256, 33, 35), 300, 4, 1, (2, 3), (1, 1), (1, 1), (1, 1)
    yield (3, 128, 13, 28), 70, 1, 2, (3, 3), (2, 1), (0, 1), (2, 1)
    yield (2, 64, 2, 2), 1, 1, 1, (1, 1), (1, 1), (0, 0), (1, 1)
    yield (4, 64, 70, 90), 520, 1, 1, (3, 3), (1, 1), (1, 1), (1, 1)
    yield (2, 512, 21, 64), 200, 2, 1, (3, 3), (1, 1), (1, 1), (1, 1)
    yield (3, 256, 24, 26), 130, 1, 1, (3, 3), (1, 1), (1, 1), (1, 1)


def needs_hopper() -> None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a Hopper GPU")


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(8, 8), (63, 65), (2, 3), (10, 7), (2, 62)])
def test_the_input_is_turned(size: tuple[int, int]) -> None:
    needs_hopper()
    n, channels, area = 3, 192, size[0] * size[1]
    memory = torch.randn(n * channels * area + 1, device="cuda").half()
    weight = torch.randn(5, channels, 1, 1, device="cuda").half()
    job = schedule.ConvolutionSize(n, *size, 1, channels, 5, 1)
    for start in (0, 1):  # of it, also misaligned
        x = memory[start : start + n * channels * area].view(n, channels, *size)
        turned, _ = hopper.prepare(x, weight, job)
        assert torch.equal(turned, x.permute(0, 2, 3, 1))
        same, _ = hopper.prepare(turned.permute(0, 3, 1, 2), weight, job)
        assert same.data_ptr() == turned.data_ptr()


@pytest.mark.gpu
def test_weights_become_matrices_of_bricks() -> None:
    """Against the definition, element by element."""
    needs_hopper()
    x = torch.randn(1, 256, 4, 5, device="cuda").half()
    weight = torch.randn(2 * 70, 128, 2, 3, device="cuda").half()
    _, packed = hopper.prepare(x, weight, schedule.ConvolutionSize(1, 4, 5, 2, 128, 70, 6))
    assert packed.shape == (2, 2, 2, 6, 8, 8, 8, 8)
    assert packed.is_contiguous()
    bricks = packed.permute(0, 1, 4, 6, 2, 5, 7, 3)  # group, output, input channel, tap
    wanted = torch.zeros(2, 128, 128, 6, device="cuda").half()
    wanted[:, :70] = weight.view(2, 70, 128, 6)
    assert torch.equal(bricks.reshape(2, 128, 128, 6), wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*cases()])
@pytest.mark.parametrize("split", [1, 2, 4])
@pytest.mark.parametrize("tile", [*TILES, "two"])
def test_every_tile_is_the_reference(
    tile: str, split: int, case: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_hopper()
    from trtnet.plugins.shipped.deform_conv2d.kernel import deform_conv2d

    def order(job: schedule.ConvolutionSize, _: int) -> schedule.Schedule:
        strip = min(job.width, 16)
        pixels = job.images * -(-job.width // strip) * strip * job.height
        half = pixels // 256 * 128
        if tile != "two" or not half:
            part = schedule.HopperLaunch(TILES.get(tile, schedule.WIDE), split, 0, pixels)
            return schedule.Schedule(strip, (part,))
        first = schedule.HopperLaunch(schedule.WIDE, 1, 0, half)
        return schedule.Schedule(
            strip, (first, schedule.HopperLaunch(schedule.MIDDLE, split, half, pixels))
        )

    monkeypatch.setattr(hopper, "schedule", order)
    size, out, offset_groups, groups, window, *geometry = case
    n, channels, *have = size
    if channels // groups // 64 % split:
        pytest.skip("blocks would have different numbers of steps")
    spread = zip(have, window, *geometry, strict=True)
    grid = [(length + 2 * p - d * (k - 1) - 1) // s + 1 for length, k, s, p, d in spread]
    entries = offset_groups * window[0] * window[1]
    torch.manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device="cuda").half()

    x, weight, bias = normal(*size), normal(out, channels // groups, *window), normal(out)
    offset, mask = 3 * normal(n, 2 * entries, *grid), normal(n, entries, *grid).sigmoid()
    offset[:, :, -1] = 1e4  # far outside
    assert hopper.serves(x, offset, weight)
    y = torch.full((n, out, *grid), torch.nan, dtype=torch.float16, device="cuda")
    deform_conv2d(x, offset, weight, bias, *geometry, mask, out=y)
    wide = [t.double() for t in (x, offset, weight, bias)]
    want = torchvision.ops.deform_conv2d(*wide, *geometry, mask.double())
    assert (y.double() - want).norm() <= 2e-3 * want.norm()
