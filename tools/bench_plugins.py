"""Times the kernels of the shipped plugins in FP16 against PyTorch and torchvision.

    python tools/bench_plugins.py [--rounds 30] [--plugin NAME] [--markdown FILE]

Needs a GPU, Triton and torchvision, but no TensorRT. Each candidate is recorded in a CUDA graph, as
an engine would be, so that the host's time is not measured. The candidates run in turn in one
process, and times are medians between CUDA events.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from installed import versions
from torch import Tensor

from trtnet.files import atomic_write
from trtnet.plugins.shipped.class_map.kernel import class_map
from trtnet.plugins.shipped.deform_conv2d.kernel import deform_conv2d
from trtnet.plugins.shipped.normalize_image.kernel import normalize_image
from trtnet.plugins.shipped.roi_align.kernel import roi_align

TensorFunction = Callable[[], Tensor]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REPEATS = 5  # calls in one graph


@dataclass
class KernelComparison:
    """One computation by a plugin's kernel and by another function.

    Attributes:
        plugin: name of the plugin.
        task: the computation and its shapes, in words.
        ours: calls the plugin's kernel.
        other: name of the other function.
        theirs: calls it.
        aim: smallest ratio of their time to ours that is wanted.
        memory_aim: largest ratio of our memory to theirs that is wanted.
    """

    plugin: str
    task: str
    ours: TensorFunction
    other: str
    theirs: TensorFunction
    aim: float
    memory_aim: float | None = None


def half(*shape: int) -> Tensor:
    """Returns normally distributed FP16 values on the GPU."""
    return torch.randn(shape, device="cuda", dtype=torch.float16)


def deformed(
    n: int, channels: int, height: int, width: int, out: int, last: bool = False
) -> KernelComparison:
    """Compares deform_conv2d with torchvision's, modulated, with a window of 3x3."""
    x, weight, bias = half(n, channels, height, width), half(out, channels, 3, 3), half(out)
    offset, mask = half(n, 18, height, width), half(n, 9, height, width).sigmoid()
    given = x.contiguous(memory_format=torch.channels_last) if last else x
    pair = (1, 1)
    task = f"{n}x{channels}x{height}x{width} to {out}, 3x3, modulated{', channels_last' * last}"

    def theirs() -> Tensor:
        y: Tensor = torchvision.ops.deform_conv2d(x, offset, weight, bias, 1, 1, 1, mask)
        return y

    def ours() -> Tensor:
        return deform_conv2d(given, offset, weight, bias, pair, pair, pair, mask)

    return KernelComparison("deform_conv2d", task, ours, "torchvision", theirs, 1.5)


def aligned(
    n: int, channels: int, height: int, width: int, boxes: int, pooled: int
) -> KernelComparison:
    """Compares roi_align with torchvision's, on `boxes` random boxes of each image."""
    x = half(n, channels, height, width)
    size = torch.tensor([width, height], device="cuda")
    first = torch.rand(n * boxes, 2, device="cuda") * size * 0.8
    last = first + (0.02 + 0.2 * torch.rand(n * boxes, 2, device="cuda")) * size
    image = torch.arange(n, device="cuda").repeat_interleave(boxes)[:, None]
    rois = torch.cat([image, 4 * first, 4 * last], 1).half()
    arguments = ((pooled, pooled), 0.25, 2, True)
    task = f"{n}x{channels}x{height}x{width}, {boxes} boxes each to {pooled}x{pooled}"

    def theirs() -> Tensor:
        y: Tensor = torchvision.ops.roi_align(x, rois, *arguments)
        return y

    return KernelComparison(
        "roi_align", task, lambda: roi_align(x, rois, *arguments), "torchvision", theirs, 1.2
    )


def normalized(n: int, size: tuple[int, int]) -> KernelComparison:
    """Compares normalize_image with a copy that reads and writes as many bytes."""
    images = torch.randint(0, 256, (n, 1080, 1920, 3), device="cuda", dtype=torch.uint8)
    moved = images.numel() + 2 * 3 * n * size[0] * size[1]
    source = torch.randint(0, 256, (moved // 2,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return KernelComparison(
        "normalize_image",
        f"{n}x1080x1920x3 to {size[0]}x{size[1]}",
        lambda: normalize_image(images, size, MEAN, STD, torch.float16),
        "copy of as many bytes",
        lambda: target.copy_(source),
        0.8,
    )


def classified(n: int, classes: int, height: int, width: int, factor: int) -> KernelComparison:
    """Compares class_map with interpolation to `factor` times the size, and argmax."""
    logits, size = half(n, classes, height, width), (factor * height, factor * width)
    return KernelComparison(
        "class_map",
        f"{n}x{classes}x{height}x{width} to {size[0]}x{size[1]}",
        lambda: class_map(logits, size),
        "interpolate, argmax",
        lambda: F.interpolate(logits, size, mode="bilinear").argmax(1),
        2.0,
        0.1,
    )


COMPARISONS: dict[str, Sequence[Callable[[], KernelComparison]]] = {
    "deform_conv2d": (
        lambda: deformed(8, 256, 64, 64, 256),
        lambda: deformed(8, 256, 64, 64, 256, last=True),
        lambda: deformed(2, 128, 128, 128, 128),
        lambda: deformed(16, 512, 25, 25, 512),
        lambda: deformed(1, 64, 160, 160, 64),
        lambda: deformed(1, 64, 180, 320, 64),
        lambda: deformed(8, 128, 100, 152, 128),
        lambda: deformed(8, 256, 50, 76, 256),
        lambda: deformed(1, 128, 100, 152, 128),
        lambda: deformed(1, 256, 50, 76, 256),
        lambda: deformed(1, 512, 25, 38, 512),
        lambda: deformed(2, 256, 50, 76, 256),
    ),
    "roi_align": (
        lambda: aligned(2, 256, 200, 272, 1000, 7),
        lambda: aligned(8, 256, 100, 136, 512, 7),
        lambda: aligned(2, 256, 200, 272, 100, 14),
    ),
    "normalize_image": (
        lambda: normalized(64, (1080, 1920)),
        lambda: normalized(64, (640, 640)),
        lambda: normalized(64, (720, 1280)),
    ),
    "class_map": (
        lambda: classified(8, 21, 65, 65, 8),
        lambda: classified(4, 19, 128, 256, 8),
        lambda: classified(2, 150, 128, 128, 4),
    ),
}


def recorded(call: TensorFunction) -> Callable[[], None]:
    """Records `REPEATS` calls as one CUDA graph; returns the function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            call()
    return graph.replay


def measure(calls: Sequence[TensorFunction], rounds: int) -> list[float]:
    """Returns the median time of each function, in milliseconds."""
    graphs = [recorded(call) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    for i in range(-3, rounds):  # the first three warm up
        for graph, found in zip(graphs, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph()
            end.record()
            end.synchronize()
            if i >= 0:
                found.append(start.elapsed_time(end) / REPEATS)
    return [statistics.median(found) for found in times]


def memory(call: TensorFunction) -> int:
    """Returns the largest number of bytes that `call` has allocated, its result included."""
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def row(comparison: KernelComparison, rounds: int) -> str:
    """Measures one comparison and returns its row of the table."""
    ours, theirs = measure([comparison.ours, comparison.theirs], rounds)
    used = ""
    if comparison.memory_aim is not None:
        sizes = memory(comparison.ours), memory(comparison.theirs)
        used = (
            f"{sizes[0] / sizes[1]:.3f} of {sizes[1] / 2**20:.0f} MiB (aim {comparison.memory_aim})"
        )
    return (
        f"| {comparison.plugin} | {comparison.task} | {1e3 * ours:.1f} us | {comparison.other} "
        f"| {1e3 * theirs:.1f} us | {theirs / ours:.2f} (aim {comparison.aim:g}) | {used} |"
    )


def table(lines: Sequence[str], rounds: int) -> str:
    """Returns the page in Markdown, with `lines` as rows of its table."""
    return "\n".join(
        [
            "# Kernels of the shipped plugins",
            "",
            f"`python tools/bench_plugins.py --rounds {rounds}`: FP16, medians of {rounds} rounds "
            f"in which the candidates take turns, each a CUDA graph of {REPEATS} calls. Changes of "
            "layout, also of weights, are part of our times. The aim of "
            "`normalize_image` is a share of the speed of a copy that reads and writes as many "
            "bytes.",
            "",
            f"{datetime.date.today()}; {torch.cuda.get_device_name()}; "
            f"{versions('torch', 'torchvision', 'triton')}.",
            "",
            "| plugin | job | ours | against | time | ratio | memory |",
            "|---|---|--:|---|--:|--:|--:|",
            *lines,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plugin", choices=COMPARISONS, action="append", help="default all")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    lines = []
    for name in options.plugin or COMPARISONS:
        for comparison in COMPARISONS[name]:
            lines.append(row(comparison(), options.rounds))
            print(lines[-1], flush=True)
            torch.cuda.empty_cache()
    text = table(lines, options.rounds)
    if options.markdown is not None:
        with atomic_write(options.markdown) as file:
            file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
