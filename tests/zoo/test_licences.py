"""The licences of code and weights on ``docs/zoo.md``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from trtnet import zoo

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
MODELS = [
    name
    for name in zoo.list_models(shipped=True)
    if zoo.get_entry(name).task == "detection" or name.startswith("yolo")
]


@pytest.mark.parametrize("name", MODELS)
def test_each_detector_has_one_row(name: str, zoo_licences: ModuleType) -> None:
    licence = zoo_licences.licence_of(name)
    assert licence is not None
    families = {"yolov8": "AGPL-3.0", "yolo11": "AGPL-3.0", "yolo26": "AGPL-3.0", "yolov9": "MIT",
                "yolov7": "MIT", "rfdetr": "Apache-2.0", "dfine": "Apache-2.0"}  # fmt: skip
    for family, stated in families.items():
        if name.startswith(family):
            assert licence.weights_licence.startswith(stated)
            assert stated in licence.source_licence


def test_the_page_has_the_rows(zoo_licences: ModuleType) -> None:
    text = PAGE.read_text()
    assert zoo_licences.TITLE in text
    assert zoo_licences.UNCONFIRMED in text
    lines = text.splitlines()
    for cells in zoo_licences.rows():
        assert f"| {' | '.join(cells)} |" in lines


def test_each_row_has_a_model(zoo_licences: ModuleType) -> None:
    used = {id(zoo_licences.licence_of(name)) for name in MODELS}
    assert used == {id(licence) for licence in zoo_licences.LICENCES}
