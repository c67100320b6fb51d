"""Normalizations, folded and not, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError, WeightsError
from trtnet.nn import functional as F

TF = torch.nn.functional

PAIRS = [
    (nn.Conv1d, torch.nn.Conv1d, nn.BatchNorm1d, torch.nn.BatchNorm1d, (7,)),
    (nn.Conv2d, torch.nn.Conv2d, nn.BatchNorm2d, torch.nn.BatchNorm2d, (7, 5)),
    (nn.Conv3d, torch.nn.Conv3d, nn.BatchNorm3d, torch.nn.BatchNorm3d, (5, 4, 6)),
    (nn.ConvTranspose2d, torch.nn.ConvTranspose2d, nn.BatchNorm2d, torch.nn.BatchNorm2d, (4, 3)),
    (nn.ConvTranspose3d, torch.nn.ConvTranspose3d, nn.BatchNorm3d, torch.nn.BatchNorm3d, (3, 2, 2)),
]


@pytest.mark.parametrize(("conv", "torch_conv", "norm", "torch_norm", "size"), PAIRS)
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_behind_a_convolution(
    check_module: Any,
    conv: Any,
    torch_conv: Any,
    norm: Any,
    torch_norm: Any,
    size: Any,
    fold: bool,
    bias: bool,
) -> None:
    """Folding rounds each weight once to float32: hence 1e-6; without it, and with the scale
    rounded likewise, too."""
    options = {"kernel_size": 2, "stride": 2, "groups": 2, "bias": bias}
    check_module(
        nn.Sequential(conv(4, 6, **options), norm(6, eps=1e-2)),
        torch.nn.Sequential(torch_conv(4, 6, **options), torch_norm(6, eps=1e-2)),
        (2, 4, *size),
        dynamic=[("N", 4, *[None] * len(size))],
        fold_batch_norm=fold,
        rtol64=1e-6,
    )


def test_batch_norm_behind_a_deconvolution_with_output_padding(check_module: Any) -> None:
    options = {"kernel_size": 2, "stride": 3, "output_padding": 2, "groups": 2}
    check_module(
        nn.Sequential(nn.ConvTranspose2d(4, 6, **options), nn.BatchNorm2d(6)),
        torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 6, **options), torch.nn.BatchNorm2d(6)),
        (2, 4, 3, 4),
        rtol64=1e-6,
    )


@pytest.mark.parametrize("fold", [True, False])
def test_batch_norm_behind_a_linear_layer(check_module: Any, fold: bool) -> None:
    check_module(
        nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)),
        torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6)),
        (3, 5),
        dynamic=[("N", 5)],
        fold_batch_norm=fold,
        rtol64=1e-6,
    )
    check_module(
        nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(4)),
        torch.nn.Sequential(torch.nn.Linear(5, 6, bias=False), torch.nn.BatchNorm1d(4)),
        (3, 4, 5),
        dynamic=[("N", 4, 5)],
        fold_batch_norm=fold,
        rtol64=1e-6,
    )


@pytest.mark.parametrize(
    ("norm", "torch_norm", "shape"),
    [
        (nn.BatchNorm1d, torch.nn.BatchNorm1d, (3, 4)),
        (nn.BatchNorm1d, torch.nn.BatchNorm1d, (3, 4, 5)),
        (nn.BatchNorm2d, torch.nn.BatchNorm2d, (3, 4, 5, 6)),
        (nn.BatchNorm3d, torch.nn.BatchNorm3d, (3, 4, 5, 2, 3)),
    ],
)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_alone(
    check_module: Any, norm: Any, torch_norm: Any, shape: Any, affine: bool
) -> None:
    dynamic = [("N", 4, *(f"d{i}" for i in range(len(shape) - 2)))]
    check_module(
        norm(4, affine=affine), torch_norm(4, affine=affine), shape, dynamic=dynamic, rtol64=1e-6
    )


def pair(m: Any) -> Any:
    return m.Sequential(m.Conv2d(3, 4, 3), m.BatchNorm2d(4), m.BatchNorm2d(4))


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: (m[1](m[0](x)), m[0](x)),
        lambda m, x: m[1](y := m[0](x)) + y,
        lambda m, x: (y := m[0](x)) * 2 + m[1](y),
        lambda m, x: m[1](y := m[0](x)) + m[2](y),
        lambda m, x: m[2](m[1](m[0](x))),
        lambda m, x: m[1](m[0](x)) + m[2](m[0](x + 1)),
        lambda m, x: m[1](m[0](x).relu()),
    ],
    ids=["both", "after", "before", "two norms", "norm of norm", "shared", "relu between"],
)
def test_a_convolution_used_more_than_once(check_module: Any, call: Any) -> None:
    check_module(pair(nn), pair(torch.nn), (2, 3, 5, 6), call=call, rtol64=1e-6)


def layer_types(net: trtnet.Network) -> list[str]:
    return [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]


def test_folding_leaves_one_layer(net: Any, randomize: Any) -> None:
    theirs = randomize(pair(torch.nn))
    model = pair(nn)
    model.load_state_dict(theirs.state_dict())
    model[1](model[0](net.input("x", (1, 3, 5, 5))))
    assert layer_types(net) == ["CONVOLUTION"]
    plain = trtnet.Network("rtx", fold_batch_norm=False)
    model[1](model[0](plain.input("x", (1, 3, 5, 5))))
    assert layer_types(plain) == ["CONVOLUTION", "SCALE"]


def test_a_convolution_that_is_used_elsewhere_runs_once(net: Any, randomize: Any) -> None:
    model = pair(nn)
    model.load_state_dict(randomize(pair(torch.nn)).state_dict())
    y = model[0](net.input("x", (1, 3, 5, 5)))
    trtnet.relu(y) + model[1](y)
    assert layer_types(net) == ["CONVOLUTION", "ACTIVATION", "SCALE", "ELEMENTWISE"]


@pytest.mark.parametrize(
    ("shape", "normalized", "options"),
    [
        ((2, 3, 5), 5, {}),
        ((2, 5), (5,), {"eps": 1e-2}),
        ((2, 3, 5), (3, 5), {}),
        ((2, 3, 4, 5), 5, {"bias": False}),
        ((2, 3, 4, 5), (4, 5), {"elementwise_affine": False}),
        ((2, 3, 1), 1, {}),
    ],
)
def test_layer_norm(check_module: Any, shape: Any, normalized: Any, options: Any) -> None:
    count = 1 if isinstance(normalized, int) else len(normalized)
    dynamic = [(*("AB"[: len(shape) - count]), *shape[len(shape) - count :])]
    dynamic = dynamic if len(shape) - count < 3 else [("A", "B", "C", shape[-1])]
    check_module(
        nn.LayerNorm(normalized, **options),
        torch.nn.LayerNorm(normalized, **options),
        shape,
        dynamic=dynamic,
        rtol64=1e-7,
    )


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(5,), (5, 4), (2, 3, 4)])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(check_module: Any, groups: int, size: Any, affine: bool) -> None:
    check_module(
        nn.GroupNorm(groups, 6, eps=1e-3, affine=affine),
        torch.nn.GroupNorm(groups, 6, eps=1e-3, affine=affine),
        (2, 6, *size),
        dynamic=[("N", 6, *[None] * len(size))],
        rtol64=1e-7,
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        (nn.InstanceNorm1d, torch.nn.InstanceNorm1d, (5,)),
        (nn.InstanceNorm2d, torch.nn.InstanceNorm2d, (5, 3)),
        (nn.InstanceNorm3d, torch.nn.InstanceNorm3d, (5, 3, 2)),
    ],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"affine": True, "eps": 1e-2}, {"affine": True, "track_running_stats": True}],
)
def test_instance_norm(check_module: Any, ours: Any, theirs: Any, size: Any, options: Any) -> None:
    check_module(
        ours(4, **options),
        theirs(4, **options),
        (2, 4, *size),
        dynamic=[("N", 4, *[None] * len(size))],
        rtol64=1e-6,
    )


def test_functions(check: Any, rng: Any) -> None:
    arrays = [rng.uniform(0.5, 2, 4).astype(np.float32) for _ in range(4)]

    def torch_arrays(x: Any) -> list[Any]:
        return [torch.tensor(array).to(x.dtype) for array in arrays]

    shape, gamma, beta = (2, 4, 5), arrays[2], arrays[3]
    check(
        lambda x: F.batch_norm(x, *arrays),
        lambda x: TF.batch_norm(x, *torch_arrays(x)),
        shape,
        rtol64=1e-6,
    )
    check(
        lambda x: F.group_norm(x, 2, gamma, beta),
        lambda x: TF.group_norm(x, 2, *torch_arrays(x)[2:]),
        shape,
        rtol64=1e-7,
    )
    check(
        lambda x: F.instance_norm(x, weight=gamma, bias=beta),
        lambda x: TF.instance_norm(x, None, None, *torch_arrays(x)[2:]),
        shape,
        rtol64=1e-7,
    )
    check(
        lambda x: F.layer_norm(x, (4,), gamma, beta),
        lambda x: TF.layer_norm(x, (4,), *torch_arrays(x)[2:]),
        (2, 3, 4),
        rtol64=1e-7,
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("BatchNorm1d", (4,), (2, 4)),
        ("BatchNorm2d", (4,), (2, 4, 5, 6)),
        ("LayerNorm", (6,), (2, 4, 6)),
        ("GroupNorm", (2, 4), (2, 4, 5)),
        ("InstanceNorm2d", (4,), (2, 4, 5, 6)),
    ],
)
def test_precision(
    check_module: Any, precision: str, name: str, arguments: Any, shape: Any
) -> None:
    tolerance = {"fp16": 4e-3, "bf16": 3e-2}[precision]
    check_module(
        getattr(nn, name)(*arguments),
        getattr(torch.nn, name)(*arguments),
        shape,
        precision=precision,
        rtol=tolerance,
        rtol64=tolerance,
    )


@pytest.mark.parametrize("key", ["1.weight", "1.bias", "1.running_mean", "1.running_var"])
@pytest.mark.parametrize("fold", [True, False])
def test_values_that_are_not_finite_are_named_even_when_folded(
    randomize: Any, raises: Any, key: str, fold: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = {k: v.numpy() for k, v in randomize(theirs).state_dict().items()}
    state[key][1] = np.nan
    model.load_state_dict(state)
    net = trtnet.Network("rtx", fold_batch_norm=fold)
    with raises(WeightsError, f"{key}: has values that are not finite", "1 of 4", "(1,)"):
        model(net.input("x", (1, 3, 5, 5)))


@pytest.mark.parametrize("kind", ["LayerNorm", "GroupNorm"])
@pytest.mark.parametrize("key", ["weight", "bias"])
def test_other_norms_name_them_too(net: Any, raises: Any, kind: str, key: str) -> None:
    norm = nn.LayerNorm(4) if kind == "LayerNorm" else nn.GroupNorm(2, 4)
    state = {"weight": np.ones(4, np.float32), "bias": np.ones(4, np.float32)}
    state[key] = np.array([1, np.inf, 1, 1], np.float32)
    model = nn.Sequential(norm)
    model.load_state_dict({f"0.{name}": value for name, value in state.items()})
    with raises(WeightsError, f"0.{key}: has values that are not finite"):
        model(net.input("x", (1, 4, 4)))


def test_a_variance_below_zero_is_named(net: Any, raises: Any) -> None:
    model = nn.Sequential(nn.BatchNorm1d(2, affine=False))
    model.load_state_dict({"0.running_mean": np.zeros(2), "0.running_var": np.array([1.0, -1.0])})
    with raises(WeightsError, "0.running_var", "-1"):
        model(net.input("x", (1, 2)))


def test_errors(net: Any, raises: Any) -> None:
    with raises(ShapeError, "num_channels must be divisible", "4 channels, 3 groups"):
        nn.GroupNorm(3, 4)
    with raises(ShapeError, "0: batch_norm", "4 channels", "got: 3"):
        nn.Sequential(nn.BatchNorm2d(4))(net.input("x", (1, 3, 5, 5)))
    with raises(ShapeError, "batch_norm", "rank 4", "rank 3"):
        nn.BatchNorm2d(4)(net.input("y", (1, 4, 5)))
    norm = nn.LayerNorm((3, 4))
    norm.load_state_dict({"weight": np.ones((3, 4)), "bias": np.ones((3, 4))})
    with raises(ShapeError, "layer_norm", "(3, 4)"):
        norm(net.input("z", (2, 4, 3)))
    with raises(ShapeError, "layer_norm"):
        norm(net.input("one", (4,)))
