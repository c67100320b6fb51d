"""The candidates of ``tools/bench_zoo.py``: the session, and PyTorch's own ways to run a model.

On a GPU every way of PyTorch is recorded into one CUDA graph by hand, ``torch.compile`` too: its
own mode with CUDA graphs (reduce-overhead) spends time on the host at each call, which makes it a
weak peer at small batches. On a CPU they are called as they are.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench_zoo_models import INPUT, Cell, checked, is_convolutional
from paired_timing import Candidate, Memory, in_new_thread, metered, recorded

import trtnet

SESSION = "session"
MODES = {"eager": None, "compile": "default", "max-autotune": "max-autotune-no-cudagraphs"}
# what PyTorch counts when Inductor's or AOTAutograd's cache has not served a graph
_NOT_SERVED = ("fxgraph_cache_miss", "fxgraph_cache_bypass")
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
TITLES = {"eager": "eager", "compile": "torch.compile", "max-autotune": "max-autotune"}


@dataclass(frozen=True)
class Way:
    """One of PyTorch's ways: a key of :data:`MODES`, one of :data:`LAYOUTS`, and whether cuDNN
    times its kernels (``torch.backends.cudnn.benchmark``)."""

    mode: str
    layout: str
    is_timed: bool = False

    @property
    def name(self) -> str:
        """What rows call it."""
        return ", ".join([TITLES[self.mode], self.layout] + ["cudnn.benchmark"] * self.is_timed)

    @property
    def is_compiled(self) -> bool:
        """Whether it has Inductor compile."""
        return MODES[self.mode] is not None


def ways(
    module: torch.nn.Module, modes: Sequence[str], layouts: str = "auto", timed: bool = False
) -> list[Way]:
    """PyTorch's ways for a model.

    Args:
        layouts: ``"both"``, or ``"auto"``: channels_last for convolutional networks, contiguous
            for those whose only convolution cuts the image into patches.
        timed: each also with cuDNN's kernels timed.
    """
    fitting = "channels_last" if is_convolutional(module) else "contiguous"
    chosen = list(LAYOUTS) if layouts == "both" else [fitting]
    return [
        Way(mode, layout, is_timed)
        for mode in modes
        for layout in chosen
        for is_timed in ([False, True] if timed else [False])
    ]


@dataclass
class Made:
    """A candidate, what it computes and how it came to be.

    Attributes:
        results: executes once; the outputs of the first images.
        is_captured: whether `candidate.call` launches a CUDA graph.
        cache: ``"cold"`` or ``"warm"``: whether Inductor had to compile; ``None`` where it has no
            part in it.
        ways: of a session on a GPU, microseconds of the ways to run the whole network that it
            timed, by name; None of one that needs too much memory. There are none where the timing
            cache knew the fastest.
    """

    candidate: Candidate
    results: Callable[[], list[torch.Tensor]]
    is_captured: bool
    cache: str | None = None
    ways: dict[str, float | None] | None = None


def of_pytorch(way: Way, module: torch.nn.Module, cell: Cell, x: torch.Tensor, device: str) -> Made:
    """A way of PyTorch's, ready to be timed: `module` and images in the cell's type."""
    layout = LAYOUTS[way.layout]
    memory: list[Memory] = []
    missed = not_served()
    with metered(memory):
        started = time.perf_counter()
        # on the CPU first: what is float32 is no part of what this takes of the GPU
        model = copy.deepcopy(module).to(cell.dtype).to(memory_format=layout).to(device)
        given = x.to(cell.dtype).contiguous(memory_format=layout).to(device)
        run: Callable[..., Any] = model
        if way.is_compiled:
            run = torch.compile(model, dynamic=False, mode=MODES[way.mode])

        def prepare() -> tuple[Callable[[], object], Any]:
            if device == "cpu":
                return (lambda: run(given)), run(given)
            return recorded(lambda: run(given))

        if way.is_timed:  # cuDNN's choice of kernels is kept for each thread
            call, written = in_new_thread(prepare)
        else:
            with torch.inference_mode():
                call, written = prepare()
        setup_s = time.perf_counter() - started
    stream = None if device == "cpu" else torch.cuda.current_stream()
    candidate = Candidate(way.name, call, stream, setup_s, last(memory), keep=(model, run, given))

    def results() -> list[torch.Tensor]:
        fresh = call()
        return checked(written if device == "cuda" else fresh)

    cache = None
    if way.is_compiled:
        cache = "cold" if not_served() > missed else "warm"
    return Made(candidate, results, device == "cuda", cache)


def of_pytorch_with(way: Way, *arguments: Any) -> Made:
    """:func:`of_pytorch` with cuDNN set as the way says."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = way.is_timed
    try:
        return of_pytorch(way, *arguments)
    finally:
        torch.backends.cudnn.benchmark = before


def of_session(
    plan: Path, x: torch.Tensor, device: str, options: dict[str, Any], stack: ExitStack
) -> tuple[Made, trtnet.Session, str]:
    """A session on float32 images that are on the device, which it converts itself.

    Args:
        stack: closes the session.

    Returns:
        the candidate, the session, and why it has no CUDA graph: ``""`` where it has one.
    """
    memory: list[Memory] = []
    with metered(memory):
        started = time.perf_counter()
        session = trtnet.Session(plan, backend="torch", device=device, **options)
        stack.enter_context(session)
        lane = stack.enter_context(session.lane())
        lane.bind({INPUT: tuple(x.shape)})
        lane.fill({INPUT: x.numpy()})
        lane.copy_in()
        lane.enqueue()
        lane.stream.synchronize()
        setup_s = time.perf_counter() - started
    stream = torch.cuda.ExternalStream(lane.stream.handle) if device == "cuda" else None
    candidate = Candidate(SESSION, lane.enqueue, stream, setup_s, last(memory))

    def results() -> list[torch.Tensor]:
        lane.enqueue()
        lane.copy_out()
        lane.stream.synchronize()
        return checked({key: torch.as_tensor(value) for key, value in lane.results().items()})

    why = ""
    if device == "cuda" and not lane.is_captured:
        why = " ".join((lane.capture_failure or "unknown").split())[:300]
    tried = {
        name: round(us, 1) if math.isfinite(us) else None
        for name, us in getattr(lane.context, "tried", {}).items()
    }
    made = Made(candidate, results, lane.is_captured, ways=tried if lane.is_captured else None)
    return made, session, why


def set_exactness(precision: str) -> None:
    """Sets PyTorch's TensorFloat-32 as the precision asks for, for peers in float32."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def last(memory: list[Memory]) -> Memory | None:
    """What was metered, where there is a GPU."""
    return memory[-1] if memory else None


def not_served() -> int:
    """How many graphs Inductor did not find in its cache so far."""
    from torch._dynamo.utils import counters

    return sum(int(counters["inductor"][name]) for name in _NOT_SERVED)
