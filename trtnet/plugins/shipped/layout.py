"""Changes the memory layout from (N, C, H, W) to (N, H, W, C), in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from trtnet.plugins.shipped.triton_launch import TritonLaunch, blocks, power_of_2

_PIXELS, _CHANNELS = 32, 128


def to_channels_last(source: str, target: str, n: int, channels: int, pixels: int) -> TritonLaunch:
    """Returns the launch that copies `source`, (n, channels, pixels), to `target`.

    Args:
        source, target: names of the tensors; `target` has the shape (n, pixels, channels).
    """
    width = min(power_of_2(channels), _CHANNELS)
    block = {"block_pixels": _PIXELS, "block_channels": width}
    grid = n * blocks(pixels, _PIXELS) * blocks(channels, width)
    return TritonLaunch(_to_channels_last, (source,), (channels, pixels), (target,), block, grid)


@triton.jit(do_not_specialize=["channels", "pixels"])
def _to_channels_last(
    source, channels, pixels, target,
    block_pixels: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """One program copies a tile."""
    across, down = tl.cdiv(pixels, block_pixels), tl.cdiv(channels, block_channels)
    place = tl.program_id(0)
    image = (place // (across * down)).to(tl.int64) * channels * pixels
    channel = place // across % down * block_channels + tl.arange(0, block_channels)[:, None]
    pixel = place % across * block_pixels + tl.arange(0, block_pixels)[None, :]
    inside = (channel < channels) & (pixel < pixels)
    place = source + image + channel.to(tl.int64) * pixels + pixel
    value = tl.load(place, inside, eviction_policy="evict_first")  # it is not needed again
    tl.store(target + image + pixel.to(tl.int64) * channels + channel, value, inside)
