"""Holds every model of the zoo against PyTorch, in four ways, and builds its engine.

    python tools/verify_zoo.py [MODEL ...] [--image-size 224] [--markdown FILE]

The weights are those of ``--weights random``: seeded, no parameter constant, settled BatchNorm
statistics, weak residual branches (see ``weights/random_init.py``). Parameters and MACs are held
against torchvision's at a model's default image size; Inception v3's without the auxiliary head,
which torchvision counts. Errors are the largest relative L2 distance, or the smallest cosine, over
the outputs of all modules:

- definition: the network and PyTorch, both in float64, BatchNorm folded;
- exact: the same, BatchNorm not folded and its statistics such that no weight is rounded, and
  PyTorch's hard sigmoid and hard swish with the float32 that TensorRT has for 1/6;
- FP32: the network and PyTorch, both in float32;
- FP16: the network in float16 and PyTorch in float32.

Needs ``pip install -e ".[rtx,torch,dev]"``; no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

import trtnet
from trtnet import graph, zoo
from trtnet.files import atomic_write
from trtnet.nn import BatchNorm2d
from trtnet.verification import Tolerance, Verification
from trtnet.weights.random_init import random_module
from trtnet.zoo import Entry

SEED = 0
EXACT = Tolerance(rel_l2=1e-10)
EXACT_EPS = 2.0**-16
MACS_TOLERANCE = 0.005
MACS_ROUNDING = 0.5e6


@dataclass(frozen=True)
class Published:
    """What torchvision states about a model at its default image size.

    Attributes:
        parameters: without those of a head that serves training alone.
        macs: rounded to millions.
    """

    parameters: int
    macs: float

    def agrees(self, parameters: int, macs: int) -> bool:
        """Whether the parameters are equal, and the MACs within 0.5% or the rounding."""
        tolerance = max(MACS_TOLERANCE * self.macs, MACS_ROUNDING)
        return parameters == self.parameters and abs(macs - self.macs) <= tolerance


@dataclass(frozen=True)
class Report:
    """What was measured; `engine_bytes` and `build_s` are zero where no engine was built."""

    name: str
    input_shape: tuple[int, ...]
    parameters: int
    macs: int
    modules: int
    definition: Verification
    exact: Verification
    fp32: Verification
    fp16: Verification
    engine_bytes: int = 0
    build_s: float = 0.0

    @property
    def passed(self) -> bool:
        checks = (self.definition, self.exact, self.fp32, self.fp16)
        return self.as_published and all(check.passed for check in checks)

    @property
    def as_published(self) -> bool:
        """Whether parameters and MACs are torchvision's; also where it states none that apply."""
        stated = published(self.name)
        default = input_shape(zoo.get_entry(self.name), None)
        if stated is None or self.input_shape != default:
            return True
        return stated.agrees(self.parameters, self.macs)


def published(name: str) -> Published | None:
    """torchvision's own numbers, ``None`` for a model that it does not have."""
    if name not in torchvision.models.list_models():
        return None
    available = torchvision.models.get_model_weights(name)
    size = zoo.get_entry(name).input_shape[1]
    of_size = [entry for entry in available if entry.transforms().crop_size == [size]]
    meta = (of_size or [available.DEFAULT])[0].meta
    return Published(meta["num_params"] - _training_only(name), meta["_ops"] * 1e9)


def _training_only(name: str) -> int:
    """Parameters of an auxiliary head where torchvision counts it: in Inception v3 alone."""
    if name != "inception_v3":
        return 0
    with torch.device("meta"):
        model = torchvision.models.inception_v3(weights=None, init_weights=False)
    return sum(parameter.numel() for parameter in model.AuxLogits.parameters())


def input_shape(entry: Entry, image_size: int | None) -> tuple[int, ...]:
    """(1, C, H, W) of `entry`, with another image size where one is given."""
    channels, *size = entry.input_shape
    return (1, channels, *([image_size] * 2 if image_size else size))


def twin(entry: Entry, shape: tuple[int, ...], **model_args: Any) -> torch.nn.Module:
    """The PyTorch model with the weights of ``--weights random``, none of them constant."""
    return random_module(entry.torch_model, SEED, input_shape=shape[1:], **model_args)


def seeded_input(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    values = np.random.default_rng(SEED).standard_normal(shape)
    return {"input": values.astype(np.float32)}


class Hardsigmoid(torch.nn.Module):
    """PyTorch's, with the 1/6 that TensorRT's layer has: a float32."""

    slope = float(np.float32(1 / 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.slope * x + 0.5).clamp(0, 1)


class Hardswish(Hardsigmoid):
    """The same for ``torch.nn.Hardswish``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * super().forward(x)


def make_activations_exact(torch_model: torch.nn.Module) -> None:
    """Replaces the activations whose constants no float32 is."""
    exact = {torch.nn.Hardsigmoid: Hardsigmoid, torch.nn.Hardswish: Hardswish}
    for module in [*torch_model.modules()]:
        for name, child in module.named_children():
            if type(child) in exact:
                setattr(module, name, exact[type(child)]())


def define(model: trtnet.Module, shape: tuple[Any, ...], **options: Any) -> trtnet.Network:
    """A network with the input ``input`` and the output ``logits``."""
    network = trtnet.Network(**options)
    network.output("logits", model(network.input("input", shape)))
    return network


def make_batch_norm_exact(torch_model: torch.nn.Module, model: trtnet.Module) -> None:
    """Gives both models BatchNorms with which no float32 is rounded, and that compute the same as
    before: others would not fit what they see, and a deep network would amplify that.

    The mean is 0, and variance + eps is the power of four nearest to that of before, so that a
    channel's scale is its weight divided by a power of two, and its shift its bias.
    """
    for norm in torch_model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            mean, var = norm.running_mean, norm.running_var
            assert mean is not None
            assert var is not None
            scale = norm.weight.detach() / (var + norm.eps).sqrt()
            deviation = 2.0 ** ((var + norm.eps).log2() / 2).round().clamp(-7, 4)
            norm.bias.detach().sub_(mean * scale)
            norm.weight.detach().copy_(scale * deviation)
            var.copy_(deviation**2 - EXACT_EPS)  # a float32 for these deviations
            mean.zero_()
            norm.eps = EXACT_EPS
    for ours in model.modules():
        if isinstance(ours, BatchNorm2d):
            ours.eps = EXACT_EPS
    model.load_state_dict(torch_model.state_dict())


def check(
    name: str,
    image_size: int | None = None,
    *,
    engine: bool,
    backend: str = "rtx",
) -> Report:
    """Measures one model at batch 1.

    Args:
        name: the model.
        image_size: height and width of the input; by default the model's own.
        engine: also build its FP16 engine.
    """
    entry = zoo.get_entry(name)
    shape = input_shape(entry, image_size)
    resizable = image_size and "image_size" in entry.arguments
    model_args = {"image_size": image_size} if resizable else {}
    torch_model, model = twin(entry, shape, **model_args), entry.build(**model_args)
    model.load_state_dict(torch_model.state_dict())
    inputs = seeded_input(shape)

    network = define(model, shape, backend=backend)
    definition = trtnet.verify(network, torch_model, inputs, float64=True)
    fp32 = trtnet.verify(network, torch_model, inputs)
    del network  # before the next one: it holds a copy of the weights
    network = define(model, shape, backend=backend, precision="fp16")
    fp16 = trtnet.verify(network, torch_model, inputs)
    engine_bytes, build_s = _build(network) if engine else (0, 0.0)
    del network

    make_activations_exact(torch_model)
    make_batch_norm_exact(torch_model, model)
    network = define(model, shape, backend=backend, fold_batch_norm=False)
    exact = trtnet.verify(network, torch_model, inputs, float64=True, tolerance=EXACT)
    return Report(
        name=name,
        input_shape=shape,
        parameters=sum(parameter.numel for parameter in model.parameters()),
        macs=graph.macs(graph.read(network.definition)),
        modules=len(exact.rows),
        definition=definition,
        exact=exact,
        fp32=fp32,
        fp16=fp16,
        engine_bytes=engine_bytes,
        build_s=build_s,
    )


def _build(network: trtnet.Network) -> tuple[int, float]:
    start = time.perf_counter()
    plan = trtnet.build(network)
    return len(plan.engine), time.perf_counter() - start


COLUMNS = ("model", "input", "parameters", "torchvision's", "GMAC", "torchvision's", "modules",
           "definition", "exact", "FP32", "FP16 cosine", "FP16 engine", "built in",
           "passed")  # fmt: skip


def row(report: Report) -> tuple[str, ...]:
    """One line of the table."""
    stated = published(report.name)
    fp16_rows = (*report.fp16.rows, *report.fp16.outputs)
    return (
        report.name,
        "x".join(map(str, report.input_shape)),
        f"{report.parameters:,}",
        f"{stated.parameters:,}" if stated else "-",
        f"{report.macs / 1e9:.4g}",
        f"{stated.macs / 1e9:.4g}" if stated else "-",
        str(report.modules),
        *(f"{found.worst.rel_l2:.1e}" for found in (report.definition, report.exact, report.fp32)),
        f"{min(found.cosine for found in fp16_rows):.5f}",
        f"{report.engine_bytes / 1e6:.1f} MB",
        f"{report.build_s:.1f} s",
        "yes" if report.passed else "NO",
    )


def heading(backend: str) -> list[str]:
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in (trtnet.backend.PACKAGES[backend], "torch", "torchvision", "numpy")
    )
    command = shlex.join(["python", "tools/verify_zoo.py", *sys.argv[1:]])
    description = (__doc__ or "").split("\n\n")[2:5]
    return [
        "# The zoo against PyTorch", "", f"`{command}`", "",
        f"{datetime.date.today()}; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}; {versions}. Engines are built, not executed.", "",
        *"\n\n".join(description).replace("``", "`").splitlines(), "",
    ]  # fmt: skip


def lines(rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """The table in Markdown, a line at a time."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--image-size", type=int, help="default: each model's own")
    parser.add_argument("--backend", choices=sorted(trtnet.backend.PACKAGES), default="rtx")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    args = parser.parse_args()
    reports = []

    def measured() -> Iterable[tuple[str, ...]]:
        for name in args.models or zoo.list_models():
            report = check(name, args.image_size, engine=True, backend=args.backend)
            reports.append(report.passed)
            yield row(report)
            del report
            gc.collect()

    text = heading(args.backend)
    for line in lines(measured()):
        print(line, flush=True)
        text.append(line)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(args.markdown) as file:
            file.write(("\n".join(text) + "\n").encode())
    return 0 if all(reports) else 1


if __name__ == "__main__":
    sys.exit(main())
