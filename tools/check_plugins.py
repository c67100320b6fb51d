"""Compares the kernels of the shipped plugins with their references in float64.

    python tools/check_plugins.py [--shapes 200] [--seed 0] [--plugin NAME]
                                  [--markdown benchmarks/plugins_h200.md]

Needs a GPU and Triton, but no TensorRT. Shapes are random. Outputs and intermediate tensors are
filled with NaN (integers: with the largest one) before every launch, and every launch runs twice
and must give the same bits.

``TRITON_INTERPRET=1 python tools/check_plugins.py --device cpu --shapes 3 --largest 8`` runs the
same without a GPU, slowly.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from installed import versions
from torch import Tensor

from trtnet.files import atomic_write
from trtnet.plugins.shipped.class_map import kernel as class_map_kernel
from trtnet.plugins.shipped.class_map import reference as class_map_reference
from trtnet.plugins.shipped.deform_conv2d import kernel as deform_kernel
from trtnet.plugins.shipped.deform_conv2d import reference as deform_reference
from trtnet.plugins.shipped.normalize_image import kernel as normalize_kernel
from trtnet.plugins.shipped.normalize_image import reference as normalize_reference
from trtnet.plugins.shipped.roi_align import kernel as roi_kernel
from trtnet.plugins.shipped.roi_align import reference as roi_reference
from trtnet.plugins.shipped.yolo_decode import kernel as yolo_kernel
from trtnet.plugins.shipped.yolo_decode import reference as yolo_reference

LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3}
PRECISIONS = {torch.float32: "FP32", torch.float16: "FP16"}


@dataclass
class KernelCase:
    """One random call of a kernel.

    Attributes:
        label: the call in words.
        call: runs the kernel.
        error: gives the relative L2 error of its result.
    """

    label: str
    call: Callable[[], Tensor]
    error: Callable[[Tensor], float]


class RandomTensors:
    """Random sizes and tensors.

    Args:
        seed: equal seeds give equal values.
        device: device of the tensors.
        dtype: element type of the tensors.
        largest: largest size of an axis.
    """

    def __init__(self, seed: int, device: str, dtype: torch.dtype, largest: int) -> None:
        self.random = Random(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device, self.dtype, self.largest = device, dtype, largest

    def size(self) -> int:
        """Returns a random size of an axis."""
        return self.random.randint(1, self.largest)

    def batch(self) -> int:
        """Returns a random batch size, sometimes 0."""
        return self.random.choice((0, 1, 1, 2, 3))

    def normal(self, *shape: int) -> Tensor:
        """Returns normally distributed values."""
        made = torch.randn(shape, generator=self.generator, device=self.device)
        return made.to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Returns values uniformly distributed from 0 to 1."""
        return torch.rand(shape, generator=self.generator, device=self.device).to(self.dtype)


# channels, output channels, groups, offset groups, modulated and with a bias
DEFORMED = (
    (3, 8, 1, 1, True), (16, 16, 1, 1, False), (64, 64, 1, 1, True), (24, 40, 1, 3, True),
    (12, 10, 2, 3, False), (8, 8, 8, 2, True), (130, 72, 2, 1, True), (128, 256, 1, 4, True),
    (128, 70, 2, 1, False), (256, 300, 1, 2, True), (64, 128, 1, 1, True),
)  # fmt: skip

WINDOWS = (
    (3, 3), (1, 1), (3, 3), (2, 3), (3, 3), (1, 3), (5, 5), (3, 3), (1, 2), (3, 3), (3, 3),
)  # fmt: skip


def deform_conv2d(index: int, draw: RandomTensors) -> KernelCase:
    """Returns a random call of deform_conv2d."""
    channels, out, groups, offset_groups, full = DEFORMED[index % len(DEFORMED)]
    pick = draw.random.randint
    window = WINDOWS[index % len(DEFORMED)]
    stride, dilation = ((pick(1, 3), pick(1, 3)) for _ in range(2))
    padding = (pick(0, 2), pick(0, 2))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    have = [draw.size() + span for span in spans]
    size = [
        (n + 2 * p - span) // s + 1
        for n, p, span, s in zip(have, padding, spans, stride, strict=True)
    ]
    n, taps = draw.batch(), math.prod(window)
    x = draw.normal(n, channels, *have)
    offset = 2 * draw.normal(n, 2 * offset_groups * taps, *size)
    weight = draw.normal(out, channels // groups, *window)
    mask = draw.uniform(n, offset_groups * taps, *size) if full else None
    bias = draw.normal(out) if full else None
    if index % 3 == 1:
        x = x.contiguous(memory_format=torch.channels_last)

    def call() -> Tensor:
        return deform_kernel.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)

    def error(got: Tensor) -> float:
        wide = x.double(), offset.double(), weight.double()
        extra = [None if t is None else t.double() for t in (bias, mask)]
        want = deform_reference.deform_conv2d(*wide, extra[0], stride, padding, dilation, extra[1])
        return relative_l2(got, want)

    label = f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, offset {tuple(offset.shape)}"
    return KernelCase(
        f"{label}, stride {stride}, padding {padding}, dilation {dilation}", call, error
    )


# channels, pooled size, sampling ratio, aligned
ALIGNED = (
    (3, (7, 7), 2, True), (64, (7, 7), 2, True), (256, (7, 7), 0, True), (40, (14, 14), -1, False),
    (16, (3, 5), 1, False), (100, (1, 1), 3, True),
)  # fmt: skip


def roi_align(index: int, draw: RandomTensors) -> KernelCase:
    """Returns a random call of roi_align."""
    channels, pooled, ratio, aligned = ALIGNED[index % len(ALIGNED)]
    n, height, width = max(draw.batch(), 1), draw.size(), draw.size()
    scale = 0.25
    count = draw.random.choice((0, 1, 5, 33))
    x = draw.normal(n, channels, height, width)
    reach = torch.tensor([width, height], device=draw.device) / scale
    first = (draw.uniform(count, 2).float() * 1.2 - 0.2) * reach
    last = first + draw.uniform(count, 2).float() * reach
    image = torch.randint(n, (count, 1), generator=draw.generator, device=draw.device)
    boxes = torch.cat([image, first, last], 1).to(torch.float32 if index % 2 else draw.dtype)
    if index % 3 == 1:
        x = x.contiguous(memory_format=torch.channels_last)

    def call() -> Tensor:
        return roi_kernel.roi_align(x, boxes, pooled, scale, ratio, aligned)

    def error(got: Tensor) -> float:
        wide = x.double(), boxes.double()
        return relative_l2(got, roi_reference.roi_align(*wide, pooled, scale, ratio, aligned))

    label = f"x {tuple(x.shape)}, {count} boxes to {pooled}"
    return KernelCase(f"{label}, sampling ratio {ratio}, aligned {aligned}", call, error)


def normalize_image(index: int, draw: RandomTensors) -> KernelCase:
    """Returns a random call of normalize_image."""
    mean, std = (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,), (0.25,)))[index % 2]
    shape = (draw.batch(), 3 * draw.size(), 3 * draw.size(), len(mean))
    size = shape[1:3] if index % 4 < 2 else (3 * draw.size(), 3 * draw.size())
    images = torch.randint(
        256, shape, generator=draw.generator, device=draw.device, dtype=torch.uint8
    )

    def call() -> Tensor:
        return normalize_kernel.normalize_image(images, size, mean, std, draw.dtype)

    def error(got: Tensor) -> float:
        want = normalize_reference.normalize_image(images, size, mean, std, torch.float64)
        return relative_l2(got, want)

    return KernelCase(f"images {shape} to {size}", call, error)


def class_map(index: int, draw: RandomTensors) -> KernelCase:
    """Returns a random call of class_map."""
    shape = (draw.batch(), draw.random.randint(1, 30), draw.size(), draw.size())
    factor = draw.random.choice((0.4, 1, 2, 7.3))
    size = (math.ceil(factor * shape[2]), math.ceil(factor * shape[3]) + index % 2)
    logits = draw.normal(*shape)

    def call() -> Tensor:
        return class_map_kernel.class_map(logits, size)

    def error(got: Tensor) -> float:
        """Compares the logits of the chosen classes with the largest ones."""
        if not got.numel():
            return 0.0
        full = torch.nn.functional.interpolate(logits.double(), size, mode="bilinear")
        if got.min() < 0 or got.max() >= shape[1]:
            return math.nan
        assert tuple(got.shape) == tuple(class_map_reference.class_map(logits, size).shape)
        return relative_l2(full.gather(1, got[:, None].long())[:, 0], full.amax(1))

    return KernelCase(f"logits {shape} to {size}", call, error)


# style, anchors, bins
HEADS = (
    ("yolov3", ((10, 13), (16, 30), (33, 23)), 16), ("yolov5", ((10, 13), (16, 30)), 16),
    ("yolox", (), 16), ("yolov8", (), 16), ("yolov8", (), 9),
)  # fmt: skip


def yolo_decode(index: int, draw: RandomTensors) -> KernelCase:
    """Returns a random call of yolo_decode."""
    style, anchors, bins = HEADS[index % len(HEADS)]
    classes = (80, 3, 1)[index % 3]
    channels = 4 * bins + classes if style == "yolov8" else (len(anchors) or 1) * (5 + classes)
    head = draw.normal(draw.batch(), channels, draw.size(), draw.size())

    def call() -> Tensor:
        return together(yolo_kernel.yolo_decode(head, style, 8, anchors, bins))

    def error(got: Tensor) -> float:
        want = yolo_reference.yolo_decode(head.double(), style, 8, anchors, bins)
        return max(
            relative_l2(*parts) for parts in zip(apart(got), apart(together(want)), strict=True)
        )

    def apart(pair: Tensor) -> list[Tensor]:
        return list(pair.split([4, classes], 2))

    return KernelCase(f"{style} head {tuple(head.shape)}", call, error)


def together(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Joins boxes and scores to one tensor."""
    return torch.cat(pair, 2)


PLUGINS: dict[str, Callable[[int, RandomTensors], KernelCase]] = {
    "deform_conv2d": deform_conv2d,
    "roi_align": roi_align,
    "normalize_image": normalize_image,
    "class_map": class_map,
    "yolo_decode": yolo_decode,
}


def relative_l2(got: Tensor, want: Tensor) -> float:
    """Returns the relative L2 error; NaN where the shapes differ."""
    if got.shape != want.shape:
        return math.nan
    if not want.numel():
        return 0.0
    return float((got.double() - want).norm() / want.norm().clamp_min(1e-30))


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fills new tensors with NaN, or with the largest integer."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@dataclass
class PluginCheck:
    """The result of checking one plugin in one precision.

    Attributes:
        shapes: number of random calls.
        empty: number of calls with empty results.
        worst: largest relative L2 error of a call that passed.
        worst_case: that call, in words.
        failed: the failures, in words.
        seconds: time of the check.
    """

    shapes: int
    empty: int
    worst: float
    worst_case: str
    failed: list[str]
    seconds: float


def check(name: str, dtype: torch.dtype, options: argparse.Namespace) -> PluginCheck:
    """Runs random calls of a plugin and compares them with its reference."""
    started = time.perf_counter()
    result = PluginCheck(options.shapes, 0, 0.0, "", [], 0.0)
    for index in range(options.shapes):
        draw = RandomTensors(options.seed + index, options.device, dtype, options.largest)
        case = PLUGINS[name](index, draw)
        with poisoned_memory():
            got, again = case.call(), case.call()
        result.empty += not got.numel()
        error = case.error(got)
        if not error <= LIMITS[dtype]:  # NaN never is
            result.failed.append(f"{case.label}: error {error:.2e}")
        elif not torch.equal(got, again):
            result.failed.append(f"{case.label}: two runs differ")
        elif error > result.worst:
            result.worst, result.worst_case = error, case.label
    result.seconds = time.perf_counter() - started
    return result


def row(name: str, dtype: torch.dtype, result: PluginCheck) -> str:
    """Returns the row of the table for a result."""
    verdict = f"{len(result.failed)} FAILED" if result.failed else "passed"
    return (
        f"| {name} | {PRECISIONS[dtype]} | {result.shapes} | {result.empty} | {result.worst:.1e} "
        f"| {LIMITS[dtype]:.0e} | {verdict} |"
    )


def table(lines: Sequence[str], options: argparse.Namespace) -> str:
    """Returns the section in Markdown, with `lines` as rows of its table."""
    where = torch.cuda.get_device_name() if options.device == "cuda" else "Triton's interpreter"
    return "\n".join(
        [
            "## Against the references in float64",
            "",
            f"`python tools/check_plugins.py --shapes {options.shapes} --seed {options.seed}`: "
            "largest relative L2 error of random shapes, with poisoned memory; each launch gave "
            "the same bits twice. For `class_map` the error is that of the logits which the "
            "chosen classes have, against the largest ones.",
            "",
            f"{datetime.date.today()}; {where}; {versions('torch', 'torchvision', 'triton')}.",
            "",
            "| plugin | precision | shapes | of them empty | worst error | limit | |",
            "|---|---|--:|--:|--:|--:|---|",
            *lines,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plugin", choices=PLUGINS, action="append", help="default all")
    parser.add_argument("--shapes", type=int, default=200, help="of each plugin and precision")
    parser.add_argument("--largest", type=int, default=40, help="size of an axis")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="add the table to it")
    options = parser.parse_args(argv)
    if options.device == "cpu" and not os.environ.get("TRITON_INTERPRET"):
        parser.error("--device cpu needs the environment variable TRITON_INTERPRET=1")
    lines, failed = [], []
    for name in options.plugin or PLUGINS:
        for dtype in PRECISIONS:
            result = check(name, dtype, options)
            lines.append(row(name, dtype, result))
            failed += [f"{name}, {PRECISIONS[dtype]}: {text}" for text in result.failed]
            print(f"{lines[-1]} {result.seconds:.0f} s, worst: {result.worst_case}", flush=True)
    print(*failed, sep="\n")
    if options.markdown is not None:
        before = options.markdown.read_text() + "\n" if options.markdown.exists() else ""
        with atomic_write(options.markdown) as file:
            file.write(f"{before}{table(lines, options)}".encode())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
