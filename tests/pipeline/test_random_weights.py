"""Random weights of modules that have no PyTorch counterpart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.pipeline.random_weights import random_weights


class Layers(nn.Module):
    """Every kind of parameter, and one that has values already."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 64, 3)
        self.up = nn.ConvTranspose2d(64, 32, 4, stride=2, groups=2)
        self.bn = nn.BatchNorm2d(64)
        self.norm = nn.LayerNorm(128)
        self.fc = nn.Linear(128, 256)
        self.known = trtnet.Parameter(np.arange(6, dtype=np.float32).reshape(2, 3))


def test_equal_seeds_give_equal_weights_that_fit() -> None:
    model = Layers()
    first, again, other = (random_weights(model, "layers", seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.metadata == {"architecture": "layers", "weights": "random", "seed": "3"}
    assert model.fc.weight.array is None  # left as it was
    model.load_state_dict(first)
    assert all(array.dtype == np.float32 for array in first.values())
    np.testing.assert_array_equal(first["known"], np.arange(6).reshape(2, 3))


def test_values_by_kind_of_layer() -> None:
    state = random_weights(Layers(), "layers")
    for name, inputs in (
        ("conv.weight", 16 * 9),
        ("up.weight", 64 / 2 * 16 / 4),
        ("fc.weight", 128),
    ):
        assert state[name].std() == pytest.approx((2 / inputs) ** 0.5, rel=0.05), name
    for name in ("bn.weight", "norm.weight"):
        assert state[name].mean() == pytest.approx(1, abs=0.05)
        assert 0.05 < state[name].std() < 0.15
    assert np.all(state["bn.running_var"] >= 1)
    assert np.all(state["bn.running_var"] < 1.6)
    for name in ("bn.running_mean", "bn.bias", "conv.bias", "fc.bias"):
        assert 0 < np.abs(state[name]).max() < 0.6


def test_a_deep_network_keeps_the_size_of_its_signal() -> None:
    """Twenty layers with ReLU, run by PyTorch."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(256, 256, bias=False) for _ in range(20))

    state = random_weights(Deep(), "deep")
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    for array in state.values():
        x = torch.relu(x @ torch.from_numpy(array.copy()).T)
    assert 0.2 < float(x.square().mean()) < 5


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_impossible_seeds(seed: int) -> None:
    with pytest.raises(trtnet.UsageError, match="not a seed"):
        random_weights(Layers(), "layers", seed)
