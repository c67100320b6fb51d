"""``trtnet bench``: measures an engine, or a model of the zoo, on this machine."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from trtnet import benchmark, graph
from trtnet.backend import description, portable
from trtnet.benchmark import LayerTime, Roofline, Summary, report
from trtnet.benchmark.inputs import random_inputs
from trtnet.benchmark.profile import bounded
from trtnet.benchmark.profile import to_json as profile_json
from trtnet.building.builder import build
from trtnet.building.plan import Plan
from trtnet.cli.bench_arguments import bench_parser, runtime_shapes, settings
from trtnet.cli.device_flags import notes_of, session_options
from trtnet.cli.gpu_flags import chosen_gpu
from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.cli.target_flags import find
from trtnet.engines import compatibility
from trtnet.engines.options import check_options
from trtnet.engines.protocol import LoadOptions
from trtnet.engines.session import Session
from trtnet.engines.steps import Steps
from trtnet.errors import TrtnetError, UsageError
from trtnet.escaping import printable
from trtnet.files import atomic_write
from trtnet.graph import Bound, Graph
from trtnet.hardware import gpus
from trtnet.pipeline.files import is_model_file

_PROFILED = 10  # executions, layer by layer
_NOISY = 0.1  # of the least time of all layers
_COLUMNS = ("times in ms", "min", "max", "mean", "median", "90%", "95%", "99%")


@dataclass(frozen=True)
class BenchResult:
    """The measurements of one engine.

    Attributes:
        runtime: what ran it, such as ``"torch 2.14.1, 2 threads"``.
        device: name of the GPU, or ``"cpu"``.
        captured: whether CUDA graphs were launched.
        capture_failure: why none could be captured; ``None`` where that is not known.
        trace: without the warm-up.
    """

    backend: str
    runtime: str
    device: str
    precision: str | None
    shapes: dict[str, tuple[int, ...]]
    captured: bool
    trace: benchmark.Trace
    summary: Summary
    roofline: Roofline | None = None
    layers: list[LayerTime] = field(default_factory=list)
    capture_failure: str | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether it ran on a GPU."""
        return self.device != "cpu"

    @property
    def limited_by(self) -> str | None:
        """What limits the throughput, in words; ``None`` where that is not known."""
        return benchmark.limited_by(self.summary, self.roofline, asynchronous=self.on_gpu)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(bench_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints, and writes the files that are asked for."""
    stream = human_stream(arguments.json)
    progress = Progress(stream)
    options = session_options(arguments)
    engine, network = _engine(arguments, progress)
    with Session(
        engine,
        backend="auto" if isinstance(engine, Plan) else arguments.backend,
        device=arguments.device,
        cuda_graph=arguments.useCudaGraph,
        contexts=arguments.infStreams,
        **options,
    ) as session:
        say(*notes_of(session), stream=stream)
        result = measure(session, network, arguments, progress)
    _print(result, arguments, stream)
    if arguments.exportTimes is not None:
        _write(arguments.exportTimes, "--exportTimes", benchmark.to_json(result.trace))
    if arguments.exportProfile is not None:
        _write(arguments.exportProfile, "--exportProfile", profile_json(result.layers, _PROFILED))
    if arguments.json is not None:
        write_json(as_json(result, arguments), arguments.json)
    return 0


def measure(
    session: Session, network: Graph | None, arguments: argparse.Namespace, progress: Progress
) -> BenchResult:
    """Runs `session` as the flags say."""
    device = _device_name(session, arguments.device)
    chosen = settings(arguments)
    shapes = runtime_shapes(arguments, session.inputs, session.profiles)
    precision = session.plan.described.precision
    bound = None
    if network is not None:
        bound = _bound(network, shapes, device, precision, arguments)
    values = random_inputs(session.inputs, shapes, arguments.seed)
    layers: list[LayerTime] = []
    with contextlib.ExitStack() as stack:
        lanes = [stack.enter_context(session.lane()) for _ in range(arguments.infStreams)]
        with progress.step("prepare"):
            for lane in lanes:
                lane.bind(shapes)
                lane.fill(values)
        with progress.step("measure") as update:
            update(f"{chosen.duration_s:g} s after {chosen.warm_up_ms:g} ms of warm-up")
            every = benchmark.measure(lanes, chosen)
            update(f"{len(every)} queries, the warm-up among them")
        if arguments.dumpProfile or arguments.exportProfile is not None:
            with progress.step("profile"):
                layers = _profile(lanes[0])
        captured = all(lane.is_captured for lane in lanes)
        failures = [lane.capture_failure for lane in lanes if lane.capture_failure is not None]
    trace = benchmark.without_warm_up(every, chosen.warm_up_ms)
    summary = benchmark.summarize(trace)
    roofline = None if bound is None else benchmark.roofline(bound, summary)
    if roofline is not None:
        layers = bounded(layers, roofline.layers_ms)
    return BenchResult(
        session.backend, session.runtime, device, precision, shapes, captured, trace, summary,
        roofline, layers, " ".join(failures[0].split()) if failures else None,
    )  # fmt: skip


def as_json(result: BenchResult, arguments: argparse.Namespace) -> dict[str, Any]:
    """The report in JSON values, times in milliseconds."""
    return {
        "target": arguments.target,
        "backend": result.backend,
        "runtime": result.runtime,
        "device": result.device,
        "precision": result.precision,
        "shapes": {name: list(shape) for name, shape in result.shapes.items()},
        "streams": arguments.infStreams,
        "cuda_graph": result.captured,
        "capture_failure": result.capture_failure,
        "settings": dataclasses.asdict(settings(arguments)),
        "summary": report.summary_json(result.summary),
        "warnings": result.summary.warnings(asynchronous=result.on_gpu),
        "roofline": report.roofline_json(result.roofline),
        "limited_by": result.limited_by,
        "layers": report.layers_json(result.layers),
        "modules": report.modules_json(result.layers),
        "profile_noise": benchmark.noise(result.layers) if result.layers else None,
    }


def _engine(arguments: argparse.Namespace, progress: Progress) -> tuple[Path | Plan, Graph | None]:
    """The engine, and its network if that is known; that of a model is built here."""
    path = Path(arguments.target)
    if is_model_file(arguments.target):
        plan = Plan.load(path)
        if arguments.network is not None:
            return path, find(arguments.network, arguments, values=False).graph
        return path, _archived(plan)
    if arguments.network is not None:
        raise UsageError("--network is for engine files", fix=f"leave it out: {path} is a model")
    if arguments.backend == "auto":
        arguments.backend = portable().name
    check_options(description(arguments.backend), arguments.device, _options(arguments))
    if arguments.shapes is not None and not arguments.optShapes and arguments.batch is None:
        for which in ("minShapes", "optShapes", "maxShapes"):
            setattr(arguments, which, [arguments.shapes])
    with progress.step("build") as update:
        target = find(arguments.target, arguments, values=True)
        if target.defined is None:
            raise UsageError("name an engine file or a model", got=arguments.target)
        shapes = target.defined.model.shapes
        profiles = [{shapes.name: profile} for profile in shapes.profiles]
        return build(target.defined.network, profiles, progress=update), target.graph


def _options(arguments: argparse.Namespace) -> LoadOptions:
    """Of the session, as far as a model need not be built to check them."""
    return LoadOptions(
        arguments.backend,
        cuda_graph=arguments.useCudaGraph,
        **session_options(arguments),
    )


def _archived(plan: Plan) -> Graph | None:
    """The network in an engine that is an archive of it; ``None`` for other engines."""
    if not description(compatibility.backend_of(plan)).writes_archive:
        return None
    return graph.loads(plan.engine, "the engine")


def _device_name(session: Session, asked: str) -> str:
    if session.device == "cpu":
        return "cpu"
    index = int(asked.partition(":")[2] or 0)
    return gpus()[index].name


def _bound(
    network: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    device: str,
    precision: str | None,
    arguments: argparse.Namespace,
) -> Bound | None:
    """The least time on the GPU that is `asked` for, or on the `device` if it is known.

    Raises:
        UsageError: a GPU was asked for that is unknown, or has no ceiling for the precision.
    """
    asked = chosen_gpu(arguments)
    if asked is not None and device == "cpu" and arguments.ceilings is None:
        raise UsageError(
            f"--gpu {asked.key}: this runs on a CPU, whose times say nothing about a GPU",
            fix="leave it out; trtnet cost tells the bound without running. For the roofline of "
            "this CPU, measure it: trtnet ceilings -o FILE (benchmark.measure_ceilings()), and "
            "--ceilings FILE (gpu=)",
        )
    known = benchmark.known_gpu(device)
    gpu = asked or (None if known is None else graph.find_gpu(known))
    if gpu is None:
        return None
    in_fp32 = precision == "fp32" or (precision == "tf32" and "tf32" not in gpu.flops)
    try:
        return graph.cost(network, shapes).bound(gpu, "fp32" if in_fp32 else None)
    except TrtnetError:  # a ceiling that is not in the table, or shapes that depend on data
        if asked is not None:
            raise
        return None


def _profile(lane: Steps) -> list[LayerTime]:
    return benchmark.profile(lambda: lane.context.profile(lane.stream.handle), _PROFILED)


def _print(result: BenchResult, arguments: argparse.Namespace, stream: TextIO) -> None:
    batch = next((shape[0] for shape in result.shapes.values() if shape), 1)
    shapes = ", ".join(f"{name} {'x'.join(map(str, s))}" for name, s in result.shapes.items())
    graphs = ", CUDA graphs" if result.captured else ""
    runtime = "" if arguments.runtime == "torch" else f" ({printable(result.runtime)})"
    where = f"{result.backend} on {result.device}{runtime}{graphs}"
    say("", f"{arguments.target}: {where}; {shapes}", "", stream=stream)
    processor, asynchronous = "GPU" if result.on_gpu else "CPU", result.on_gpu
    lines = report.summary_lines(result.summary, batch, processor)
    noise = result.summary.noise_warning(asynchronous=asynchronous)
    if noise is not None and result.summary.median_is_uncertain:
        lines.insert(1, f"* {noise} The min is the least disturbed.")
    if result.roofline is not None:
        lines.append(report.roofline_line(result.roofline, result.limited_by))
    if result.on_gpu and arguments.useCudaGraph and not result.captured:
        reason = result.capture_failure or "the execution cannot be captured"
        lines.append(f"* No CUDA graph was used: {reason}.")
    lines += [f"* {text}" for text in result.summary.bound_warnings(asynchronous=asynchronous)]
    say(*lines, "", stream=stream)
    columns = [(name, "right" if name != _COLUMNS[0] else "left") for name in _COLUMNS]
    table(columns, report.rows(result.summary, processor), stream)
    if arguments.dumpProfile:
        _print_layers(result.layers, stream)


def _print_layers(layers: Sequence[LayerTime], stream: TextIO) -> None:
    has_bounds = any(layer.bound_ms is not None for layer in layers)
    columns = [("layer", "left"), ("module", "left"), ("mean ms", "right"), ("median ms", "right"),
               ("min ms", "right"), ("time %", "right"),
               *([("bound ms", "right")] if has_bounds else [])]  # fmt: skip
    rows = []
    for layer in layers:
        row = [layer.name, ", ".join(layer.modules), f"{layer.mean_ms:.4f}",
               f"{layer.median_ms:.4f}", "" if layer.min_ms is None else f"{layer.min_ms:.4f}",
               f"{100 * layer.share:.1f}"]  # fmt: skip
        if has_bounds:
            row.append("" if layer.bound_ms is None else f"{layer.bound_ms:.4f}")
        rows.append(row)
    say("", f"=== Profile ({_PROFILED} iterations) ===", stream=stream)
    table(columns, rows, stream)
    modules = sorted(benchmark.by_module(layers).items(), key=lambda item: -item[1])
    rows = [[name or "(none)", f"{time:.4f}"] for name, time in modules]
    say("", stream=stream)
    table([("module", "left"), ("min ms", "right")], rows, stream)
    noise = benchmark.noise(layers)
    if noise > _NOISY:
        say("", f"* The mean time of all layers is {noise:.0%} above the least: the machine was "
            "busy with other work, or its clock changed. Only the least times mean something.",
            stream=stream)  # fmt: skip


def _write(path: Path, flag: str, content: list[dict[str, Any]]) -> None:
    try:
        with atomic_write(path) as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        raise UsageError(f"{flag}: {path} cannot be written", got=error) from error
