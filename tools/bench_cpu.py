"""How fast sessions of the torch backend run on a CPU, against onnxruntime and PyTorch.

    python tools/bench_cpu.py [--part fp32 int8 detector] [--model resnet50 ...] [--threads 2]
                              [--repeats 25] [--markdown benchmarks/runtime_cpu.md]

Batch 1. The candidates take turns in one process, each with the same number of threads;
onnxruntime's threads do not spin, which would slow whoever runs next. A ratio is the median over
the rounds of a peer's time by the session's, with the 95 % interval of that median.

The parts: ``fp32``, random weights, against onnxruntime with the PyTorch counterpart as
torch.onnx.export wrote it; ``int8``, the same networks quantized, against themselves in FP32;
``detector``, the shipped one, against onnxruntime and torchvision's suppression.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import bench_cpu_detector
import bench_cpu_fp32
import bench_cpu_int8
import torch
from installed import versions

from trtnet.files import atomic_write

MODELS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16", "unet")
TITLES = {"fp32": "FP32", "int8": "INT8", "detector": "The shipped detector"}
HEAD = (
    "# Sessions on a CPU\n\nMedians of rounds in which the candidates take turns. A ratio above 1 "
    "means that the session is faster; in brackets the 95 % interval of its median.\n"
)
PARTS: dict[str, Callable[[Sequence[str], int, int], str]] = {
    "fp32": bench_cpu_fp32.part,
    "int8": bench_cpu_int8.part,
    "detector": lambda models, threads, repeats: bench_cpu_detector.part(threads, repeats),
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--model", nargs="+", default=MODELS, help=", ".join(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    for name in arguments.part:
        text = PARTS[name](arguments.model, arguments.threads, arguments.repeats)
        if arguments.markdown is not None:
            update(arguments.markdown, TITLES[name], how(arguments.threads) + text)
    return 0


def update(page: Path, title: str, text: str) -> None:
    """Writes `text` as the section `title` of `page`; the others stay."""
    before = page.read_text().split("\n## ")[1:] if page.exists() else []
    sections = dict(part.split("\n", 1) for part in before)
    sections[title] = f"\n{text}"
    ordered = [name for name in TITLES.values() if name in sections]
    parts = [f"\n## {name}\n{sections[name].rstrip()}\n" for name in ordered]
    with atomic_write(page) as file:
        file.write((HEAD + "".join(parts)).encode())


def how(threads: int) -> str:
    """How a section was measured, and with what."""
    used = versions("torch", "openvino", "onnxruntime", "torchvision", "numpy")
    command = " ".join(["python", "tools/bench_cpu.py", *sys.argv[1:]])
    return (
        f"`{command}`: batch 1, {threads} threads. "
        f"{datetime.date.today()}; {_processor()}; {used}.\n\n"
    )


def _processor() -> str:
    """Its name, and which instructions for 8 bits it has."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    about = dict(line.partition(":")[::2] for line in lines)
    found = {key.strip(): value.strip() for key, value in about.items()}
    known = [name for name in ("avx512_vnni", "avx_vnni", "amx_int8")
             if name in found.get("flags", "").split()]  # fmt: skip
    return f"{found.get('model name', 'an unknown processor')} ({', '.join(known) or 'no VNNI'})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
