"""Arguments and inputs that do not fit: what the errors say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import NetworkError, ShapeError, nn
from trtnet.nn import functional as F


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda: nn.Conv2d(3, 8, 3.5), ("kernel_size must be an int, or 2 ints", "3.5")),
        (lambda: nn.Conv2d(3, 8, (3.5, 3)), ("kernel_size must be an int, or 2 ints", "(3.5, 3)")),
        (lambda: nn.Conv2d(3, 8, (3, 3, 3)), ("kernel_size must be", "(3, 3, 3)")),
        (lambda: nn.Conv1d(3, 8, "3"), ("kernel_size must be an int", "'3'")),
        (lambda: nn.Conv2d(3, 8, 3, stride=None), ("stride must be an int", "None")),
        (lambda: nn.Conv2d(-3, 8, 3), ("must be positive", "in_channels=-3")),
        (lambda: nn.Conv2d(3, 0, 3), ("must be positive", "out_channels=0")),
        (lambda: nn.ConvTranspose2d(3, -8, 3), ("must be positive", "out_channels=-8")),
        (lambda: nn.Conv2d(3, 8, 3, groups=0), ("must be positive", "groups=0")),
        (lambda: nn.MaxPool2d(True), ("kernel_size must be an int", "True")),
    ],
)
def test_constructors_say_what_they_take(
    make: Callable[[], Any], texts: tuple[str, ...], raises: Any
) -> None:
    with raises(ShapeError, *texts):
        make()


class Stem(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer)

    def forward(self, input: trtnet.Tensor) -> trtnet.Tensor:
        return self.stem(input)


def _ones(module: nn.Module) -> nn.Module:
    slots = [*module.named_parameters(), *module.named_buffers()]
    module.load_state_dict({key: np.ones(slot.shape, "float32") for key, slot in slots})
    return module


@pytest.mark.parametrize(
    ("layer", "theirs"),
    [
        (lambda n: n.Conv2d(3, 4, 9), "conv2d"),
        (lambda n: n.Conv2d(3, 4, 3, dilation=4), "conv2d"),
        (lambda n: n.MaxPool2d(9), "max_pool"),
        (lambda n: n.AvgPool2d(9), "avg_pool"),
    ],
)
def test_a_kernel_larger_than_its_input(net: Any, layer: Any, theirs: str, raises: Any) -> None:
    with pytest.raises(RuntimeError):  # PyTorch refuses it too
        layer(torch.nn)(torch.zeros(1, 3, 8, 8))
    with raises(ShapeError, "stem.0: ", theirs, "larger than its input", "(9, 9)", "(8, 8)"):
        _ones(Stem(layer(nn)))(net.input("x", (1, 3, 8, 8)))


def test_padding_makes_room_for_a_large_kernel(net: Any) -> None:
    layer = _ones(nn.Conv2d(3, 4, 9, padding=1))
    assert layer(net.input("x", (1, 3, 8, 8))).shape == (1, 4, 2, 2)


def test_ceil_mode_keeps_one_window(net: Any) -> None:
    theirs = torch.nn.MaxPool2d(3, 2, ceil_mode=True)(torch.zeros(1, 3, 2, 2))
    ours = nn.MaxPool2d(3, 2, ceil_mode=True)(net.input("x", (1, 3, 2, 2)))
    assert ours.shape == tuple(theirs.shape)


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (lambda: nn.Conv2d(3, 4, 1), (1, 5, 8, 8), "3 channels"),
        (lambda: nn.ConvTranspose2d(3, 4, 1), (1, 5, 8, 8), "3 channels"),
        (lambda: nn.BatchNorm2d(3), (1, 5, 8, 8), "3 channels"),
        (lambda: nn.Linear(3, 4), (1, 5), "3 features"),
    ],
)
def test_wrong_channels_come_before_missing_weights(
    net: Any, layer: Any, shape: Any, wanted: str, raises: Any
) -> None:
    with raises(ShapeError, "stem.0: ", wanted, "5"):
        Stem(layer())(net.input("x", shape))


def test_errors_of_operators_name_the_module(net: Any, raises: Any) -> None:
    class Cut(nn.Module):
        def forward(self, input: trtnet.Tensor) -> Any:
            return trtnet.cat([input, F.pad(input, (1, 1))], 1)

    with raises(ShapeError, "stem.0: cat along dim 1: shapes differ"):
        Stem(Cut())(net.input("x", (1, 3, 8, 8)))


def test_the_innermost_module_is_named_once(net: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        Stem(Stem(nn.Linear(3, 4)))(net.input("x", (1, 5)))
    assert str(caught.value).startswith("stem.0.stem.0: linear")


def test_an_output_must_be_a_tensor(net: Any, raises: Any) -> None:
    with raises(NetworkError, "y: an output must be a trtnet.Tensor", "NoneType"):
        net.output("y", None)


@pytest.mark.parametrize(
    "shape", [(1, 3.9), (True, 3), "abc", 3, (0, 3), (1, -2)], ids=lambda shape: repr(shape)
)
def test_sizes_of_an_input_are_ints(net: Any, shape: Any, raises: Any) -> None:
    with raises(ShapeError, "x: impossible input size", "positive ints", repr(shape)):
        net.input("x", shape)
    assert net.definition.num_inputs == 0


@pytest.mark.parametrize("name", [0, "", None])
def test_names_are_strings(net: Any, name: Any, raises: Any) -> None:
    with raises(NetworkError, "a name must be a string", repr(name)):
        net.input(name, (1, 3))
    x = net.input("x", (1, 3))
    with raises(NetworkError, "a name must be a string", repr(name)):
        net.output(name, x)


def test_arguments_that_the_binding_refuses(net: Any, raises: Any) -> None:
    class Raw(nn.Module):
        def forward(self, input: trtnet.Tensor) -> trtnet.Tensor:
            return input.network.emit("raw", "add_activation", input, "RELU")

    with raises(NetworkError, "stem.0/raw: TensorRT's binding does not take these arguments"):
        Stem(Raw())(net.input("x", (1, 3)))


def test_sizes_of_adaptive_pooling_and_chunks(net: Any, raises: Any) -> None:
    x = net.input("x", (1, 4, 8, 8))
    with raises(ShapeError, "output_size needs one size, or 2", "(3, 3, 3)"):
        F.adaptive_avg_pool2d(x, (3, 3, 3))
    with raises(ShapeError, "chunk: the number of chunks must be positive", "0"):
        x.chunk(0)
