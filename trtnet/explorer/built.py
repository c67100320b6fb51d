"""A built engine, whose layers only TensorRT knows: the network that its sidecar describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from trtnet.building.plan import Plan
from trtnet.building.sidecar import Sidecar
from trtnet.errors import TrtnetError, UsageError
from trtnet.explorer.subject import Subject, subject_of
from trtnet.pipeline.engine_name import made_by
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import InputSpec, Recipe
from trtnet.precision.budget import Budget
from trtnet.precision.policy import Policy
from trtnet.zoo.families import HOMES

_FIX = "name the model that it was built of; --layer-info (layer_info=) adds what the engine tells"
_NOTE = (
    "{path} is a built engine, whose layers only TensorRT can tell. This is the network that its "
    "sidecar describes, defined again by this version of trtnet: its inputs, outputs and modules "
    "are those that the sidecar names."
)


def built_engine(path: str, observer: Observer | None = None) -> Subject:
    """The network of the engine in the file `path`.

    What its sidecar says is not trusted: its model must be one of trtnet, and the network that is
    defined again must have the engine's inputs and outputs.

    Raises:
        UsageError: the sidecar does not say what the engine was built of, or says something that
            trtnet has not.
        PlanError: the engine is not the one that the sidecar describes.
    """
    plan = Plan.load(path)
    stated = plan.described
    subject = subject_of(_recipe(path, stated), observer=observer, name=path)
    for what, ours, theirs in (
        ("inputs", subject.graph.inputs, stated.inputs),
        ("outputs", subject.graph.outputs, stated.outputs),
    ):
        mine = [(name, subject.graph.tensors[name].dtype) for name in ours]
        wanted = [(tensor.name, tensor.dtype) for tensor in theirs or ()]
        if mine != wanted:
            raise UsageError(
                f"{path}: the model of this version of trtnet has other {what} than the engine",
                expected=wanted,
                got=mine,
                fix="build the engine again, or name the model in place of the engine",
            )
    return dataclasses.replace(
        subject, notes=(_NOTE.format(path=path),), sidecar=plan.sidecar, recipe=None
    )


def _recipe(path: str, stated: Sidecar) -> Recipe:
    """What the engine was built of, in the shape that it is built for first."""
    maker, policy = stated.made_by, stated.policy
    if stated.model not in HOMES or maker is None or policy is None or not stated.inputs:
        raise UsageError(
            f"{path} is a built engine that does not say which model of trtnet it was built of",
            expected="a sidecar of python -m trtnet.zoo, with a model that trtnet zoo --list shows",
            got=stated.model,
            fix=_FIX,
        )
    first = stated.inputs[0]
    shapes = (stated.profiles or [{}])[0].get(first.name)
    recipe = Recipe(
        stated.model,
        precision=_policy(path, policy),
        arguments=dict(maker.arguments),
        input=InputSpec(first.shape if shapes is None else shapes.opt, first.name),
    )
    if made_by(recipe.entry, {})["place"] != maker.place:
        raise UsageError(
            f"{path} was built of another model of the same name", got=stated.model, fix=_FIX
        )
    return recipe


def _policy(path: str, stated: Mapping[str, Any]) -> Policy:
    values = dict(stated)
    try:
        budget = values.pop("budget", None)
        return Policy(**values, budget=None if budget is None else Budget.parse(budget))
    except (TypeError, TrtnetError) as error:
        raise UsageError(
            f"the sidecar of {path} has a policy that this version of trtnet does not know",
            got=error,
            fix=_FIX,
        ) from error
