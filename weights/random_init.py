"""Seeded random weights whose activations stay in range and depend on the input.

After initialisation a network's BatchNorms have mean 0 and variance 1, and their inputs do not: the
activations of a deep residual network then exceed FP16's 65504. The statistics are therefore set
from seeded noise.

Three more changes make such a network useful for comparisons:

- Parameters that the initialisation leaves constant (scales of 1, biases and heads of 0) get seeded
  noise: a constant would hide a mistake.
- A network without norms gets He's initialisation; with PyTorch's the signal fades from layer to
  layer until the output depends on the biases alone.
- The last BatchNorm of a residual branch of a ResNet, RegNet, EfficientNet, MNASNet or ShuffleNetV2
  gets a small scale, like torchvision's ``zero_init_residual`` (Goyal et al.,
  https://arxiv.org/abs/1706.02677). Untrained branches as strong as their shortcuts would amplify
  every rounding error layer by layer, which a trained network does not.

Squeeze-and-excitation multiplies its input by a function of that input. Its gates start near the
middle of their range, and the statistics are set from more images: an image unlike the few that set
them would differ more after each block.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.host import without_gradients
from trtnet.weights.first_convolution import NAME as IN_CHANNELS
from trtnet.weights.first_convolution import with_in_channels
from trtnet.weights.torch_import import require

if TYPE_CHECKING:
    import torch
    from torch.nn import Module as TorchModule

_BATCH = 8
_IMAGE_AXES = 3  # without the batch
_NOISE = 0.1  # standard deviation, added to parameters that are initialised to a constant
_BRANCH_GAIN = 0.2  # of the last BatchNorm in a residual branch, and of the last layer of a gate
_GATED_PASSES = 4  # batches that settle the statistics of a network with gates
_GRIDS = (4, 16, 64)  # cells per side of the coarser noise: images are smooth at several scales


def random_state(
    model: str | torch.nn.Module | Callable[..., torch.nn.Module],
    seed: int = 0,
    *,
    input_shape: Sequence[int] = (3, 224, 224),
    **model_args: Any,
) -> dict[str, np.ndarray]:
    """A state_dict of seeded random weights with settled BatchNorm statistics.

    Equal for the same seed, PyTorch version and number of threads. The caller's random state and,
    if a module is given, that module are not changed.

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
    check_seed(seed)
    if IN_CHANNELS in model_args and len(input_shape) == _IMAGE_AXES:
        input_shape = (model_args[IN_CHANNELS], *input_shape[1:])
    module: TorchModule
    with torch.random.fork_rng(devices=[]), without_gradients():
        torch.manual_seed(seed)
        if isinstance(model, torch.nn.Module):
            module, passes = copy.deepcopy(model).eval(), 1
        else:
            made = build(model, **model_args) if isinstance(model, str) else model(**model_args)
            module = made.eval()
            _keep_signal(module)
            _vary_constants(module)
            gates = _calm_branches(module)
            passes = _GATED_PASSES if gates else 1
        _settle(module, input_shape, passes)
    return module


def check_seed(seed: int) -> None:
    """Raises :class:`UsageError` unless `seed` is from 0 to 2**63 - 1."""
    if not 0 <= seed < 2**63:
        raise UsageError("not a seed", expected="0 to 2**63 - 1", got=seed)


def build(name: str, weights: Any = None, **model_args: Any) -> torch.nn.Module:
    """torchvision's model `name`, without a pretrained backbone unless `weights` brings it. Besides
    torchvision's arguments there is ``in_channels``, of the images.

    Raises:
        UsageError: torchvision refuses the arguments.
    """
    torch = require("torch", f"building {name}")
    models = require("torchvision", f"building {name}").models
    builder = models.get_model_builder(name)
    channels = model_args.pop(IN_CHANNELS, None)
    if weights is None and "weights_backbone" in inspect.signature(builder).parameters:
        model_args["weights_backbone"] = None  # by default it would be downloaded
    try:
        with torch.random.fork_rng(devices=[]):  # initialising draws from the caller's stream
            module: TorchModule = builder(weights=weights, **model_args)
            if channels is not None:
                module = of_channels(module, channels, name, weights)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "torchvision refuses these model arguments",
            module=name,
            got=f"{model_args}: {error}",
            fix="leave the argument out; pretrained weights fix num_classes and image_size",
        ) from error
    return module


def of_channels(module: TorchModule, channels: int, name: str, weights: Any) -> TorchModule:
    """A copy of a library's `module` for images of so many `channels`: a new first convolution.

    Args:
        name: of the model, for errors.
        weights: that the module has; ``None`` for random ones, which any number of channels has.

    Raises:
        UsageError: no convolution comes first; `weights` are for another number.
    """
    found = with_in_channels(copy.deepcopy(module), channels, name)
    shapes = [[p.shape for p in every.parameters()] for every in (module, found)]
    if weights is not None and shapes[0] != shapes[1]:
        raise UsageError(
            f"{weights} is for images of other channels than {channels}",
            module=name,
            fix="leave --in-channels (in_channels=) out, or take weights of your own",
        )
    return found


def _keep_signal(module: torch.nn.Module) -> None:
    """He et al., https://arxiv.org/abs/1502.01852, where ReLUs follow each other without a norm."""
    from torch.nn import Conv2d, Linear, ReLU, init

    layers = list(module.modules())
    if any("Norm" in type(layer).__name__ for layer in layers):
        return
    if any(isinstance(layer, ReLU) for layer in layers):
        for layer in layers:
            if isinstance(layer, (Conv2d, Linear)):
                init.kaiming_normal_(layer.weight, nonlinearity="relu")


def _vary_constants(module: torch.nn.Module) -> None:
    import torch

    for parameter in module.parameters():
        if parameter.min() == parameter.max():
            parameter.add_(torch.randn_like(parameter), alpha=_NOISE)


def _calm_branches(module: torch.nn.Module) -> int:
    """Returns the number of squeeze-and-excitation gates."""
    from torchvision.ops import SqueezeExcitation

    gates = 0
    for block in module.modules():
        if (norm := _last_norm(block)) is not None:
            norm.weight.mul_(_BRANCH_GAIN)
        elif isinstance(block, SqueezeExcitation):
            block.fc2.weight.mul_(_BRANCH_GAIN)
            gates += 1
    return gates


def _last_norm(block: torch.nn.Module) -> Any:
    """The last BatchNorm of the residual branch that `block` has; ``None`` for other modules."""
    from torchvision.models import efficientnet, mnasnet, regnet, resnet, shufflenetv2

    if isinstance(block, resnet.BasicBlock):
        return block.bn2
    if isinstance(block, resnet.Bottleneck):
        return block.bn3
    if isinstance(block, regnet.ResBottleneckBlock):
        return block.f.c[1]
    if isinstance(block, mnasnet._InvertedResidual):
        return block.layers[-1] if block.apply_residual else None
    if isinstance(
        block, shufflenetv2.InvertedResidual
    ):  # the half that skips the branch is the shortcut
        return block.branch2[-2] if block.stride == 1 else None
    if isinstance(block, (efficientnet.MBConv, efficientnet.FusedMBConv)):
        return block.block[-1][1] if block.use_res_connect else None
    return None


def _settle(module: torch.nn.Module, input_shape: Sequence[int], passes: int) -> None:
    """Sets running statistics to those of batches of noise, as every layer really sees them.

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
        norm.momentum = None  # the plain average over the passes
    for _ in range(passes):
        module(_noise(input_shape))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def _noise(input_shape: Sequence[int]) -> torch.Tensor:
    """A batch of inputs of unit variance: white noise, and smooth noise if they are images."""
    import torch

    total = torch.randn(_BATCH, *input_shape)
    if len(input_shape) == _IMAGE_AXES:
        channels, *size = input_shape
        for grid in _GRIDS:
            coarse = torch.randn(_BATCH, channels, grid, grid)
            total += torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return total / total.std()
