"""One run of ``python -m trtnet.zoo MODEL``: define, verify, build, write, report."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet import graph, zoo
from trtnet.backend import Backend, load
from trtnet.building.builder import build, choose_gpus, describe
from trtnet.building.options import BuildConfig
from trtnet.building.plan import Plan, sidecar_path
from trtnet.cli.calibrating import Calibrated, Calibrator, need_data
from trtnet.cli.defining import define
from trtnet.cli.model import load_weights, model_arguments, torch_model
from trtnet.cli.options import build_config
from trtnet.cli.progress import Progress
from trtnet.cli.ranges import check_range
from trtnet.cli.report import (
    divergence_lines,
    executed,
    human_stream,
    summary_lines,
    verify_summary,
    write_json,
)
from trtnet.cli.shapes import INPUT, InputShapes, input_shapes, verified_shapes
from trtnet.cli.verifying import against, verify_batches
from trtnet.errors import PlanError, UsageError
from trtnet.module import Module
from trtnet.network import Network
from trtnet.precision.table import QUANTIZED
from trtnet.precision.targets import choose_targets
from trtnet.weights import Weights
from trtnet.weights.torch_import import require
from trtnet.zoo import Entry


@dataclass(frozen=True)
class Job:
    """What the arguments ask for, as far as it can be settled before any work is done.

    Attributes:
        chosen: arguments of the model's builder.
        verified: the shapes to verify.
        path: where the engine goes.
    """

    arguments: argparse.Namespace
    entry: Entry
    chosen: dict[str, Any]
    shapes: InputShapes
    verified: list[tuple[int, ...]]
    backend: Backend
    config: BuildConfig
    path: Path


def run(arguments: argparse.Namespace) -> int:
    """Does the job; returns the exit status, 1 if verification failed."""
    job = prepare(arguments)
    stream = human_stream(arguments.json)
    report = execute(job, Progress(stream))
    passed = report["verify"]["passed"] is not False
    lines = [] if passed else divergence_lines(report["verify"])
    print("", *lines, *summary_lines(report), sep="\n", file=stream)
    if arguments.json is not None:
        write_json(report, arguments.json)
    return 0 if passed else 1


def prepare(arguments: argparse.Namespace) -> Job:
    """Raises what is wrong with the arguments."""
    entry = zoo.get_entry(arguments.model)
    config = build_config(arguments)
    name = arguments.policy.stem if arguments.policy else arguments.precision
    default = Path("engines") / f"{entry.name}-{name}.engine"
    path = arguments.saveEngine or default
    _check_paths(path, arguments.json)
    backend = load(arguments.backend)
    config.check(backend)
    choose_targets(  # before any work; the network decides whether they really occur
        config.compute_capabilities,
        backend.default_capabilities,
        lambda precision: arguments.rules.uses(precision.name),
    )
    need_data(arguments, arguments.rules)
    if not arguments.skip_verify:
        require("torch", "verification (--skip-verify does without)")
    shapes = input_shapes(arguments, entry.input_shape)
    return Job(
        arguments=arguments,
        entry=entry,
        chosen=model_arguments(entry, arguments),
        shapes=shapes,
        verified=verified_shapes(arguments, shapes),
        backend=backend,
        config=config,
        path=path,
    )


def _check_paths(engine: Path, json: str | None) -> None:
    """Finds a hopeless path before the work, not after it."""
    if engine.is_dir():
        raise UsageError(f"--saveEngine: {engine} is a directory", fix="name a file in it")
    try:
        engine.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--saveEngine: {engine} cannot be written", got=error) from error
    if json is None or json == "-":
        return
    if Path(json).absolute() in (engine.absolute(), sidecar_path(engine).absolute()):
        raise UsageError(f"--json: {json} is where the engine or its sidecar goes")
    if Path(json).is_dir() or not Path(json).absolute().parent.is_dir():
        raise UsageError(f"--json: {json} is a directory, or in one that does not exist")


def execute(job: Job, progress: Progress) -> dict[str, Any]:
    """The report; the engine is written unless verification fails."""
    arguments = job.arguments
    model = job.entry.build(**job.chosen)
    with progress.step("weights"):
        weights = load_weights(job.entry, arguments.weights, arguments.seed, job.chosen)
        model.load_state_dict(weights)
    calibrated = _calibrate(job, model, weights, progress)
    with progress.step("define"):
        started = time.perf_counter()
        table = calibrated.table if calibrated else None
        network = define(job.backend, arguments.rules, job.shapes, model, table, arguments.plugins)
        define_s = time.perf_counter() - started
        network.check()
    if calibrated is not None:
        check_range(calibrated.rows, network, progress.stream)
    verify = {**verify_summary(None), "shapes": []}
    if not arguments.skip_verify:
        with progress.step("verify"):
            verify = _verify(job, model, network, calibrated)
    report = {
        "model": job.entry.name,
        "backend": {"name": job.backend.name, "version": job.backend.version},
        "precision": arguments.precision,
        "weights": {
            "source": weights.source,
            "origin": weights.metadata.get("weights"),
            "sha256": weights.sha256,
            "parameters": sum(parameter.numel for parameter in model.parameters()),
        },
        "network": _describe(network, job.shapes, define_s),
        "calibration": calibrated.about if calibrated else None,
        "verify": verify,
    }
    if verify["passed"] is False:
        report["engine"] = dict.fromkeys(
            ("path", "bytes", "sha256", "build_s", "reused", "compute_capabilities", "note")
        )
    else:
        report["engine"] = _build(job, network, _about(report, weights), progress)
    report["executed"] = executed(job.backend.name, report["engine"]["path"])
    return report


def _calibrate(job: Job, model: Module, weights: Weights, progress: Progress) -> Calibrated | None:
    """The ranges, where any are needed or asked for."""
    arguments = job.arguments
    if not arguments.rules.uses(*QUANTIZED) and arguments.calib_data is None:
        return None
    old = None if arguments.force else _load(job.path)
    known = (old.sidecar.get("calibration") if old else None) or {}
    with progress.step("calibrate") as update:
        calibrator = Calibrator(arguments, job.backend, arguments.rules, job.shapes, model, weights)
        return calibrator.run(job.path, known, update)


def _verify(
    job: Job, model: Module, network: Network, calibrated: Calibrated | None
) -> dict[str, Any]:
    counterpart = torch_model(job.entry, model, job.chosen)
    data = calibrated.data if calibrated else None
    shapes = job.verified if data is None else job.shapes.typical  # data has images of one size
    verification, images = verify_batches(
        network,
        counterpart,
        shapes,
        images=job.arguments.verify_inputs,
        seed=job.arguments.seed,
        data=data,
    )
    summary = verify_summary(verification, images, against(job.entry))
    return {**summary, "shapes": [list(shape) for shape in shapes]}


def _describe(network: Network, shapes: InputShapes, define_s: float) -> dict[str, Any]:
    definition = network.definition
    read = graph.read(definition)
    return {
        "layers": len(read.layers),
        "macs": graph.macs(read, {INPUT: shapes.typical[0]}),
        "inputs": describe(definition.get_input, definition.num_inputs),
        "outputs": describe(definition.get_output, definition.num_outputs),
        "define_s": round(define_s, 3),
    }


def _about(report: dict[str, Any], weights: Weights) -> dict[str, Any]:
    """What the sidecar says besides what build() knows."""
    return {
        "model": report["model"],
        "weights": report["weights"],
        "preprocessing": weights.preprocessing,
        "class_names": weights.class_names,
        "calibration": report["calibration"],
        "verification": {key: value for key, value in report["verify"].items() if key != "rows"},
    }


def _build(job: Job, network: Network, about: dict[str, Any], progress: Progress) -> dict[str, Any]:
    old = None if job.arguments.force else _load(job.path)
    with progress.step("build") as update:
        started = time.perf_counter()
        plan = build(
            network,
            [{INPUT: profile} for profile in job.shapes.profiles],
            job.config,
            sidecar=about,
            reuse=old,
            progress=update,
        )
        build_s = time.perf_counter() - started
    reused = old is not None and plan.engine is old.engine
    if plan != old:
        plan.save(job.path)
    engine = plan.sidecar["engine"]
    return {
        "path": str(job.path),
        "bytes": engine["bytes"],
        "sha256": engine["sha256"],
        "build_s": 0.0 if reused else round(build_s, 3),
        "reused": reused,
        "compute_capabilities": plan.sidecar["compute_capabilities"],
        "note": choose_gpus(network, job.config).note,
    }


def _load(path: Path) -> Plan | None:
    """The plan at `path`; ``None`` where there is none, or one that cannot be relied on."""
    try:
        return Plan.load(path)
    except PlanError:
        return None
