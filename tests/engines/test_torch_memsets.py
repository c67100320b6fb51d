"""Memsets of a captured graph become kernels; graphs and PyTorch's capture are imitated, and on a
GPU they are real."""

# ruff: noqa: N802
from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
module = pytest.importorskip("trtnet.engines.torch.memsets")

MEMSET, KERNEL = "memset", "kernel"
TYPES = SimpleNamespace(CU_GRAPH_NODE_TYPE_MEMSET=MEMSET)
STREAM = SimpleNamespace(cuda_stream=7, device=torch.device("cpu"))


class Graph:
    """Nodes by number: what each does, and which come before it; edges may be of a kind."""

    def __init__(self, nodes, edges=(), kinds=()):
        self.nodes, self.edges, self.kinds = dict(enumerate(nodes)), list(edges), dict(kinds)

    def order(self):
        """What the nodes do, along a straight line."""
        (node,) = set(self.nodes) - {behind for _, behind in self.edges}
        said = [self.nodes[node]]
        while following := [behind for before, behind in self.edges if before == node]:
            (node,) = following
            said.append(self.nodes[node])
        return said


class Cuda:
    """The functions of graphs. What PyTorch enqueues while a stream captures is in `filled`."""

    def __init__(self, graph):
        self.graph, self.filled, self.captured, self.refused = graph, [], [], ""

    def call(self, function, *arguments):
        if function == self.refused:
            raise module.ExecutionError("CUDA refuses")
        return getattr(self, function)(*arguments)

    def cuGraphGetNodes(self, graph, count=0):
        nodes = list(graph.nodes)
        return nodes[:count] if count else None, len(nodes)

    def cuGraphNodeGetType(self, node):
        return MEMSET if isinstance(self.graph.nodes[node], dict) else KERNEL

    def cuGraphMemsetNodeGetParams(self, node):
        return SimpleNamespace(**self.graph.nodes[node])

    def cuGraphNodeGetDependencies(self, node, count=0):
        return self._edges([edge for edge in self.graph.edges if edge[1] == node], 0, count)

    def cuGraphNodeGetDependentNodes(self, node, count=0):
        return self._edges([edge for edge in self.graph.edges if edge[0] == node], 1, count)

    def _edges(self, edges, end, count):
        kinds = [SimpleNamespace(type=self.graph.kinds.get(edge, 0)) for edge in edges]
        return [edge[end] for edge in edges][:count], kinds[:count], len(edges)

    def cuGraphAddKernelNode(self, graph, before, count, parameters):
        assert count == len(before)
        node = max(graph.nodes) + 1
        graph.nodes[node] = parameters
        graph.edges += [(other, node) for other in before]
        return node

    def cuGraphAddDependencies(self, graph, before, behind, edges, count):
        assert edges is None
        graph.edges += list(zip(before, behind, strict=True))[:count]

    def cuGraphDestroyNode(self, node):
        del self.graph.nodes[node]
        self.graph.edges = [edge for edge in self.graph.edges if node not in edge]

    def cuStreamBeginCapture(self, stream, mode):
        self.filled.clear()

    def cuStreamEndCapture(self, stream):
        self.captured.append(Graph([tuple(self.filled)]))
        return self.captured[-1]

    def cuGraphKernelNodeGetParams(self, node):
        return self.captured[-1].nodes[node]

    def cuGraphDestroy(self, graph):
        self.captured.remove(graph)


class Memory:
    """Stands for a tensor at an address."""

    def __init__(self, cuda, of):
        self.cuda, self.of = cuda, of

    def __getitem__(self, index):
        return self

    def fill_(self, value):
        self.cuda.filled.append(("fill", self.of.address, self.of.count, self.of.size, value))


@pytest.fixture
def replaced(monkeypatch):
    """What replacing the memsets of a graph gives: how many, and the imitated driver."""

    def run(graph, refused=""):
        cuda = Cuda(graph)
        cuda.refused = refused
        driver = SimpleNamespace(
            CUgraph=lambda graph: graph,
            CUgraphNodeType=TYPES,
            CUstreamCaptureMode=SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="local"),
        )
        monkeypatch.setattr(module.cuda, "driver", lambda: driver)
        monkeypatch.setattr(module.cuda, "call_driver", cuda.call)
        monkeypatch.setattr(module._Memset, "memory", lambda self, device: Memory(cuda, self))
        stand_in = SimpleNamespace(stream=nullcontext)
        monkeypatch.setattr(module.torch, "cuda", stand_in)
        monkeypatch.setattr(module.torch, "empty_like", lambda x: SimpleNamespace(fill_=int))
        return module.replace_memsets(graph, STREAM), cuda

    return run


def memset(dst=64, width=8, value=0, size=1, height=1):
    return {"dst": dst, "width": width, "value": value, "elementSize": size, "height": height}


def test_memsets_of_a_line_become_kernels_in_their_places(replaced):
    graph = Graph(["a", memset(), memset(128, 3, 0xFFFFFFFF, 4), "b"], [(0, 1), (1, 2), (2, 3)])
    count, cuda = replaced(graph)
    assert count == 2
    assert graph.order() == [
        "a", (("fill", 64, 8, 1, 0),), (("fill", 128, 3, 4, -1),), "b"
    ]  # fmt: skip
    assert not cuda.captured  # all destroyed


def test_first_and_last_nodes(replaced):
    graph = Graph([memset(), "a", memset(256)], [(0, 1), (1, 2)])
    assert replaced(graph)[0] == 2
    assert [x if x == "a" else x[0][1] for x in graph.order()] == [64, "a", 256]


@pytest.mark.parametrize(
    ("size", "given", "number"),
    [(1, 0x1FF, 255), (2, 0x8000, -32768), (2, 0x7FFF, 32767), (4, 1 << 31, -(1 << 31))],
)
def test_the_value_is_that_of_the_elements_bits(size, given, number, replaced):
    graph = Graph([memset(value=given, size=size)])
    replaced(graph)
    (((_, _, _, _, value),),) = graph.nodes.values()
    assert value == number


@pytest.mark.parametrize(
    "kept",
    [memset(height=2), memset(width=0), memset(size=3), memset(width=1 << 29, size=4)],
)
def test_other_memsets_stay(kept, replaced):
    graph = Graph(["a", kept], [(0, 1)])
    assert replaced(graph)[0] == 0
    assert graph.order() == ["a", kept]


def test_one_with_a_dependency_of_another_kind_stays(replaced):
    graph = Graph(["a", memset()], [(0, 1)], {(0, 1): b"\1"})
    assert replaced(graph)[0] == 0


@pytest.mark.parametrize("refused", ["cuGraphGetNodes", "cuGraphKernelNodeGetParams"])
def test_the_graph_stays_where_cuda_gives_no_kernels(refused, replaced):
    graph = Graph(["a", memset()], [(0, 1)])
    count, cuda = replaced(graph, refused)
    assert count == 0
    assert graph.order() == ["a", memset()]
    assert not cuda.captured


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_on_a_gpu(dtype):
    """A real graph, whose memsets are replaced, sets what it set before."""
    if not hasattr(torch.cuda.CUDAGraph, "instantiate"):
        pytest.skip("this PyTorch does not keep graphs")
    cuda = module.cuda
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph(keep_graph=True)
    x = torch.full((5, 7), 3, dtype=dtype, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        x.add_(1)
        cuda.call("cudaMemsetAsync", x.data_ptr(), 0x81, 6 * x.itemsize, stream.cuda_stream)
        x.add_(1)
    assert module.replace_memsets(graph.raw_cuda_graph(), stream) == 1
    graph.instantiate()
    graph.replay()
    torch.cuda.synchronize()
    right = torch.full((35,), 5, dtype=dtype)
    right[:6].view(torch.uint8).fill_(0x81)
    right[:6] += 1
    assert torch.equal(x.cpu().flatten(), right)
