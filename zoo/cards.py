"""What is known about each model: its size, its cost, its papers and its published weights."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.errors import UsageError
from trtnet.zoo.registry import get_entry

FILE = Path(__file__).with_name("cards.json")


@dataclass(frozen=True)
class Pretrained:
    """Weights that somebody has trained.

    Attributes:
        name: what ``--weights`` takes, such as ``IMAGENET1K_V2``.
        dataset: what `accuracy` was measured on.
        accuracy: published percentages: ``acc@1`` and ``acc@5``, or ``miou`` and ``pixel_acc``;
            empty for weights without a trained classifier.
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
    """One model of the zoo.

    Attributes:
        name: what :func:`trtnet.zoo.get_model` calls it.
        task: ``"classification"`` or ``"segmentation"``.
        input_shape: (channels, height, width) of one input by default.
        parameters: how many the model has.
        macs: multiply-accumulates for one input of `input_shape`.
        papers: addresses of those that the model's file names.
        weights: published ones.
        default_weights: the name of those that ``--weights DEFAULT`` means, if any.
    """

    name: str
    task: str
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    papers: tuple[str, ...]
    weights: tuple[Pretrained, ...]
    default_weights: str | None

    @property
    def preprocessing(self) -> Mapping[str, Any] | None:
        """That of the default weights."""
        by_name = {weights.name: weights.preprocessing for weights in self.weights}
        return by_name[self.default_weights] if self.default_weights else None


def card(name: str) -> Card:
    """The :class:`Card` of the model `name`. Loads neither torch nor TensorRT.

    >>> card("resnet50").parameters, card("resnet50").weights[1].accuracy["acc@1"]
    (25557032, 80.858)

    Raises:
        UsageError: there is no such model, or nothing is known about it.
    """
    entry, facts = get_entry(name), _facts().get(name)
    if facts is None:
        raise UsageError("the model has no card", module=name,
                         fix="write one: python tools/zoo_cards.py")  # fmt: skip
    about = entry.home.__doc__ or ""
    return Card(
        name=name,
        task=entry.task,
        input_shape=entry.input_shape,
        parameters=facts["parameters"],
        macs=facts["macs"],
        papers=tuple(re.findall(r"https://\S+[^\s.,:;)]", about)),
        weights=tuple(Pretrained(key, **value) for key, value in facts["weights"].items()),
        default_weights=facts["default_weights"],
    )


@functools.cache
def _facts() -> dict[str, Any]:
    """What ``tools/zoo_cards.py`` has found, by model."""
    return json.loads(FILE.read_text())
