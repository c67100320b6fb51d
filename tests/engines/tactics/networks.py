"""Small networks as modules that the torch engine compiles for a GPU, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

import trtnet
from trtnet import graph, nn
from trtnet.engines.torch import fusion
from trtnet.engines.torch.constants import copy_by_call, fold
from trtnet.engines.torch.passes import optimize
from trtnet.engines.torch.sums import merge_sums
from trtnet.engines.torch.suppressions import recognize_suppressions
from trtnet.engines.torch.tactics.choices import Region
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.placement import place_channels
from trtnet.engines.torch.tactics.quantized.pooling import encode_before_pooling
from trtnet.engines.torch.tactics.regions import find
from trtnet.engines.torch.tactics.simplify import simplify
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.quantization import calibrate
from trtnet.reference import compiler
from trtnet.reference.module_builder import is_kept

Shape = Sequence[int | str]
CPU = torch.device("cpu")


def filled(model: nn.Module, seed: int = 0, **given: np.ndarray) -> nn.Module:
    """`model` with random weights, those of a matrix smaller the more columns it has; those of
    which the last name is in `given` are taken from there."""
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        last = name.rpartition(".")[2]
        if last in given:
            return given[last]
        if last == "running_var":
            return rng.uniform(0.5, 2, shape).astype("float32")
        size = max(np.prod(shape[1:], dtype=int), 1) ** -0.5 if len(shape) > 1 else 0.5
        return (rng.standard_normal(shape) * size).astype("float32")

    held = [*model.named_parameters(), *model.named_buffers()]
    model.load_state_dict({name: draw(name, tuple(p.shape)) for name, p in held})
    return model


def compiled(
    model: Callable[..., Any], *shapes: Shape, precision: str | trtnet.Policy = "fp16"
) -> fx.GraphModule:
    """What the engine makes of :func:`network` for a GPU, but on the CPU."""
    net = network(model, shapes, precision)
    module = compiler.compile(recognize_suppressions(graph.read(net)), device="cpu")
    fold(module)
    merge_sums(module)
    fusion.lay_out_kernels(module)
    fusion.fuse(module.graph)
    fusion.overwrite(module.graph)
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()
    optimize(module)
    copy_by_call(module)
    return module


def network(model: Callable[..., Any], shapes: Sequence[Shape], precision: Any) -> trtnet.Network:
    """The network of `model` of inputs of these shapes; a quantized one is calibrated with the
    values of :func:`inputs_of`."""
    net = _network(model, shapes, precision)
    if net.observed:
        values = inputs_of(map(shape_of_input, shapes))
        given = {f"x{i}": value.numpy() for i, value in enumerate(values)}
        seen = calibrate(graph.read(net.definition), net.observed, [given])
        table = seen.table("minmax", weights_sha256=net.weights_sha256)
        net = _network(model, shapes, precision, table)
    return net


def _network(
    model: Callable[..., Any], shapes: Sequence[Shape], precision: Any, table: Any = None
) -> trtnet.Network:
    net = trtnet.Network("torch", precision=precision, calibration=table)
    inputs = [net.input(f"x{i}", tuple(shape)) for i, shape in enumerate(shapes)]
    made = model(*inputs)
    made = list(made.values()) if isinstance(made, dict) else made
    for i, output in enumerate(made if isinstance(made, (tuple, list)) else [made]):
        net.output(f"y{i}", output)
    return net


def inputs_of(shapes: Iterable[Sequence[int]], seed: int = 0) -> list[torch.Tensor]:
    """Float32 values for inputs of `shapes`."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tuple(shape), generator=generator) for shape in shapes]


def specialized(module: fx.GraphModule, *shapes: Sequence[int]) -> fx.GraphModule:
    """`module` for float32 inputs of these shapes."""
    return specialize(module, [(shape, torch.float32) for shape in shapes])


def outputs(module: fx.GraphModule, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What `module` gives for copies of `inputs`."""
    with torch.inference_mode():
        return list(module(*(x.clone() for x in inputs)).values())


def targets(module: fx.GraphModule) -> list[str]:
    """The names of what the nodes of `module` call, in order."""
    called = (n for n in module.graph.nodes if n.op in ("call_function", "call_method"))
    return [n.target if isinstance(n.target, str) else n.target.__name__ for n in called]


def shape_of_input(shape: Shape, free: int = 2) -> tuple[int, ...]:
    """`shape` with `free` for each axis of any size."""
    return tuple(n if isinstance(n, int) else free for n in shape)


def regions(module: fx.GraphModule, *shapes: Sequence[int], count: int = 1) -> list[Region]:
    """The regions that a builder finds in `module` for float32 inputs of these shapes."""
    made = specialized(module, *shapes)
    gather_rows(made, CPU)
    simplify(made)
    encode_before_pooling(made)
    place_channels(made, CPU)
    return list(find(made, count))
