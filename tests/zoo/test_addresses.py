"""A model of one's own: in one file outside the package, and in an installed distribution."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import trtnet
from trtnet import nn, reference, zoo
from trtnet.errors import UsageError
from trtnet.zoo import addresses, registry
from trtnet.zoo.addresses import Address

MODEL = """
from trtnet import nn

class SmallNet(nn.Module):
    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(nn.functional.relu(self.bn(self.conv(x))).mean((2, 3)))
"""
PARAMETERS = 3 * 8 * 9 + 8 + 2 * 8 + 8 * 4 + 4
MACS = 16 * 16 * 8 * 3 * 9 + 8 * 4
TWIN = """
import torch

class TorchSmallNet(torch.nn.Module):
    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(8)
        self.fc = torch.nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))
"""
REGISTERED = f"""
from trtnet import zoo
{MODEL}
def twin(num_classes=4):
    from torch_small import TorchSmallNet  # beside this file, and imported only when it is called
    return TorchSmallNet(num_classes)

@zoo.register(input_shape=(3, 16, 16), twin=twin)
def small_net(num_classes: int = 4) -> SmallNet:
    return SmallNet(num_classes)

@zoo.register
def bare(num_classes: int = 4) -> SmallNet:
    return SmallNet(num_classes)
"""

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _the_registry_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of Python code."""

    def made(name: str, code: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        return path

    return made


def run(code: str, *path: Path) -> str:
    """What `code` prints in a new process with the folders `path` on its search path."""
    root = Path(__file__).resolve().parents[2]
    search = os.pathsep.join(map(str, (root, *path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": search})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("small.py:net", Address("small.py", "net", True)),
        ("~/my models/small.py:Nets.first", Address("~/my models/small.py", "Nets.first", True)),
        (r"C:\my models\small.py:net", Address(r"C:\my models\small.py", "net", True)),
        ("models/small:net", Address("models/small", "net", True)),
        ("package.module:net", Address("package.module", "net", False)),
        ("package:Nets.first", Address("package", "Nets.first", False)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert addresses.is_address(text)
    assert addresses.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["a:", ":a", "a:1b", "1a:b", "a-b:c", "a:b c", "a..b:c", "x:y.py"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="address"):
        zoo.get_entry(text)


def test_the_home_folder_and_relative_paths(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("my models/small net.py", MODEL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folders = ("~/my models", "my models", "./my models", str(tmp_path / "my models"))
    found = [zoo.get_model(f"{folder}/small net.py:SmallNet") for folder in folders]
    assert len({type(model) for model in found}) == 1  # imported once


# A file


def test_a_bare_class_with_nothing_but_its_layers(write: Write) -> None:
    path = write("small.py", MODEL)
    before = list(sys.path)
    entry = zoo.get_entry(f"{path}:SmallNet")
    assert sys.path == before
    assert (entry.name, entry.input_shape, entry.arguments) == ("SmallNet", None, ("num_classes",))
    assert [entry.has_counterpart, entry.shipped, entry.torchvision] == [False, False, False]
    assert zoo.get_model(f"{path}:SmallNet", num_classes=7).fc.weight.shape == (7, 8)
    assert "SmallNet" not in zoo.list_models()
    assert "small" not in sys.modules
    with pytest.raises(UsageError, match="SmallNet: the model has no counterpart in PyTorch"):
        entry.torch_model()
    with pytest.raises(UsageError, match="does not say what its input is") as caught:
        entry.require_input_shape()
    assert "SmallNet.input_shape = (3, 224, 224)" in str(caught.value)


def test_a_bare_function_with_attributes(write: Write, zoo_checks: ModuleType) -> None:
    code = """
def net(num_classes=4):
    return SmallNet(num_classes)

def twin(num_classes=4):
    return TorchSmallNet(num_classes)

net.input_shape, net.twin, net.task = [3, 16, 16], twin, "classification"
"""
    path = write("own.py", MODEL + TWIN + code)
    entry = zoo.get_entry(f"{path}:net")
    assert (entry.input_shape, entry.has_counterpart) == ((3, 16, 16), True)
    theirs, ours = zoo_checks.equal_pair(entry, (1, 3, 16, 16), num_classes=5)
    images = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    network = zoo_checks.define(ours, images.shape, backend="rtx")
    found = reference.run(network.definition, {"input": images})["logits"]
    import torch

    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_registered_models_of_a_file_and_the_tools(
    write: Write, zoo_checks: ModuleType, zoo_cards: ModuleType
) -> None:
    write("torch_small.py", TWIN)
    path = write("own.py", REGISTERED)
    entry = zoo.get_entry(f"{path}:small_net")
    assert (entry.name, entry.input_shape, entry.has_counterpart) == (
        "small_net",
        (3, 16, 16),
        True,
    )
    assert zoo.get_entry(f"{path}:bare").input_shape is None
    facts = zoo_cards.facts(entry)
    assert facts == {
        "parameters": PARAMETERS, "macs": MACS, "default_weights": None, "weights": {}
    }  # fmt: skip
    record = zoo_checks.measure(f"{path}:small_net")
    assert (record["passed"], record["published"]) == (True, None)
    assert (record["parameters"], record["macs"]) == (PARAMETERS, MACS)
    assert set(record["settings"]) == {"default", "dynamic batch", "other size"}
    assert record["settings"]["other size"]["exact"] <= 1e-10
    with pytest.raises(UsageError, match="no PyTorch model to compare with"):
        zoo_checks.measure(f"{path}:bare")


def test_cards_are_computed_where_none_is_stored(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("torch_small.py", TWIN)
    path = write("own.py", f'"""See https://arxiv.org/abs/1234.5678."""\n{REGISTERED}')
    card = zoo.card(f"{path}:small_net")
    assert (card.name, card.parameters, card.macs) == ("small_net", PARAMETERS, MACS)
    assert (card.weights, card.preprocessing, card.distribution) == ((), None, None)
    assert card.papers == ("https://arxiv.org/abs/1234.5678",)
    known = zoo.card(f"{path}:small_net", compute=False)
    assert (known.input_shape, known.parameters, known.macs) == ((3, 16, 16), None, None)
    bare = zoo.card(f"{path}:bare")
    assert (bare.input_shape, bare.parameters, bare.macs) == (None, PARAMETERS, None)
    own = zoo.card(write("stolen.py", f"{MODEL}\nresnet50 = SmallNet").as_posix() + ":resnet50")
    assert own.parameters == PARAMETERS  # the card of the zoo's resnet50 is another's

    def absent(*args: object, **kwargs: object) -> None:
        raise trtnet.BackendError("no TensorRT here")

    monkeypatch.setattr("trtnet.network.Network", absent)
    without = zoo.card(f"{path}:small_net")
    assert (without.parameters, without.macs) == (PARAMETERS, None)


def test_weights_are_converted_for_a_model_by_address(write: Write, tmp_path: Path) -> None:
    address = f"{write('small.py', MODEL)}:SmallNet"
    model = zoo.get_model(address)
    slots = [*model.named_parameters(), *model.named_buffers()]
    state = {name: np.ones(slot.shape, np.float32) for name, slot in slots}
    trtnet.weights.save(tmp_path / "a.safetensors", state)
    trtnet.weights.convert(tmp_path / "a.safetensors", tmp_path / "a.wts", address)
    trtnet.weights.convert(tmp_path / "a.wts", tmp_path / "b.safetensors", address)
    found = trtnet.weights.load(tmp_path / "b.safetensors")
    assert found.metadata["architecture"] == "SmallNet"
    assert found["conv.weight"].shape == (8, 3, 3, 3)


def test_two_folders_with_files_of_the_same_names(write: Write) -> None:
    for folder, width in (("old", 3), ("new", 5)):
        write(f"{folder}/blocks.py", f"WIDTH = {width}")
        write(f"{folder}/net.py", """
from trtnet import nn, zoo
from blocks import WIDTH

@zoo.register
def versioned():
    import blocks
    assert blocks.WIDTH == WIDTH
    return nn.Conv2d(WIDTH, 1, 1)
""")  # fmt: skip
    path = write("here", "").parent
    for folder, width in (("old", 3), ("new", 5), ("old", 3)):
        model = zoo.get_model(f"{path / folder / 'net.py'}:versioned")
        assert model.weight.shape == (1, width, 1, 1)
    assert "versioned" not in zoo.list_models()


def test_the_same_file_again_is_not_run_again(write: Write) -> None:
    path = write(
        "once.py", f"{MODEL}\nimport builtins\nbuiltins.runs = getattr(builtins, 'runs', 0) + 1"
    )
    try:
        for _ in range(3):
            zoo.get_entry(f"{path}:SmallNet")
        import builtins

        assert builtins.runs == 1
    finally:
        del builtins.runs


# A module


def test_a_module_on_the_search_path(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("own_package/__init__.py", "")
    write("own_package/models.py", f"{MODEL}\nclass Nets:\n    small = SmallNet")
    monkeypatch.syspath_prepend(tmp_path)
    assert zoo.get_model("own_package.models:SmallNet").fc.weight.shape == (4, 8)
    assert zoo.get_entry("own_package.models:Nets.small").name == "Nets.small"
    with pytest.raises(UsageError, match=r"there is no module 'own_package\.model'") as caught:
        zoo.get_entry("own_package.model:SmallNet")
    assert "PYTHONPATH" in str(caught.value)


def test_the_zoos_own_models_have_addresses_too() -> None:
    assert zoo.get_entry("trtnet.zoo.resnet:resnet50") == zoo.get_entry("resnet50")


# Errors


def test_a_file_that_is_none_suggests_those_nearby(write: Write, tmp_path: Path) -> None:
    write("small.py", MODEL)
    with pytest.raises(UsageError, match=r"there is no file .*smal\.py") as caught:
        zoo.get_entry(f"{tmp_path}/smal.py:SmallNet")
    assert caught.value.fix == "did you mean small.py?"
    with pytest.raises(UsageError) as caught:
        zoo.get_entry(f"{tmp_path}/nothing_like_it.py:SmallNet")
    assert caught.value.fix == f"the Python files in {tmp_path} are small.py"
    with pytest.raises(UsageError) as caught:
        zoo.get_entry(f"{tmp_path}/nowhere/small.py:SmallNet")
    assert caught.value.fix == f"there is no folder {tmp_path}/nowhere: check the path"


def test_a_name_that_is_not_in_the_file_suggests_those_that_are(write: Write) -> None:
    path = write("own.py", REGISTERED)
    with pytest.raises(UsageError, match="has no 'smallnet'") as caught:
        zoo.get_entry(f"{path}:smallnet")
    assert caught.value.fix == "did you mean small_net, SmallNet?"
    with pytest.raises(UsageError, match="has no 'x'") as caught:
        zoo.get_entry(f"{path}:x")
    assert caught.value.fix == "it defines SmallNet, twin, small_net, bare"


def test_a_file_without_a_callable_says_what_it_defines(write: Write) -> None:
    path = write("own.py", f"raise SystemExit('not run')\n{REGISTERED}")
    with pytest.raises(UsageError, match="has no callable") as caught:
        zoo.get_entry(str(path))
    assert f"{path}:SmallNet; it defines SmallNet, twin, small_net, bare" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("code", "got"),
    [
        ("x = 1\ny = 1 / 0", "ZeroDivisionError: division by zero, at {}:2"),
        (
            "import no_such_package",
            "ModuleNotFoundError: No module named 'no_such_package', at {}:1",
        ),
        ("import sys\n\nsys.exit(3)", "SystemExit: 3, at {}:3"),
        ("def net(:", "SyntaxError: invalid syntax, at {}:1"),
    ],
)
def test_a_file_that_cannot_be_imported(code: str, got: str, write: Write) -> None:
    path = write("broken.py", code)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"broken\.py cannot be imported") as caught:
            zoo.get_entry(f"{path}:net")
        assert caught.value.got == got.format(path)
    path.write_text(MODEL)  # once it is corrected it is imported
    assert zoo.get_entry(f"{path}:SmallNet").arguments == ("num_classes",)


@pytest.mark.parametrize(
    ("code", "problem", "got"),
    [
        ("    return 1 / 0", "raised an error", "ZeroDivisionError: division by zero, at {}:5"),
        ("    return 3", "returned no trtnet.Module", "int: 3"),
        ("    pass", "returned no trtnet.Module", "NoneType: None"),
        ("    import torch\n    return torch.nn.ReLU()", "makes a torch.nn", "a torch.nn.Module"),
        ("    return nn.Linear(3, 4).no_such()", "raised an error",
         "AttributeError: 'Linear' object has no attribute 'no_such', at {}:5"),
    ],
)  # fmt: skip
def test_a_callable_that_does_not_make_a_model(
    code: str, problem: str, got: str, write: Write
) -> None:
    path = write("own.py", f"from trtnet import nn\n\n\ndef net():\n{code}")
    with pytest.raises(UsageError, match=rf"^net: .*own\.py:net.*{problem}") as caught:
        zoo.get_model(f"{path}:net")
    assert caught.value.got == got.format(path)


def test_errors_of_trtnet_come_as_they_are(write: Write) -> None:
    path = write("own.py", "import trtnet\n\ndef net():\n    raise trtnet.ShapeError('wrong size')")
    with pytest.raises(trtnet.ShapeError, match=r"^wrong size$"):
        zoo.get_model(f"{path}:net")


@pytest.mark.parametrize(
    ("code", "got"),
    [
        ("net = 3", "int"),
        ("from trtnet import nn\nnet = nn.ReLU()", "a model itself"),
        ("import torch\nnet = torch.nn.Linear", "a torch.nn.Module"),
        ("import torch\nnet = torch.nn.ReLU()", "a torch.nn.Module"),
    ],
)
def test_what_is_no_function_that_makes_a_model(code: str, got: str, write: Write) -> None:
    with pytest.raises(UsageError, match="net") as caught:
        zoo.get_entry(f"{write('own.py', code)}:net")
    assert caught.value.got == got
    assert caught.value.expected is not None


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("input_shape = (3, 0)", "input_shape is not a shape"),
        ("input_shape = 224", "input_shape is not a shape"),
        ("task = 'detecting'", "unknown task"),
    ],
)
def test_attributes_that_cannot_be(attribute: str, problem: str, write: Write) -> None:
    path = write("own.py", f"{MODEL}\n    {attribute}")
    with pytest.raises(UsageError, match=f"SmallNet: {problem}"):
        zoo.get_entry(f"{path}:SmallNet")


def test_a_twin_that_is_no_pytorch_model(write: Write) -> None:
    path = write("own.py", f"{MODEL}\n    @staticmethod\n    def twin():\n        return 3")
    with pytest.raises(UsageError, match=r"own\.py:SmallNet\.twin returned no torch") as caught:
        zoo.get_entry(f"{path}:SmallNet").torch_model()
    assert caught.value.got == "int"


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
def distribution(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path / "site"


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
    assert (entry.name, entry.input_shape, entry.has_counterpart) == (
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


def test_a_name_that_is_offered_and_registered_names_both(distribution: Path) -> None:
    with pytest.raises(UsageError, match="several models are named 'resnet18'") as caught:
        zoo.get_entry("resnet18")
    for part in ("trtnet.zoo.resnet:resnet18", "my_zoo.models:small_net", "my-zoo 1.2"):
        assert part in str(caught.value)
    assert zoo.get_entry("trtnet.zoo.resnet:resnet18").shipped
    assert zoo.get_entry("resnet34").shipped
