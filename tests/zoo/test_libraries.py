"""Models of PyTorch's libraries, and of one's own PyTorch code, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trtnet import zoo
from trtnet.cli.main import main
from trtnet.errors import UsageError
from trtnet.pipeline.model import load_weights

CODE = """
import torch

class Net(torch.nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self, width: int = 4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        with torch.no_grad():
            self.conv.weight.fill_(0.5)

    def forward(self, x):
        return torch.relu(self.conv(x)).mean((2, 3))

def make(width: int = 4):
    return Net(width)

make.input_shape = (3, 8, 8)
"""


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("timm:resnet10t", (3, 176, 176)),
        ("torchvision:squeezenet1_1", (3, 224, 224)),
    ],
)
def test_a_model_of_a_library(name: str, shape: tuple[int, ...]) -> None:
    entry = zoo.get_entry(name)
    assert (entry.input_shape, entry.library) == (shape, name.partition(":")[0])
    assert not entry.shipped
    assert entry.has_counterpart()
    model = entry.build(num_classes=7)
    assert set(model.state_dict()) == set(entry.torch_model(num_classes=7).state_dict())


@pytest.mark.parametrize(
    ("name", "near"),
    [("timm:resnet10", "resnet10t"), ("torchvision:resnet5", "resnet50")],
)
def test_near_names_are_suggested(name: str, near: str, raises: Any) -> None:
    with raises(UsageError, f"has no model {name.partition(':')[2]!r}", near):
        zoo.get_entry(name)


@pytest.mark.parametrize("attribute", ["Net", "make"])
def test_ones_own_pytorch_code_keeps_its_weights(attribute: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(CODE)
    entry = zoo.get_entry(f"{path}:{attribute}")
    weights = load_weights(entry, arguments={"width": 6})
    assert weights["conv.weight"].shape == (6, 3, 3, 3)
    assert (weights["conv.weight"] == 0.5).all()
    assert weights.metadata["weights"] == "own"
    drawn = load_weights(entry, "random", arguments={"width": 6})
    assert np.unique(drawn["conv.weight"]).size > 1


@pytest.mark.parametrize("attribute", ["Net", "make"])
def test_a_pytorch_model_becomes_a_verified_engine(
    attribute: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.py"
    path.write_text(CODE)
    engine = tmp_path / "own.engine"
    status = main(["zoo", f"{path}:{attribute}", "--backend", "rtx", f"--saveEngine={engine}"])
    output = capsys.readouterr()
    assert status == 0, output.err
    assert engine.stat().st_size > 0
    assert (
        f"against {attribute} of torch {torch.__version__.split('+')[0]}" in output.out + output.err
    )
