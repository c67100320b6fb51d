"""MaxViT and its blocks against torchvision's, and the sizes that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest
import torch
from torchvision.models import maxvit as theirs

import trtnet
from trtnet.errors import ShapeError
from trtnet.weights.random_init import random_module
from trtnet.zoo import maxvit as ours

CheckModule = Callable[..., None]


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("kind", ["window", "grid"])
def test_partition_attention(kind: str, windows: int, check_module: CheckModule) -> None:
    length = 2 * windows
    torch_layer = theirs.PartitionAttentionLayer(
        8, 4, 2, kind, (length, length), 4, torch.nn.GELU, torch.nn.LayerNorm, 0.0, 0.0, 0.0
    )
    layer = ours.PartitionAttentionLayer(8, 4, 2, kind == "grid", windows)
    check_module(layer, torch_layer, (2, 8, length, length), dynamic=[("N", 8, length, length)])


@pytest.mark.parametrize(("in_channels", "stride"), [(8, 1), (4, 1), (8, 2)])
def test_mbconv(in_channels: int, stride: int, check_module: CheckModule) -> None:
    norm = partial(torch.nn.BatchNorm2d, eps=1e-3)
    torch_block = theirs.MBConv(in_channels, 8, 4, 0.25, stride, torch.nn.GELU, norm)
    block = ours.MBConv(in_channels, 8, stride)
    check_module(block, torch_block, (2, in_channels, 6, 6), rtol64=1e-6)  # folded in float32


def test_a_small_network_module_by_module(zoo_checks: ModuleType) -> None:
    """All of it, with two blocks of two layers and one."""
    sizes = {"stem_channels": 8, "head_dim": 4, "input_size": (32, 32), "num_classes": 5}
    torch_model = random_module(
        partial(theirs.MaxVit, partition_size=2, block_channels=[8, 16], block_layers=[2, 1],
                stochastic_depth_prob=0.0, **sizes),
        zoo_checks.SEED, input_shape=(3, 32, 32),
    )  # fmt: skip
    model = ours.MaxVit(widths=(8, 16), depths=(2, 1), size=2, **sizes)
    model.load_state_dict(torch_model.state_dict())
    setting = zoo_checks.Setting((2, 3, 32, 32), dynamic_batch=True)
    found = zoo_checks.check(torch_model, model, setting).verifications
    assert set(found) == set(zoo_checks.CHECKS)
    for verification in found.values():
        verification.require()  # says where
    modules = {row.module.split("#")[0] for row in found["exact"].rows}
    leaves = {path for path, module in torch_model.named_modules() if not [*module.children()]}
    assert leaves <= modules


@pytest.mark.parametrize("input_size", [(224, 448), (200, 200), (0, 0)])
def test_images_that_do_not_fit_the_windows_are_refused(input_size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="multiple of 224"):
        ours.maxvit_t(input_size=input_size)


def test_another_image_than_built_for_is_refused(net: trtnet.Network) -> None:
    with pytest.raises(ShapeError, match="input_size="):
        ours.maxvit_t()(net.input("x", (1, 3, 448, 448)))
