"""How fast a session of the torch backend runs FCN-ResNet101 in FP16, against PyTorch's own ways.

    python tools/bench_segmentation.py [--size 1026x1282] [--repeats 30] [--structure FILE]
                                       [--markdown FILE]

Needs a GPU. One image, the map of classes as the result: all candidates end with the argmax over
the classes. They take turns in one process; times are medians between CUDA events. TensorRT
defines the network; ``--structure`` keeps it in a file, its weights left out, for a machine that
has a GPU but no TensorRT: the session's weights are seeded noise in either case.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gzip
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from bench_runtime import Candidate, captured, compiled, measure, prepared
from installed import versions

import trtnet
from trtnet import graph, reference, zoo
from trtnet.files import atomic_write
from trtnet.graph import Graph
from trtnet.graph.types import Layer
from trtnet.pipeline import mark_outputs

MODEL = "fcn_resnet101"
OURS = "session"
GAIN = 0.7  # of each convolution: residual branches fade, and the sum does not overflow
NOISE = 0.1
GPU = "h200-measured"


class Classes(torch.nn.Module):
    """torchvision's model, and the class of each pixel."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.model(x)["out"]
        return scores.argmax(1)


def plan(size: tuple[int, int], path: Path | None) -> trtnet.Plan:
    """The network in FP16, with the argmax in it, from the file `path` if it is there."""
    if path is None or not path.exists():
        found = define(size)
        if path is not None:
            with atomic_write(path) as file:
                file.write(gzip.compress(graph.dumps(found)))
    else:
        found = graph.loads(gzip.decompress(path.read_bytes()))
    return trtnet.Plan(graph.dumps(with_noise(found)), {})


def define(size: tuple[int, int]) -> Graph:
    """The network with zeros for weights."""
    model = zoo.get_model(MODEL, argmax=True)
    slots = (*model.named_parameters(), *model.named_buffers())
    model.load_state_dict({name: np.zeros(slot.shape, np.float32) for name, slot in slots})
    net = trtnet.Network("torch", precision="fp16")
    mark_outputs(net, model(net.input("input", (1, 3, *size))))
    return graph.read(net.definition)


def with_noise(found: Graph) -> Graph:
    """Seeded weights with which activations keep their size from layer to layer."""
    random = np.random.default_rng(0)

    def filled(layer: Layer) -> Layer:
        if layer.type != "CONVOLUTION":
            return layer
        kernel, bias = layer.weights["kernel"], layer.weights.get("bias")
        deviation = GAIN * (2 / kernel[0].size) ** 0.5
        made = {"kernel": (deviation * random.standard_normal(kernel.shape)).astype(kernel.dtype)}
        if bias is not None:
            made["bias"] = (NOISE * random.standard_normal(bias.shape)).astype(bias.dtype)
        return dataclasses.replace(layer, weights=made)

    return dataclasses.replace(found, layers=tuple(map(filled, found.layers)))


def baselines(x: torch.Tensor) -> list[Candidate]:
    """PyTorch's own ways to run the model."""
    model = torchvision.models.get_model(MODEL, weights=None, weights_backbone=None).eval()
    fast = Classes(model).cuda().half().to(memory_format=torch.channels_last)
    half = x.half().to(memory_format=torch.channels_last)
    return prepared(
        {
            "eager channels_last": lambda: lambda: fast(half),
            "CUDA graph of it": lambda: captured(fast, half),
            "torch.compile reduce-overhead": lambda: compiled(fast, half, "reduce-overhead"),
        }
    )


def run(size: tuple[int, int], repeats: int, structure: Path | None) -> list[str]:
    """The page."""
    shape = (1, 3, *size)
    made = plan(size, structure)
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    x = torch.from_numpy(image).cuda()
    read = graph.loads(made.engine)
    expected = reference.run(read, {"input": image}, float64=True)["classes"]
    with torch.inference_mode():
        others = baselines(x)
        started = time.perf_counter()
        with (
            trtnet.Session(made, backend="torch", device="cuda") as session,
            session.lane() as lane,
        ):
            lane.bind({"input": shape})
            lane.fill({"input": image})
            lane.copy_in()
            lane.stream.synchronize()
            assert lane.is_captured, "no CUDA graph could be captured"
            stream = torch.cuda.ExternalStream(lane.stream.handle)
            own = Candidate(OURS, lane.enqueue, stream, time.perf_counter() - started)
            found = measure([*others, own], repeats)
            agreement = float((session(image)["classes"] == expected).mean())
    bound = graph.cost(read, {"input": shape}).bound(GPU)
    best = min(found[other.name] for other in others)
    lines = [
        f"| {c.name} | {found[c.name]:.3f} ms | {c.setup_s:.1f} s "
        f"| {best / found[c.name]:.2f}{' (aim 1.0)' * (c is own)} |"
        for c in (*others, own)
    ]
    return [
        *_heading(size, repeats),
        "| what | time | set up in | best of the others, divided by it |",
        "|---|--:|--:|--:|",
        *lines,
        "",
        f"The least time by `trtnet cost` is {1e3 * bound.seconds:.2f} ms on this kind of GPU: the "
        f"session reaches {1e3 * bound.seconds / found[OURS]:.0%}. It gives "
        f"{100 * agreement:.2f}% of the pixels the class that they have in float64 with the same "
        "weights.",
    ]


def _heading(size: tuple[int, int], repeats: int) -> list[str]:
    packages = ("torch", "torchvision", "triton", "cuda-bindings")
    flags = f"--size {size[0]}x{size[1]} --repeats {repeats}"
    return [
        "# Segmentation by sessions of the torch backend",
        "",
        f"`python tools/bench_segmentation.py {flags}`: {MODEL} in FP16 on one image of "
        f"{size[0]}x{size[1]}, with the argmax; medians of {repeats} rounds in which the "
        "candidates take turns.",
        "",
        f"{datetime.date.today()}; {torch.cuda.get_device_name()}; {versions(*packages)}, "
        f"cuDNN {torch.backends.cudnn.version()}.",
        "",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="1026x1282", metavar="HxW")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--structure", type=Path, metavar="FILE", help="the network, no weights")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page there")
    options = parser.parse_args(argv)
    height, width = map(int, options.size.split("x"))
    text = "\n".join(run((height, width), options.repeats, options.structure)) + "\n"
    print(text)
    if options.markdown is not None:
        with atomic_write(options.markdown) as file:
            file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
