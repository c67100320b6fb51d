"""What a search for precisions, or a measurement of sensitivities, needs: a model and data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet import graph
from trtnet.graph import Gpu
from trtnet.pipeline.calibration import data_source
from trtnet.pipeline.model import is_random
from trtnet.pipeline.progress import Counted, Observer, Silent, Update, ignore
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.target import load_model
from trtnet.quantization.table import DEFAULT_METHOD
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
        gpu: whose roofline gives times: a name of :func:`trtnet.graph.gpus`, or a ``Gpu``.
        method: of calibration, one of :data:`trtnet.quantization.METHODS`.
    """

    data: str
    items: int
    to: str = "int8"
    base: str = "fp16"
    gpu: Gpu | str = "l40s"
    method: str = DEFAULT_METHOD


@dataclass(frozen=True)
class SearchSetup:
    """A model and data, ready to be measured.

    Attributes:
        name: of the model.
        subject: with ranges, where it needs any.
        data: what networks are judged on.
        batch: of the network and the data.
        weights: where they are from, in words.
        notes: what of a file of weights was taken, dropped and concluded, in words.
        random: whether they are random, so that nothing that is measured says anything about the
            trained model.
        load: so many items of the data, spread evenly.
    """

    name: str
    subject: MixableNetwork
    data: Data
    batch: int
    weights: str
    notes: tuple[str, ...]
    random: bool
    load: Callable[[int], Data]


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
    with observer.step("weights") as update:
        model = load_model(recipe, observer=observer)
        update(model.weights.source)
    subject = MixableNetwork(model.define, settings.to, settings.base, settings.gpu)
    shape, weights = model.shapes.typical[0], model.weights
    source = data_source(settings.data, weights, shape, settings.items, recipe.seed + 1)

    def load(items: int, update: Update = ignore) -> Data:
        return load_data(
            source,
            subject.in_fp32,
            batch=shape[0],
            limit=items,
            preprocessing=weights.preprocessing,
            progress=lambda done, n: update(Counted(f"{done} of {n} items read", done, n)),
        )

    with observer.step("data") as update:
        data = load(settings.items, update)
    with observer.step("calibrate") as update:
        update(f"looking for the tensors that {len(subject.modules)} modules need ranges of")
        calibrated = subject.calibrated(
            data,
            settings.method,
            lambda done, _, rate: update(
                Counted(f"{done} of {data.items} items, {rate:.1f}/s", done, data.items)
            ),
        )
    return SearchSetup(
        model.entry.name,
        calibrated,
        data,
        shape[0],
        weights.source,
        weights.notes,
        is_random(weights),
        load,
    )
