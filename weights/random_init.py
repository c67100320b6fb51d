"""Seeded random weights with which a deep network still computes something.

Straight from its initialisation a network's BatchNorms have mean 0 and variance 1, which is not
what their inputs have: in a deep residual net the activations then grow past FP16's 65504. So the
statistics are settled first, on seeded noise.

Two more things make such a network worth comparing. Parameters that the initialisation leaves
constant (scales of 1, biases and heads of 0) get seeded noise, so that no mistake hides behind
them. And the last BatchNorm of a ResNet's residual branch starts small, in the spirit of
torchvision's ``zero_init_residual`` (Goyal et al., https://arxiv.org/abs/1706.02677): with
branches as strong as their shortcuts an untrained ResNet amplifies every rounding error layer by
layer, which a trained one does not.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.weights.torch_import import require

if TYPE_CHECKING:
    import torch

_BATCH = 8
_NOISE = 0.1  # standard deviation, added to parameters that are initialised to a constant
_BRANCH_GAIN = 0.2  # of the last BatchNorm in a residual branch
_GRIDS = (4, 16, 64)  # cells per side of the coarser noise: images are smooth at several scales


def random_state(
    model: str | torch.nn.Module | Callable[..., torch.nn.Module],
    seed: int = 0,
    *,
    input_shape: Sequence[int] = (3, 224, 224),
    **model_args: Any,
) -> dict[str, np.ndarray]:
    """A state_dict of seeded random weights with settled BatchNorm statistics.

    The same for the same seed, PyTorch version and number of threads. The caller's random state
    and, if a module is given, that module are left alone.

    Args:
        model: the name of a torchvision model or a builder, initialised here; or a module,
            whose present parameters are kept.
        seed: from 0 to 2**63 - 1.
        input_shape: one input without its batch axis, for settling the statistics.
        **model_args: for the builder, such as ``num_classes``.

    Raises:
        UsageError: no such model, or arguments it refuses.
        WeightsError: PyTorch or torchvision is not installed.
    """
    module = random_module(model, seed, input_shape=input_shape, **model_args)
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def random_module(
    model: str | torch.nn.Module | Callable[..., torch.nn.Module],
    seed: int,
    *,
    input_shape: Sequence[int] = (3, 224, 224),
    **model_args: Any,
) -> torch.nn.Module:
    """The module, in evaluation mode, whose state :func:`random_state` returns."""
    torch = require("torch", "making random weights")
    if not 0 <= seed < 2**63:
        raise UsageError("not a seed", expected="0 to 2**63 - 1", got=seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if isinstance(model, torch.nn.Module):
            module = copy.deepcopy(model).eval()
        else:
            made = build(model, **model_args) if isinstance(model, str) else model(**model_args)
            module = made.eval()
            _vary_constants(module)
            _calm_branches(module)
        _settle(module, input_shape)
    return module


def build(name: str, weights: Any = None, **model_args: Any) -> torch.nn.Module:
    """torchvision's model `name`, without a pretrained backbone unless `weights` brings it.

    Raises:
        UsageError: torchvision refuses the arguments.
    """
    torch = require("torch", f"building {name}")
    models = require("torchvision", f"building {name}").models
    builder = models.get_model_builder(name)
    if weights is None and "weights_backbone" in inspect.signature(builder).parameters:
        model_args["weights_backbone"] = None  # by default it would be downloaded
    try:
        with torch.random.fork_rng(devices=[]):  # initialising draws from the caller's stream
            return builder(weights=weights, **model_args)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "torchvision refuses these model arguments",
            module=name,
            got=f"{model_args}: {error}",
            fix="leave the argument out; pretrained weights fix num_classes and image_size",
        ) from error


def _vary_constants(module: torch.nn.Module) -> None:
    import torch

    for parameter in module.parameters():
        if parameter.min() == parameter.max():
            parameter.add_(torch.randn_like(parameter), alpha=_NOISE)


def _calm_branches(module: torch.nn.Module) -> None:
    from torchvision.models.resnet import BasicBlock, Bottleneck

    for block in module.modules():
        if isinstance(block, (BasicBlock, Bottleneck)):
            last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
            last.weight.mul_(_BRANCH_GAIN)


def _settle(module: torch.nn.Module, input_shape: Sequence[int]) -> None:
    """Sets running statistics to those of one batch of noise, as every layer really sees it.

    Only the BatchNorms are put in training mode: dropout and stochastic depth stay off.
    """
    import torch

    batch_norm = torch.nn.modules.batchnorm._BatchNorm
    norms = [layer for layer in module.modules() if isinstance(layer, batch_norm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # the plain average over passes: here, of one
    module(_noise(input_shape))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def _noise(input_shape: Sequence[int]) -> torch.Tensor:
    """A batch of inputs of unit variance: white noise, and smooth noise if they are images."""
    import torch

    total = torch.randn(_BATCH, *input_shape)
    if len(input_shape) == 3:
        channels, *size = input_shape
        for grid in _GRIDS:
            coarse = torch.randn(_BATCH, channels, grid, grid)
            total += torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return total / total.std()
