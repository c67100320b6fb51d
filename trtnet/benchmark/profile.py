"""Profiles: the time of each layer of an engine, and of each module."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from trtnet.benchmark.inputs import random_inputs
from trtnet.benchmark.statistics import Interval, median_interval
from trtnet.errors import UsageError
from trtnet.layer_names import LayerName, cut
from trtnet.records import Records, Row

if TYPE_CHECKING:
    from trtnet.engines.session import Session

LayerTimes = Sequence[tuple[str, float]]
"""The profile of one execution: name and milliseconds of each layer, in order."""

# `<module path>/<op>`, as Network names layers, within TensorRT's names: fused layers are joined by
# ` + `, regions are `{ForeignNode[first...last]}`.
_LAYER = re.compile(r"(?:[\w#]+(?:\.[\w#]+)*)?/[A-Za-z_]\w*(?:#\d+)?")


@dataclass(frozen=True)
class LayerTime:
    """The time of one layer that the backend executes, over all profiled executions.

    Attributes:
        name: the backend's name of the layer.
        members: layers of the network in that name: ``("conv1/conv", "relu/relu")`` for a fusion;
            empty for layers that the backend adds, such as a change of layout.
        mean_ms, median_ms: mean and median over the executions, in milliseconds.
        share: share of the time of all layers, 0 to 1.
        bound_ms: the roofline bound in milliseconds; ``None`` where it is unknown. See
            :func:`bounded`.
        min_ms: the least time in milliseconds, which noise disturbs least.
        times_ms: of each execution, in milliseconds, where they were asked for.
        interval_ms: 95 % confidence interval of the median; ``None`` for fewer than six executions.
    """

    name: str
    members: tuple[str, ...]
    mean_ms: float
    median_ms: float
    share: float
    bound_ms: float | None = None
    min_ms: float | None = None
    interval_ms: Interval | None = None
    times_ms: tuple[float, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that the members belong to, in order."""
        return tuple(dict.fromkeys(name.rpartition("/")[0] for name in self.members))

    def row(self) -> Row:
        """The layer as a row with the names of docs/study.md, in seconds. It is identified by its
        first member, without one by the backend's name, which is ``engine_layer``."""
        first = self.members[0] if self.members else None
        name = LayerName("", 0, self.name) if first is None else LayerName.read(first)
        low, high = self.interval_ms or (None, None)
        bound = _seconds(self.bound_ms)
        least = self.median_ms if self.min_ms is None else self.min_ms
        return {
            "layer": first,
            **name.row,
            "engine_layer": self.name,
            "members": len(self.members),
            "time_s": self.median_ms / 1e3,
            "mean_s": self.mean_ms / 1e3,
            "min_s": _seconds(self.min_ms),
            "low_s": _seconds(low),
            "high_s": _seconds(high),
            "share": self.share,
            "bound_s": bound,
            "gap": least / 1e3 / bound if bound else None,
        }


def profile(
    execute: Callable[[], LayerTimes] | Session,
    iterations: int = 10,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    raw: bool = False,
) -> Records[LayerTime]:
    """The average profile of `iterations` executions, after one that does not count.

    Args:
        execute: a session, which runs on seeded random inputs; or a function that returns the
            profile of one execution, ``lambda: lane.context.profile(lane.stream.handle)``.
            Profiled layers run one after the other with an event in between, so their sum exceeds
            the time of an execution.
        iterations: number of executions.
        shapes: of the inputs of a session; needed where its engine has dynamic axes.
        raw: also keep the time of each execution, :attr:`LayerTime.times_ms`.
    """
    if callable(getattr(execute, "lane", None)):
        return _profile_session(cast("Session", execute), iterations, shapes, raw)
    run = cast("Callable[[], LayerTimes]", execute)
    run()
    runs = [run() for _ in range(iterations)]
    layers = average(runs)
    if not raw:
        return layers
    times = zip(*([time for _, time in run] for run in runs), strict=True)
    return Records(
        dataclasses.replace(layer, times_ms=own) for layer, own in zip(layers, times, strict=True)
    )


def _profile_session(
    session: Session, iterations: int, shapes: Mapping[str, tuple[int, ...]] | None, raw: bool
) -> Records[LayerTime]:
    chosen = {b.name: (shapes or {}).get(b.name, tuple(b.shape)) for b in session.inputs}
    with session.lane() as lane:
        lane.bind(chosen)
        lane.fill(random_inputs(session.inputs, chosen))
        lane.copy_in()
        lane.stream.synchronize()
        return profile(lambda: lane.context.profile(lane.stream.handle), iterations, raw=raw)


def noise(layers: Sequence[LayerTime]) -> float:
    """How much the mean time of all layers exceeds the least: 0.1 for 10 %. Above that the machine
    was busy with other work, or its clock changed, and only the least times mean something."""
    least = math.fsum(layer.mean_ms if layer.min_ms is None else layer.min_ms for layer in layers)
    mean = math.fsum(layer.mean_ms for layer in layers)
    return mean / least - 1 if least else 0.0


def average(runs: Sequence[LayerTimes]) -> Records[LayerTime]:
    """The mean, median and share of each layer over all `runs`, in the order of the first run.

    Raises:
        UsageError: no runs, or runs with different layers.
    """
    names = [[name for name, _ in run] for run in runs]
    if not names or any(found != names[0] for found in names):
        raise UsageError(
            "these runs cannot be averaged",
            expected="the same layers in every run",
            got=", ".join(f"{len(found)} layers" for found in names) or "no run",
            fix="profile the same engine with the same shapes in every run",
        )
    times = list(zip(*([time for _, time in run] for run in runs), strict=True))
    total = sum(map(sum, times))
    return Records(
        LayerTime(
            name=name,
            members=tuple(dict.fromkeys(_LAYER.findall(name))),
            mean_ms=sum(own) / len(own),
            median_ms=median(own),
            share=sum(own) / total if total else 0.0,
            min_ms=min(own),
            interval_ms=median_interval(own),
        )
        for name, own in zip(names[0], times, strict=True)
    )


def by_module(layers: Sequence[LayerTime], depth: int = 1) -> dict[str, float]:
    """Milliseconds by module path, paths cut to `depth` names: the sums of the least times of the
    layers, which noise disturbs least, or of their means where these are not known.

    A fusion across modules counts for the first one, and layers of no module are under ``""``.
    :func:`trtnet.study` divides fusions as it is told to.

    >>> conv = LayerTime("layer1.0.conv1/conv", ("layer1.0.conv1/conv",), 0.5, 0.5, 1.0)
    >>> by_module([conv])
    {'layer1': 0.5}
    """
    found: dict[str, float] = {}
    for layer in layers:
        path = layer.modules[0] if layer.modules else ""
        module = cut(path, depth)
        time = layer.mean_ms if layer.min_ms is None else layer.min_ms
        found[module] = found.get(module, 0.0) + time
    return found


def to_json(layers: Sequence[LayerTime], iterations: int) -> list[dict[str, Any]]:
    """The profile in the format of ``trtexec --exportProfile``, with module paths in addition.

    Args:
        layers: from :func:`profile` or :func:`average`.
        iterations: number of executions that they are the average of.
    """
    return [
        {"count": iterations},
        *(
            {
                "name": layer.name,
                "timeMs": layer.mean_ms * iterations,
                "averageMs": layer.mean_ms,
                "medianMs": layer.median_ms,
                "minMs": layer.min_ms,
                "percentage": 100 * layer.share,
                "modules": list(layer.modules),
            }
            for layer in layers
        ),
    ]


def bounded(layers: Sequence[LayerTime], bounds: Mapping[str, float]) -> Records[LayerTime]:
    """`layers` with their roofline bounds.

    Args:
        layers: from :func:`profile` or :func:`average`.
        bounds: bound in milliseconds by name of the network's layer: ``Roofline.layers_ms``.
    """
    return Records(
        dataclasses.replace(
            layer,
            bound_ms=sum(bounds.get(name, 0.0) for name in layer.members)
            if layer.members
            else None,
        )
        for layer in layers
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3
