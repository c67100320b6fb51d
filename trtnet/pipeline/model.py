"""A model of a recipe: the arguments of its builder, its weights, its PyTorch counterpart."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import trtnet.weights
from trtnet.errors import TrtnetError, UsageError, WeightsError
from trtnet.names import did_you_mean
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.random_weights import random_weights
from trtnet.weights.container import image_metadata
from trtnet.weights.first_convolution import NAME as IN_CHANNELS
from trtnet.weights.loading import SUFFIXES, is_path
from trtnet.weights.torch_import import without_memory
from trtnet.zoo.settling import settle
from trtnet.zoo.trained_arguments import trained_with

if TYPE_CHECKING:
    import torch

    from trtnet.module import Module
    from trtnet.pipeline.recipe import Recipe
    from trtnet.weights import Weights
    from trtnet.zoo import Entry

RANDOM = "random"
"""What asks for random weights, and for noise as data."""
OWN = "own"
"""What asks for the values that a PyTorch module has when its function returns it."""


def is_random(weights: Weights) -> bool:
    """Whether `weights` are random, as far as they say where they are from."""
    return weights.metadata.get("weights") == RANDOM


def builder_arguments(recipe: Recipe) -> dict[str, Any]:
    """Keyword arguments for the model's builder.

    Raises:
        UsageError: an argument that the model does not have.
    """
    entry = recipe.entry
    chosen = dict(recipe.arguments)
    for name in chosen:
        if name not in entry.arguments:
            raise UsageError(
                f"{entry.name} does not take --{name.replace('_', '-')} ({name}=)",
                expected=", ".join(entry.arguments) or "no argument",
                fix="leave it out",
            )
    if recipe.image_size is not None and "image_size" in entry.arguments:
        chosen["image_size"] = recipe.image_size
    return chosen


def load_weights(
    entry: Entry,
    name: str | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    image: Sequence[int] | None = None,
    *,
    key: str | None = None,
    model: Module | None = None,
) -> Weights:
    """The weights that `name` stands for: shipped, random, published ones, or a file.

    Args:
        name: ``"random"``, ``"DEFAULT"``, the name of published weights, ``"own"`` for what a
            function that returns a PyTorch module has put into it, or a path; ``None`` for the
            model's default, which is ``"own"`` for such a function.
        seed: of random weights.
        arguments: of the model's builder.
        image: one input without its batch axis, for random weights of a model that states none.
        key, model: of a file, see :func:`trtnet.weights.load`.

    Raises:
        UsageError: the model has no weights of this name; a `key` without a file.
        WeightsError: a file or a download that cannot be used.
    """
    chosen = dict(arguments or {})
    theirs = entry.makes_torch(**chosen)
    name = name or (OWN if theirs and entry.library is None else entry.default_weights)
    if key is not None and (name in entry.embedded or not is_path(name)):
        raise UsageError("--weights-key (weights_key=) names a part of a file", module=entry.name,
                         got=f"the weights {name!r}", fix="--weights FILE, in Python "
                         'weights="FILE"')  # fmt: skip
    if name in (OWN, "DEFAULT") and theirs:
        return _module_weights(entry, name, seed, chosen)
    if name == "DEFAULT" and entry.embedded:
        name = entry.default_weights
    if name in entry.embedded:
        shipped = trtnet.weights.load(entry.weights_file(name))
        return trtnet.weights.Weights(shipped, shipped.metadata)  # known by name, not by path
    if is_path(name):
        return _load_file(entry, name, key, model)
    if not (theirs or entry.has_counterpart(**chosen)):
        return _without_counterpart(entry, name, seed, chosen, image)
    if name == RANDOM and (theirs or entry.twin is not None):
        return _random_twin(entry, seed, chosen, image)
    if not entry.torchvision:
        raise _no_weights(entry, name)
    known = {key: value for key, value in chosen.items() if key not in entry.switches}
    return trtnet.weights.resolve(entry.name, name, seed, **known)


@dataclass(frozen=True)
class Filled:
    """A model with its weights.

    Attributes:
        module: with weights.
        weights: what it was loaded with; their notes say what of a file was taken, dropped and
            concluded.
        arguments: of its builder; the number of classes of a file is among them, and what the
            weights were trained with.
    """

    module: Module
    weights: Weights
    arguments: dict[str, Any]


def fill(
    recipe: Recipe,
    arguments: Mapping[str, Any],
    image: Sequence[int] | None,
    observer: Observer | None = None,
) -> Filled:
    """The model of `recipe` with its weights. Of a file it takes the number of classes where the
    recipe has none, and of all weights the arguments that they were trained with.

    Args:
        recipe: of which model, weights and seed count.
        arguments: of the builder, see :func:`builder_arguments`.
        image: see :func:`load_weights`.
        observer: is told what of a file was taken, dropped and concluded.

    Raises:
        UsageError, WeightsError: see :func:`load_weights`; weights that do not fit.
    """
    entry, name = recipe.entry, recipe.weights
    module = entry.build(**arguments)
    weights = load_weights(
        entry, name, recipe.seed, arguments, image, key=recipe.weights_key, model=module
    )
    weights = _prepared(entry, weights)
    learnt, notes = trained_with(entry, weights, recipe.arguments)
    if learnt:
        arguments = {**arguments, **learnt}
        module = entry.build(**arguments)
    weights = weights.noted(notes)
    filled = Filled(module, weights, dict(arguments))
    if weights.path is not None:
        given = {*recipe.arguments, *(("image_size",) if recipe.image_size else ())}
        settled = settle(entry, module, weights, arguments, given)
        weights = settled.weights.noted(settled.notes)
        filled = Filled(settled.module, weights, settled.arguments)
    _require_names_fit(recipe, filled)
    filled.module.load_state_dict(filled.weights)
    if observer is not None:
        for note in weights.notes:
            observer.note(f"{weights.source}: {note}")
    return filled


def _require_names_fit(recipe: Recipe, filled: Filled) -> None:
    """Checks the number of class names of a detector, whose outputs do not tell how many classes
    there are; see :func:`trtnet.pipeline.preprocessing.require_one_name_per_class` for others.

    Raises:
        UsageError: the names, those of the recipe or else of the weights, are more or fewer.
    """
    names = recipe.class_names or filled.weights.class_names
    count = {**recipe.entry.defaults, **filled.arguments}.get("num_classes")
    if recipe.entry.task != "detection" or not names or not isinstance(count, int):
        return
    if len(names) != count:
        from trtnet.pipeline.preprocessing import wrong_count  # not for --help

        error = wrong_count(names, [count])
        if not recipe.class_names:
            error.locate(filled.weights.source)
            error.fix = "name all classes: --class-names FILE (class_names=)"
        raise error


def _prepared(entry: Entry, weights: Weights) -> Weights:
    """`weights` that say how images are prepared, where they or the model say it. A file is taken
    to be of a training that goes on from the weights that come with the model."""
    if weights.preprocessing is not None:
        return weights
    if entry.preprocessing is not None:
        return weights.restated(**image_metadata(entry.preprocessing, None))
    name = entry.default_weights
    if weights.path is None or name not in entry.embedded:
        return weights
    rules = trtnet.weights.load(entry.weights_file(name)).preprocessing
    if rules is None:
        return weights
    note = f"it does not say how images are prepared: taken from the shipped weights {name}"
    return weights.restated(**image_metadata(rules, None)).noted((note,))


def _module_weights(entry: Entry, name: str, seed: int, arguments: Mapping[str, Any]) -> Weights:
    """What a PyTorch module holds when it is made: by its function, or with published weights by
    its library."""
    import torch

    make = entry.published if name == "DEFAULT" else entry.torch_model
    if make is None:
        raise UsageError(
            "the model has no published weights",
            module=entry.name,
            expected=f"{OWN}, {RANDOM}, or the path of a file ({', '.join(SUFFIXES)})",
            got=name,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # what it does not load, it draws
        try:
            module = make(**arguments)
        except (TrtnetError, MemoryError):
            raise
        except Exception as error:  # each library's downloader has its own errors
            if name != "DEFAULT":
                raise
            raise WeightsError(
                f"the published weights of {entry.name} cannot be loaded from {entry.library}",
                module=entry.name,
                got=f"{type(error).__name__}: {error}",
                fix="check the network, give a file with --weights FILE, or take --weights random "
                '(weights="FILE", weights="random")',
            ) from error
    state = {key: value.detach().numpy() for key, value in module.state_dict().items()}
    return trtnet.weights.Weights(state, {"architecture": entry.name, "weights": name})


def _load_file(entry: Entry, path: str, key: str | None, model: Module | None) -> Weights:
    try:
        return trtnet.weights.load(path, key=key, model=model)
    except WeightsError as error:
        if Path(path).exists() or (error.fix or "").startswith("did you mean"):
            raise
        names = ", ".join(dict.fromkeys((entry.default_weights, *entry.embedded, RANDOM)))
        raise WeightsError(
            f"{path} does not exist",
            module=entry.name,
            expected=f"a file ({', '.join(SUFFIXES)}), or weights by name: {names}",
            fix="check the path; trtnet zoo --list shows the names of published weights, and "
            "trtnet weights extract writes them to a file",
        ) from error


def _without_counterpart(
    entry: Entry, name: str, seed: int, arguments: Mapping[str, Any], image: Sequence[int] | None
) -> Weights:
    """Random weights of a model that only trtnet has; others can only come from a file."""
    if name == RANDOM:
        module = entry.build(**arguments)
        shown = preprocessing_for(image or entry.input_shape)
        return random_weights(module, entry.name, seed, shown)
    raise _no_weights(entry, name)


def _no_weights(entry: Entry, name: str) -> UsageError:
    """The error for a name that no weights of a model have."""
    names = [*dict.fromkeys((*entry.embedded, RANDOM))]
    return UsageError(
        f"no weights called {name!r}",
        module=entry.name,
        expected=f"{', '.join(names)}, or the path of a file ({', '.join(SUFFIXES)})",
        got=name,
        fix=did_you_mean(name, names),
    )


def preprocessing_for(image: Sequence[int] | None) -> dict[str, Any] | None:
    """How images are prepared for random weights, which were trained on none: resized, values
    from 0 to 1. ``None`` where the input of the shape `image` is no image."""
    if image is None or len(image) != 3 or image[0] not in (1, 3):
        return None
    channels, height, width = image
    return {
        "resize_size": [height, width],
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "interpolation": "bilinear",
    }


def _random_twin(
    entry: Entry, seed: int, arguments: Mapping[str, Any], image: Sequence[int] | None
) -> Weights:
    """Random weights of a model whose PyTorch counterpart comes with it."""
    shape = entry.input_shape or image
    if shape is not None and IN_CHANNELS in arguments:
        shape = (arguments[IN_CHANNELS], *shape[1:])
    if shape is None:
        raise UsageError(
            "nothing tells the shape of the model's input",
            module=entry.name,
            fix="--input NAME:1x3x224x224, Recipe(input=InputSpec(shape)), or input_shape=... "
            "where the model is registered",
        )
    state = trtnet.weights.random_state(entry.torch_model, seed, input_shape=shape, **arguments)
    metadata = {"architecture": entry.name, "weights": RANDOM, "seed": str(seed)}
    return trtnet.weights.Weights(state, metadata)


def ones(module: Module) -> dict[str, np.ndarray]:
    """A state_dict of ones, which take no memory: for looks at a network's structure."""
    slots = [*module.named_parameters(), *module.named_buffers()]
    return {name: np.broadcast_to(np.float32(1), slot.shape) for name, slot in slots}


def torch_model(entry: Entry, model: Module, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """The PyTorch counterpart of `model`, with the weights that `model` holds."""
    import torch

    theirs = entry.makes_torch(**arguments)  # its constants need real memory
    with contextlib.nullcontext() if theirs else without_memory():
        counterpart: torch.nn.Module = entry.torch_model(**arguments)
    state = counterpart.state_dict()  # MNASNet looks for the version that PyTorch keeps in it
    for name, array in model.state_dict().items():
        values = torch.tensor(array)
        state[name] = values.float() if values.is_floating_point() else values
    counterpart.load_state_dict(state, assign=True)
    return counterpart


def counterpart_name(entry: Entry) -> str:
    """The PyTorch counterpart in words, for reports: ``resnet50 of torchvision 0.21.0``."""
    package = entry.library or ("torchvision" if entry.torchvision and not entry.twin else "torch")
    return f"{entry.name} of {package} {importlib.metadata.version(package)}"
