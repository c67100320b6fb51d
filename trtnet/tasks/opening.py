"""The session of a task: the user's own, on an engine, or on a model that is built for images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from trtnet.building.plan import Plan
from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.imaging import prepared_size
from trtnet.imaging.preprocessing import Preprocessing
from trtnet.pipeline.class_names import read_class_names
from trtnet.pipeline.files import is_model_file
from trtnet.pipeline.image_session import (
    ImageSize,
    Settle,
    has_one_size,
    open_image_session,
    require_images,
    require_task,
)
from trtnet.pipeline.precision_suffix import split_precision
from trtnet.pipeline.preprocessing import (
    Preparation,
    StatedPreprocessing,
    preparation_for,
    require_one_name_per_class,
    state_preprocessing,
)
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe

Model: TypeAlias = Union[str, "os.PathLike[str]", Plan, Session, Recipe]
"""An engine file, a plan, a session; a model by its name or address, or the recipe of one."""
Preprocess: TypeAlias = Union[
    str, "os.PathLike[str]", Mapping[str, Any], Preprocessing, StatedPreprocessing
]
"""A preset's name, a ``.toml`` file, entries, or what
:func:`trtnet.pipeline.state_preprocessing` makes of them."""
ClassNames: TypeAlias = Union[str, "os.PathLike[str]", Sequence[str]]
"""Names in order, or a file with a name per line, or with a JSON list."""


@dataclass(frozen=True)
class Options:
    """How a task opens its model; see :class:`trtnet.Classifier`."""

    weights: str | os.PathLike[str] | None = None
    weights_key: str | None = None
    num_classes: int | None = None
    in_channels: int | None = None
    preprocess: Preprocess | None = None
    class_names: ClassNames | None = None
    backend: str = "auto"
    device: str = "auto"
    runtime: str = "torch"
    engine_host_code_allowed: bool = False
    optimization_level: int | None = None
    timing_cache: str | os.PathLike[str] | None = None
    observer: Observer | None = None

    @property
    def arguments(self) -> dict[str, int]:
        """Of a model's builder, those that are chosen."""
        given = {"num_classes": self.num_classes, "in_channels": self.in_channels}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def of_session(self) -> dict[str, Any]:
        """Arguments of :class:`trtnet.Session`, besides the backend and the device."""
        return {
            "runtime": self.runtime,
            "engine_host_code_allowed": self.engine_host_code_allowed,
            "optimization_level": self.optimization_level,
            "timing_cache": self.timing_cache,
        }

    def stated(self) -> StatedPreprocessing | None:
        """What the user says about preprocessing.

        Raises:
            UsageError, PlanError: no such preset or file; unknown or impossible entries.
        """
        given = self.preprocess
        if given is None or isinstance(given, StatedPreprocessing):
            return given
        return state_preprocessing(given)

    def names(self) -> tuple[str, ...] | None:
        """What the user calls the classes.

        Raises:
            UsageError: the file cannot be read.
        """
        given = self.class_names
        if isinstance(given, str | os.PathLike):
            return read_class_names(given)
        return None if given is None else tuple(given)


@dataclass(frozen=True)
class Opened:
    """A session, and how images are prepared for it.

    Attributes:
        session: open.
        preparation: of its input.
        names: of the classes; empty where nothing names them.
        is_fixed: whether it serves images of all sizes: all become inputs of one size, or the
            engine came built.
        sizes: of the images that it was built for.
    """

    session: Session
    preparation: Preparation
    names: tuple[str, ...]
    is_fixed: bool
    sizes: frozenset[ImageSize]

    def takes(self, sizes: frozenset[ImageSize]) -> bool:
        """Whether images of these sizes, (width, height) each, need no other engine."""
        return all(map(self._takes, sizes - self.sizes))

    def _takes(self, size: ImageSize) -> bool:
        try:
            edges = prepared_size(size, self.preparation.stated)
        except UsageError:
            return True  # no engine would: the run reports it
        shapes = self.session.profiles[0][self.session.inputs[0].name]
        return all(
            low <= edge <= high
            for low, edge, high in zip(shapes.min[2:], edges, shapes.max[2:], strict=True)
        )

    def name_of(self, index: int) -> str:
        """The name of a class, or its number where it has none."""
        return self.names[index] if index < len(self.names) else f"class {index}"


class Opener:
    """Opens the sessions of one task, and closes those that it has opened.

    Args:
        model: see :data:`Model`.
        task: what a model must be for, see :class:`trtnet.zoo.Entry`.
        options: how it is opened.
        settle: changes what is said about preprocessing.
        check: raises UsageError where the outputs of an engine are not those of the task.

    Raises:
        TrtnetError: no such file or model, or one that is for something else.
    """

    def __init__(
        self,
        model: Model,
        task: str,
        options: Options,
        settle: Settle,
        check: Callable[[Session], None],
    ) -> None:
        self.subject = _subject(model, options)
        self.task, self.options = task, options
        self.settle, self.check = settle, check
        self.current: Opened | None = None
        self._owned: list[Session] = []
        if isinstance(self.subject, Recipe) and self._is_model:
            require_task(self.subject, task)
        else:
            self.open_for(())

    @property
    def model_recipe(self) -> Recipe | None:
        """The recipe of a model, of which an engine must be built; ``None`` of an engine."""
        subject = self.subject
        return subject if isinstance(subject, Recipe) and not _is_engine(subject) else None

    @property
    def _is_model(self) -> bool:
        """Whether an engine must be built."""
        return self.model_recipe is not None

    def open_for(self, sizes: Iterable[ImageSize]) -> Opened:
        """A session for images of these sizes, (width, height) each. A model is built where there
        is no engine yet, or none for them; what was opened before stays open, as it may be in
        use."""
        found, every = self.current, frozenset(sizes)
        if found is not None and (found.is_fixed or found.takes(every)):
            return found
        every |= found.sizes if found is not None else frozenset()
        session = self._session(every)
        try:
            self.check(session)
            self.current = self._described(session, every)
        except BaseException:
            self.close()
            raise
        return self.current

    def _described(self, session: Session, sizes: frozenset[ImageSize]) -> Opened:
        subject, stated, names = self.subject, self.options.stated(), self.options.names()
        if isinstance(subject, Recipe):
            names = subject.class_names
            stated = None if self._is_model else subject.preprocessing  # the sidecar has it
        found = preparation_for(session, stated)
        settled = self.settle(found.stated)
        crops = settled == found.stated or found.stated.crop is None
        source = found.source if crops else f"{found.source}; not cropped: every pixel gets a class"
        preparation = dataclasses.replace(found, stated=settled, source=source)
        outputs = [{"name": out.name, "shape": out.shape} for out in session.outputs]
        require_one_name_per_class(names, outputs)
        is_fixed = (
            not isinstance(subject, Recipe)
            or not self._is_model
            or preparation.stated.size is not None
            or has_one_size(subject, preparation.stated)
        )
        named = names or session.plan.described.class_names or ()
        return Opened(session, preparation, tuple(named), is_fixed, sizes)

    def close(self) -> None:
        """Closes the sessions, but not one that the user gave."""
        owned, self._owned = self._owned, []
        for session in owned:
            session.close()

    def _session(self, sizes: frozenset[ImageSize]) -> Session:
        subject, options = self.subject, self.options
        if isinstance(subject, Session):
            require_images(subject, "the session's engine")
            return subject
        if isinstance(subject, Plan):
            session = Session(
                subject, backend=options.backend, device=options.device, **options.of_session
            )
            self._owned.append(session)
            require_images(session, "the plan")
            return session
        session = open_image_session(
            subject,
            self.task,
            sorted(sizes),
            settle=self.settle,
            device=options.device,
            observer=options.observer,
            **options.of_session,
        )
        self._owned.append(session)
        return session


def _subject(model: Model, options: Options) -> Recipe | Plan | Session:
    """What is to be opened, of what the user gave.

    Raises:
        UsageError: an option that is for models, and an engine.
    """
    given = {"weights": options.weights, "weights_key": options.weights_key, **options.arguments}
    if isinstance(model, Plan | Session):
        _refuse(given, "an engine")
        if isinstance(model, Session):
            asked = {"backend": options.backend, "device": options.device}
            chosen: dict[str, object] = {k: v for k, v in asked.items() if v != "auto"}
            usual = Options().of_session
            chosen |= {k: v for k, v in options.of_session.items() if v != usual[k]}
            _refuse(chosen, "a session that is open")
        return model
    if isinstance(model, Recipe):
        own = {"preprocess": options.preprocess, "class_names": options.class_names}
        _refuse({**given, **own}, "a recipe, which has its own")
        recipe = model
    else:
        recipe = _recipe(os.fspath(model), options)
    if _is_engine(recipe):
        own = {"weights": recipe.weights, "weights_key": recipe.weights_key}
        _refuse({**own, **recipe.arguments}, "the engine file")
    return recipe


def _recipe(text: str, options: Options) -> Recipe:
    name, precision = split_precision(text)
    weights = None if options.weights is None else os.fspath(options.weights)
    recipe = Recipe(
        name,
        weights=weights,
        weights_key=options.weights_key,
        arguments=options.arguments,
        preprocessing=options.stated(),
        class_names=options.names(),
        backend=options.backend,
    )
    return recipe if precision is None else dataclasses.replace(recipe, precision=precision)


def _is_engine(recipe: Recipe) -> bool:
    return isinstance(recipe.model, str) and is_model_file(recipe.model)


def _refuse(given: Mapping[str, object], what: str) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UsageError(
            f"{' and '.join(names)} cannot be chosen for {what}",
            got=", ".join(f"{name} {given[name]}" for name in names),
            fix="leave it out, or name a model",
        )
