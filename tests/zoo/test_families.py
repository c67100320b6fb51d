"""The table of families: what it says is what their files register, and no other file is read."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

from trtnet import nn, zoo
from trtnet.zoo import registry
from trtnet.zoo.families import FAMILIES, HOMES
from trtnet.zoo.registry import register

LOADED = """
import json, sys
from trtnet import zoo
from trtnet.cli.zoo import main
{code}
print()
print(json.dumps(sorted(sys.modules)))
"""
TWINS = ("torch_", "__main__")  # files that need torch, and the program


def loaded(code: str) -> set[str]:
    """The modules that a new process has imported after the code."""
    command = [sys.executable, "-c", LOADED.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        'main(["--list"])',
        'main(["--list", "resnet*", "--json", "-"])',
        "zoo.list_models()",
        '[zoo.card(name) for name in ("yolov8n", "swin_t")]',
    ],
)
def test_listing_imports_no_model(code: str) -> None:
    modules = loaded(code)
    assert "trtnet.zoo.registry" in modules
    assert not modules & set(HOMES.values())
    assert not modules & {"trtnet.ops", "trtnet.nn.functional", "trtnet.detection", "torch"}


def test_a_model_that_is_asked_for_imports_its_family_alone() -> None:
    assert loaded('zoo.get_entry("vgg16")') & set(HOMES.values()) == {"trtnet.zoo.vgg"}
    own = 'zoo.register(type("Own", (__import__("trtnet").Module,), {}))'
    assert not loaded(own) & set(HOMES.values())


def test_the_table_has_every_name_once() -> None:
    names = [name for family in FAMILIES.values() for name in family.split()]
    assert sorted(names) == sorted(HOMES) == zoo.list_models(shipped=True)


@pytest.mark.parametrize("name", HOMES)
def test_a_model_is_registered_by_the_file_that_the_table_names(name: str) -> None:
    entry = registry.registered(name)
    assert entry is not None
    assert entry.home.__name__ == entry.builder.__module__ == HOMES[name]


def test_no_file_registers_a_model_that_the_table_lacks() -> None:
    for module in pkgutil.walk_packages(zoo.__path__, "trtnet.zoo."):
        if not module.name.rpartition(".")[2].startswith(TWINS):
            importlib.import_module(module.name)  # raises ValueError
    assert {name for scope, name in registry._ENTRIES if not scope} == set(HOMES)


@pytest.mark.parametrize(("name", "family"), [("vgg12", "vgg"), ("vgg11", "vggs.small")])
def test_a_name_that_the_table_lacks_says_what_to_write(name: str, family: str) -> None:
    def builder() -> nn.Module:
        return nn.Identity()

    builder.__module__ = f"trtnet.zoo.{family}"
    with pytest.raises(ValueError, match=r"zoo/families\.py does not say") as caught:
        register(name=name)(builder)
    assert f"registers '{name}'" in str(caught.value)
    assert f"FAMILIES['{family}']" in str(caught.value)


def test_a_taken_name_is_told_before_its_family_is_imported() -> None:
    code = """
try:
    zoo.register(name="unet")(type("Own", (__import__("trtnet").Module,), {}))
except ValueError as error:
    assert "registered already, by trtnet.zoo.segmentation.unet:unet" in str(error), error
else:
    raise SystemExit("was registered")
"""
    assert "trtnet.zoo.segmentation.unet" in loaded(code)
