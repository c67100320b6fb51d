"""Errors about models that are named by their address."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import trtnet
from trtnet import zoo
from trtnet.errors import UsageError, WeightsError

FOLDER = Path(__file__).with_name("own_models")
MODEL, TWIN, REGISTERED = (
    (FOLDER / f"{name}.txt").read_text() for name in ("model", "twin", "registered")
)
PARAMETERS = 3 * 8 * 9 + 8 + 2 * 8 + 8 * 4 + 4
MACS = 16 * 16 * 8 * 3 * 9 + 8 * 4

Write = Callable[..., Path]


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
        ("    return 3", "returned no module", "int: 3"),
        ("    pass", "returned no module", "NoneType: None"),
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


def test_errors_of_trtnet_name_the_model(write: Write) -> None:
    path = write("own.py", "import trtnet\n\ndef net():\n    raise trtnet.ShapeError('wrong size')")
    with pytest.raises(trtnet.ShapeError, match=r"net: wrong size$"):
        zoo.get_model(f"{path}:net")


@pytest.mark.parametrize(
    ("code", "got"),
    [
        ("net = 3", "int"),
        ("from trtnet import nn\nnet = nn.ReLU()", "a model itself"),
        ("import torch\nnet = torch.nn.ReLU()", "a model itself"),
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


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the error installs it: no extra of trtnet brings timm for users."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(WeightsError, match="timm:resnet50d needs timm") as caught:
        zoo.get_entry("timm:resnet50d")
    assert caught.value.fix == "pip install timm"
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(WeightsError) as caught:
        zoo.get_entry("torchvision:raft_small")
    assert str(caught.value.fix).endswith('[torch]"')
