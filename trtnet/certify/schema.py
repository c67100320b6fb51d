"""What a certificate says: plain data, checked when a file is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FORMAT = "trtnet certificate 1"

State = Literal["passed", "differs", "failed", "refused", "built", "not run"]

STATES: dict[State, str] = {
    "passed": "executed, and every tensor is within its limit",
    "differs": "executed, and a tensor is beyond its limit",
    "failed": "it could not be defined or executed: an error, a crash, or the time limit",
    "refused": "the builder refuses the network",
    "built": "built, but not executed, because this machine cannot",
    "not run": "not tried, because this machine or version does not have it",
}
"""Every state of a case, and what it means."""


@dataclass(frozen=True)
class TensorResult:
    """The comparison of one tensor with the reference.

    Attributes:
        variant: of the case that it is an output of.
        tensor: its name.
        layer, type: name and ``trt.LayerType`` of the layer that computes it.
        shape: as executed.
        passed: whether it is within the limit.
        error, limit: both in words.
        max_abs, rel_l2, cosine: see :class:`trtnet.verification.Row`; ``None`` where unknown.
        agreement: share of equal elements, of integers and booleans.
    """

    variant: str
    tensor: str
    layer: str
    type: str
    shape: list[int]
    passed: bool
    error: str
    limit: str
    max_abs: float | None = None
    rel_l2: float | None = None
    cosine: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Timing:
    """How long an execution takes, in milliseconds, without copies.

    Attributes:
        low_ms, high_ms: 95 % confidence interval of the median; ``None`` for too few executions.
        shapes: of the inputs.
    """

    median_ms: float
    low_ms: float | None
    high_ms: float | None
    queries: int
    shapes: dict[str, list[int]]


@dataclass(frozen=True)
class CaseResult:
    """What became of one case.

    Attributes:
        name, precision, about: see :class:`trtnet.certify.cases.Case`.
        state: one of :data:`STATES`.
        reason: why it did not pass; ``""`` where it did.
        types: the layer types of its networks, sorted; empty where it could not be defined.
        tensors: in execution order.
        seconds: of everything: defining, building, executing, comparing, timing.
        build_s: of building alone.
        engine_bytes: of the engine that is timed, or of the only one.
        runtime: what executed it, such as ``"torch 2.14.1, 2 threads"``; ``""`` for nothing.
        timing: of models.
    """

    name: str
    precision: str
    about: str
    state: State
    reason: str = ""
    types: list[str] = field(default_factory=list)
    tensors: list[TensorResult] = field(default_factory=list)
    seconds: float = 0.0
    build_s: float = 0.0
    engine_bytes: int = 0
    runtime: str = ""
    timing: Timing | None = None

    @property
    def key(self) -> str:
        """Name and precision, such as ``"convolution:fp16"``."""
        return f"{self.name}:{self.precision}"

    @property
    def first_difference(self) -> TensorResult | None:
        """The first tensor, in execution order, that is beyond its limit."""
        return next((tensor for tensor in self.tensors if not tensor.passed), None)


@dataclass(frozen=True)
class Environment:
    """The machine, and what is installed; ``None`` where it is missing or unknown.

    Attributes:
        backend: name; `backend_version` is that of its package.
        device: ``"cuda"`` or ``"cpu"``, where engines were executed or would have been.
        not_executed: why nothing was executed; ``None`` where something was.
        gpu, compute_capability, gpu_memory, driver, driver_cuda: of the GPU that was used.
        cpu, processors: of the host: name, and how many.
        packages: version by name.
        commit: of trtnet, where it is a checkout with git.
    """

    backend: str
    backend_version: str | None
    device: str
    not_executed: str | None
    gpu: str | None
    compute_capability: str | None
    gpu_memory: int | None
    driver: str | None
    driver_cuda: str | None
    cpu: str | None
    processors: int
    system: str
    python: str
    packages: dict[str, str | None]
    torch_cuda: str | None
    trtnet: str
    commit: str | None


@dataclass(frozen=True)
class Certificate:
    """A certificate, as in its file.

    Attributes:
        format: :data:`FORMAT`.
        set_version: of the set of cases.
        made: when, in UTC: ``2026-12-01T00:30:00Z``.
        only, precisions: what was chosen of the set; empty for all.
        timed: whether models were timed.
        environment: where.
        cases: in the order of the set.
        uncovered: layer types that no case uses, each with its reason.
        seconds: of the whole run.
        sha256: of the rest, see :func:`trtnet.certify.certificate.digest`.
    """

    format: str
    set_version: int
    made: str
    only: list[str]
    precisions: list[str]
    timed: bool
    environment: Environment
    cases: list[CaseResult]
    uncovered: dict[str, str]
    seconds: float
    sha256: str

    def counts(self) -> dict[State, int]:
        """How many cases are in each state, of those that occur."""
        states = [case.state for case in self.cases]
        return {state: states.count(state) for state in STATES if state in states}
