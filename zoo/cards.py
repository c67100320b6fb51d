"""What is known about each model: its size, its cost, its papers and its published weights."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.zoo.entry import Entry
from trtnet.zoo.families import HOMES
from trtnet.zoo.installed import offers
from trtnet.zoo.measuring import mac_count, parameter_count
from trtnet.zoo.registry import get_entry, registered

FILE = Path(__file__).with_name("cards.json")


@dataclass(frozen=True)
class Pretrained:
    """Weights that somebody has trained.

    Attributes:
        name: what ``--weights`` takes, such as ``IMAGENET1K_V2``.
        dataset: what `accuracy` was measured on.
        accuracy: published percentages: ``acc@1`` and ``acc@5``, ``miou`` and ``pixel_acc``, or
            ``box_map``, COCO's average precision; empty for weights without a trained classifier.
        preprocessing: of images, as in the metadata of weights files.
    """

    name: str
    dataset: str
    accuracy: Mapping[str, float]
    preprocessing: Mapping[str, Any]

    def __str__(self) -> str:
        """The name, and the accuracy that models are ranked by: ``IMAGENET1K_V2 80.86``."""
        return (
            f"{self.name} {next(iter(self.accuracy.values())):.2f}" if self.accuracy else self.name
        )


@dataclass(frozen=True)
class Card:
    """What is known about one model. ``None`` stands for what is not known.

    Attributes:
        name: what :func:`trtnet.zoo.get_model` calls it.
        task: as of :class:`trtnet.zoo.entry.Entry`.
        input_shape: (channels, height, width) of one input by default.
        parameters: how many the model has.
        macs: multiply-accumulates for one input of `input_shape`.
        papers: addresses of those that the model's file names.
        weights: published ones.
        default_weights: the name of those that ``--weights DEFAULT`` means, if any.
        distribution: name and version of the installed distribution that offers the model.
    """

    name: str
    task: str | None
    input_shape: tuple[int, ...] | None
    parameters: int | None
    macs: int | None
    papers: tuple[str, ...]
    weights: tuple[Pretrained, ...]
    default_weights: str | None
    distribution: str | None = None

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """Preprocessing of images for the default weights."""
        by_name = {weights.name: weights.preprocessing for weights in self.weights}
        return by_name.get(self.default_weights or "")


def card(model: str | Entry, *, compute: bool = True) -> Card:
    """The :class:`Card` of a model.

    For a model that comes with trtnet the facts are stored: neither its file nor torch or TensorRT
    is loaded. For any other model they are computed, if `compute`: parameters from the module,
    multiply-accumulates from a network, where TensorRT is installed and the input shape is known.

    >>> card("resnet50").parameters, card("resnet50").weights[1].accuracy["acc@1"]
    (25557032, 80.858)

    Args:
        model: a name or an address, as for :func:`trtnet.zoo.get_entry`, or an entry.
        compute: without it, only what is known without importing or building the model is on the
            card.

    Raises:
        UsageError: there is no such model, or it cannot be imported or built.
    """
    if isinstance(model, Entry):
        entry = model
    elif model in HOMES and model in _facts():
        return _stored(model)
    elif compute:
        entry = get_entry(model)
    else:
        known = registered(model)
        if known is None and model in offers():
            distribution = offers()[model][0].distribution
            return Card(model, None, None, None, None, (), (), None, distribution)
        entry = known or get_entry(model)
    if entry.shipped and entry.name in _facts():
        return _stored(entry.name)
    return Card(
        name=entry.name,
        task=entry.task,
        input_shape=entry.input_shape,
        parameters=parameter_count(entry.build()) if compute else None,
        macs=_macs(entry) if compute else None,
        papers=papers(entry),
        weights=(),
        default_weights=None,
        distribution=_distribution(model, entry),
    )


def papers(entry: Entry) -> tuple[str, ...]:
    """Addresses of the papers that the model's file names."""
    return tuple(re.findall(r"https://\S+[^\s.,:;)]", entry.home.__doc__ or ""))


def _stored(name: str) -> Card:
    """The card of a model that comes with trtnet."""
    facts = _facts()[name]
    shape = facts["input_shape"]
    return Card(
        name=name,
        task=facts["task"],
        input_shape=None if shape is None else tuple(shape),
        parameters=facts["parameters"],
        macs=facts["macs"],
        papers=tuple(facts["papers"]),
        weights=tuple(Pretrained(key, **value) for key, value in facts["weights"].items()),
        default_weights=facts["default_weights"],
    )


def _macs(entry: Entry) -> int | None:
    return None if entry.input_shape is None else mac_count(entry.build(), entry.input_shape)


def _distribution(model: str | Entry, entry: Entry) -> str | None:
    """The distribution that offers the model under the name that it was asked for by."""
    found = (
        () if entry.shipped else offers().get(model if isinstance(model, str) else model.name, ())
    )
    return found[0].distribution if found else None


@functools.cache
def _facts() -> dict[str, Any]:
    """What ``tools/zoo_cards.py`` has found, by model."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found
