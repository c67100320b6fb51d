"""``nn.init`` writes what PyTorch's functions write, and normalized weights are folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.parametrizations as theirs_new

import trtnet
from trtnet import nn
from trtnet.errors import WeightsError
from trtnet.nn import init
from trtnet.nn.init import trunc_normal_
from trtnet.nn.utils import parametrizations as ours_new


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("uniform_", (-1.0, 2.0)),
        ("normal_", (0.5, 0.02)),
        ("trunc_normal_", (0.0, 0.02)),
        ("constant_", (3.0,)),
        ("ones_", ()),
        ("zeros_", ()),
        ("eye_", ()),
        ("xavier_uniform_", (1.5,)),
        ("xavier_normal_", ()),
        ("kaiming_uniform_", (2.0, "fan_out")),
        ("kaiming_normal_", (0, "fan_out", "relu")),
        ("orthogonal_", ()),
        ("sparse_", (0.3,)),
    ],
)
def test_init(name: str, arguments: tuple[Any, ...]) -> None:
    ours, theirs = nn.Linear(6, 4).weight, torch.nn.Linear(6, 4).weight
    torch.manual_seed(1)
    getattr(torch.nn.init, name)(theirs, *arguments)
    trtnet.manual_seed(1)
    assert getattr(init, name)(ours, *arguments) is ours
    torch.testing.assert_close(ours.data.as_subclass(torch.Tensor), theirs.data)


def test_names_of_init() -> None:
    assert trunc_normal_ is not None
    assert nn.init.calculate_gain("relu") == torch.nn.init.calculate_gain("relu")
    weight = nn.Conv2d(3, 4, 3).weight
    assert init._calculate_fan_in_and_fan_out(weight) == (27, 36)
    with pytest.raises(AttributeError, match=r"no torch.nn.init.normol_; did you mean .*normal_"):
        getattr(nn.init, "normol_")  # noqa: B009


def apply(module: Any, norm: Any, **options: Any) -> Any:
    norm(module, **options)
    return module


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.utils.weight_norm, torch.nn.utils.weight_norm),
        (ours_new.weight_norm, theirs_new.weight_norm),
        (nn.utils.spectral_norm, torch.nn.utils.spectral_norm),
        (ours_new.spectral_norm, theirs_new.spectral_norm),
    ],
)
@pytest.mark.parametrize(
    ("make", "options", "shape"),
    [
        (lambda m: m.Linear(3, 4), {}, (2, 3)),
        (lambda m: m.Conv2d(3, 4, 3), {}, (1, 3, 5, 5)),
        (lambda m: m.Conv2d(3, 4, 3, bias=False), {"dim": 1}, (1, 3, 5, 5)),
        (lambda m: m.ConvTranspose2d(3, 4, 3), {}, (1, 3, 5, 5)),
        (lambda m: m.Linear(3, 4), {"dim": None}, (2, 3)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_norms_of_weights(
    ours: Any, theirs: Any, make: Any, options: Any, shape: Any, check_module: Callable[..., None]
) -> None:
    mine, original = apply(make(nn), ours, **options), apply(make(torch.nn), theirs, **options)
    assert list(mine.state_dict_keys() if hasattr(mine, "state_dict_keys") else ()) == []
    wanted = {name: tuple(v.shape) for name, v in original.state_dict().items()}
    places = {n: tuple(p.shape) for n, p in [*mine.named_parameters(), *mine.named_buffers()]}
    assert places == wanted
    check_module(mine, original, shape, rtol64=1e-6, through_torch=False)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_checkpoints_of_the_older_weight_norm_load() -> None:
    older = torch.nn.utils.weight_norm(torch.nn.Linear(3, 4))
    module = ours_new.weight_norm(nn.Sequential(nn.Linear(3, 4))[0])
    model = nn.Sequential(module)
    model.load_state_dict({f"0.{key}": value for key, value in older.state_dict().items()})
    np.testing.assert_allclose(
        module.weight.require("weight"), older.weight.detach().numpy(), rtol=1e-6
    )


def test_norms_are_removed(raises: Any) -> None:
    linear = nn.Linear(3, 2)
    nn.init.normal_(linear.weight)
    before = linear.weight.require("weight").copy()
    nn.utils.weight_norm(linear)
    assert [name for name, _ in linear.named_parameters()] == ["bias", "weight_g", "weight_v"]
    np.testing.assert_allclose(linear.weight.require("weight"), before, rtol=1e-6)
    linear.weight_g.data.mul_(2)
    np.testing.assert_allclose(linear.weight.require("weight"), 2 * before, rtol=1e-6)
    nn.utils.remove_weight_norm(linear)
    assert sorted(name for name, _ in linear.named_parameters()) == ["bias", "weight"]
    np.testing.assert_allclose(linear.weight.require("weight"), 2 * before, rtol=1e-6)
    with pytest.raises(ValueError, match="no norm to remove"):
        nn.utils.remove_weight_norm(linear)
    ours_new.weight_norm(linear)
    assert nn.utils.parametrize.is_parametrized(linear, "weight")
    nn.utils.parametrize.remove_parametrizations(linear, "weight")
    assert not nn.utils.parametrize.is_parametrized(linear)
    np.testing.assert_allclose(linear.weight.require("weight"), 2 * before, rtol=1e-6)
    empty = nn.utils.weight_norm(nn.Linear(3, 2))
    with raises(WeightsError, "weight_g", "no values yet"):
        empty.weight.require("weight")


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.Linear(3, 4),
        lambda m: m.Conv2d(3, 4, 3, padding=1),
        lambda m: m.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1),
        lambda m: m.BatchNorm2d(3),
        lambda m: m.LayerNorm(4),
        lambda m: m.GroupNorm(1, 3),
        lambda m: m.Embedding(5, 3, padding_idx=1),
    ],
)
def test_layers_begin_and_compute_on_the_host_as_pytorchs(make: Any) -> None:
    ours, theirs = make(nn), make(torch.nn).eval()
    for module in (ours, theirs):
        torch.manual_seed(2)
        module.reset_parameters()
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], value.numpy())
    x = torch.arange(3) if "Embedding" in repr(theirs) else torch.randn(2, 3, 4, 4)
    x = x[..., :3] if "Linear" in repr(theirs) else x
    got = ours(trtnet.as_tensor(x))
    torch.testing.assert_close(got.as_subclass(torch.Tensor), theirs(x).detach())
