"""What ``tools/bench_zoo.py`` measures: models with seeded weights, their engines and their images.

Weights are kept in ``DIR/MODEL.safetensors`` and engines beside them, so that they can be taken to
a machine without TensorRT, which defines networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import trtnet
from trtnet import graph, reference, weights, zoo
from trtnet.errors import TrtnetError
from trtnet.pipeline import mark_outputs
from trtnet.precision.table import TABLE
from trtnet.quantization import calibrate
from trtnet.verification import QUANTIZED_TOLERANCES, TOLERANCES
from trtnet.verification.comparison import Tolerance, compare
from trtnet.weights import random_init
from trtnet.zoo import Entry

INPUT = "input"
SEED = 0
ANY_BATCH = "any batch"  # what an engine is made for
LARGEST_BATCH = 64  # that engines are made for, or the largest asked for
CHECKED = 4  # images whose outputs are compared with float64
CALIBRATION, METHOD = 8, "mse"  # images, and how ranges are found
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
HALF = torch.float16  # of PyTorch for all other precisions, the quantized ones among them
GRIDS = (4, 16, 64)  # cells per side of the coarser noise of images
SETTLED = 128  # pixels of the images that settle the statistics of networks for segmentation


@dataclass(frozen=True)
class Cell:
    """One measurement: the model as trtnet names it, images, and the precision of the session."""

    model: str
    batch: int
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        """What PyTorch computes in."""
        return DTYPES.get(self.precision, HALF)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the images."""
        return (self.batch, *zoo.get_entry(self.model).require_input_shape())

    @property
    def tolerance(self) -> Tolerance:
        """What trtnet holds the outputs of this precision to."""
        return {**TOLERANCES, **QUANTIZED_TOLERANCES}[self.precision]


def counterpart(name: str, folder: Path) -> torch.nn.Module:
    """PyTorch's model in float32 on the CPU, in evaluation mode: its weights are kept in `folder`,
    or drawn from a seed and kept there."""
    entry, path = zoo.get_entry(name), folder / f"{_file_name(name)}.safetensors"
    if path.exists():
        module = entry.torch_model().eval()
        state = weights.load(path)
        module.load_state_dict({key: torch.from_numpy(np.array(state[key])) for key in state})
        return module
    channels, *size = entry.require_input_shape()
    if entry.task == "segmentation":
        size = [min(edge, SETTLED) for edge in size]
    module = random_init.random_module(entry.torch_model, SEED, input_shape=(channels, *size))
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(path, module.state_dict())
    return module


def engine(cell: Cell, folder: Path, largest: int = LARGEST_BATCH) -> tuple[Path, str]:
    """The file of the engine for the cell, defined and kept in `folder` if it is missing.

    Returns:
        the file, and :data:`ANY_BATCH` or ``"one batch"``: a model whose code cannot take an open
        batch axis gets an engine for each batch.
    """
    stem = f"{_file_name(cell.model)}-{cell.precision}"
    open_axis, fixed = folder / f"{stem}.engine", folder / f"{stem}-{cell.batch}.engine"
    if open_axis.exists():
        return open_axis, ANY_BATCH
    if fixed.exists():
        return fixed, "one batch"
    module = counterpart(cell.model, folder)
    one = cell.shape[1:]
    try:
        net = _network(cell, module, ("N", *one))
        most = max(largest, cell.batch)
        shapes = trtnet.Shapes((1, *one), (min(8, most), *one), (most, *one))
        trtnet.build(net, {INPUT: shapes}).save(open_axis)
        return open_axis, ANY_BATCH
    except TrtnetError:
        trtnet.build(_network(cell, module, (cell.batch, *one))).save(fixed)
        return fixed, "one batch"


def _network(cell: Cell, module: torch.nn.Module, shape: Sequence[int | str]) -> trtnet.Network:
    """The network of the session, calibrated with seeded images where its precision needs that."""
    entry = zoo.get_entry(cell.model)
    net = _defined(entry, module, cell.precision, shape, None)
    if not TABLE[cell.precision].calibrated:
        return net
    read = graph.read(net.definition)
    found = calibrate(read, net.observed, _calibration_images(cell, read.tensors[INPUT].shape[0]))
    table = found.table(METHOD, weights_sha256=net.weights_sha256, precision=cell.precision)
    return _defined(entry, module, cell.precision, shape, table)


def _calibration_images(cell: Cell, batch: int) -> Iterator[Mapping[str, np.ndarray]]:
    size = batch if batch > 0 else CALIBRATION
    for first in range(0, CALIBRATION, size):
        yield {INPUT: images((size, *cell.shape[1:]), SEED + 1 + first).numpy()}


def _defined(
    entry: Entry, module: torch.nn.Module, precision: str, shape: Sequence[int | str], table: Any
) -> trtnet.Network:
    if entry.makes_torch():
        model = trtnet.from_torch(module)
    else:
        model = entry.build()
        model.load_state_dict({key: value.numpy() for key, value in module.state_dict().items()})
    net = trtnet.Network("torch", precision=precision, calibration=table)
    mark_outputs(net, model(net.input(INPUT, tuple(shape))))
    return net


def images(shape: Sequence[int], seed: int = SEED) -> torch.Tensor:
    """Seeded float32 noise of unit variance, white and smooth: what weights were settled with."""
    random = torch.Generator().manual_seed(seed)
    total = torch.randn(*shape, generator=random)
    for grid in GRIDS:
        coarse = torch.randn(*shape[:2], grid, grid, generator=random)
        total += torch.nn.functional.interpolate(coarse, size=tuple(shape[2:]), mode="bilinear")
    return total.div_((1 + len(GRIDS)) ** 0.5)


def in_float64(module: torch.nn.Module, x: torch.Tensor, device: str) -> list[torch.Tensor]:
    """The outputs for the first :data:`CHECKED` images, on the CPU."""
    double = copy.deepcopy(module).double().to(device)
    with torch.inference_mode():
        return checked(double(x[:CHECKED].double().to(device)))


def by_reference(plan: Path, kind: str, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs for the first :data:`CHECKED` images by the reference, on the CPU.

    Args:
        plan: an engine of the torch backend, of the `kind` that :func:`engine` says.
    """
    network = graph.loads(trtnet.Plan.load(plan).engine, plan.name)
    images = x[:CHECKED] if kind == ANY_BATCH else x
    found = reference.run(network, {INPUT: images.numpy()})
    return checked({name: torch.as_tensor(value) for name, value in found.items()})


def outputs(result: Any) -> list[torch.Tensor]:
    """The tensors that a model returned, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    values = result.values() if isinstance(result, Mapping) else result
    return [value for value in values if isinstance(value, torch.Tensor)]


def checked(result: Any) -> list[torch.Tensor]:
    """Of the outputs, what is compared: those of the first :data:`CHECKED` images, on the CPU."""
    return [value[:CHECKED].double().cpu() for value in outputs(result)]


def error(
    found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], tolerance: Tolerance
) -> tuple[float, bool]:
    """The largest relative L2 error of the outputs, NaN where one is not finite or has another
    shape, and whether all are within `tolerance`."""
    if len(found) != len(expected):
        return float("nan"), False
    rows = [compare("", ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    relative = [row.rel_l2 for row in rows]
    worst = float("nan") if any(value != value for value in relative) else max(relative)
    return worst, all(tolerance.accepts(row) for row in rows)


def is_convolutional(module: torch.nn.Module) -> bool:
    """Whether it has more convolutions than one that cuts the image into patches."""
    return sum(isinstance(part, torch.nn.Conv2d) for part in module.modules()) > 1


def _file_name(name: str) -> str:
    return name.replace(":", "-").replace("/", "-")
