"""A network to look at: a model that a recipe names, or a saved graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtnet import graph
from trtnet.backend import load
from trtnet.pipeline.about_images import about_images
from trtnet.pipeline.calibration import Calibrator, unit_ranges
from trtnet.pipeline.defined import DefinedModel, LoadedModel
from trtnet.pipeline.files import is_built_engine, is_model_file, unreadable
from trtnet.pipeline.model import Filled, builder_arguments, fill, ones
from trtnet.pipeline.progress import Observer, Silent
from trtnet.pipeline.ranges import check_range
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.shapes import input_shapes
from trtnet.weights import Weights


@dataclass(frozen=True)
class Target:
    """A network as a graph, and the model it came from if it did not come from a file.

    Attributes:
        name: of the model or the file, as it was asked for.
        graph: of the network.
        defined: the model; ``None`` for a file.
    """

    name: str
    graph: graph.Graph
    defined: DefinedModel | None = None

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The input shapes that costs are counted for; empty for a file, whose graph has them."""
        return {} if self.defined is None else self.defined.model.shapes.by_name


def find_target(
    recipe: Recipe,
    *,
    values: bool,
    ranges: bool = False,
    observer: Observer | None = None,
    name: str | None = None,
) -> Target:
    """The network of `recipe`, or the graph in the file that ``recipe.model`` names.

    Args:
        recipe: its `config`, `engine`, and verification are not used.
        values: whether the weights matter. Where only structure does, and the recipe names no
            weights, all weights are 1, and nothing is initialised or downloaded.
        ranges: whether the ranges of a quantized network matter. Where they do not, and the
            recipe has neither data nor a table, all ranges are 1.
        observer: receives the progress of a calibration.
        name: what to call it; by default as the recipe does.

    Raises:
        UsageError: neither a model nor a file, or ranges that are not known.
        NetworkError: with calibration data, FP16 for a network that overflows in it.
    """
    text = recipe.model if isinstance(recipe.model, str) else recipe.model.name
    if is_built_engine(text):
        raise unreadable(text)
    if is_model_file(text):
        return Target(name or text, graph.load(text))
    model = load_model(recipe, values=values, observer=observer)
    defined = _define(recipe, model, ranges, observer or Silent())
    defined.network.check()
    return Target(name or text, graph.read(defined.network.definition), defined)


def load_model(
    recipe: Recipe, *, values: bool = True, observer: Observer | None = None
) -> LoadedModel:
    """The model of `recipe` with its weights.

    Args:
        values, observer: see :func:`find_target`.
    """
    entry, arguments = recipe.entry, builder_arguments(recipe)
    shapes = input_shapes(recipe, recipe.input_shape)
    if values or recipe.calibration.data is not None or recipe.weights is not None:
        image = shapes.typical[0][1:]
        filled = fill(recipe, arguments, image, observer)
    else:
        module = entry.build(**arguments)
        filled = Filled(module, Weights(ones(module)), arguments)
        module.load_state_dict(filled.weights)
    weights = about_images(filled.weights, recipe, shapes)
    backend = load(recipe.backend)
    return LoadedModel(entry, filled.arguments, filled.module, weights, shapes, backend,
                       recipe.plugins, recipe.nms)  # fmt: skip


def _define(recipe: Recipe, model: LoadedModel, ranges: bool, observer: Observer) -> DefinedModel:
    """The network, calibrated if the recipe says how, or `ranges` matter."""
    policy, settings = recipe.policy, recipe.calibration
    given = settings.data is not None or (recipe.quantizes and settings.table is not None)
    if not given and not (recipe.quantizes and ranges):
        table = unit_ranges(model.define(policy)) if recipe.quantizes else None
        return DefinedModel(model, model.define(policy, table))
    calibrator = Calibrator(
        settings,
        model.backend,
        policy,
        model.shapes,
        model.module,
        model.weights,
        recipe.seed,
        recipe.plugins,
        recipe.nms,
    )
    with observer.step("calibrate") as update:
        calibrated = calibrator.run(None, None, update)
    network = model.define(policy, calibrated.table)
    check_range(calibrated.rows, network, observer)
    return DefinedModel(model, network, calibrated.data)
