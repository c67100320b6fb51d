"""A compiled module of the reference as an OpenVINO model: one operation for each node.

Only what gives the same values is lowered; whatever else a module holds raises
:class:`LoweringError` with the layer and the reason, and PyTorch runs the module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as ops
from torch import fx

TYPES = {
    torch.float32: ov.Type.f32,
    torch.int32: ov.Type.i32,
    torch.int64: ov.Type.i64,
    torch.bool: ov.Type.boolean,
}

_EXACT = 2**24


class LoweringError(Exception):
    """A node that has no lowering; its text names the layer and says why."""


@dataclass(frozen=True)
class Rules:
    """What :class:`Lowering` knows of the functions that modules call.

    Attributes:
        emitters: the kind of a node and what it calls → what lowers it.
        make_nan: what may make NaN of finite values, or an infinity of moderate ones, which
            becomes NaN later; and whether it may, of its lowered arguments.
        lose_nan: what makes something else of NaN.
    """

    emitters: Mapping[Any, Callable[..., Any]]
    make_nan: Mapping[Any, Callable[..., bool]]
    lose_nan: Collection[Any]


class Lowering:
    """Lowers one module.

    OpenVINO's maxima lose NaN: its ``relu(NaN)`` is 0. A module is not lowered where something of
    that kind follows on something that makes NaN of finite values, such as a logarithm.

    Attributes:
        values: what each node became: an ``ov.Output``, a NumPy array of the module's own, a
            number, or what an emitter made for another one.
    """

    def __init__(self, module: fx.GraphModule, rules: Rules) -> None:
        self._module, self._rules = module, rules
        self.values: dict[fx.Node, Any] = {}
        self._may_be_nan: set[fx.Node] = set()

    def model(self, inputs: Sequence[tuple[str, torch.dtype, Sequence[int]]]) -> ov.Model:
        """The model.

        Args:
            inputs: name, type and shape of each input, in order; -1 for an axis of any size.

        Raises:
            LoweringError: something has no lowering.
        """
        given = iter(inputs)
        parameters = []
        for node in self._module.graph.nodes:
            if node.op == "placeholder":
                parameters.append(self._parameter(*next(given)))
                self.values[node] = parameters[-1].output(0)
            elif node.op == "get_attr":
                self.values[node] = self._stored(node)
            elif node.op == "output":
                results = [self._result(name, value) for name, value in node.args[0].items()]
            else:
                self.values[node] = self._lower(node)
        return ov.Model(results, parameters)

    def _parameter(self, name: str, dtype: torch.dtype, shape: Sequence[int]) -> Any:
        return ops.parameter(ov.PartialShape([*shape]), _type_of(dtype, f"input {name}"))

    def _stored(self, node: fx.Node) -> np.ndarray:
        value = getattr(self._module, str(node.target))
        if not isinstance(value, torch.Tensor):
            raise LoweringError(f"{node.target}: a region of the network")
        if value.dtype not in (*TYPES, torch.int8, torch.float64):
            raise LoweringError(f"{node.target}: values of {value.dtype}")
        array: np.ndarray = value.numpy()
        if array.dtype.kind == "i" and not is_exact(array.min(initial=0), array.max(initial=0)):
            raise LoweringError(f"{node.target}: integers that float32 does not hold")
        if not np.isfinite(array).all():
            self._may_be_nan.add(node)
        return array

    def _result(self, name: str, node: fx.Node) -> Any:
        return ops.result(as_output(self.values[node]), name=name)

    def _lower(self, node: fx.Node) -> Any:
        emit = self._rules.emitters.get((node.op, node.target))
        layer = node.meta.get("layer", node.name)
        if emit is None:
            raise LoweringError(f"{layer}: no {getattr(node.target, '__name__', node.target)}")
        doubtful = any(source in self._may_be_nan for source in node.all_input_nodes)
        if doubtful and node.target in self._rules.lose_nan:
            raise LoweringError(f"{layer}: a NaN would become a number")
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        makes = self._rules.make_nan.get(node.target)
        try:
            if doubtful or (makes is not None and makes(*args, **kwargs)):
                self._may_be_nan.add(node)
            return emit(*args, **kwargs)
        except LoweringError as error:
            raise LoweringError(f"{layer}: {error}") from None
        except (RuntimeError, TypeError, ValueError) as error:  # OpenVINO's, of bad operands
            raise LoweringError(f"{layer}: {error}") from error


def is_exact(low: int, high: int) -> bool:
    """Whether float32 holds all integers from `low` to `high`: OpenVINO compares integers in it,
    and has int64 values in 32 bits. No emitter computes larger ones from these."""
    return bool(low >= -_EXACT and high <= _EXACT)


def _type_of(dtype: torch.dtype, what: str) -> ov.Type:
    if dtype not in TYPES:
        raise LoweringError(f"{what}: values of {dtype}")
    return TYPES[dtype]


def as_output(value: Any) -> ov.Output:
    """`value` as an output of an operation: arrays and numbers become constants."""
    if isinstance(value, ov.Output):
        return value
    if isinstance(value, (bool, int, float)):
        value = np.asarray(value, np.float32)
    if not isinstance(value, np.ndarray) or value.dtype in (np.int8, np.float64):
        raise LoweringError("a value that only quantized layers can have")
    return ops.constant(value, shared_memory=True).output(0)


def host(value: Any) -> tuple[int, ...]:
    """Integers that are known.

    Raises:
        LoweringError: they depend on an input.
    """
    if isinstance(value, np.ndarray):
        return tuple(int(n) for n in value.reshape(-1))
    if isinstance(value, (tuple, list)) and all(isinstance(n, int) for n in value):
        return tuple(value)
    raise LoweringError("sizes that depend on an input")


def sizes(value: Any) -> tuple[int, ...]:
    """The shape of `value`.

    Raises:
        LoweringError: a size is not known.
    """
    if isinstance(value, np.ndarray):
        return tuple(value.shape)
    shape = value.get_partial_shape()
    if shape.is_dynamic:
        raise LoweringError("a layer that needs sizes which depend on an input")
    return tuple(shape.to_shape())


def rank(value: Any) -> int:
    """The number of axes of `value`."""
    if isinstance(value, np.ndarray):
        return value.ndim
    axes = value.get_partial_shape().rank
    if axes.is_dynamic:
        raise LoweringError("a value whose number of axes is unknown")
    return int(axes.get_length())
