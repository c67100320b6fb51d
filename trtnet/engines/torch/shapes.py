"""The shapes of a graph's outputs, before it runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping

import torch
from torch import fx

from trtnet.errors import NetworkError
from trtnet.graph import Graph
from trtnet.reference.compiler import compile
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.runner import execute
from trtnet.reference.site import is_shape_value

Shape = tuple[int, ...]
Values = tuple[int, ...]
_REMEMBERED = 256  # combinations of input shapes


class OutputShapes:
    """Answers with the shape of every output for given input shapes; thread-safe.

    Shapes are found by running the graph on PyTorch's ``meta`` device, which computes sizes only.
    Where the data decides, that fails, and the graph's own shapes are the answer: -1 for each
    axis without a fixed size.
    """

    def __init__(self, graph: Graph) -> None:
        self._declared = {name: graph.tensors[name].shape for name in graph.outputs}
        self._is_static = all(-1 not in shape for shape in self._declared.values())
        self._inputs = [
            (name, execution_dtype(info.dtype, False, name), is_shape_value(info))
            for name, info in ((name, graph.tensors[name]) for name in graph.inputs)
        ]
        self._module = fx.GraphModule({}, fx.Graph())
        if not self._is_static:
            self._module = compile(graph, device="meta")
        self._lock = threading.Lock()
        self._find = functools.lru_cache(_REMEMBERED)(self._run)

    def __call__(
        self, shapes: Mapping[str, Shape], values: Mapping[str, Values]
    ) -> dict[str, Shape]:
        """`shapes` of all inputs; `values`, flat, of those that are read on the host."""
        if self._is_static:
            return dict(self._declared)
        order = [name for name, _, _ in self._inputs]
        key = tuple(shapes[name] for name in order), tuple(values.get(name) for name in order)
        with self._lock:
            return dict(self._find(*key))

    def _run(
        self, shapes: tuple[Shape, ...], values: tuple[Values | None, ...]
    ) -> dict[str, Shape]:
        arguments = []
        for (_, dtype, on_host), shape, flat in zip(self._inputs, shapes, values, strict=True):
            if on_host:
                arguments.append(torch.tensor(flat, dtype=dtype).view(shape))
            else:
                arguments.append(torch.empty(shape, dtype=dtype, device="meta"))
        try:
            results = execute(self._module, arguments)
        except NetworkError:  # the data decides, or the execution will name what is wrong
            return self._declared
        return {name: tuple(value.shape) for name, value in results.items()}
