"""What a search for precisions, or a measurement of sensitivities, needs: a model and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet import graph
from trtnet.pipeline.calibration import data_source
from trtnet.pipeline.progress import Observer, Silent
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.target import load_model
from trtnet.search.mixable_network import MixableNetwork

if TYPE_CHECKING:
    from trtnet.search.data import Data


@dataclass(frozen=True)
class SearchSettings:
    """What modules are changed to, and what networks are judged on.

    Attributes:
        data: a folder of images, a ``.npy`` or ``.npz`` file, which may hold labels, or
            ``"random"`` for seeded noise, which only random weights accept.
        items: how many items of the data to use at most, spread evenly.
        to: what modules are changed to; see :class:`trtnet.search.MixableNetwork`.
        base: what the others compute in, beside INT8 and FP8.
        gpu: whose roofline gives times.
        method: of calibration, one of :data:`trtnet.quantization.METHODS`.
    """

    data: str
    items: int
    to: str = "int8"
    base: str = "fp16"
    gpu: str = "l40s"
    method: str = "mse"


@dataclass(frozen=True)
class SearchSetup:
    """A model and data, ready to be measured.

    Attributes:
        name: of the model.
        subject: with ranges, where it needs any.
        data: what networks are judged on.
        batch: of the network and the data.
    """

    name: str
    subject: MixableNetwork
    data: Data
    batch: int


def set_up_search(
    recipe: Recipe, settings: SearchSettings, observer: Observer | None = None
) -> SearchSetup:
    """Loads the model and the data, and calibrates.

    Args:
        recipe: of the model, with a static shape; its precision is not used.
        settings: what is searched for, and on what.
        observer: receives the progress.

    Raises:
        UsageError: a recipe, data or a model that cannot be used.
    """
    from trtnet.search.data import load_data

    observer = observer or Silent()
    graph.find_gpu(settings.gpu).flops_in(settings.to)  # raises before the weights are loaded
    with observer.step("weights"):
        model = load_model(recipe, observer=observer)
    subject = MixableNetwork(model.define, settings.to, settings.base, settings.gpu)
    shape, weights = model.shapes.typical[0], model.weights
    batch, seed = shape[0], recipe.seed + 1
    source = data_source(settings.data, weights, shape, settings.items, seed, model.shapes.name)
    data = load_data(
        source,
        subject.in_fp32,
        batch=batch,
        limit=settings.items,
        preprocessing=weights.preprocessing,
    )
    with observer.step("calibrate") as update:
        subject = subject.calibrated(
            data,
            settings.method,
            lambda done, _, rate: update(f"{done}/{data.items} items, {rate:.1f}/s"),
        )
    return SearchSetup(model.entry.name, subject, data, batch)
