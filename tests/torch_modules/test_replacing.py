"""`from_torch(..., replace=...)`: modules of trtnet inside PyTorch's code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import trtnet
from trtnet import nn
from trtnet.errors import UsageError, WeightsError


class Gate(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.proj(x))


class OurGate(trtnet.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return x * trtnet.sigmoid(self.proj(x))


def run(module: Any, x: np.ndarray) -> tuple[np.ndarray, trtnet.Network]:
    net = trtnet.Network("rtx")
    net.output("y", module(net.input("x", x.shape)))
    result: np.ndarray = trtnet.reference.run(net.definition, {"x": x}, float64=True)["y"]
    return result, net


def test_a_module_of_trtnet_takes_the_place_and_the_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), Gate(6), torch.nn.ReLU())
    module = trtnet.from_torch(model, replace={Gate: lambda old: OurGate(old.proj.in_features)})
    assert isinstance(dict(module.named_modules())["1"], OurGate)
    assert set(module.state_dict()) == set(model.state_dict())
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    got, net = run(module, x)
    with torch.no_grad():
        wanted = model.double()(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    assert {"0", "1", "1.proj", "2"} <= net.module_outputs.keys()


def test_a_function_of_tensors_and_a_module_of_pytorch() -> None:
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.GELU())
    replace = {
        torch.nn.ReLU: lambda old: lambda x: x * 2,
        torch.nn.GELU: lambda old: torch.nn.Tanh(),
    }
    x = np.array([[-1.0, 0.5]], np.float32)
    got, _ = run(trtnet.from_torch(model, replace=replace), x)
    np.testing.assert_allclose(got, np.tanh(x.astype(np.float64) * 2), rtol=1e-12)


def test_what_cannot_replace(raises: Any) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), Gate(6))
    with raises(UsageError, "no module of a class", "got: Conv2d", "Gate"):
        trtnet.from_torch(model, replace={torch.nn.Conv2d: lambda old: old})
    with raises(UsageError, "1: the replacement cannot be called", "got: int"):
        trtnet.from_torch(model, replace={Gate: lambda old: 3})
    with raises(WeightsError, "proj"):
        trtnet.from_torch(model, replace={Gate: lambda old: OurGate(7)})


def test_the_original_keeps_its_modules() -> None:
    model = torch.nn.Sequential(Gate(6))
    trtnet.from_torch(model, replace={Gate: lambda old: OurGate(6)})
    assert isinstance(model[0], Gate)
