"""Recipes from arguments."""

from __future__ import annotations

import argparse
import dataclasses

from trtnet.cli.options import build_config
from trtnet.cli.precision import ChosenPrecision, named
from trtnet.cli.preprocess_flags import stated_class_names, stated_preprocessing
from trtnet.cli.shapes import parse_input, parse_profiles, parse_shape
from trtnet.errors import UsageError
from trtnet.network.forms import NATIVE
from trtnet.pipeline.recipe import INPUT, CalibrationSettings, InputSpec, Recipe

_ARGUMENTS = (  # of builders, that have flags
    *("num_classes", "in_channels", "aux_loss", "argmax", "output_format"),
    *("norm_eps", "transform_input"),
)


def model_recipe(arguments: argparse.Namespace, text: str) -> Recipe:
    """The model that `text` names: of the flags of
    :func:`trtnet.cli.arguments.add_model_flags`, and a batch size.

    Args:
        arguments: parsed; flags that the command does not have count as not given.
        text: a model, see :func:`trtnet.zoo.get_entry`.
    """
    builder = {name: getattr(arguments, name, None) for name in _ARGUMENTS}
    return Recipe(
        text,
        weights=getattr(arguments, "weights", None),
        weights_key=getattr(arguments, "weights_key", None),
        seed=getattr(arguments, "seed", 0),
        arguments={name: value for name, value in builder.items() if value is not None},
        image_size=getattr(arguments, "image_size", None),
        input=input_spec(arguments),
        batch=getattr(arguments, "batch", None),
        preprocessing=stated_preprocessing(arguments),
        class_names=stated_class_names(arguments),
        backend=getattr(arguments, "backend", "auto"),
        plugins=getattr(arguments, "plugins", "auto"),
        nms=getattr(arguments, "nms", NATIVE),
    )


def network_recipe(arguments: argparse.Namespace, text: str) -> Recipe:
    """:func:`model_recipe`, and how it is defined: precision, calibration, shapes.

    Args:
        arguments: parsed.
        text: a model, which may end in a precision: ``resnet50:fp16``.
    """
    name, chosen = named(text, arguments)
    return _network_recipe(arguments, name, chosen)


def build_recipe(arguments: argparse.Namespace) -> Recipe:
    """All settings of ``python -m trtnet.zoo MODEL``.

    Args:
        arguments: of :func:`trtnet.cli.arguments.parse`.
    """
    recipe = _network_recipe(arguments, arguments.model, arguments.chosen)
    shapes = (parse_shape(text, _input_name(recipe)) for text in arguments.verify_shapes)
    return dataclasses.replace(
        recipe,
        config=build_config(arguments),
        engine=arguments.saveEngine,
        label=arguments.chosen.label,
        force=arguments.force,
        verify=not arguments.skip_verify,
        verify_images=arguments.verify_inputs,
        verify_shapes=tuple(shapes),
    )


def input_spec(arguments: argparse.Namespace) -> InputSpec | None:
    """The input that ``--input`` describes, if it is given.

    Raises:
        UsageError: it cannot be read, or describes several inputs.
    """
    given = getattr(arguments, "model_input", None) or []
    if len(given) > 1:
        raise UsageError(
            "--input: models have one input", got=", ".join(given), fix="define a model of several "
            "inputs in Python: trtnet.Network"
        )  # fmt: skip
    return parse_input(given[0]) if given else None


def _network_recipe(arguments: argparse.Namespace, name: str, chosen: ChosenPrecision) -> Recipe:
    recipe = model_recipe(arguments, name)
    return dataclasses.replace(
        recipe,
        precision=chosen.precision,
        profiles=parse_profiles(arguments, _input_name(recipe)),
        calibration=CalibrationSettings(
            data=arguments.calib_data,
            items=arguments.calib_items,
            method=arguments.calibrator,
            table=arguments.calib_table,
        ),
    )


def _input_name(recipe: Recipe) -> str:
    return recipe.input.name if recipe.input is not None else INPUT
