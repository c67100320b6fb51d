"""Functions of normalization in PyTorch's signatures, also of computed tensors and statistics."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional
STATISTICS = [
    np.array(row, np.float32) for row in ([0.5, -1, 2], [0.25, 1, 4], [2, 1, -1], [1, 0, 3])
]


NAMES = (
    "batch_norm",
    "instance_norm",
    "layer_norm",
    "group_norm",
    "local_response_norm",
    "normalize",
)
WITHOUT_SIGNATURE = {
    "rms_norm": (("input", "normalized_shape", "weight", "eps"), (None, None)),
    "scaled_dot_product_attention": (
        (
            *("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale"),
            "enable_gqa",
        ),
        (None, 0.0, False, None, False),
    ),
}


@pytest.mark.parametrize("name", [*NAMES, *WITHOUT_SIGNATURE])
def test_signatures(name: str) -> None:
    ours = inspect.signature(getattr(F, name)).parameters
    given = {key: parameter.default for key, parameter in ours.items()}
    if name in WITHOUT_SIGNATURE:
        names, defaults = WITHOUT_SIGNATURE[name]
        required = (inspect.Parameter.empty,) * (len(names) - len(defaults))
        assert list(given.items()) == list(zip(names, (*required, *defaults), strict=True))
    else:
        theirs = inspect.signature(getattr(TF, name)).parameters
        wanted = [(key, parameter.default) for key, parameter in theirs.items()]
        assert list(given.items()) == wanted


def arrays(x: Any) -> list[Any]:
    """The statistics as each of the two libraries takes them."""
    if isinstance(x, trtnet.Tensor):
        return list(STATISTICS)
    return [torch.tensor(array).to(x.dtype) for array in STATISTICS]


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 1), (1, 3, 2, 2, 3)])
@pytest.mark.parametrize(
    "arguments",
    [
        lambda s: (None, None, None, None, True),
        lambda s: (None, None, s[2], s[3], True, 0.1, 1e-2),
        lambda s: (None, None, None, s[3], True, 0.0),
        lambda s: (s[0], s[1], s[2], s[3], False, 0.1, 1e-2),
        lambda s: (s[0], s[1], s[2], None, False),
        lambda s: (s[0], s[1], None, None),
    ],
)
def test_batch_norm(check: Any, shape: Any, arguments: Any) -> None:
    check(
        lambda x: F.batch_norm(x, *arguments(arrays(x))),
        lambda x: TF.batch_norm(x, *arguments(arrays(x))),
        shape,
        dynamic=[("N", 3, *[None] * (len(shape) - 2))],
        rtol64=1e-6,
    )


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 2), (1, 3, 2, 2, 3)])
@pytest.mark.parametrize(
    "arguments",
    [
        lambda s: (),
        lambda s: (None, None, s[2], s[3], True, 0.1, 1e-2),
        lambda s: (s[0], s[1], s[2], s[3], False, 0.1, 1e-2),
        lambda s: (s[0], s[1], None, None, True, 0.0),
    ],
)
def test_instance_norm(check: Any, shape: Any, arguments: Any) -> None:
    check(
        lambda x: F.instance_norm(x, *arguments(arrays(x))),
        lambda x: TF.instance_norm(x, *arguments(arrays(x))),
        shape,
        dynamic=[("N", 3, *[None] * (len(shape) - 2))],
        rtol64=1e-6,
    )


def test_instance_norm_of_a_dynamic_number_of_channels(check: Any) -> None:
    check(F.instance_norm, TF.instance_norm, (2, 3, 5, 4), dynamic=[(2, "C", 5, None)], rtol64=1e-6)


def test_statistics_that_would_be_updated(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 3, 5))
    with raises(UnsupportedError, "batch_norm: training=True", "eval()"):
        F.batch_norm(x, *STATISTICS[:2], training=True)
    with raises(UnsupportedError, "instance_norm: use_input_stats=True", "eval()"):
        F.instance_norm(x, *STATISTICS[:2])
    with raises(UnsupportedError, "batch_norm: no running statistics"):
        F.batch_norm(x, None, None)
    with raises(UnsupportedError, "instance_norm: no running statistics"):
        F.instance_norm(x, use_input_stats=False)
    for bad, call in (
        ((1, 3), lambda x: F.batch_norm(x, None, None, training=True)),
        ((2, 3, 1), F.instance_norm),
        ((2, 3), F.instance_norm),
        ((2, 5, 2), lambda x: F.batch_norm(x, *STATISTICS)),
        ((2, 5, 2), lambda x: F.group_norm(x, 2)),
        ((2, 4, 2), lambda x: F.group_norm(x, 2, np.ones(2))),
        ((2, "C", 2), lambda x: F.group_norm(x, 2)),
        ((2, "C"), lambda x: F.layer_norm(x, (4,))),
        ((4,), lambda x: F.layer_norm(x, (2, 4))),
        ((4, 2), lambda x: F.rms_norm(x, (4,))),
        ((4, 2), lambda x: F.local_response_norm(x, 2)),
    ):
        with pytest.raises(ShapeError):
            call(trtnet.Network("rtx").input("x", bad))


WEIGHTED = {
    "batch": ("batch_norm", lambda a, b, c, d: (a, b.abs() + 0.5, c, d), (2, 3, 4), (3,), 4),
    "instance": (
        "instance_norm",
        lambda a, b, c, d: (a, b.abs() + 0.5, c, d, False),
        (2, 3, 4),
        (3,),
        4,
    ),
    "instance, own": ("instance_norm", lambda a, b: (None, None, a, b), (2, 3, 4), (3,), 2),
    "batch, own": ("batch_norm", lambda a, b: (None, None, a, b, True), (4, 3), (3,), 2),
    "layer": ("layer_norm", lambda a, b: ((3, 4), a, b), (2, 3, 4), (3, 4), 2),
    "layer, weight": ("layer_norm", lambda a: ((4,), a), (2, 3, 4), (4,), 1),
    "layer, bias": ("layer_norm", lambda a: ((4,), None, a), (2, 3, 4), (4,), 1),
    "group": ("group_norm", lambda a, b: (3, a, b, 1e-2), (2, 6, 4), (6,), 2),
    "rms": ("rms_norm", lambda a: ((4,), a, 1e-3), (2, 3, 4), (4,), 1),
}


@pytest.mark.parametrize("case", WEIGHTED)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_that_are_computed(check: Any, case: str, precision: str) -> None:
    name, arguments, shape, size, count = WEIGHTED[case]
    tolerance = {"fp32": {"rtol64": 1e-6}, "fp16": {"rtol64": 4e-3, "rtol": 4e-3}}[precision]
    check(
        lambda x, *w: getattr(F, name)(x, *arguments(*w)),
        lambda x, *w: getattr(TF, name)(x, *arguments(*w)),
        shape,
        *[size] * count,
        through_torch=precision == "fp32",
        precision=precision,
        **tolerance,
    )


@pytest.mark.parametrize(
    ("shape", "normalized"), [((5,), 5), ((3, 4), (3, 4)), ((2, 3, 4), [4]), ((2, 1, 1), (1,))]
)
def test_whole_tensors_and_lists(check: Any, shape: Any, normalized: Any) -> None:
    listed = [normalized] if isinstance(normalized, int) else normalized
    for name, rest in (("layer_norm", {}), ("rms_norm", {"eps": 1e-4})):
        check(
            lambda x, name=name, rest=rest: getattr(F, name)(x, normalized, **rest),
            lambda x, name=name, rest=rest: getattr(TF, name)(x, listed, **rest),
            shape,
            rtol64=1e-7,
        )


def test_group_norm_without_positions(check_module: Any, check: Any) -> None:
    for groups in (1, 2, 6):
        check_module(
            nn.GroupNorm(groups, 6), torch.nn.GroupNorm(groups, 6), (2, 6), dynamic=[("N", 6)],
            rtol64=1e-6,
        )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"eps": 1e-2}, {"elementwise_affine": False}])
def test_rms_norm(check_module: Any, options: Any) -> None:
    for normalized, shape in ((6, (2, 3, 6)), ((3, 6), (2, 3, 6)), (6, (6,))):
        check_module(
            nn.RMSNorm(normalized, **options),
            torch.nn.RMSNorm(normalized, **options),
            shape,
            dynamic=[(*"AB"[: len(shape) - 1], 6)] if normalized == 6 else None,
            rtol64=2e-7,
        )
    large = np.array([[300.0, -200, 100, 50]], np.float32)  # squares overflow float16
    check_module(
        nn.RMSNorm(4), torch.nn.RMSNorm(4), large, precision="fp16", rtol=2e-3, rtol64=2e-3
    )


@pytest.mark.parametrize("shape", [(2, 7, 5), (2, 7, 3, 4), (1, 3, 2, 3, 2)])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "beta": 0.5, "k": 2.0}])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_local_response_norm(check_module: Any, shape: Any, size: int, options: Any) -> None:
    check_module(
        nn.LocalResponseNorm(size, **options),
        torch.nn.LocalResponseNorm(size, **options),
        shape,
        dynamic=[("N", shape[1], *[None] * (len(shape) - 2))],
        rtol64=1e-7,
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [("InstanceNorm1d", (3, 4)), ("InstanceNorm2d", (3, 4, 2)), ("InstanceNorm3d", (3, 4, 2, 2))],
)
@pytest.mark.parametrize("options", [{}, {"affine": True, "track_running_stats": True}])
def test_instance_norm_without_a_batch(
    check_module: Any, name: str, shape: Any, options: Any
) -> None:
    check_module(
        getattr(nn, name)(3, **options), getattr(torch.nn, name)(3, **options), shape, rtol64=1e-6
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [("BatchNorm1d", (4, 3)), ("BatchNorm1d", (2, 3, 4)), ("BatchNorm2d", (2, 3, 4, 2))],
)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_without_running_statistics(
    check_module: Any, name: str, shape: Any, affine: bool
) -> None:
    options = {"affine": affine, "track_running_stats": False, "momentum": None}
    check_module(
        getattr(nn, name)(3, **options), getattr(torch.nn, name)(3, **options), shape, rtol64=1e-6
    )


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 2)])
def test_sync_batch_norm(check_module: Any, shape: Any) -> None:
    check_module(nn.SyncBatchNorm(3), torch.nn.SyncBatchNorm(3), shape, rtol64=1e-6)


def test_attributes() -> None:
    for name in ("BatchNorm2d", "SyncBatchNorm", "InstanceNorm2d"):
        ours, theirs = getattr(nn, name)(3, momentum=0.2), getattr(torch.nn, name)(3, momentum=0.2)
        for key in ("num_features", "eps", "momentum", "affine", "track_running_stats"):
            assert getattr(ours, key) == getattr(theirs, key)
    assert nn.LayerNorm(3, device="cpu", dtype=torch.float32).elementwise_affine
    assert nn.GroupNorm(1, 3).affine
    assert nn.RMSNorm(3).eps is None
