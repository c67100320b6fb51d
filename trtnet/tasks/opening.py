"""The session of a task: the user's own, on an engine, or on a model that is built for images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from trtnet.building.plan import Plan
from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.imaging import prepared_size
from trtnet.pipeline.files import is_model_file
from trtnet.pipeline.image_session import (
    ImageSize,
    open_image_session,
    require_images,
    require_task,
)
from trtnet.pipeline.precision_suffix import split_precision
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe

Model: TypeAlias = Union[str, "os.PathLike[str]", Plan, Session, Recipe]
"""An engine file, a plan, a session; a model by its name or address, or the recipe of one."""
Preprocessing: TypeAlias = Mapping[str, Any]

_PROBES = ((640, 480), (97, 211))  # image sizes that become one only if all do


@dataclass(frozen=True)
class Options:
    """How a task opens its model; see :class:`trtnet.Classifier`."""

    weights: str | os.PathLike[str] | None = None
    num_classes: int | None = None
    backend: str = "auto"
    device: str = "auto"
    observer: Observer | None = None


@dataclass(frozen=True)
class Opened:
    """A session, and how images are prepared for it.

    Attributes:
        session: open.
        preprocessing: see :func:`trtnet.imaging.prepare`.
        names: of the classes; empty where nothing names them.
        is_fixed: whether the engine came built.
        sizes: of the images that it was built for.
    """

    session: Session
    preprocessing: Preprocessing
    names: tuple[str, ...]
    is_fixed: bool
    sizes: frozenset[ImageSize]

    @property
    def makes_one_size(self) -> bool:
        """Whether all images become inputs of one size."""
        return len({prepared_size(size, self.preprocessing) for size in _PROBES}) == 1

    def takes(self, sizes: Iterable[ImageSize]) -> bool:
        """Whether images of these sizes, (width, height) each, need no other engine."""
        return self.is_fixed or all(map(self._takes, set(sizes) - self.sizes))

    def _takes(self, size: ImageSize) -> bool:
        try:
            edges = prepared_size(size, self.preprocessing)
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
        settle: changes what the weights of a model say about preprocessing.
        describe: the preprocessing and the names of the classes, for a session; raises
            UsageError where the engine is for another task.

    Raises:
        TrtnetError: no such file or model, or one that is for something else.
    """

    def __init__(
        self,
        model: Model,
        task: str,
        options: Options,
        settle: Callable[[Preprocessing], Preprocessing],
        describe: Callable[[Session], tuple[Preprocessing, tuple[str, ...]]],
    ) -> None:
        self.subject = _subject(model, options)
        self.task, self.options = task, options
        self.settle, self.describe = settle, describe
        self.current: Opened | None = None
        self._owned: list[Session] = []
        if isinstance(self.subject, Recipe) and not _is_engine(self.subject):
            require_task(self.subject, task)
        else:
            self.open_for(())

    def open_for(self, sizes: Iterable[ImageSize]) -> Opened:
        """A session for images of these sizes, (width, height) each. A model is built where there
        is no engine yet, or none for them; what was opened before stays open, as it may be in
        use."""
        found = self.current
        if found is not None and found.takes(sizes):
            return found
        every = frozenset(sizes) | (found.sizes if found is not None else frozenset())
        session = self._session(every)
        try:
            preprocessing, names = self.describe(session)
        except BaseException:
            self.close()
            raise
        is_fixed = not isinstance(self.subject, Recipe) or _is_engine(self.subject)
        self.current = Opened(session, preprocessing, names, is_fixed, every)
        return self.current

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
            session = Session(subject, backend=options.backend, device=options.device)
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
        )
        self._owned.append(session)
        return session


def _subject(model: Model, options: Options) -> Recipe | Plan | Session:
    """What is to be opened, of what the user gave.

    Raises:
        UsageError: an option that is for models, and an engine.
    """
    arguments = {} if options.num_classes is None else {"num_classes": options.num_classes}
    given = {"weights": options.weights, **arguments}
    if isinstance(model, Plan | Session):
        _refuse(given, "an engine")
        if isinstance(model, Session):
            asked = {"backend": options.backend, "device": options.device}
            _refuse({k: v for k, v in asked.items() if v != "auto"}, "a session that is open")
        return model
    if isinstance(model, Recipe):
        _refuse(given, "a recipe, which has its own")
        recipe = model
    else:
        recipe = _recipe(os.fspath(model), options, arguments)
    if _is_engine(recipe):
        _refuse({"weights": recipe.weights, **recipe.arguments}, "the engine file")
    return recipe


def _recipe(text: str, options: Options, arguments: Mapping[str, Any]) -> Recipe:
    name, precision = split_precision(text)
    weights = None if options.weights is None else os.fspath(options.weights)
    recipe = Recipe(name, weights=weights, arguments=arguments, backend=options.backend)
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
