"""run(): define, calibrate, verify, build and report one model."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet import graph
from trtnet.backend import Backend, load
from trtnet.building.builder import build, choose_gpus, describe
from trtnet.building.plan import Plan
from trtnet.detection.reading import format_of
from trtnet.errors import PlanError, UsageError
from trtnet.network import Network
from trtnet.pipeline.about_images import about_images
from trtnet.pipeline.calibration import Calibrated, Calibrator, require_data
from trtnet.pipeline.defined import DefinedModel, LoadedModel
from trtnet.pipeline.engine_name import (
    BuildIdentity,
    EnginePlace,
    free_place,
    made_by,
    named_place,
)
from trtnet.pipeline.model import builder_arguments, fill
from trtnet.pipeline.preprocessing import ENTRY, ORIGIN, require_one_name_per_class
from trtnet.pipeline.progress import Observer, Silent
from trtnet.pipeline.ranges import check_range
from trtnet.pipeline.recipe import Recipe, default_engine
from trtnet.pipeline.report import BENCH, executed
from trtnet.pipeline.shapes import InputShapes, input_shapes, verified_shapes
from trtnet.pipeline.verify_report import verify_summary
from trtnet.plugins.registry import import_flags
from trtnet.precision.targets import choose_targets
from trtnet.reading.files import size_text
from trtnet.weights import Weights
from trtnet.weights.loading import is_path
from trtnet.weights.torch_import import require
from trtnet.zoo.measuring import parameter_count


@dataclass(frozen=True)
class PreparedRecipe:
    """A recipe that :func:`prepare` has checked.

    Attributes:
        recipe: as it was given.
        arguments: of the model's builder.
        shapes: of the input.
        verified: the shapes to verify.
        backend: loaded.
        identity: what the engine must have in common with one that it replaces.
        place: where the engine goes; its folder exists.
    """

    recipe: Recipe
    arguments: dict[str, Any]
    shapes: InputShapes
    verified: list[tuple[int, ...]]
    backend: Backend
    identity: BuildIdentity
    place: EnginePlace

    @property
    def engine(self) -> Path:
        """The file of the engine."""
        return self.place.path

    def settled(self, arguments: Mapping[str, Any], observer: Observer) -> PreparedRecipe:
        """The same with all `arguments`, of which a file of weights may have told some: another
        place where the engine that is there has others."""
        if self.identity.settled:
            return self
        made = made_by(self.recipe.entry, arguments)
        identity = dataclasses.replace(self.identity, made_by=made, settled=True)
        place = _place(self.recipe, identity)
        if place.note is not None and place != self.place:
            observer.note(place.note)
        return dataclasses.replace(self, identity=identity, place=place)


@dataclass(frozen=True)
class Result:
    """What :func:`run` made.

    Attributes:
        report: JSON values: ``model, backend, precision, weights, preprocessing,
            preprocessing_source, network, output_format, calibration, verify, engine,
            executed``.
        model: the network and where it came from.
        plan: the engine; ``None`` where verification failed.
    """

    report: dict[str, Any]
    model: DefinedModel
    plan: Plan | None

    @property
    def passed(self) -> bool:
        """False where verification failed; true where it was left out."""
        return self.report["verify"]["passed"] is not False


def prepare(recipe: Recipe) -> PreparedRecipe:
    """Checks everything that can be checked before the work.

    Raises:
        UsageError, ShapeError, UnsupportedError: what is wrong with the recipe.
        BackendError, WeightsError: a package that is missing.
    """
    entry = recipe.entry
    _check_engine(recipe.engine or _default(recipe))
    backend = load(recipe.backend)
    recipe.config.check(backend)
    choose_targets(  # raises before any work; the network decides which precisions occur
        recipe.config.compute_capabilities,
        backend.default_capabilities,
        lambda precision: recipe.policy.uses(precision.name),
    )
    require_data(recipe.calibration, recipe.policy)
    if recipe.verify:
        require("torch", "verification (--skip-verify, or verify=False, does without)")
    shapes = input_shapes(recipe, recipe.input_shape)
    arguments = builder_arguments(recipe)
    verified = verified_shapes(recipe, shapes)
    identity = BuildIdentity(
        entry.name,
        made_by(entry, arguments),
        backend.name,
        recipe.precision_name,
        recipe.policy.as_dict(),
        shapes,
        settled=recipe.weights is None or not (entry.pretrained or is_path(recipe.weights)),
    )
    place = _place(recipe, identity)
    return PreparedRecipe(recipe, arguments, shapes, verified, backend, identity, place)


def _place(recipe: Recipe, identity: BuildIdentity) -> EnginePlace:
    if recipe.engine is not None:
        return named_place(recipe.engine, identity)
    return free_place(_default(recipe), identity)


def _default(recipe: Recipe) -> Path:
    return default_engine(recipe.entry.name, recipe.label or recipe.precision_name)


def _check_engine(path: Path) -> None:
    if path.is_dir():
        raise UsageError(
            f"--saveEngine: {path} is a directory", fix="name a file in it (Recipe.engine)"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--saveEngine: {path} cannot be written", got=error) from error


def run(recipe: Recipe | PreparedRecipe, observer: Observer | None = None) -> Result:
    """Defines a model, calibrates it where that is needed, verifies it, builds its engine and
    writes it with its sidecar. Nothing is written where verification fails.

    Args:
        recipe: what to build.
        observer: receives the progress.

    Raises:
        TrtnetError: what :func:`prepare` raises; weights, data or networks that cannot be used.
    """
    prepared = prepare(recipe) if isinstance(recipe, Recipe) else recipe
    observer = observer or Silent()
    recipe = prepared.recipe
    model = _loaded(prepared, observer)
    prepared = prepared.settled(model.arguments, observer)
    calibrated = _calibrate(prepared, model, observer)
    with observer.step("define") as update:
        started = time.perf_counter()
        network = model.define(recipe.policy, calibrated.table if calibrated else None)
        define_s = time.perf_counter() - started
        network.check()
        update(f"{network.definition.num_layers} layers")
    if calibrated is not None:
        check_range(calibrated.rows, network, observer)
    defined = DefinedModel(model, network, calibrated.data if calibrated else None)
    report: dict[str, Any] = {
        "model": recipe.entry.name,
        "backend": {"name": prepared.backend.name, "version": prepared.backend.version},
        "precision": recipe.precision_name,
        "policy": recipe.policy.as_dict(),
        "weights": _describe_weights(model),
        ENTRY: model.weights.preprocessing,
        ORIGIN: model.weights.metadata.get(ORIGIN),
        "network": _describe_network(network, model.shapes, define_s),
        "calibration": calibrated.about if calibrated else None,
    }
    report["output_format"] = _output_format(report["network"]["outputs"])
    require_one_name_per_class(model.weights.class_names, report["network"]["outputs"])
    report |= {
        "verify": _verify(prepared, defined, observer),
    }
    plan = None
    report["engine"] = dict.fromkeys(
        ("path", "bytes", "sha256", "build_s", "reused", "changed", "compute_capabilities", "note")
    )
    if report["verify"]["passed"] is not False:
        about = {
            **_sidecar(report, model.weights),
            "made_by": made_by(model.entry, model.arguments),
        }
        plan, report["engine"] = _build(prepared, network, about, observer)
    report["engine"]["replaced"] = prepared.place.replaced if plan is not None else None
    report["executed"] = executed(prepared.backend.name, report["engine"]["path"])
    if plan is not None and BENCH in report["executed"]["reason"]:
        report["executed"]["reason"] += import_flags(plan.described.plugins or ())
    return Result(report, defined, plan)


def _loaded(prepared: PreparedRecipe, observer: Observer) -> LoadedModel:
    recipe, shapes = prepared.recipe, prepared.shapes
    with observer.step("weights") as update:
        filled = fill(recipe, prepared.arguments, shapes.typical[0][1:], observer)
        update(filled.weights.source)
    weights = about_images(filled.weights, recipe, shapes)
    return LoadedModel(recipe.entry, filled.arguments, filled.module, weights, shapes,
                       prepared.backend, recipe.plugins, recipe.nms)  # fmt: skip


def _calibrate(
    prepared: PreparedRecipe, model: LoadedModel, observer: Observer
) -> Calibrated | None:
    """The ranges, where any are needed or asked for."""
    recipe = prepared.recipe
    if not recipe.quantizes and recipe.calibration.data is None:
        return None
    old = _old_plan(prepared)
    known = old.described.calibration if old else None
    with observer.step("calibrate") as update:
        calibrator = Calibrator(
            recipe.calibration,
            model.backend,
            recipe.policy,
            model.shapes,
            model.module,
            model.weights,
            recipe.seed,
            recipe.plugins,
            recipe.nms,
        )
        return calibrator.run(prepared.engine, known, update)


def _verify(prepared: PreparedRecipe, defined: DefinedModel, observer: Observer) -> dict[str, Any]:
    recipe = prepared.recipe
    if not recipe.verify:
        return {**verify_summary(None), "shapes": []}
    with observer.step("verify") as update:
        found = defined.verify(recipe.verify_images, recipe.seed, prepared.verified, update)
    return {**verify_summary(found), "shapes": [list(shape) for shape in found.shapes]}


def _describe_weights(model: LoadedModel) -> dict[str, Any]:
    return {
        "source": model.weights.source,
        "origin": model.weights.metadata.get("weights"),
        "sha256": model.weights.sha256,
        "parameters": parameter_count(model.module),
        "notes": [*model.weights.notes],
    }


def _describe_network(network: Network, shapes: InputShapes, define_s: float) -> dict[str, Any]:
    definition = network.definition
    read = graph.read(definition)
    return {
        "layers": len(read.layers),
        "macs": graph.macs(read, shapes.by_name),
        "inputs": describe(definition.get_input, definition.num_inputs),
        "outputs": describe(definition.get_output, definition.num_outputs),
        "define_s": round(define_s, 3),
    }


def _output_format(outputs: Sequence[Mapping[str, Any]]) -> str | None:
    """Of a detector, see :data:`trtnet.detection.OUTPUT_FORMATS`."""
    return format_of({output["name"]: output["shape"] for output in outputs})


def _sidecar(report: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    """What the sidecar says besides what build() knows: nothing that another run of the same recipe
    would say otherwise."""
    return {
        "model": report["model"],
        "weights": report["weights"],
        ENTRY: report[ENTRY],
        ORIGIN: report[ORIGIN],
        "class_names": weights.class_names,
        "output_format": report["output_format"],
        "calibration": _of_every_run(report["calibration"]),
        "verification": {key: value for key, value in report["verify"].items() if key != "rows"},
    }


def _of_every_run(calibration: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A calibration without what differs between two runs of the same recipe."""
    if calibration is None:
        return None
    return {key: value for key, value in calibration.items() if key not in ("reused", "seconds")}


def _build(
    prepared: PreparedRecipe, network: Network, about: Mapping[str, Any], observer: Observer
) -> tuple[Plan, dict[str, Any]]:
    """The engine, written to its file, and its part of the report."""
    shapes, old = prepared.shapes, _old_plan(prepared)
    with observer.step("build") as update:
        started = time.perf_counter()
        plan = build(
            network,
            [{shapes.name: profile} for profile in shapes.profiles],
            prepared.recipe.config,
            sidecar=about,
            reuse=old,
            progress=update,
        )
        build_s = time.perf_counter() - started
        update(size_text(len(plan.engine)))
    taken = old is not None and plan.engine is old.engine
    changed = _changed(plan, old) if old is not None and taken else None
    if changed is None or changed:
        plan.save(prepared.engine)
    engine = plan.sidecar["engine"]
    return plan, {
        "path": str(prepared.engine),
        "bytes": engine["bytes"],
        "sha256": engine["sha256"],
        "build_s": 0.0 if taken else round(build_s, 3),
        "reused": changed == [],
        "changed": changed,
        "compute_capabilities": plan.sidecar["compute_capabilities"],
        "note": choose_gpus(network, prepared.recipe.config).note,
    }


def _changed(plan: Plan, old: Plan) -> list[str]:
    """The entries of the sidecar that differ from those of the old plan."""
    now, before = json.loads(json.dumps(plan.sidecar)), old.sidecar
    return sorted(key for key in {*now, *before} if now.get(key) != before.get(key))


def _old_plan(prepared: PreparedRecipe) -> Plan | None:
    """The plan that may be reused; ``None`` where there is none, or one that cannot be relied
    on."""
    if prepared.recipe.force:
        return None
    try:
        return Plan.load(prepared.engine)
    except PlanError:
        return None
