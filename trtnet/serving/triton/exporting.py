"""export(): a model or an engine becomes models of a Triton repository."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.errors import UsageError, VerificationError
from trtnet.pipeline.files import is_model_file
from trtnet.pipeline.preprocessing import ENTRY, ORIGIN, require_one_name_per_class
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.running import run
from trtnet.pipeline.shapes import default_shape
from trtnet.serving.triton.engine_config import engine_model
from trtnet.serving.triton.ensemble import SUFFIXES, ensemble_models
from trtnet.serving.triton.notes import notes_for
from trtnet.serving.triton.repository import ModelFolder, require_free, write_models
from trtnet.serving.triton.served import TENSORRT, Served, served
from trtnet.serving.triton.settings import NAME, Settings

DEFAULT_BATCH = 8
"""The largest batch of a model that is built here, where none is chosen."""
_CAPABILITY = re.compile(r"\d{1,2}\.\d")


@dataclass(frozen=True)
class Exported:
    """What :func:`export` wrote.

    Attributes:
        repository: the folder.
        models: names of the models in it, the one that clients ask last.
        max_batch: the largest batch; 0 where there is none.
        notes: what the server needs, in sentences.
    """

    repository: Path
    models: tuple[str, ...]
    max_batch: int
    notes: tuple[str, ...]


def export(
    model: str | os.PathLike[str] | Plan | Recipe,
    repository: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    plans: Mapping[str, str | os.PathLike[str] | Plan] | None = None,
    force: bool = False,
    observer: Observer | None = None,
) -> Exported:
    """Writes a model of the Triton Inference Server, or with ``Settings(ensemble=True)`` four.

    An engine of TensorRT is served by Triton's ``tensorrt`` backend. Engines of TensorRT-RTX and of
    the torch backend are served by its Python backend, which needs trtnet in its environment.

    Args:
        model: an engine file or a plan, with a sidecar; or a model, by its name or as a recipe,
            which is built for batches from 1 to ``settings.max_batch`` and verified. A recipe that
            names an engine file takes that, with the recipe's `preprocessing` and `class_names` in
            place of those in the sidecar.
        repository: the folder of the models. It is made where there is none.
        settings: how the model is served.
        plans: of TensorRT: engines for GPUs of other compute capabilities, such as ``"8.9"``.
        force: replace models of these names.
        observer: receives the progress of building a model.

    Raises:
        UsageError: no such model; one that is there already; settings that do not fit the engine.
        UnsupportedError: what Triton would refuse.
        BuildError, VerificationError: the model cannot be built; the repository cannot be written.

    Nothing is written before all has been checked.

    >>> import tempfile, trtnet
    >>> net = trtnet.Network(backend="torch")
    >>> _ = net.output("y", net.input("x", ("N", 3)) * 2.0)
    >>> plan = trtnet.build(net, {"x": trtnet.Shapes((1, 3), (1, 3), (8, 3))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(plan, folder, Settings("double")).max_batch
    8
    """
    settings, target = settings or Settings(), Path(repository)
    name = settings.name or _default_name(model)
    names = [name, *(f"{name}{suffix}" for suffix in SUFFIXES if settings.ensemble)]
    if not force:
        require_free(target, names)
    if not settings.ensemble:
        _require_no_ensemble(target, name)
    plan = _plan(model, settings, observer)
    found = served(plan, settings.max_batch)
    others = _others(plans or {}, plan, found.max_batch)
    engine = engine_model(name, found, plan, others, settings)
    around: tuple[ModelFolder, ...] = ()
    if settings.ensemble:
        around = ensemble_models(name, found, plan, settings)
    notes = tuple(notes_for(plan, settings))
    readme = "".join(f"{note}\n\n" for note in notes).encode()
    engine = dataclasses.replace(engine, files={**engine.files, "README.md": readme})
    if not force:  # again: building a model takes a while
        require_free(target, names)
    write_models(target, [engine, *around])
    return Exported(target, tuple(names), found.max_batch, notes)


def _require_no_ensemble(repository: Path, name: str) -> None:
    """Refuses to put an engine into an ensemble that was exported for another one: its steps
    prepare images and name classes as that one's sidecar says."""
    steps = [f"{name}{suffix}" for suffix in SUFFIXES]
    if all(os.path.lexists(repository / step) for step in steps):
        raise UsageError(
            f"{repository} has {', '.join(steps)}, which would go around another engine than "
            "theirs",
            fix="--ensemble (ensemble=True) replaces them too; or delete them, or give another "
            "name: --name (name=)",
        )


def _default_name(model: str | os.PathLike[str] | Plan | Recipe) -> str:
    """The name of a model without one.

    Raises:
        UsageError: nothing tells one that Triton takes.
    """
    if isinstance(model, Plan):
        text = str(model.sidecar.get("model") or "")
    elif isinstance(model, Recipe):
        text = model.model if isinstance(model.model, str) else model.model.name
    else:
        text = os.fspath(model)
    stem = text if isinstance(model, Plan) else _stem(text)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", stem).lstrip("_.-")
    if not NAME.fullmatch(name):
        raise UsageError("nothing tells a name for the model", fix="--name NAME (name=)")
    return name


def _stem(text: str) -> str:
    """``resnet50`` of ``engines/resnet50.engine``, or of ``timm:resnet50:fp16``."""
    from trtnet.pipeline.precision_suffix import split_precision

    if is_model_file(text):
        return Path(text).name.partition(".engine")[0].partition(".plan")[0]
    return split_precision(text)[0].rpartition(":")[2]


def _plan(
    model: str | os.PathLike[str] | Plan | Recipe, settings: Settings, observer: Observer | None
) -> Plan:
    if isinstance(model, Plan):
        return model
    recipe = model if isinstance(model, Recipe) else _recipe(os.fspath(model))
    if isinstance(recipe.model, str) and is_model_file(recipe.model):
        return _restated(Plan.load(recipe.model), recipe)
    if not recipe.profiles and recipe.batch is None:
        image = default_shape(recipe, recipe.input_shape)[1:]
        most = settings.max_batch or DEFAULT_BATCH
        opt = (most, *image)
        recipe = dataclasses.replace(recipe, profiles=(Shapes((1, *image), opt, opt),))
    with tempfile.TemporaryDirectory() as folder:
        built = run(dataclasses.replace(recipe, engine=Path(folder) / "model.engine"), observer)
    if built.plan is None:
        raise VerificationError(
            f"{recipe.entry.name} differs from PyTorch, so nothing is written",
            got=f"module {built.report['verify']['first_divergent']}",
            fix=f"trtnet verify {recipe.entry.name} shows where",
        )
    return built.plan


def _recipe(text: str) -> Recipe:
    from trtnet.pipeline.precision_suffix import split_precision

    if is_model_file(text):
        return Recipe(text)
    name, precision = split_precision(text)
    return Recipe(name) if precision is None else Recipe(name, precision=precision)


def _restated(plan: Plan, recipe: Recipe) -> Plan:
    """`plan`, whose sidecar says what the recipe says of images and classes.

    Raises:
        UsageError: the recipe says what only a model can have.
    """
    given = {"weights": recipe.weights, "weights_key": recipe.weights_key, **recipe.arguments}
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise UsageError(
            f"{' and '.join(wrong)} cannot be chosen for an engine, which is built",
            fix="leave it out, or name a model",
        )
    changes: dict[str, Any] = {}
    if recipe.preprocessing is not None:
        changes[ENTRY] = recipe.preprocessing.over(plan.described.preprocessing).as_dict()
        changes[ORIGIN] = recipe.preprocessing.source
    if recipe.class_names is not None:
        outputs = [{"name": o.name, "shape": o.shape} for o in plan.described.outputs or ()]
        require_one_name_per_class(recipe.class_names, outputs)
        changes["class_names"] = list(recipe.class_names)
    return Plan(plan.engine, {**plan.sidecar, **changes}) if changes else plan


def _others(
    plans: Mapping[str, str | os.PathLike[str] | Plan], plan: Plan, max_batch: int
) -> dict[str, Plan]:
    """The engines for other GPUs.

    Raises:
        UsageError: they are no engines of TensorRT with the same inputs and outputs.
    """
    found = {}
    for capability, given in plans.items():
        if not _CAPABILITY.fullmatch(capability):
            raise UsageError("--plan (plans=): this is no compute capability",
                             expected="such as 8.9:ENGINE", got=capability)  # fmt: skip
        other = given if isinstance(given, Plan) else Plan.load(given)
        one, two = served(plan, max_batch or None), served(other, max_batch or None)
        if {one.backend, two.backend} != {TENSORRT}:
            raise UsageError(
                "--plan (plans=): only engines of TensorRT belong to one kind of GPU",
                expected="engines of the backend tensorrt",
                got=f"{one.backend} and {two.backend}",
            )
        if _signature(one) != _signature(two):
            raise UsageError(
                f"--plan (plans=): the engine for {capability} has other inputs, outputs or "
                "profiles",
                expected=_signature(one),
                got=_signature(two),
                fix="build both of one model",
            )
        found[capability] = other
    return found


def _signature(found: Served) -> str:
    tensors = (f"{t.name} {t.dtype} {t.shape}" for t in (*found.inputs, *found.outputs))
    return f"{', '.join(tensors)}; {len(found.profiles)} profiles"
