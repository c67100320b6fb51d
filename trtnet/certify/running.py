"""Runs one case in this process: define, build, execute, compare, time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from trtnet import backend as backends
from trtnet import benchmark, hardware, reference
from trtnet.backend.description import dotted
from trtnet.building.builder import build
from trtnet.building.options import BuildConfig
from trtnet.building.plan import Plan
from trtnet.certify.cases import Case
from trtnet.certify.limits import limit
from trtnet.certify.networks.lab import Defined
from trtnet.certify.schema import CaseResult, State, TensorResult, Timing
from trtnet.certify.settings import Settings
from trtnet.engines.session import Session
from trtnet.errors import BuildError, NetworkError, TrtnetError, UnsupportedError
from trtnet.finite import json_number
from trtnet.verification.comparison import Row, compare
from trtnet.verification.detections import detection_rows, of_boxes

_WARM_UP_MS, _SECONDS = 100.0, 0.5  # of the timing of a model


Tell = Callable[[list[str]], object]
Open = Callable[..., Any]
"""Opens a plan as :class:`trtnet.Session` does."""


class _Ended(Exception):  # noqa: N818  # not an error: how a case ends before its end
    def __init__(self, state: State, reason: object) -> None:
        super().__init__(reason)
        self.state, self.reason = state, str(reason)


def run_case(
    case: Case,
    settings: Settings,
    open_session: Open = Session,
    tell: Tell = lambda types: None,
) -> CaseResult:
    """The result of `case`; whatever goes wrong is part of it.

    Args:
        open_session: opens the engines.
        tell: is given the layer types so far, before anything is built: a crash loses the result.
    """
    started = time.perf_counter()
    result = CaseResult(case.name, case.precision, case.about, "passed")
    run = _Run(case, settings, open_session, tell, result)
    try:
        run.all_variants()
    except _Ended as ended:
        run.result = replace(run.result, state=ended.state, reason=ended.reason)
    return replace(run.result, seconds=time.perf_counter() - started)


class _Run:
    """One case, while it runs.

    Attributes:
        result: of what has been done so far.
    """

    def __init__(
        self, case: Case, settings: Settings, open_session: Open, tell: Tell, result: CaseResult
    ) -> None:
        self.case, self.settings, self.result = case, settings, result
        self._open, self._tell = open_session, tell
        self._limit = limit(case.precision, is_model=case.is_model)

    def all_variants(self) -> None:
        config = self._config()
        for variant, define in self.case.variants.items():
            defined = self._define(define)
            plan = self._build(defined, config)
            if self.settings.not_executed is None:
                self._execute(variant, defined, plan)
        if self.settings.not_executed is not None:
            raise _Ended("built", self.settings.not_executed)
        if not self.result.tensors:
            raise _Ended("failed", "nothing of it was compared")
        first = self.result.first_difference
        if first is not None:
            where = f" ({first.type} layer {first.layer})" if first.type else ""
            raise _Ended(
                "differs", f"{first.tensor}{where}: {first.error}; the limit: {first.limit}"
            )

    def _config(self) -> BuildConfig:
        """For the GPU that is here, or where there is none for one that has the precision."""
        about, needed = backends.description(self.settings.backend), self.case.capability
        if about.runs_in_pytorch:
            return BuildConfig()
        here = _capability(self.settings.device)
        if here is not None and needed is not None and _numbers(here) < _numbers(needed):
            raise _Ended(
                "not run",
                f"{self.case.precision} needs compute capability {needed}; this GPU has {here}",
            )
        if about.gpu_targets is None:
            return BuildConfig()
        chosen = here or needed
        return BuildConfig() if chosen is None else BuildConfig(compute_capabilities=(chosen,))

    def _define(self, define: Callable[[Any], Defined]) -> Defined:
        loaded = backends.load(self.settings.backend)
        about = loaded.description
        if self.case.has_plugin and not (about.writes_archive or loaded.has("plugins")):
            raise _Ended("not run", f"the backend {about.name} has no plugins")
        try:
            defined = define(loaded)
        except AttributeError as error:
            if not _is_of_binding(error):
                raise _Ended("failed", f"defining it: {_told(error)}") from error
            raise _Ended("not run", f"this version of the API lacks it: {error}") from error
        except NetworkError as error:
            raise _Ended("refused", error) from error
        except Exception as error:
            raise _Ended("failed", f"defining it: {_told(error)}") from error
        types = {layer.type for layer in defined.graph.layers}.union(self.result.types)
        self.result = replace(self.result, types=sorted(types))
        self._tell(self.result.types)
        return defined

    def _build(self, defined: Defined, config: BuildConfig) -> Plan:
        started = time.perf_counter()
        try:
            plan = build(defined.network, defined.shapes or None, config)
        except (BuildError, UnsupportedError) as error:
            raise _Ended("refused", error) from error
        except Exception as error:
            raise _Ended("failed", f"building it: {_told(error)}") from error
        self.result = replace(
            self.result,
            build_s=self.result.build_s + time.perf_counter() - started,
            engine_bytes=len(plan.engine),
        )
        return plan

    def _execute(self, variant: str, defined: Defined, plan: Plan) -> None:
        try:
            with contextlib.closing(self._session(plan)) as session:
                found = session(dict(defined.inputs))
                self.result = replace(self.result, runtime=session.runtime)
                if self.case.is_model and self.settings.timed and not variant:
                    timing = _time(session, defined.inputs)
                    self.result = replace(self.result, timing=timing)
        except Exception as error:
            raise _Ended("failed", f"executing it: {_told(error)}") from error
        try:
            wanted = reference.run(
                defined.graph, defined.inputs, outputs=[*dict.fromkeys(defined.network.outputs)]
            )
        except TrtnetError as error:
            raise _Ended("failed", f"the reference cannot compute it: {error}") from error
        rows = [*self._rows(variant, defined, found, wanted)]
        self.result = replace(self.result, tensors=[*self.result.tensors, *rows])

    def _session(self, plan: Plan) -> Any:
        about, options = backends.description(self.settings.backend), {}
        if about.runs_in_pytorch and self.settings.device != "cpu" and not self.case.is_model:
            options["optimization_level"] = 0  # tactics are timed for models alone
        return self._open(plan, device=self.settings.device, **options)

    def _rows(
        self,
        variant: str,
        defined: Defined,
        found: Mapping[str, np.ndarray],
        wanted: Mapping[str, np.ndarray],
    ) -> Iterator[TensorResult]:
        boxes = of_boxes(defined.network.outputs)
        for name, about in defined.compared.items():
            if name not in boxes:
                row = compare(name, torch.from_numpy(found[name]), torch.from_numpy(wanted[name]))
                yield self._row(variant, row, about.layer, about.type)
        if boxes:
            ours, theirs = ({k: torch.from_numpy(v[k]) for k in boxes} for v in (found, wanted))
            for row in detection_rows(ours, theirs):
                yield self._row(variant, row, "", "")

    def _row(self, variant: str, row: Row, layer: str, kind: str) -> TensorResult:
        return TensorResult(
            variant=variant,
            tensor=row.module.removesuffix(":"),
            layer=layer,
            type=kind,
            shape=[*row.shape],
            passed=self._limit.accepts(row),
            error=str(row),
            limit=self._limit.asks(row),
            max_abs=_number(row.max_abs),
            rel_l2=_number(row.rel_l2),
            cosine=_number(row.cosine),
            agreement=row.agreement,
        )


def _time(session: Session, inputs: Mapping[str, np.ndarray]) -> Timing:
    """The median of executions, by trtexec's method."""
    shapes = {name: array.shape for name, array in inputs.items()}
    with session.lane() as lane:
        lane.bind(shapes)
        lane.fill(dict(inputs))
        settings = benchmark.Settings(warm_up_ms=_WARM_UP_MS, duration_s=_SECONDS)
        every = benchmark.measure([lane], settings)
    summary = benchmark.summarize(benchmark.without_warm_up(every, _WARM_UP_MS))
    low, high = summary.median_interval or (None, None)
    return Timing(
        summary.compute.median, low, high, summary.queries,
        {name: [*shape] for name, shape in shapes.items()},
    )  # fmt: skip


def _capability(device: str) -> str | None:
    """The compute capability of the GPU `device`; ``None`` where there is none."""
    index = int(device.partition(":")[2] or 0)
    found: Sequence[hardware.GpuDevice] = [*hardware.gpus()]
    return dotted(found[index].compute_capability) if index < len(found) else None


def _is_of_binding(error: AttributeError) -> bool:
    """Whether what is missing is TensorRT's, as in older versions, and not a fault of ours."""
    found = error.obj
    if isinstance(found, ModuleType):
        return found.__name__.startswith("tensorrt")
    kind = found if isinstance(found, type) else type(found)
    return kind.__module__.startswith("tensorrt")


def _numbers(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))


def _number(value: float) -> float | None:
    return json_number(value) if math.isfinite(value) else None


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, TrtnetError) else f"{type(error).__name__}: {error}"
