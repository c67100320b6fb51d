"""Holds every model of the zoo against PyTorch, in four ways, and builds its engine.

    python tools/verify_zoo.py [MODEL ...] [--image-size 224] [--markdown FILE]

The weights are those of ``--weights random``: seeded, no parameter constant, settled BatchNorm
statistics, the last BatchNorm of a ResNet's branches weak (see ``weights/random_init.py``). Errors
are the largest relative L2 distance, or the smallest cosine, over the outputs of all modules:

- definition: the network and PyTorch, both in float64, BatchNorm folded;
- exact: the same, BatchNorm not folded and its statistics such that no weight is rounded;
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
from trtnet import graph, weights, zoo
from trtnet.files import atomic_write
from trtnet.nn import BatchNorm2d
from trtnet.verification import Tolerance, Verification
from trtnet.zoo import Entry

SEED = 0
EXACT = Tolerance(rel_l2=1e-10)
EXACT_EPS = 2.0**-16


@dataclass(frozen=True)
class Published:
    """What torchvision states about a model at 224×224."""

    parameters: int
    macs: float


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
        return all(check.passed for check in checks)


def published(name: str) -> Published | None:
    """torchvision's own numbers, ``None`` for a model that it does not have."""
    if name not in torchvision.models.list_models():
        return None
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    return Published(meta["num_params"], meta["_ops"] * 1e9)


def input_shape(entry: Entry, image_size: int | None) -> tuple[int, ...]:
    """(1, C, H, W) of `entry`, with another image size where one is given."""
    channels, *size = entry.input_shape
    return (1, channels, *([image_size] * 2 if image_size else size))


def twin(entry: Entry, shape: tuple[int, ...], **model_args: Any) -> torch.nn.Module:
    """The PyTorch model with the weights of ``--weights random``, none of them constant."""
    model = entry.torch_model(**model_args)
    state = weights.random_state(entry.torch_model, SEED, input_shape=shape[1:], **model_args)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model


def seeded_input(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    values = np.random.default_rng(SEED).standard_normal(shape)
    return {"input": values.astype(np.float32)}


def define(model: trtnet.Module, shape: tuple[Any, ...], **options: Any) -> trtnet.Network:
    """A network with the input ``input`` and the output ``logits``."""
    network = trtnet.Network(**options)
    network.output("logits", model(network.input("input", shape)))
    return network


def make_batch_norm_exact(torch_model: torch.nn.Module, model: trtnet.Module) -> None:
    """Gives both models BatchNorm statistics with which no float32 is rounded.

    The mean is 0, and variance + eps is the power of four nearest to the mean square of before,
    so that a channel's scale is its weight divided by a power of two, and its shift its bias.
    """
    for norm in torch_model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            mean, var = norm.running_mean, norm.running_var
            assert mean is not None
            assert var is not None
            exponent = ((var + mean**2).log2() / 2).round().clamp(-7, 4)
            var.copy_(4.0**exponent - EXACT_EPS)  # a float32 for these exponents
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
    network = define(model, shape, backend=backend, precision="fp16")
    fp16 = trtnet.verify(network, torch_model, inputs)
    engine_bytes, build_s = _build(network) if engine else (0, 0.0)
    del network

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
