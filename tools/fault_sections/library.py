"""Interrupts at random moments of what the library does; done again, it must work and be equal.

    python tools/faults.py library             # 100 interrupts of each phase
    python tools/faults.py library --count 3   # of the first three

Each phase is run once for its result, then interrupted again and again: once at a random moment,
and where that did not end it a second time, 0.2 to 3 ms after. After each interrupt what must not
have changed is compared (the modules of the caller, PyTorch's modes and flags, the threads, the
locks), and the phase is run again, undisturbed: its result must be the same.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import trtnet
from fault_sections.base import Row, Section
from fault_sections.storm import Burst, thread_count
from trtnet import nn
from trtnet.nn import functional as F
from trtnet.quantization import activations, calibrate
from trtnet.search import Data, MixableNetwork, search
from trtnet.search.journal import SearchJournal

INTERRUPTS = 100  # of each phase
_SHAPE = (2, 3, 16, 16)


class Theirs(torch.nn.Module):
    """A module of PyTorch whose code keeps things in itself."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.keeps = keeps
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.blocks = torch.nn.ModuleList(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.head = torch.nn.Linear(8, 5)
        self.seen: list[Any] = []
        self.cache: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.stem(x)))
        for i, block in enumerate(self.blocks):
            x = x + torch.relu(block(x))
            if self.keeps:
                self.seen.append(x)
                self.cache[str(i)] = self.last = x
        return self.head(x.mean((2, 3)))


class Ours(nn.Module):
    """The same for trtnet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = x + F.relu(block(x))
        return self.head(trtnet.mean(x, dim=(2, 3)))


@dataclass
class Outcome:
    """What happened in one phase; the last five are 0 if all is well."""

    phase: str
    interrupts: int = 0
    completed: int = 0
    changed: int = 0
    failed_again: int = 0
    other_result: int = 0
    other_errors: int = 0
    threads_left: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost."""
        found = (self.changed, self.failed_again, self.other_result, self.other_errors)
        return not sum(found) + self.threads_left


class Phases:
    """What is interrupted: each method runs a phase and gives a summary of its result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        self.theirs, self.stateless = Theirs(keeps=True).eval(), Theirs(keeps=False).train()
        self.stateless.load_state_dict(self.theirs.state_dict())
        self.ours = Ours()
        self.ours.load_state_dict(self.theirs.state_dict())
        self.converted: Any = trtnet.from_torch(self.theirs)
        self.network = self._network(self.ours)
        self.plan = trtnet.build(self._network(self.ours, "torch"))
        self.graph = trtnet.graph.read(self.network.definition)
        self.images = np.random.default_rng(0).standard_normal((8, *_SHAPE), np.float32)
        self.mixable = MixableNetwork(self._mix, to="fp16")

    def define(self) -> object:
        return _summary(self._network(self.ours))

    def from_torch(self) -> object:
        return _summary(self._network(trtnet.from_torch(self.theirs)))

    def converted_again(self) -> object:
        """One converted module, used for every network."""
        return _summary(self._network(self.converted))

    def exported(self) -> object:
        return _summary(self._network(trtnet.from_torch(self.theirs, "export")))

    def verify(self) -> object:
        inputs = {"x": self.images[0]}
        return trtnet.verify(self._network(self.converted), self.stateless, inputs).passed

    def build(self) -> object:
        """By TensorRT-RTX, of one network; which kernels it takes may vary."""
        return trtnet.build(self.network).sidecar["recipe"]

    def archive(self) -> object:
        return trtnet.build(self._network(self.ours, "torch")).engine

    def calibrate(self) -> object:
        path = self.folder / "calibration.journal"
        tensors = activations(self.graph)
        batches = ({"x": x} for x in self.images)
        found = calibrate(self.graph, tensors, batches, resume=path, every=1)
        return [
            (o.tensor, o.histogram.amax, sorted(o.histogram.rows)) for o in found.observations
        ], path.exists()

    def search(self) -> object:
        path = self.folder / "search.journal"
        data = Data(tuple({"x": x} for x in self.images[:2]))
        found = search(self.mixable, data, "sqnr>=50dB", journal=SearchJournal(path, "job"))
        path.unlink()
        return sorted(found.best.changed), found.best.metrics.sqnr_db

    def save(self) -> object:
        path = self.folder / "engine"
        self.plan.save(path)
        return trtnet.Plan.load(path).engine

    def weights(self) -> object:
        path = self.folder / "weights.safetensors"
        trtnet.weights.save(path, self.ours.state_dict())
        return {name: array.tobytes() for name, array in trtnet.weights.load(path).items()}

    def _network(self, model: Any, backend: str = "rtx") -> trtnet.Network:
        network = trtnet.Network(backend)
        network.output("y", model(network.input("x", _SHAPE)))
        return network

    def _mix(self, policy: Any, calibration: Any) -> trtnet.Network:
        network = trtnet.Network("rtx", policy, calibration=calibration)
        network.output("y", self.ours(network.input("x", _SHAPE)))
        return network

    def unchanged(self) -> dict[str, object]:
        """What no phase may change."""
        return {
            "their module": _state_of(self.theirs),
            "their stateless module": _state_of(self.stateless),
            "the converted module": _state_of(self.converted.torch_module),
            "our module": [(name, a.tobytes()) for name, a in self.ours.state_dict().items()],
            "function modes": torch._C._len_torch_function_stack(),
            "dispatch modes": torch._C._len_torch_dispatch_stack(),
            "gradients": torch.is_grad_enabled(),
            "inference mode": torch.is_inference_mode_enabled(),
            "tf32": torch.backends.cudnn.allow_tf32,
            "default type": torch.get_default_dtype(),
        }


PHASES = (
    "define",
    "from_torch",
    "converted_again",
    "exported",
    "verify",
    "build",
    "archive",
    "calibrate",
    "search",
    "save",
    "weights",
)


class Library(Section):
    """See the module."""

    title = "interrupts of the library"
    count = len(PHASES)

    def case(self, number: int) -> Row:
        """One phase, in a process of its own; each once more, at other moments, after all."""
        again, which = divmod(number, len(PHASES))
        outcome, lost = Outcome(PHASES[which]), ""
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                outcome = pool.submit(_storm_of, self.folder, PHASES[which], again).result()
            except BrokenProcessPool:
                lost = f"{outcome.phase}: the process was ended"
        if not outcome.is_good:
            lost = f"{outcome.phase}: {outcome}"
        return {**asdict(outcome), "lost": lost}

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """A line for each phase."""
        return [
            "Each phase is interrupted at random moments, once or twice in each run. After each "
            "run what must not change is compared (the caller's modules, PyTorch's modes and "
            "flags, threads, locks), and the phase is run again: its result must be the same.",
            "",
            "| phase | interrupts | runs to their end | something changed | failed again | "
            "another result | other errors | threads left |",
            "|---|" + "--:|" * 7,
            *(
                f"| {row['phase']} | {row['interrupts']} | {row['completed']} | {row['changed']} | "
                f"{row['failed_again']} | {row['other_result']} | {row['other_errors']} | "
                f"{row['threads_left']} |"
                for row in rows
            ),
        ]


def _storm_of(folder: Path, name: str, seed: int) -> Outcome:
    return storm(Phases(folder), name, INTERRUPTS, seed)


def storm(phases: Phases, name: str, interrupts: int, seed: int) -> Outcome:
    """Interrupts one phase that many times."""
    outcome, moments = Outcome(name), random.Random(f"{seed} {name}")
    run: Callable[[], object] = getattr(phases, name)
    run()
    started = time.perf_counter()
    wanted = run()
    seconds = time.perf_counter() - started
    before, threads = phases.unchanged(), thread_count()
    for _ in itertools.count():
        if outcome.interrupts >= interrupts:
            break
        burst = Burst()
        try:
            burst.run(run, moments.uniform(0, seconds), moments.uniform(2e-4, 3e-3))
        except Exception as error:
            outcome.other_errors += 1
            outcome.examples.append(f"{type(error).__name__}: {error}"[:200])
        outcome.completed += burst.is_complete
        outcome.interrupts += burst.interrupts
        now = phases.unchanged()
        if now != before:
            outcome.changed += 1
            outcome.examples += [
                f"{key}: {before[key]!s:.99} -> {now[key]!s:.99}"
                for key in now
                if now[key] != before[key]
            ]
        try:
            outcome.other_result += run() != wanted
        except Exception as error:
            outcome.failed_again += 1
            outcome.examples.append(f"again: {type(error).__name__}: {error}"[:200])
    deadline = time.monotonic() + 5
    while thread_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    outcome.threads_left = max(0, thread_count() - threads)
    return outcome


def _summary(network: trtnet.Network) -> str:
    return hashlib.sha256(trtnet.graph.dumps(trtnet.graph.read(network.definition))).hexdigest()


def _state_of(module: torch.nn.Module) -> list[object]:
    """Names and values of the attributes of every part, hooks and containers included."""
    return [
        (path, sorted((key, _plain(value)) for key, value in vars(part).items()))
        for path, part in module.named_modules()
    ]


def _plain(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{id(value)} {value._version}"
    if isinstance(value, dict):
        return str({key: _plain(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return str([_plain(item) for item in value])
    return str(id(value)) if isinstance(value, torch.nn.Module) or callable(value) else repr(value)
