"""The PyTorch counterpart of a model or of an engine, with the same weights, run on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.building.plan import Plan
from trtnet.errors import UsageError
from trtnet.host import without_gradients
from trtnet.pipeline.engine_name import made_by
from trtnet.pipeline.model import builder_arguments, counterpart_name, fill, torch_model
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.shapes import default_shape
from trtnet.zoo.families import HOMES

if TYPE_CHECKING:
    import torch

_FILE = 'name the file that it was built with: --weights FILE (torch_weights="FILE")'


class Counterpart:
    """A PyTorch model in FP32 on the CPU.

    Args:
        module: in evaluation mode, with weights.
        name: in words, such as ``resnet50 of torchvision 0.21.0``.
    """

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs `names` of a network, by name.

        Args:
            inputs: in the network's order.

        Raises:
            VerificationError: PyTorch's outputs are others.
        """
        import torch

        from trtnet.verification.torch_run import match

        with without_gradients():
            result = self.module(*(torch.tensor(array) for array in inputs))
        return {name: tensor.numpy() for name, tensor in match(result, names)}


def require_counterpart(recipe: Recipe) -> None:
    """Checks that the model of `recipe` has a counterpart in PyTorch.

    Raises:
        UsageError: it has none.
    """
    entry = recipe.entry
    if not entry.has_counterpart(**builder_arguments(recipe)):
        raise UsageError(
            "there is nothing to compare with: the model has no counterpart in PyTorch",
            module=entry.name,
            expected="a model with a twin, or one that is a torch.nn.Module",
            fix="write @register(twin=FUNCTION) above the model's function, which makes the same "
            "model of torch.nn modules",
        )


def counterpart_of(recipe: Recipe, observer: Observer | None = None) -> Counterpart:
    """The counterpart of the model that `recipe` names, with the recipe's weights.

    Raises:
        UsageError: there is none; no such weights.
        WeightsError: weights that cannot be used.
    """
    require_counterpart(recipe)
    return _filled(recipe, None, observer)


def counterpart_of_plan(
    plan: Plan, weights: str | None = None, seed: int = 0, observer: Observer | None = None
) -> Counterpart:
    """The counterpart of the model that an engine was built of, with the engine's weights. What the
    sidecar says is not trusted: its model must be one of trtnet, and the weights must have the
    checksum that it states.

    Args:
        weights: their name, or the path of a file; by default those that the sidecar names.
        seed: of random weights.

    Raises:
        UsageError: the sidecar does not say what the engine was built of, or of something that
            trtnet has not; other weights; a model without a counterpart.
        WeightsError: weights that cannot be used.
    """
    described, stated = plan.described, plan.sidecar.get("weights")
    about: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    maker, sha256 = described.made_by, about.get("sha256")
    if described.model not in HOMES or maker is None or not isinstance(sha256, str):
        raise UsageError(
            "the engine does not say which model of trtnet it was built of, and with which weights",
            expected="a sidecar of python -m trtnet.zoo, with a model that trtnet zoo --list shows",
            got=described.model,
            fix="name the model in place of the engine",
        )
    origin = about.get("origin")
    name = weights or (origin if isinstance(origin, str) else None)
    recipe = Recipe(described.model, weights=name, seed=seed, arguments=dict(maker.arguments))
    if made_by(recipe.entry, {})["place"] != maker.place:
        raise UsageError("the engine was built of another model of the same name",
                         module=described.model, fix="build it again")  # fmt: skip
    require_counterpart(recipe)
    return _filled(recipe, sha256, observer)


def _filled(recipe: Recipe, sha256: str | None, observer: Observer | None) -> Counterpart:
    """The counterpart; with `sha256`, of weights that have it."""
    entry = recipe.entry
    image = default_shape(recipe, recipe.input_shape)[1:]
    filled = fill(recipe, builder_arguments(recipe), image, observer)
    if sha256 is not None and filled.weights.sha256 != sha256:
        raise UsageError(
            "the engine was built with other weights",
            module=entry.name,
            expected=f"weights of sha256 {sha256[:16]}…",
            got=f"{filled.weights.source}, {filled.weights.sha256[:16]}…",
            fix=_FILE,
        )
    module = torch_model(entry, filled.module, filled.arguments)
    return Counterpart(module.eval(), counterpart_name(entry))
