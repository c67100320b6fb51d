"""A session for images: on an engine file, or on a model that is built for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trtnet.backend import description, descriptions, load, portable
from trtnet.building.builder import build
from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.engines.options import check_options
from trtnet.engines.protocol import Binding, LoadOptions
from trtnet.engines.session import Session
from trtnet.errors import BackendError, UsageError
from trtnet.hardware import missing_gpu
from trtnet.imaging import prepared_size
from trtnet.imaging.preprocessing import Preprocessing, checked_preprocessing
from trtnet.pipeline.ability import abilities
from trtnet.pipeline.definition import define
from trtnet.pipeline.files import is_model_file
from trtnet.pipeline.machine import examine
from trtnet.pipeline.model import builder_arguments, fill
from trtnet.pipeline.preprocessing import (
    ENTRY,
    ORIGIN,
    require_one_name_per_class,
    restated,
    unknown_preprocessing,
)
from trtnet.pipeline.progress import Observer, Silent
from trtnet.pipeline.recipe import INPUT, Recipe
from trtnet.pipeline.shapes import InputShapes, default_shape

SIZES = "image_sizes"
"""Name of the second input that an engine for images may have, (N, 2) int32: how far down and
across each prepared image lies in its part of the batch, without the border that follows it."""
_FLOATS = ("float32", "float16")

ImageSize = tuple[int, int]
"""(width, height) of an image."""
Settle = Callable[[Preprocessing], Preprocessing]


def open_image_session(
    recipe: Recipe,
    task: str,
    sizes: Sequence[ImageSize],
    *,
    settle: Settle = checked_preprocessing,
    device: str = "auto",
    runtime: str = "torch",
    engine_host_code_allowed: bool = False,
    optimization_level: int | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
) -> Session:
    """A session on the engine file or the model that ``recipe.model`` names.

    Args:
        recipe: of the model; for a file only its `backend` counts, and :func:`preparation_for`
            takes its `preprocessing`.
        task: what a model must be for, see :class:`trtnet.zoo.Entry`.
        sizes: (width, height) of the images that a model is built for; none for the size that its
            weights were made for.
        settle: changes what the weights say about preprocessing.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        runtime, engine_host_code_allowed, optimization_level, timing_cache: see
            :class:`trtnet.Session`.
        observer: receives the progress.

    Raises:
        UsageError: no such model, one for another task, or an engine that takes no images.
        BackendError, PlanError: it cannot run here.
    """
    options: Any = {
        "runtime": runtime,
        "engine_host_code_allowed": engine_host_code_allowed,
        "optimization_level": optimization_level,
        "timing_cache": timing_cache,
    }
    text = recipe.model if isinstance(recipe.model, str) else recipe.model.name
    if is_model_file(text):
        session = Session(text, backend=recipe.backend, device=device, **options)
    else:
        observer = observer or Silent()
        require_task(recipe, task)
        backend = choose_backend(recipe.backend, device)
        check_options(description(backend), device, LoadOptions(backend, **options))
        with observer.step("build"):
            plan = _plan(recipe, sizes, settle, backend, observer)
        session = Session(plan, device=device, **options)
    try:
        require_images(session, text)
    except UsageError:
        session.close()
        raise
    return session


def require_images(session: Session, name: str) -> None:
    """Checks that an engine takes images, alone or with their :data:`SIZES`.

    Args:
        session: on it.
        name: what errors call it.

    Raises:
        UsageError: it does not.
    """
    inputs = session.inputs
    is_image = bool(inputs) and len(inputs[0].shape) == 4 and inputs[0].dtype in _FLOATS
    if is_image and all(_has_sizes(other, inputs[0]) for other in inputs[1:]):
        return
    raise UsageError(
        f"{name} does not take images",
        expected=f"one input (N, channels, height, width), {' or '.join(_FLOATS)}; "
        f"after it perhaps {SIZES} (N, 2), int32",
        got=", ".join(f"{b.name} {b.dtype} {b.shape}" for b in inputs),
        fix="trtnet run takes arrays",
    )


def _has_sizes(binding: Binding, images: Binding) -> bool:
    shape = (images.shape[0], 2)
    return (binding.name, binding.dtype, tuple(binding.shape)) == (SIZES, "int32", shape)


def require_task(recipe: Recipe, task: str) -> None:
    """Checks that a model is there, and what it is for.

    Args:
        recipe: of the model.
        task: what it must be for, see :class:`trtnet.zoo.Entry`.

    Raises:
        UsageError: there is no such model, or it is for something else.
    """
    entry = recipe.entry
    if entry.task != task:
        raise UsageError(
            f"{entry.name} is a model for {entry.task}, not for {task}",
            fix="trtnet zoo --list shows the models",
        )


def _plan(
    recipe: Recipe, sizes: Sequence[ImageSize], settle: Settle, backend: str, observer: Observer
) -> Plan:
    """The engine of a model, for images of these `sizes`."""
    entry = recipe.entry
    if recipe.quantizes:
        raise UsageError(
            f"{entry.name} in {recipe.precision_name} needs ranges, which calibration finds",
            expected="an engine that is built with calibration data",
            fix=f"trtnet zoo {entry.name} --precision {recipe.precision_name} --calib-data DIR "
            "--saveEngine FILE, and name FILE (in Python CalibrationSettings(data=...) and "
            "Recipe.engine)",
        )
    arguments = builder_arguments(recipe)
    if "argmax" in entry.arguments:
        arguments["argmax"] = True
    image = default_shape(recipe, recipe.input_shape)[1:]
    filled = fill(recipe, arguments, image, observer)
    module = filled.module
    weights = restated(filled.weights, recipe.preprocessing, recipe.class_names)
    if weights.preprocessing is None:
        raise unknown_preprocessing("preprocessing in the metadata of the weights")
    name = recipe.input.name if recipe.input is not None else INPUT
    rules = settle(checked_preprocessing(weights.preprocessing))
    if has_one_size(recipe, rules):
        shapes = InputShapes.fixed((1, *image), name)
    else:
        shapes = shapes_for_images(image, sizes, rules, name)
    network = define(load(backend), recipe.policy, shapes, module, plugins=recipe.plugins,
                     nms=recipe.nms)  # fmt: skip
    about = {
        "model": entry.name,
        "weights": {
            "source": weights.source,
            "origin": weights.metadata.get("weights"),
            "notes": [*weights.notes],
        },
        ENTRY: weights.preprocessing,
        ORIGIN: weights.metadata.get(ORIGIN),
        "class_names": weights.class_names,
    }
    plan = build(network, {shapes.name: shapes.profiles[0]}, recipe.config, sidecar=about)
    require_one_name_per_class(weights.class_names, plan.sidecar["outputs"])
    return plan


def has_one_size(recipe: Recipe, rules: Preprocessing) -> bool:
    """Whether the model gets inputs of one size, and the images are fitted to it: where the user
    or the model's code states that size, and where nothing else says one. The pixels of an image
    that is segmented can have a size of their own."""
    stated = recipe.input is not None or recipe.image_size is not None
    sized = rules.size is not None or bool(rules.resize_edges)
    is_free = not sized and recipe.entry.task != "segmentation"
    return stated or recipe.entry.fixed_size or is_free


def choose_backend(asked: str, device: str = "auto") -> str:
    """The name of the backend to build for: the first with GPU engines that can run here,
    otherwise the first whose engines run on the CPU too.

    Args:
        asked: ``"auto"``, or the name of a backend.
        device: where the engine will run: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        BackendError: one that was `asked` for cannot run here.
    """
    if asked != "auto" and not description(asked).needs_gpu:
        return asked
    if asked == "auto" and (device == "cpu" or missing_gpu() is not None):
        return portable().name
    found = {ability.task: ability for ability in abilities(examine())}
    if asked == "auto":
        names = [about.name for about in descriptions() if about.needs_gpu]
        return next((n for n in names if found[f"run {n}"].problem is None), portable().name)
    if (problem := found[f"run {asked}"].problem) is not None:
        raise BackendError(problem, fix=found[f"run {asked}"].fix)
    return asked


def shapes_for_images(
    image: Sequence[int],
    sizes: Sequence[ImageSize],
    preprocessing: Mapping[str, Any] | Preprocessing,
    name: str = INPUT,
) -> InputShapes:
    """The input for one image at a time; height and width are dynamic where those of the prepared
    images differ. Sizes that cannot be prepared are left out: the run reports them.

    Args:
        image: (channels, height, width) where there are no `sizes`.
        sizes: (width, height) of the images.
        preprocessing: which changes them.
        name: of the input.
    """
    prepared = []
    for size in sizes:
        try:
            prepared.append(prepared_size(size, preprocessing))
        except UsageError:
            continue
    prepared = sorted(prepared or [(image[1], image[2])])
    low, high = (tuple(map(pick, zip(*prepared, strict=True))) for pick in (min, max))
    declared = [a if a == b else axis for axis, a, b in zip("HW", low, high, strict=True)]
    opt = prepared[len(prepared) // 2]
    start = (1, image[0])
    profile = Shapes((*start, *low), (*start, *opt), (*start, *high))
    return InputShapes((*start, *declared), (profile,), name)
