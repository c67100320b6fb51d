"""Blocks that several families share: those of ``torchvision.ops``, with its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

Layer = Callable[[], nn.Module]
NormLayer = Callable[[int], nn.Module]


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, or the next one up if that is below 90%."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


class Conv2dNormActivation(nn.Sequential):
    """A convolution, a norm, and an activation, the latter two unless ``None``.

    Args:
        padding: by default what keeps the size of the image at stride 1.
        bias: of the convolution; by default where no norm follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        norm_layer: NormLayer | None = nn.BatchNorm2d,
        activation_layer: Layer | None = nn.ReLU,
        bias: bool | None = None,
        dilation: int = 1,
    ) -> None:
        padding = (kernel_size - 1) // 2 * dilation if padding is None else padding
        bias = norm_layer is None if bias is None else bias
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                      bias)
        ]  # fmt: skip
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer())
        super().__init__(*layers)


class IntermediateLayerGetter(nn.ModuleDict):
    """Calls the children of `model` one after the other, up to the last that is asked for.

    Args:
        return_layers: name of a child → name of its output in the dict that is returned.
    """

    def __init__(self, model: nn.Module, return_layers: Mapping[str, str]) -> None:
        children = dict(model.named_children())
        last = max(list(children).index(name) for name in return_layers)
        super().__init__(dict(list(children.items())[: last + 1]))
        self.return_layers = dict(return_layers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                found[self.return_layers[name]] = x
        return found


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number that depends on the means of all channels.

    Hu et al., Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Layer = nn.ReLU,
        scale_activation: Layer = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.scale_activation(scale) * x


class MLP(nn.Sequential):
    """The two-layer perceptron of a transformer, over the last axis."""

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Dropout(),
            nn.Linear(hidden_channels, in_channels),
            nn.Dropout(),
        )


class Permute(nn.Module):
    """Reorders the axes."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        return ops.permute(x, self.dims)


class StochasticDepth(nn.Identity):
    """Leaves out a residual branch at random in training; emits nothing.

    Huang et al., Deep Networks with Stochastic Depth, https://arxiv.org/abs/1603.09382.
    """
