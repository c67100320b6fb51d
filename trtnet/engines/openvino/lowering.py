"""A compiled module of the reference as an OpenVINO model: one operation for each node.

Only what gives the same values is lowered. What has no lowering, and what depends on it, is left to
PyTorch, as a module that goes on with the values that the model gives.
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

from trtnet.engines.openvino import half
from trtnet.engines.openvino.remainder import boundary
from trtnet.engines.openvino.values import (
    TYPES,
    LoweringError,
    as_output,
    is_exact,
    type_of,
)
from trtnet.reference.dtypes import HALF_DTYPES

Input = tuple[str, torch.dtype, Sequence[int]]


@dataclass(frozen=True)
class Rules:
    """What :class:`Lowering` knows of the functions that modules call.

    Attributes:
        emitters: the kind of a node and what it calls → what lowers it.
        make_nan: what may make NaN of finite values, or an infinity of moderate ones, which
            becomes NaN later; and whether it may, of its lowered arguments.
        lose_nan: what makes something else of NaN.
        products: what is worth a model.
    """

    emitters: Mapping[Any, Callable[..., Any]]
    make_nan: Mapping[Any, Callable[..., bool]]
    lose_nan: Collection[Any]
    products: Collection[Any]


@dataclass(frozen=True)
class Lowered:
    """A lowered module.

    Attributes:
        model: its first results are `types`, by name; those that follow are less than 1 where half
            precision holds the values inside.
        types: name → type of the values in the module.
        remainder: what PyTorch does with them; ``None`` where they are the module's outputs.
        reason: the first layer that is left to PyTorch, and why; ``""`` where none is.
    """

    model: ov.Model
    types: Mapping[str, torch.dtype]
    remainder: fx.GraphModule | None
    reason: str


class Lowering:
    """Lowers one module.

    OpenVINO's maxima lose NaN: its ``relu(NaN)`` is 0. What is of that kind is not lowered where it
    follows on something that makes NaN of finite values, such as a logarithm.

    Attributes:
        values: what each node that is lowered became: an ``ov.Output``, a NumPy array of the
            module's own, or what an emitter made for another one.
    """

    def __init__(self, module: fx.GraphModule, rules: Rules) -> None:
        self._module, self._rules = module, rules
        self.values: dict[fx.Node, Any] = {}
        self._may_be_nan: set[fx.Node] = set()
        self._reasons: list[str] = []
        self._limited: dict[fx.Node, ov.Output] = {}

    def run(self, inputs: Sequence[Input]) -> Lowered:
        """Lowers what can be.

        Args:
            inputs: name, type and shape of each input, in order.

        Raises:
            LoweringError: an input has no lowering, or no product has.
        """
        given = iter(inputs)
        self._halves = half.Halves(self._module, [dtype for _, dtype, _ in inputs])
        parameters = []
        for node in self._module.graph.nodes:
            if node.op == "placeholder":
                parameters.append(_parameter(*next(given)))
                self.values[node] = parameters[-1].output(0)
            elif node.op != "output":
                self._try(node)
        if self._reasons and not any(node.target in self._rules.products for node in self.values):
            raise LoweringError(self._reasons[0])
        return self._cut(parameters)

    def _cut(self, parameters: list[Any]) -> Lowered:
        given = boundary(self._module, self.values, self._is_given)
        results = [ops.result(self.values[node], name=name) for name, node in given.nodes.items()]
        limited = [value for node, value in self._limited.items() if node in self.values]
        results += map(ops.result, limited)
        types = {name: self._type(node) for name, node in given.nodes.items()}
        reason = self._reasons[0] if given.rest is not None else ""
        return Lowered(ov.Model(results, parameters), types, given.rest, reason)

    def _is_given(self, node: fx.Node) -> bool:
        """Whether the value of `node` can be handed over: what may be infinite by intention, such
        as scores that are masked, would have each call run by PyTorch."""
        goes_on = any(user not in self.values and user.op != "output" for user in node.users)
        is_output = isinstance(self.values[node], ov.Output)
        return is_output and not (goes_on and node in self._may_be_nan)

    def _type(self, node: fx.Node) -> torch.dtype:
        kind = self.values[node].get_element_type()
        return self._halves.types.get(node) or next(t for t in TYPES if TYPES[t] == kind)

    def _try(self, node: fx.Node) -> None:
        """Lowers `node`, if what it takes is lowered."""
        if any(source not in self.values for source in node.all_input_nodes):
            return
        try:
            self.values[node] = self._stored(node) if node.op == "get_attr" else self._lower(node)
        except LoweringError as error:
            layer = node.meta.get("layer", node.target if node.op == "get_attr" else node.name)
            self._reasons.append(f"{layer}: {error}")

    def _stored(self, node: fx.Node) -> np.ndarray:
        value = getattr(self._module, str(node.target))
        if not isinstance(value, torch.Tensor):
            raise LoweringError("a region of the network")
        if value.dtype not in (*TYPES, torch.int8, torch.float64):
            raise LoweringError(f"values of {value.dtype}")
        value = value.float() if value.dtype in HALF_DTYPES else value
        array: np.ndarray = value.numpy()
        if array.dtype.kind == "i" and not is_exact(array.min(initial=0), array.max(initial=0)):
            raise LoweringError("integers that float32 does not hold")
        if not np.isfinite(array).all():
            self._may_be_nan.add(node)
        return array

    def _lower(self, node: fx.Node) -> Any:
        emit = self._rules.emitters.get((node.op, node.target))
        if emit is None:
            raise LoweringError(f"no {getattr(node.target, '__name__', node.target)}")
        doubtful = any(source in self._may_be_nan for source in node.all_input_nodes)
        if doubtful and node.target in self._rules.lose_nan:
            raise LoweringError("a NaN would become a number")
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        makes = self._rules.make_nan.get(node.target)
        try:
            if doubtful or (makes is not None and makes(*args, **kwargs)):
                self._may_be_nan.add(node)
            made = emit(*args, **kwargs)
            return self._rounded(node, made) if self._halves.rounds(node) else made
        except (RuntimeError, TypeError, ValueError) as error:  # OpenVINO's, of bad operands
            raise LoweringError(str(error)) from error

    def _rounded(self, node: fx.Node, value: Any) -> Any:
        dtype = self._halves.types[node]
        made = half.rounded(value, dtype)
        self._limited[node] = half.excess(as_output(value), dtype)
        return made


def _parameter(name: str, dtype: torch.dtype, shape: Sequence[int]) -> Any:
    return ops.parameter(ov.PartialShape([*shape]), type_of(dtype, f"input {name}"))
