"""Cards: what torchvision says now, and what --list makes of it."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
import torchvision

from trtnet import zoo
from trtnet.errors import UsageError
from trtnet.zoo.cards import FILE, papers

SHIPPED = zoo.list_models(shipped=True)
TORCHVISION = [name for name in SHIPPED if name in torchvision.models.list_models()]
STORED = json.loads(FILE.read_text())
DETECTORS = [name for name in TORCHVISION if zoo.get_entry(name).task == "detection"]
STATED = [name for name in TORCHVISION if name not in DETECTORS]  # with all their numbers
SMALL = 30_000_000  # parameters; the others' networks are counted by tools/verify_zoo.py


@pytest.mark.parametrize("name", STATED)
def test_weights_are_those_torchvision_has(name: str) -> None:
    available = torchvision.models.get_model_weights(name)
    card = zoo.card(name)
    assert card.default_weights == available.DEFAULT.name
    assert {weights.name for weights in card.weights} == set(available.__members__) - {"DEFAULT"}
    for weights in card.weights:
        entry = available[weights.name]
        (metrics,) = entry.meta["_metrics"].values()
        known = {name: value for name, value in metrics.items() if not np.isnan(value)}
        assert (weights.accuracy, [weights.dataset]) == (known, list(entry.meta["_metrics"]))
        transforms = entry.transforms()
        assert weights.preprocessing["interpolation"] == transforms.interpolation.value
        for key in ("resize_size", "mean", "std"):
            assert weights.preprocessing[key] == getattr(transforms, key)


@pytest.mark.parametrize("name", DETECTORS)
def test_weights_of_detectors_are_those_torchvision_has(name: str) -> None:
    """torchvision states neither their preparation, which is in the model, nor at which size their
    multiply-accumulates were counted."""
    available, card = torchvision.models.get_model_weights(name), zoo.card(name)
    assert card.default_weights == available.DEFAULT.name
    stated = {entry.name: entry.meta["_metrics"]["COCO-val2017"] for entry in available}
    assert {weights.name: weights.accuracy for weights in card.weights} == stated
    assert card.preprocessing == zoo.get_entry(name).preprocessing


@pytest.mark.parametrize("name", STATED)
def test_parameters_and_macs_are_those_torchvision_states(
    name: str, zoo_checks: ModuleType
) -> None:
    card, stated = zoo.card(name), zoo_checks.published(name)
    if "aux_loss" not in zoo.get_entry(name).arguments:  # whose numbers are those with that head
        assert stated.agrees(card.parameters, card.macs)
    assert card.parameters <= stated.parameters
    assert card.macs < 1.005 * stated.macs + 1e6


@pytest.mark.parametrize("name", STORED)
def test_the_file_is_what_the_tool_writes(name: str, zoo_cards: ModuleType) -> None:
    entry, card = zoo.get_entry(name), zoo.card(name)
    facts = STORED[name]
    assert (card.task, card.input_shape) == (entry.task, entry.input_shape)
    assert card.papers == papers(entry)
    assert facts["weights"] == zoo_cards.published_weights(entry)
    assert facts["default_weights"] == zoo_cards.default_weights(entry)
    assert card.parameters == zoo_cards.parameters(entry)
    if card.parameters < SMALL:
        assert card.macs == zoo_cards.macs(entry)


def test_there_is_a_card_for_every_model_and_none_of_another() -> None:
    assert STORED.keys() <= set(SHIPPED)
    assert set(TORCHVISION) <= STORED.keys()
    for name in SHIPPED:  # one that is not stored is computed
        assert zoo.card(name).parameters > 0


def test_a_card() -> None:
    card = zoo.card("vit_b_16")
    assert (card.task, card.input_shape) == ("classification", (3, 224, 224))
    assert card.papers == ("https://arxiv.org/abs/2010.11929",)
    assert [weights.accuracy["acc@1"] for weights in card.weights] == [81.072, 85.304, 81.886]
    assert card.preprocessing is not None
    assert card.preprocessing["crop_size"] == [224]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_names_its_paper(name: str) -> None:
    assert any("arxiv.org/abs/" in paper or "doi.org" in paper for paper in zoo.card(name).papers)


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError, match="no model 'resnet5O'"):
        zoo.card("resnet5O")
