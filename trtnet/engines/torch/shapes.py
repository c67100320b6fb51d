"""The shapes of a graph's outputs, before it runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping

from trtnet.errors import NetworkError
from trtnet.graph import Graph
from trtnet.reference.shapes import Shape, ShapeInference

Values = tuple[int, ...]
_REMEMBERED = 256  # combinations of input shapes


class OutputShapes:
    """Answers with the shape of every output for given input shapes; thread-safe.

    Where the data decides, inference fails, and the graph's own shapes are the answer: -1 for
    each axis without a fixed size.
    """

    def __init__(self, graph: Graph) -> None:
        self._inputs = graph.inputs
        self._declared = {name: graph.tensors[name].shape for name in graph.outputs}
        is_static = all(-1 not in shape for shape in self._declared.values())
        self._inference = None if is_static else ShapeInference(graph)
        self._lock = threading.Lock()
        self._find = functools.lru_cache(_REMEMBERED)(self._infer)

    def __call__(
        self, shapes: Mapping[str, Shape], values: Mapping[str, Values]
    ) -> dict[str, Shape]:
        """The shape of every output, by name.

        Args:
            shapes: of every input.
            values: of the inputs that are read on the host, flat.
        """
        if self._inference is None:
            return dict(self._declared)
        key = tuple((name, shapes[name], values.get(name)) for name in self._inputs)
        with self._lock:
            return dict(self._find(self._inference, key))

    def _infer(
        self, inference: ShapeInference, inputs: tuple[tuple[str, Shape, Values | None], ...]
    ) -> dict[str, Shape]:
        shapes = {name: shape for name, shape, _ in inputs}
        values = {name: flat for name, _, flat in inputs if flat is not None}
        try:
            return inference(shapes, values)
        except NetworkError:  # the data decides, or the execution will name what is wrong
            return self._declared
