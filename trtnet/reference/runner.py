"""Runs a network on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from trtnet.errors import NetworkError, ShapeError, located
from trtnet.graph.axes import check_one_size, places_of
from trtnet.graph.reader import read
from trtnet.graph.types import Graph, TensorInfo
from trtnet.reference.compiler import compile
from trtnet.reference.dtypes import execution_dtype, share
from trtnet.reference.layer_context import is_shape_value
from trtnet.reference.regions import group_regions
from trtnet.values import array_from


def run(
    network: Any,
    inputs: Mapping[str, np.ndarray],
    *,
    float64: bool = False,
    device: str = "cpu",
    outputs: Sequence[str] | None = None,
    on_tensor: Callable[[str, np.ndarray], object] | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of `network` for `inputs`.

    Args:
        network: an ``INetworkDefinition`` or a :class:`trtnet.graph.Graph`.
        inputs: one array for each network input, by name, of the input's shape and kind of type
            (float, integer, bool); whatever :func:`trtnet.values.values_of` reads.
        float64: compute in double precision instead of the network's own types, also what the
            code casts to float16 or bfloat16: nothing is rounded.
        device: ``"cpu"`` or ``"cuda"``.
        outputs: names of the tensors to return, any of the network; its outputs if None.
        on_tensor: called with name and value of each tensor that the network computes, in
            execution order and as soon as it is computed; it is freed afterwards. Inputs,
            constants, and what is inside of a loop or a conditional are left out. An exception
            from it ends the run.

    Returns:
        Arrays by tensor name; bfloat16 and float8 values as float32.

    Raises:
        ShapeError: an input that is missing, unknown, or of another rank, shape or kind; inputs
            that share an axis but not its size.
        NetworkError: a layer that fails on these inputs.
    """
    graph = network if isinstance(network, Graph) else read(network)
    names = graph.outputs if outputs is None else tuple(outputs)
    arguments = prepare(graph, inputs, float64=float64, device=device)
    if on_tensor is None:
        module = compile(graph, float64=float64, device=device, outputs=names)
        values = execute(module, arguments)
        return {name: to_numpy(values[name]) for name in names}
    found: dict[str, np.ndarray] = {}
    told = dict.fromkeys(computed_tensors(graph))
    module = compile(
        graph, float64=float64, device=device, outputs=[*{**told, **dict.fromkeys(names)}]
    )
    for name, value in stream(module, arguments):
        array = to_numpy(value)
        if name in told:
            on_tensor(name, array)
        if name in names:
            found[name] = array
    return {name: found[name] for name in names}


def computed_tensors(graph: Graph) -> list[str]:
    """Names of the tensors that `graph` computes, in execution order: all but inputs, constants,
    and what is inside of a loop or a conditional."""
    units = (unit for unit in group_regions(graph) if unit.type != "CONSTANT")
    return [name for unit in units for name in unit.outputs]


def execute(module: fx.GraphModule, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
    """Runs a compiled module; like calling it, but errors name the layer.

    Args:
        module: what :func:`trtnet.reference.compile` returned.
        arguments: one tensor for each network input, in order; see :func:`prepare`.

    Returns:
        Tensors by tensor name.

    Raises:
        NetworkError: a layer that fails; the message names it.
    """
    with torch.inference_mode(), _without_tf32():
        values: dict[str, Tensor] = _Interpreter(module).run(*arguments)
        return values


def stream(module: fx.GraphModule, arguments: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields name and value of each output as soon as it is computed, and frees it afterwards.

    Otherwise as :func:`execute`.

    Raises:
        NetworkError: a layer that fails; raised once the outputs before it have been yielded.
    """
    *nodes, end = module.graph.nodes
    last_uses = {used: node for node in nodes for used in node.all_input_nodes}
    outputs: dict[fx.Node, list[str]] = {}
    for name, node in end.args[0].items():
        outputs.setdefault(node, []).append(name)
    interpreter = _Interpreter(module)
    interpreter.args_iter = iter(arguments)
    values = interpreter.env
    for node in nodes:
        with torch.inference_mode(), _without_tf32():
            values[node] = interpreter.run_node(node)
        for name in outputs.get(node, ()):
            yield name, values[node]
        for used in {node, *node.all_input_nodes}:
            if last_uses.get(used, node) is node:
                del values[used]


def prepare(
    graph: Graph, inputs: Mapping[str, np.ndarray], *, float64: bool = False, device: str = "cpu"
) -> list[Tensor]:
    """`inputs` as the arguments of the compiled module, in order.

    Args:
        graph: the network.
        inputs: one array for each network input, by name.
        float64, device: as the module was compiled with.

    Raises:
        ShapeError: an input that is missing, unknown, or of another rank, shape or kind; inputs
            that share an axis but not its size.
    """
    missing = [name for name in graph.inputs if name not in inputs]
    unknown = [name for name in inputs if name not in graph.inputs]
    if missing or unknown:
        raise ShapeError(
            "the inputs are not those of the network",
            expected=", ".join(graph.inputs),
            got=", ".join(inputs) or "none",
        )
    arguments = []
    arrays = {name: array_from(inputs[name], name) for name in graph.inputs}
    for name, array in arrays.items():
        info = graph.tensors[name]
        with located(name):
            _check_input(info, array)
            dtype = execution_dtype(info.dtype, float64)
        place = "cpu" if is_shape_value(info) else device
        arguments.append(share(np.asarray(array, order="C")).to(place, dtype))
    names = {name: graph.tensors[name].dimension_names for name in graph.inputs}
    for axis, places in places_of(names).items():
        check_one_size(axis, places, {name: array.shape for name, array in arrays.items()})
    return arguments


def to_numpy(value: Tensor) -> np.ndarray:
    """`value` as an array; bfloat16 and float8, which numpy lacks, as float32."""
    if value.dtype in (torch.bfloat16, torch.float8_e4m3fn):
        value = value.float()
    return value.cpu().numpy()


def _check_input(info: TensorInfo, array: np.ndarray) -> None:
    fits = len(info.shape) == array.ndim and all(
        want in (-1, n) for want, n in zip(info.shape, array.shape, strict=False)
    )
    if not fits:
        raise ShapeError("an input has the wrong shape", expected=info.shape, got=array.shape)
    kind = "b" if info.dtype == "bool" else "iu" if "int" in info.dtype else "f"
    if array.dtype.kind not in kind:
        raise ShapeError(
            "an input has the wrong type",
            expected=info.dtype,
            got=array.dtype,
            fix=f"convert it: array.astype({info.dtype!r})",
        )


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Has convolutions of float32 values computed in float32; cuDNN's default is TF32."""
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        try:
            torch.backends.cudnn.allow_tf32 = before
        except BaseException:  # an interrupt; the flag belongs to the whole process
            torch.backends.cudnn.allow_tf32 = before
            raise


class _Interpreter(fx.Interpreter):
    """Runs node by node; values are freed after their last use, and errors name the layer."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # errors name the layer instead of a line of generated code

    def run_node(self, n: fx.Node) -> Any:
        try:
            return super().run_node(n)
        except ShapeError as error:
            error.locate(n.meta.get("layer", n.name))
            raise
        except (
            *(RuntimeError, IndexError, TypeError, ValueError, AssertionError),
            *(ArithmeticError, MemoryError),
        ) as error:
            raise NetworkError(
                "the layer fails on these inputs", module=n.meta.get("layer"), got=error
            ) from error
