"""Memsets of a captured CUDA graph, as kernels.

CUDA launches a graph that is a straight line of kernels in 3 microseconds, whatever its size. With
a dozen memsets in it, such as cuBLAS and cuDNN enqueue for the counters of their kernels, a launch
takes 20 (an H200, CUDA 13).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trtnet import cuda
from trtnet.errors import ExecutionError

_DTYPES = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
_LARGEST = (1 << 31) - 1  # bytes that PyTorch sets by one kernel


@dataclass(frozen=True)
class _Memset:
    """A node that sets `count` elements of `size` bytes, from `address` on, to the bits of
    `value`."""

    node: Any
    address: int
    size: int
    count: int
    value: int

    def memory(self, device: torch.device) -> Tensor:
        """What it sets, as a tensor."""
        return torch.as_tensor(_Memory(self.address, self.count, self.size), device=device)

    @property
    def number(self) -> int:
        """What an integer of its size is set to."""
        bits = self.value % (1 << 8 * self.size)
        return bits if bits <= torch.iinfo(_DTYPES[self.size]).max else bits - (1 << 8 * self.size)


class _Memory:
    """Device memory that PyTorch takes without a copy."""

    def __init__(self, address: int, count: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": "|u1" if size == 1 else f"<i{size}",
            "data": (address, False),
            "strides": None,
            "version": 2,
        }


def replace_memsets(graph: int, stream: torch.cuda.Stream) -> int:
    """Replaces the memsets of a graph by kernels of PyTorch that set the same memory.

    One of several rows with gaps between them stays, as do one of 2 GiB or more and one whose
    dependencies are not plain.

    Args:
        graph: the address of a ``CUgraph`` that is not instantiated yet.
        stream: where nothing is captured.

    Returns:
        How many were replaced; 0 where CUDA does not give the kernels, and the graph is unchanged.

    Raises:
        CudaError: CUDA gives them, but cannot put them into the graph, which is lost.
    """
    handle = cuda.driver().CUgraph(graph)
    with ExitStack() as stack:
        try:
            found = [memset for node in _nodes(handle) if (memset := _memset(node)) is not None]
            kernels = stack.enter_context(_kernels(found, stream))
        except (ExecutionError, RuntimeError):
            return 0
        for memset, parameters in zip(found, kernels, strict=True):
            _replace(handle, memset.node, parameters)
    return len(found)


def _nodes(graph: Any) -> list[Any]:
    count = cuda.call_driver("cuGraphGetNodes", graph)[1]
    return list(cuda.call_driver("cuGraphGetNodes", graph, count)[0]) if count else []


def _memset(node: Any) -> _Memset | None:
    """`node`, where it is a memset that a kernel can take the place of."""
    kinds = cuda.driver().CUgraphNodeType
    if cuda.call_driver("cuGraphNodeGetType", node) != kinds.CU_GRAPH_NODE_TYPE_MEMSET:
        return None
    given = cuda.call_driver("cuGraphMemsetNodeGetParams", node)
    is_plain = given.height <= 1 and given.elementSize in _DTYPES
    fits = 0 < given.width * given.elementSize <= _LARGEST
    if not (is_plain and fits) or _neighbours(node) is None:
        return None
    return _Memset(node, int(given.dst), given.elementSize, given.width, given.value)


def _neighbours(node: Any) -> tuple[list[Any], list[Any]] | None:
    """The nodes before `node` and those behind; ``None`` where a dependency is of another kind
    than that the one ends before the other begins."""
    found = []
    for function in ("cuGraphNodeGetDependencies", "cuGraphNodeGetDependentNodes"):
        count = cuda.call_driver(function, node)[-1]
        nodes, edges = cuda.call_driver(function, node, count)[:2] if count else ([], [])
        if any(edge.type not in (0, b"\0") for edge in edges):  # it has been both
            return None
        found.append(list(nodes)[:count])
    return found[0], found[1]


def _replace(graph: Any, node: Any, parameters: Any) -> None:
    """Puts a kernel into the place of `node`."""
    neighbours = _neighbours(node)
    assert neighbours is not None  # asked before, and no edge of another kind has come since
    before, behind = neighbours
    kernel = cuda.call_driver("cuGraphAddKernelNode", graph, before, len(before), parameters)
    if behind:
        count = len(behind)
        cuda.call_driver("cuGraphAddDependencies", graph, [kernel] * count, behind, None, count)
    cuda.call_driver("cuGraphDestroyNode", node)


@contextmanager
def _kernels(memsets: Sequence[_Memset], stream: torch.cuda.Stream) -> Iterator[list[Any]]:
    """The parameters of a kernel for each of `memsets`; they are PyTorch's, and valid inside.

    They are those that it enqueues, each on a graph of its own: nothing states in which order the
    nodes of one graph are told. CUDA's driver gives them; its runtime knows only kernels of its own
    program, and PyTorch has another copy of it.
    """
    graphs, parameters = [], []
    try:
        for memset in memsets:
            graphs.append(_captured(memset, stream))
            (kernel,) = _nodes(graphs[-1])
            parameters.append(cuda.call_driver("cuGraphKernelNodeGetParams", kernel))
        yield parameters
    finally:
        for graph in graphs:
            cuda.call_driver("cuGraphDestroy", graph)


def _captured(memset: _Memset, stream: torch.cuda.Stream) -> Any:
    """A graph of the one kernel with which PyTorch sets the same memory."""
    mode = cuda.driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    memory = memset.memory(stream.device)
    with torch.cuda.stream(stream):
        torch.empty_like(memory[:1]).fill_(0)  # has CUDA load the kernel, before the capture
        cuda.call_driver("cuStreamBeginCapture", stream.cuda_stream, mode)
        try:
            memory.fill_(memset.number)
        finally:
            graph = cuda.call_driver("cuStreamEndCapture", stream.cuda_stream)
    return graph
