"""Half precision: float32 values, rounded where the network rounds them.

OpenVINO computes with float16 on no common CPU, and by its own choice only with bfloat16. So the
values of both types are float32 here. Where a layer gives half precision they are rounded, except
inside of what TensorRT computes in one kernel, as :mod:`trtnet.engines.torch.fusion` and
:mod:`trtnet.engines.torch.passes` do on a GPU: between a product and the quantization that follows
it, and between the two products of an attention.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
import torch
import torch.nn.functional as F
from openvino import opset15 as ops
from torch import fx

from trtnet.engines.openvino.values import LoweringError, as_output, core
from trtnet.reference import elementwise, linear, pooling, quantize, rearrange
from trtnet.reference.dtypes import HALF_DTYPES, HALF_METHODS

LIMITS = {torch.float16: 65520.0, torch.bfloat16: 1e33}
"""Smaller numbers are rounded right: larger ones become infinities of float16, and of bfloat16 the
rounding itself leaves float32."""

_METHODS: dict[str, torch.dtype] = {
    method: getattr(torch, name) for name, method in HALF_METHODS.items()
}
_ROUND = {torch.add, torch.sub, torch.mul, elementwise.clip}  # in half precision, by themselves
_POINTWISE = {
    *(torch.add, torch.sub, torch.mul, torch.relu, torch.relu_, torch.sigmoid, torch.tanh),
    *(torch.maximum, torch.minimum, torch.abs, torch.neg, F.gelu, F.elu, F.leaky_relu),
    *(elementwise.clip, elementwise.hard_sigmoid, elementwise.gelu_tanh, elementwise.leaky),
    *(elementwise.scale_shift, F.max_pool2d, F.max_pool3d, pooling.max_pool),
    *(torch.reshape, torch.permute, torch.cat, F.pad, rearrange.cut, rearrange.insert_axes),
    *(rearrange.remove_axes, rearrange.transpose_reshape),
}
_CHAINS: dict[str, tuple[set[Any], set[Any]]] = {  # what may stand between, and the end
    "quantization": (_POINTWISE, {quantize.to_quantized}),
    "softmax": ({torch.add, torch.mul}, {torch.softmax}),
    "product": (set(), {torch.matmul, linear.multiply}),
}


class Halves:
    """Which nodes of a module have half precision, and which of these are rounded.

    Args:
        module: the compiled module.
        inputs: types of its inputs, in order.
    """

    def __init__(self, module: fx.GraphModule, inputs: list[torch.dtype]) -> None:
        self.types: dict[fx.Node, torch.dtype] = {}
        self._known: dict[tuple[fx.Node, str], bool] = {}
        given = iter(inputs)
        for node in module.graph.nodes:
            dtype = next(given) if node.op == "placeholder" else _type_of(module, node, self.types)
            if dtype in HALF_DTYPES:
                self.types[node] = dtype

    def rounds(self, node: fx.Node) -> bool:
        """Whether the value of `node` has to be rounded."""
        if node not in self.types or not (node.op == "call_method" or node.target in _ROUND):
            return False
        return not (self._leads(node, "quantization") or self._is_inside_of_attention(node))

    def _is_inside_of_attention(self, node: fx.Node) -> bool:
        """Whether `node` is the scores of an attention, or what softmax makes of them."""
        source = node.args[0]
        of_softmax = isinstance(source, fx.Node) and source.target is torch.softmax
        return self._leads(node, "product" if of_softmax else "softmax")

    def _leads(self, node: fx.Node, end: str) -> bool:
        """Whether all uses of `node` lead to `end`, through what one kernel computes with it."""
        key = node, end
        if key not in self._known:
            between, ends = _CHAINS[end]
            self._known[key] = bool(node.users) and all(
                (user.target in ends and (end != "softmax" or self._leads(user, "product")))
                or ((user.target in between or _converts(user)) and self._leads(user, end))
                for user in node.users
            )
        return self._known[key]


def rounded(x: Any, dtype: torch.dtype) -> ov.Output:
    """`x`, smaller than :data:`LIMITS`, with as many digits as `dtype` has, ties to even; numbers
    below 6e-5 keep more than a float16 has."""
    value = as_output(x)
    if value.get_element_type() != ov.Type.f32:
        raise LoweringError("half precision of whole numbers")
    if not rounds_exactly():
        raise LoweringError("half precision, which OpenVINO does not round on this processor")
    return _split(value, dtype)


def excess(x: ov.Output, dtype: torch.dtype) -> ov.Output:
    """The largest magnitude in `x`, of which `dtype` holds what is less than 1."""
    axes = np.arange(len(x.get_partial_shape()), dtype=np.int64)
    largest = ops.reduce_max(ops.abs(x), axes, False)
    return ops.multiply(largest, as_output(1 / LIMITS[dtype])).output(0)


def _split(x: ov.Output, dtype: torch.dtype) -> ov.Output:
    """T. J. Dekker, A floating-point technique for extending the available precision (1971)."""
    digits = 13 if dtype == torch.float16 else 16  # that float32 has more
    shifted = ops.multiply(x, as_output(2.0**digits + 1))
    return ops.add(shifted, ops.subtract(x, shifted)).output(0)


@functools.cache
def rounds_exactly() -> bool:
    """Whether OpenVINO computes the steps of the rounding one by one. It is tried on random
    numbers, once in a process."""
    x = ops.parameter(ov.PartialShape([-1]))
    results = [_split(x.output(0), dtype) for dtype in HALF_DTYPES]
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    made = core().compile_model(ov.Model(results, [x]), "CPU", options)
    random = np.random.default_rng(0)
    values = random.uniform(-1, 1, 4096) * 2.0 ** random.integers(-2, 14, 4096)
    values = values[abs(values) > 1e-4]
    found = made([values.astype(np.float32)])
    given = torch.from_numpy(values).float()
    return all(
        np.array_equal(found[place], given.to(dtype).float().numpy())
        for place, dtype in enumerate(HALF_DTYPES)
    )


def _type_of(
    module: fx.GraphModule, node: fx.Node, types: Mapping[fx.Node, torch.dtype]
) -> torch.dtype | None:
    if node.op == "get_attr":
        value = getattr(module, str(node.target))
        return value.dtype if isinstance(value, torch.Tensor) else None
    if node.op == "call_method":
        if node.target in _METHODS:
            return _METHODS[str(node.target)]
        if node.target == "to" and isinstance(node.args[1], torch.dtype):
            return node.args[1]
    keeps = node.meta.get("half") or node.target == "to"
    sources = [types[source] for source in node.all_input_nodes if source in types]
    return sources[0] if keeps and sources else None


def _converts(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target in ("float", "to", *_METHODS)
