"""Registered models, and those that installed distributions offer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trtnet import nn, zoo
from trtnet.errors import UsageError

FOLDER = Path(__file__).with_name("own_models")
MODEL, TWIN, REGISTERED = (
    (FOLDER / f"{name}.txt").read_text() for name in ("model", "twin", "registered")
)
PARAMETERS = 3 * 8 * 9 + 8 + 2 * 8 + 8 * 4 + 4
MACS = 16 * 16 * 8 * 3 * 9 + 8 * 4

Write = Callable[..., Path]


def run(code: str, *path: Path) -> str:
    """What `code` prints in a new process with the folders `path` on its search path."""
    root = Path(__file__).resolve().parents[2]
    search = os.pathsep.join(map(str, (root, *path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": search})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# Registering


def test_registering_from_a_module_of_ones_own() -> None:
    @zoo.register
    def without_arguments() -> nn.Module:
        return nn.Identity()

    @zoo.register(name="another-name", input_shape=(5,))
    class WithArguments(nn.Identity):
        pass

    assert {"without_arguments", "another-name"} <= set(zoo.list_models())
    assert not {"without_arguments", "another-name"} & set(zoo.list_models(shipped=True))
    assert isinstance(zoo.get_model("without_arguments"), nn.Identity)
    assert isinstance(zoo.get_model("another-name"), WithArguments)
    assert zoo.get_entry("another-name").input_shape == (5,)


def test_a_function_that_is_defined_again_replaces_itself() -> None:
    for width in (3, 4):

        @zoo.register
        def redefined(width: int = width) -> nn.Module:
            return nn.Linear(width, 1)

    assert zoo.get_model("redefined").weight.shape == (1, 4)


# Installed distributions


@pytest.fixture
def distribution(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an installed distribution with four models, of which one works."""
    write("site/my_zoo/__init__.py", "print('imported')")
    write(
        "site/my_zoo/models.py", REGISTERED.replace("from torch_small", "from my_zoo.torch_small")
    )
    write("site/my_zoo/torch_small.py", TWIN)
    write(
        "site/my_zoo-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-zoo\nVersion: 1.2\n"
    )
    write("site/my_zoo-1.2.dist-info/entry_points.txt", """\
[console_scripts]
my-zoo = my_zoo:main

[trtnet.zoo]
small_net = my_zoo.models:small_net
renamed = my_zoo.models:bare
lost = my_zoo.models:nothing
broken = my_zoo.no_such_module:net
malformed = my_zoo.models
resnet18 = my_zoo.models:small_net
bad name = my_zoo.models:bare
""")  # fmt: skip
    write(
        "site/garbage-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: garbage\nVersion: 1\n"
    )
    write("site/garbage-1.0.dist-info/entry_points.txt", "[trtnet.zoo]\nno equals sign\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path / "site"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_zoo"]:
        del sys.modules[name]


def test_a_distributions_models_are_listed_without_being_imported(distribution: Path) -> None:
    code = """
import sys, trtnet.zoo as zoo
from trtnet.cli.zoo import main
before = zoo.list_models(shipped=True)
print(sorted(set(zoo.list_models()) - set(before)))
print(main(["--list"]), zoo.card("small_net", compute=False).distribution)
print([name for name in sys.modules if name.startswith(("my_zoo", "torch", "tensorrt"))])
"""
    lines = run(code, distribution).splitlines()
    assert lines[0] == "['broken', 'lost', 'malformed', 'renamed', 'small_net']"
    assert lines[-2:] == ["0 my-zoo 1.2", "[]"]
    (row,) = (line for line in lines if line.startswith("small_net "))
    assert row.split() == ["small_net", "-", "-", "-", "-", "of", "my-zoo", "1.2"]
    assert "imported" not in lines


def test_a_distributions_model_is_imported_when_it_is_asked_for(distribution: Path) -> None:
    entry = zoo.get_entry("small_net")
    assert (entry.name, entry.input_shape, entry.has_counterpart()) == (
        "small_net",
        (3, 16, 16),
        True,
    )
    assert type(entry.torch_model()).__name__ == "TorchSmallNet"
    assert zoo.get_entry("small_net") == entry  # registered now, and offered: the same model
    assert zoo.list_models().count("small_net") == 1
    assert zoo.get_entry("renamed").name == "renamed"
    card = zoo.card("small_net")
    assert (card.parameters, card.macs, card.distribution) == (PARAMETERS, MACS, "my-zoo 1.2")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broken", "there is no module 'my_zoo.no_such_module'"),
        ("lost", "my_zoo.models has no 'nothing'"),
        ("malformed", "this is not the address of a model"),
    ],
)
def test_a_broken_model_names_its_distribution(name: str, text: str, distribution: Path) -> None:
    with pytest.raises(
        UsageError, match=f"{name}: the model of the distribution my-zoo 1.2"
    ) as caught:
        zoo.get_entry(name)
    assert text in str(caught.value)
    assert "my_zoo.models" in str(caught.value.got) or "my_zoo.no_such" in str(caught.value.got)


def test_a_distribution_takes_no_name_of_a_shipped_model(distribution: Path) -> None:
    assert zoo.get_entry("resnet18").shipped
    assert "my_zoo" not in sys.modules
    assert not zoo.get_entry("my_zoo.models:small_net").shipped


def test_a_name_that_is_offered_and_registered_names_both(distribution: Path) -> None:
    @zoo.register(name="renamed")
    def other() -> nn.Module:
        return nn.ReLU()

    with pytest.raises(UsageError, match="several models are named 'renamed'") as caught:
        zoo.get_entry("renamed")
    for part in (f"{__name__}:", "my_zoo.models:bare", "my-zoo 1.2"):
        assert part in str(caught.value)


def test_attributes_of_a_registered_class_count() -> None:
    @zoo.register(name="with_attributes")
    class Own(nn.Module):
        input_shape = (3, 12, 12)
        task = "segmentation"

    entry = zoo.get_entry("with_attributes")
    assert (entry.input_shape, entry.task, entry.has_counterpart()) == (
        (3, 12, 12),
        "segmentation",
        False,
    )
    assert Own.input_shape == entry.input_shape
