"""What the rounding of folded BatchNorms costs, measured with PyTorch alone.

A network holds a convolution and its BatchNorm as one convolution, whose weights are rounded to
FP32; everything else may be computed in float64. Modules of random weights can amplify that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def rounding_error(model: nn.Module, images: torch.Tensor) -> float:
    """The largest relative L2 error of all modules of `model` in float64 that comes from folding
    its BatchNorms into its convolutions and rounding the weights to FP32.

    Args:
        images: prepared, (N, 3, H, W).
    """
    exact = copy.deepcopy(model).double()
    x = images.double()
    wanted: dict[str, torch.Tensor] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    last: list[tuple[nn.Conv2d, torch.Tensor]] = []

    def keep(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(layer, nn.BatchNorm2d) and last and inputs[0] is last[-1][1]:
            pairs.append((last[-1][0], layer))
        if isinstance(layer, nn.Conv2d):
            last[:] = [(layer, output)]
        if isinstance(output, torch.Tensor):
            wanted[name] = output.clone()

    _run(exact, x, keep)
    for conv, norm in pairs:
        _round(conv, norm)
    errors = [0.0]

    def compare(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            errors.append(float((output - wanted[name]).norm() / wanted[name].norm()))

    _run(exact, x, compare)
    return max(errors)


def _run(model: nn.Module, x: torch.Tensor, seen: Callable[..., None]) -> None:
    def hook_of(name: str) -> Callable[..., None]:
        return lambda layer, inputs, output: seen(name, layer, inputs, output)

    named = dict(model.named_modules())
    hooks = [layer.register_forward_hook(hook_of(name)) for name, layer in named.items()]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()


def _round(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Changes both so that together they compute what one convolution of FP32 weights would."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.data / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias.data - norm.running_mean * scale
    if conv.bias is not None or not scale.all():
        return
    wide = scale[:, None, None, None]
    conv.weight.data = (conv.weight.data * wide).float().double() / wide
    norm.bias.data += shift.float().double() - shift
