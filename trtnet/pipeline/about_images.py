"""What weights say about images and classes, after a recipe has been heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.pipeline.preprocessing import fitted_to_profiles, restated

if TYPE_CHECKING:
    from trtnet.pipeline.recipe import Recipe
    from trtnet.pipeline.shapes import InputShapes
    from trtnet.weights import Weights


def about_images(weights: Weights, recipe: Recipe, shapes: InputShapes) -> Weights:
    """`weights` that say what `recipe` states about images and classes, fitted to the input.

    Raises:
        UsageError, PlanError: a preprocessing that is impossible, or does not fit.
    """
    stated = restated(weights, recipe.preprocessing, recipe.class_names)
    return fitted_to_profiles(stated, shapes.profiles)
