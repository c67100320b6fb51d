"""A PyTorch model that works in place, and ports that do or do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn


class Residual:
    """The shortcut is the ReLU's own input, which the ReLU changes in place in PyTorch."""

    def __init__(self, nn: Any, inplace: bool) -> None:
        nn.Module.__init__(self)
        self.stem = nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Any) -> Any:
        shortcut = self.stem(x)
        return self.conv(self.relu(shortcut)) + shortcut


class Ours(Residual, nn.Module):
    pass


class Theirs(Residual, torch.nn.Module):
    pass


def verified(ours: Any, theirs: Any) -> Any:
    torch.manual_seed(1)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    net = trtnet.Network("rtx")
    net.output("y", ours(net.input("x", (1, 3, 4, 4))))
    values = {"x": np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)}
    return trtnet.verify(net, theirs, values, float64=True)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_same_code_passes(inplace: bool) -> None:
    found = verified(Ours(nn, inplace), Theirs(torch.nn, inplace))
    assert found.passed, found
    assert {row.module for row in found.rows} >= {"stem", "relu", "conv"}


def test_a_missing_in_place_operation_is_named() -> None:
    found = verified(Ours(nn, inplace=False), Theirs(torch.nn, inplace=True))
    assert not found.passed
    assert found.blame is not None
    assert found.blame.kind == "code"
    assert "changes the output of stem in place" in found.blame.message


def test_a_difference_without_in_place_operations_does_not_name_them() -> None:
    class Other(Ours):
        def forward(self, x: Any) -> Any:
            shortcut = self.stem(x)
            return self.conv(self.relu(shortcut)) - shortcut

    found = verified(Other(nn, inplace=False), Theirs(torch.nn, inplace=False))
    assert not found.passed
    assert found.blame is not None
    assert "in place" not in found.blame.message
