"""The candidates of ``tools/bench_detectors.py``: the session, and PyTorch's ways from images on
the GPU to the boxes of each.

A way of a YOLO or an RT-DETR is a network, eager or compiled, and what follows it. On a GPU the
network, and all that has sizes which the data do not decide on, is one CUDA graph.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_detector_models import Task
from bench_detector_networks import Network, Predictions, Rules
from bench_detector_nms import (
    Candidates,
    Fixed,
    candidates,
    in_fixed_places,
    in_lists,
    of_all_images,
    of_each_image,
)
from bench_detector_peers import Found, Peer, found_by
from bench_zoo_ways import MODES, TITLES, last, not_served, of_session
from paired_timing import WARM_UP, Candidate, Memory, in_new_thread, metered, recorded

FIXED = (300, 1000)  # candidates of an image in suppression of fixed size
EACH, ALL = "batched_nms of each image", "one batched_nms"


@dataclass
class Finder:
    """A candidate and what it finds.

    Attributes:
        found: executes once; the boxes of each image.
        is_captured: whether a CUDA graph has the network.
        cache: see :class:`bench_zoo_ways.Made`.
        not_captured: why the session has no CUDA graph.
    """

    candidate: Candidate
    found: Callable[[], list[Found]]
    is_captured: bool
    cache: str | None = None
    not_captured: str = ""


@dataclass
class Prepared:
    """A network that has run on its images, with what it took."""

    run: Callable[[], Any]
    rules: Rules | None
    is_compiled: bool
    seconds: float
    memory: Memory | None
    cache: str | None


class Rows(torch.nn.Module):
    """A network and its predictions as candidates for suppression."""

    def __init__(self, network: Network, rules: Rules) -> None:
        super().__init__()
        self.network, self.rules = network, rules

    def forward(self, x: torch.Tensor) -> Candidates:
        """The candidates."""
        return candidates(self.network(x), self.rules)


def prepared(task: Task, mode: str, dtype: torch.dtype, device: str) -> Prepared:
    """The network of a YOLO or an RT-DETR in a mode of :data:`bench_zoo_ways.MODES`."""
    rules = task.rules if task.is_suppressed else None
    memory: list[Memory] = []
    missed = not_served()
    with metered(memory):
        started = time.perf_counter()
        network = task.network(dtype, device)
        module = network if rules is None else Rows(network, rules)
        given = task.prepared.to(dtype).contiguous(memory_format=torch.channels_last).to(device)
        is_compiled = MODES[mode] is not None
        call: Callable[..., Any] = module
        if is_compiled:
            call = torch.compile(module, dynamic=False, mode=MODES[mode])
        call(given)
        _wait(device)
        seconds = time.perf_counter() - started
    cache = ("cold" if not_served() > missed else "warm") if is_compiled else None
    return Prepared(partial(call, given), rules, is_compiled, seconds, last(memory), cache)


def posts(mode: str, task: Task) -> list[str]:
    """What follows a network, by name: eager, the usual way alone."""
    if not task.is_suppressed:
        return ["top-k in the graph"]
    if MODES[mode] is None:
        return [EACH]
    many = [ALL] if len(task.prepared) > 1 else []
    return [EACH, *many, *(_fixed(count) for count in FIXED)]


def _fixed(count: int) -> str:
    return f"suppression of {count} in the graph"


def way_name(mode: str, post: str, is_timed: bool) -> str:
    """What rows call a way. `is_timed`: whether cuDNN chooses its kernels by timing."""
    return ", ".join([TITLES[mode], *["cudnn.benchmark"] * is_timed, post])


def with_timed_kernels(make: Callable[[], Finder]) -> Finder:
    """What `make` makes where cuDNN times its kernels (``torch.backends.cudnn.benchmark``)."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        found: Finder = in_new_thread(make)
        return found
    finally:
        torch.backends.cudnn.benchmark = before


def of_pytorch(name: str, network: Prepared, post: str, device: str) -> Finder:
    """A network with what follows it, ready to be timed."""
    inside, outside, lists = _parts(post, network)
    memory: list[Memory] = []
    with metered(memory):
        started = time.perf_counter()

        def whole() -> Any:
            return inside(network.run())

        def fresh() -> Any:
            return outside(whole())

        call: Callable[[], Any] = fresh
        if device != "cpu":
            launch, written = recorded(whole)

            def replay() -> Any:
                launch()
                return outside(written)

            call = replay
        for _ in range(WARM_UP):
            call()
        _wait(device)
        seconds = network.seconds + time.perf_counter() - started
    taken = _together(network.memory, last(memory))
    made = Candidate(name, call, stream_of(device), seconds, taken, keep=(network, inside))
    return Finder(made, lambda: lists(call()), device != "cpu", network.cache)


def _parts(post: str, network: Prepared) -> tuple[Callable[..., Any], ...]:
    """What the graph does with the network's results, what is done with those of the graph, and the
    boxes of all."""
    if network.rules is None:
        return _same, _same, _of_predictions
    rules = network.rules
    if post in (EACH, ALL):
        outside = partial(of_each_image if post == EACH else of_all_images, rules=rules)
        return _same, outside, _of_lists
    count = next(count for count in FIXED if _fixed(count) == post)

    def suppressed(given: Candidates) -> Fixed:
        return in_fixed_places(given, rules, count)

    inside = torch.compile(suppressed, dynamic=False) if network.is_compiled else suppressed
    return inside, _same, lambda fixed: _of_lists(in_lists(fixed))


def _same(value: Any) -> Any:
    return value


def _of_lists(images: Sequence[torch.Tensor]) -> list[Found]:
    return [Found.of_rows(rows) for rows in images]


def _of_predictions(found: Predictions) -> list[Found]:
    images = zip(*(part.cpu() for part in found), strict=True)
    return [Found(boxes.double(), scores.double(), classes) for boxes, scores, classes in images]


def _together(first: Memory | None, second: Memory | None) -> Memory | None:
    """Of a network, and of what was made with it afterwards."""
    if first is None or second is None:
        return None
    return Memory(max(first.peak, first.held + second.peak), first.held + second.held,
                  max(first.tensors, first.held + second.tensors))  # fmt: skip


def of_torchvision(name: str, make: Callable[[], Peer], device: str) -> Finder:
    """One of torchvision's detectors, ready to be timed."""
    memory: list[Memory] = []
    with metered(memory):
        started = time.perf_counter()
        peer = make()
        for _ in range(WARM_UP):
            peer()
        _wait(device)
        seconds = time.perf_counter() - started
    made = Candidate(name, peer, stream_of(device), seconds, last(memory))
    return Finder(made, lambda: [found_by(peer())], False)


def session(
    plan: Path, task: Task, device: str, options: dict[str, Any], stack: ExitStack
) -> Finder:
    """The session, which `stack` closes."""
    made, _, why = of_session(plan, task.prepared, device, options, stack)
    return Finder(made.candidate, lambda: Found.of_outputs(made.results()), made.is_captured,
                  not_captured=why)  # fmt: skip


def in_float32(task: Task, images: int, device: str) -> list[Found]:
    """What PyTorch finds in the first `images` in float32, its modules as they are."""
    if task.is_torchvision:
        return [found_by(Peer(copy.deepcopy(task.model).to(device), task.images.to(device))())]
    network = task.network(torch.float32, device, folded=False)
    found = network(task.prepared[:images].to(device))
    if not task.is_suppressed:
        return _of_predictions(found)
    return _of_lists(of_each_image(candidates(found, task.rules), task.rules))


def stream_of(device: str) -> torch.cuda.Stream | None:
    """The stream that PyTorch's candidates run on."""
    return None if device == "cpu" else torch.cuda.current_stream()


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
