"""What a launch costs the host: microseconds until it returns, a session's against PyTorch's.

    python tools/host_cost.py resnet50 vit_b_16 [--batch 64] [--precision fp16] [--engines DIR]

Launches come in bursts of ten, after each of which the GPU is waited for: the host never waits for
room in the GPU's queue. PyTorch's ways are recorded into one CUDA graph by hand. ``call`` is a
whole call of the session with an image on the GPU.

CUDA launches a graph in a time that hardly depends on its size where that is a straight line of
kernels; other nodes, and edges that are no line, are launched one by one. So the nodes of each
graph are counted too. Needs a GPU.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_zoo_models import Cell, counterpart, engine, images
from bench_zoo_ways import SESSION, of_pytorch_with, of_session, ways
from paired_timing import host_us

from trtnet import cuda

KERNEL = "kernels"


class Kept(torch.cuda.CUDAGraph):
    """A graph of PyTorch whose nodes can be read after it was captured."""

    made: list[Kept]

    def __init__(self, keep_graph: bool = False) -> None:
        super().__init__(keep_graph=True)  # type: ignore[call-arg]  # its own is of C++
        self.made.append(self)
        self._was_asked = keep_graph

    def __new__(cls, keep_graph: bool = False) -> Kept:
        return super().__new__(cls, keep_graph=True)

    def capture_end(self) -> None:
        """Ends the capture; unless it was asked to keep the graph, that can be launched as others
        can."""
        super().capture_end()
        if not self._was_asked:
            self.instantiate()


@contextmanager
def kept_graphs() -> Iterator[list[Kept]]:
    """Inside, the graphs that are captured are appended to the list, the newest at the end."""
    before, Kept.made = torch.cuda.CUDAGraph, []
    torch.cuda.CUDAGraph = Kept  # type: ignore[assignment, misc]
    try:
        yield Kept.made
    finally:
        torch.cuda.CUDAGraph = before  # type: ignore[assignment, misc]


def census(graph: int) -> str:
    """The nodes of a ``cudaGraph_t`` by kind, and how they depend on each other."""
    handle = cuda.runtime().cudaGraph_t(graph)
    nodes = cuda.call("cudaGraphGetNodes", handle, cuda.call("cudaGraphGetNodes", handle)[-1])[0]
    kinds = Counter(_kind(cuda.call("cudaGraphNodeGetType", node)) for node in nodes)
    count = cuda.call("cudaGraphGetEdges", handle)[-1]
    data = cuda.call("cudaGraphGetEdges", handle, count)[2] if count else []
    early = sum(edge.type not in (0, b"\0") for edge in data)
    return in_words(kinds, count, early)


def in_words(kinds: Counter[str], edges: int, early: int = 0) -> str:
    """Such as ``"54 kernels, 1 Memset, one line"``; `early` edges let the next kernel begin before
    the last has ended."""
    parts = [f"{count} {kind}" for kind, count in kinds.most_common()]
    parts.append("one line" if edges == kinds.total() - 1 else f"{edges} edges")
    return ", ".join([*parts, f"{early} early"] if early else parts)


def _kind(node_type: Any) -> str:
    kind = str(node_type.name).removeprefix("cudaGraphNodeType")
    return KERNEL if kind == "Kernel" else kind


def measured(call: Callable[[], object], graphs: Sequence[Kept]) -> str:
    """Microseconds of `call`, and what the newest graph consists of."""
    found = census(graphs[-1].raw_cuda_graph()) if graphs else "no graph"
    return f"{host_us(call):7.1f} us   {found}"


def rows(cell: Cell, folder: Path) -> Iterator[tuple[str, str]]:
    """Each way to run a model, and what it costs."""
    module, x = counterpart(cell.model, folder), images(cell.shape)
    with ExitStack() as stack:
        with kept_graphs() as graphs:
            plan = engine(cell, folder)[0]
            made, session, why = of_session(plan, x, "cuda", {}, stack)
        yield SESSION, why or measured(made.candidate.call, graphs)
        given = x.cuda()
        yield f"{SESSION}, call", f"{host_us(partial(session, given)):7.1f} us"
    for way in ways(module, ["eager", "compile"]):
        with kept_graphs() as graphs:
            peer = of_pytorch_with(way, module, cell, x, "cuda")
        yield way.name, measured(peer.candidate.call, graphs)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of the zoo's models")
    parser.add_argument("--batch", type=int, action="append", help="1 and 64 if none is given")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--engines", type=Path, default=Path("engines"), metavar="DIR")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a row for each model, batch and way."""
    options = parsed(arguments)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with torch.inference_mode():
        for model in options.models:
            for batch in options.batch or [1, 64]:
                print(f"\n{model}, batch {batch}, {options.precision}")
                for name, found in rows(Cell(model, batch, options.precision), options.engines):
                    print(f"  {name:<32}{found}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
