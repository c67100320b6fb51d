"""How fast ``trtnet.from_torch`` defines a network, against the hand-written model and ONNX.

    python tools/bench_from_torch.py [--repeats 7] [--markdown benchmarks/from_torch.md]

The sides take turns in one process, so that a machine whose speed drifts slows all; imports and the
making of the PyTorch modules are not timed. The peer is ``torch.onnx.export`` (the legacy exporter,
the faster of the two) with TensorRT's ``OnnxParser``. Needs ``pip install -e ".[rtx,torch,dev]"``.
"""

from __future__ import annotations

import argparse
import datetime
import io
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from installed import versions

import trtnet
from trtnet import backend, zoo

SHAPE = (1, 3, 224, 224)
PACKAGES = ("tensorrt-rtx", "torch", "torchvision", "timm", "onnx", "numpy")


def through_trtnet(model: Callable[[Any], Any]) -> None:
    """Calls `model`, a module of trtnet, on the input of a new network."""
    network = trtnet.Network("rtx")
    network.output("y", model(network.input("x", SHAPE)))


def through_onnx(model: torch.nn.Module) -> None:
    """Exports `model`, and parses the result into a new network."""
    rtx = backend.load("rtx")
    file = io.BytesIO()
    torch.onnx.export(model, (torch.zeros(SHAPE),), file, dynamo=False)  # type: ignore[arg-type]
    network = rtx.create_network(rtx.builder())
    parser = rtx.trt.OnnxParser(network, rtx.logger)
    if not parser.parse(file.getvalue()):
        raise RuntimeError(rtx.take_errors())


def sides() -> dict[str, Callable[[], None]]:
    """What is timed, by name."""
    resnet = torchvision.models.resnet50().eval()
    vit = timm.create_model("vit_base_patch16_224").eval()
    written = zoo.get_model("resnet50")
    written.load_state_dict(resnet.state_dict())
    return {
        "resnet50, hand-written": lambda: through_trtnet(written),
        "resnet50, from_torch": lambda: through_trtnet(trtnet.from_torch(resnet)),
        "resnet50, ONNX": lambda: through_onnx(resnet),
        "vit_base_patch16_224, from_torch": lambda: through_trtnet(trtnet.from_torch(vit)),
        "vit_base_patch16_224, ONNX": lambda: through_onnx(vit),
    }


def measure(timed: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median seconds of each side; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(repeats + 1):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def markdown(medians: dict[str, float], repeats: int) -> str:
    """The table of the results."""
    written = medians["resnet50, hand-written"]
    ratio = medians["resnet50, from_torch"] / written
    lines = [
        "# Defining a network from a PyTorch module",
        "",
        f"`python tools/bench_from_torch.py --repeats {repeats}`: medians of {repeats} turns, "
        f"images of {SHAPE[2]} x {SHAPE[3]} pixels.",
        "",
        f"{datetime.date.today()}; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}; {versions(*PACKAGES)}; no GPU.",
        "",
        "| model | seconds |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in medians.items()),
        "",
        f"ResNet-50 through `from_torch` takes {ratio:.2f} times as long as the hand-written model "
        "(aim: at most 2); ViT-B/16 less than 2 s is aimed at.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints the table, or writes it to the file of ``--markdown``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    text = markdown(measure(sides(), options.repeats), options.repeats)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
