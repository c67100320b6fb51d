"""ATen operators, which torch.export and TorchScript call, against PyTorch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import trtnet
from trtnet.errors import UnsupportedError
from trtnet.torch_functions.aten import aten_operator
from trtnet.torch_functions.calling import operator_of


class Function(torch.nn.Module):
    """A module of one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


IMAGE = torch.linspace(-3, 3, 2 * 6 * 6 * 6).mul(7).sin().reshape(2, 6, 6, 6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.adaptive_max_pool2d(x, 4),
        lambda x: (F.adaptive_max_pool3d(x, 2), F.adaptive_max_pool1d(x[0], 4)),
        lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True),
        lambda x: torch.adaptive_max_pool1d(x[:, 0], 3),
        lambda x: F.max_pool2d(x, 2, return_indices=True),
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        lambda x: x.unfold(2, 3, 2),
        lambda x: F.fold(F.unfold(x, 2, stride=2) * 3, (6, 6), 2, stride=2),
        lambda x: (F.selu(x), F.celu(x, 0.7), F.elu(x, 0.3)),
        lambda x: torch.ops.aten.elu(x, 0.3, 1.1),
        lambda x: torch.ops.aten.elu(x, 0.3, 1.1, 1.7),
        lambda x: torch.ops.aten.elu_(x * 2, 0.3, 1.1),
        lambda x: torch.tensordot(x, x, ([1, 3], [2, 3])),
        lambda x: F.embedding_bag(x[0, 0].abs().long(), x[1, 0], mode="sum") + x[0, 0],
    ],
)
def test_operators_whose_function_in_python_differs(function: Any, agrees: Any) -> None:
    for way in ("direct", "export"):
        agrees(Function(function), IMAGE, way=way, rtol=1e-6)


def test_positions_of_maxima_take_layers_only_where_they_are_used() -> None:
    counts = []
    for way in ("direct", "export"):
        net = trtnet.Network("rtx")
        pooled = trtnet.from_torch(Function(lambda x: F.max_pool2d(x, 3, 2)), way)
        net.output("y", pooled(net.input("x", (2, 6, 6, 6))))
        counts.append(net.definition.num_layers)
    assert counts[0] == counts[1]


def overloads() -> Iterator[Any]:
    for full in sorted(torch._C._dispatch_get_all_op_names()):
        space, _, name = full.partition("::")
        name, _, overload = name.partition(".")
        if space == "aten" and "out" not in overload:
            found = getattr(getattr(torch.ops.aten, name), overload or "default")
            if found._schema.arguments:
                yield found


# Of other meaning at their place: these are told apart by their types, by the number of arguments,
# or concern numbers, strings and packed sequences, of which no network has any.
_TOLD_APART = {
    ("unbiased", "dim"),
    ("other", "dim"),
    ("reverse", "dim"),
    ("separator", "split_size_or_sections"),
    ("max", "dim"),
    ("dtype", "_stacklevel"),
}
_SYNONYMS = ("value", "out_dtype", "axis1", "generator")


def test_arguments_stand_where_the_operator_takes_them() -> None:
    """Positions, by which ATen's arguments come, mean the same in trtnet's operators."""
    wrong = []
    for overload in overloads():
        schema = overload._schema
        name = schema.name.partition("::")[2]
        operator = operator_of(overload)
        if operator is None or aten_operator(name) or overload._overloadname == "data":
            continue
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ours = [p.name for p in inspect.signature(operator).parameters.values() if p.kind in kinds]
        theirs = [a.name for a in schema.arguments if not a.kwarg_only]
        pairs = list(zip(theirs, ours, strict=False))
        for place, (their, our) in enumerate(pairs[1:], 1):
            misplaced = their in ours and ours.index(their) != place
            elsewhere = our in theirs and theirs.index(our) != place
            alone = place > 1 and their != our and their not in _SYNONYMS
            if (misplaced or elsewhere or alone) and (their, our) not in _TOLD_APART:
                wrong.append(f"{schema.name}.{overload._overloadname}: {their} for {our}")
    assert wrong == []


@torch.jit.script
def resized(x: torch.Tensor) -> list[torch.Tensor]:
    return [
        F.interpolate(x, scale_factor=1.3, mode="bilinear", align_corners=False),
        F.interpolate(x, scale_factor=0.6, mode="nearest"),
        F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
        F.interpolate(x, scale_factor=0.6, mode="bilinear", align_corners=True),
        F.interpolate(x, size=[4, 7], mode="nearest"),
    ]


@torch.jit.script
def curves(x: torch.Tensor) -> list[torch.Tensor]:
    return [F.selu(x), F.selu(x * 1.5, inplace=True), F.celu(x), x.unfold(2, 3, 2)]


@pytest.mark.parametrize("function", [resized, curves])
@pytest.mark.parametrize("holder", [lambda f: f, lambda f: functools.partial(f), lambda f: [f]])
def test_functions_of_torchscript_in_attributes(function: Any, holder: Any) -> None:
    held = holder(function)
    module = Function(lambda x: (held[0] if isinstance(held, list) else held)(x))
    module.held = held
    net = trtnet.Network("rtx")
    outputs = trtnet.from_torch(module)(net.input("x", (2, 6, 6, 6)))
    for index, output in enumerate(outputs):
        net.output(f"y{index}", output)
    got = trtnet.reference.run(net.definition, {"x": IMAGE.numpy()}, float64=True)
    for index, want in enumerate(function(IMAGE.double())):
        np.testing.assert_allclose(got[f"y{index}"], want.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_traced_modules() -> None:
    layers = (
        torch.nn.Conv2d(6, 4, 3),
        torch.nn.ConvTranspose2d(4, 4, 2, 2),
        torch.nn.SELU(),
        torch.nn.BatchNorm2d(4),
        torch.nn.Upsample(scale_factor=1.3, mode="bilinear"),
        torch.nn.AdaptiveMaxPool2d(4),
    )
    module = torch.nn.Sequential(*layers).eval()
    net = trtnet.Network("rtx")
    traced = trtnet.from_torch(torch.jit.trace(module, IMAGE))
    net.output("y", traced(net.input("x", (2, 6, 6, 6))))
    got = trtnet.reference.run(net.definition, {"x": IMAGE.numpy()}, float64=True)["y"]
    np.testing.assert_allclose(got, module.double()(IMAGE.double()).detach(), rtol=1e-6, atol=1e-6)


def noisy(x: torch.Tensor) -> torch.Tensor:
    return torch.rand_like(x) + x


def test_errors_inside_of_torchscript_are_ours() -> None:
    script = torch.jit.script(noisy)
    net = trtnet.Network("rtx")
    with pytest.raises(UnsupportedError, match="random"):
        trtnet.from_torch(Function(script), way="direct")(net.input("x", (2, 3)))


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (lambda x: F.fractional_max_pool2d(x, 2, output_size=3), ("fractional_max_pool2d",)),
        (lambda x: torch.fft.rfft(x).abs(), ("no complex numbers", "F.conv1d")),
        (lambda x: torch.stft(x[0, 0], 4, return_complex=True).abs(), ("no complex numbers",)),
        (lambda x: pack_padded_sequence(x[0], [6, 4, 3, 2, 2, 1], True).data, ("same length",)),
    ],
)
@pytest.mark.parametrize("way", ["direct", "auto"])
def test_what_is_absent_says_what_to_do(function: Any, texts: Any, way: str, raises: Any) -> None:
    net = trtnet.Network("rtx")
    with raises(UnsupportedError, *texts):
        trtnet.from_torch(Function(function), way)(net.input("x", (2, 6, 6, 6)))


def test_functions_of_cpp_that_export_keeps_whole(agrees: Any) -> None:
    agrees(Function(lambda x: torch.quantile(x, 0.3, dim=2)), IMAGE, way="export", rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.as_strided((3, 2), (2, 1), 1),
        lambda x: x.t().contiguous().as_strided((3, 2), (2, 1)),
        lambda x: torch.relu(x.t()).contiguous().as_strided((3, 2), (2, 1)),
        lambda x: F.pad(x, (1, 1)).contiguous().as_strided((3, 2), (2, 1)),
        lambda x: x.view(6, 2).as_strided((3, 2), (2, 1)),
    ],
)
def test_as_strided_of_what_is_contiguous(net: trtnet.Network, function: Any) -> None:
    x = torch.arange(12, dtype=torch.float32).reshape(4, 3) - 5
    net.output("y", trtnet.from_torch(Function(function), way="direct")(net.input("x", (4, 3))))
    found = trtnet.reference.run(net.definition, {"x": x.numpy()})["y"]
    np.testing.assert_array_equal(found, function(x).numpy())


@pytest.mark.parametrize("function", [lambda x: x.t(), lambda x: torch.relu(x.t())])
def test_as_strided_of_what_may_not_be_contiguous(net: trtnet.Network, function: Any) -> None:
    module = Function(lambda x: function(x).as_strided((3, 2), (2, 1)))
    with pytest.raises(UnsupportedError, match="layout of a tensor that may not be contiguous"):
        trtnet.from_torch(module, way="direct")(net.input("x", (4, 3)))
