"""MaxViT, in torchvision's form.

Tu et al., MaxViT: Multi-Axis Vision Transformer, https://arxiv.org/abs/2204.01697.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.errors import ShapeError
from trtnet.tensor import same_sizes
from trtnet.zoo.blocks import Conv2dNormActivation, SqueezeExcitation, StochasticDepth
from trtnet.zoo.registry import register
from trtnet.zoo.swin_transformer import attend, inverse_sqrt, relative_position_bias

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_BatchNorm = partial(nn.BatchNorm2d, eps=1e-3)
_ConvNormGELU = partial(Conv2dNormActivation, norm_layer=_BatchNorm, activation_layer=nn.GELU)


class MBConv(nn.Module):
    """Normalizes, widens fourfold (1×1), filters depthwise (3×3), squeezes and excites, narrows
    (1×1); with a shortcut, projected where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * out_channels
        self.proj: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            pool = [nn.AvgPool2d(3, stride, padding=1)] if stride != 1 else []
            self.proj = nn.Sequential(*pool, nn.Conv2d(in_channels, out_channels, 1))
        self.stochastic_depth = StochasticDepth()
        self.layers = nn.Sequential(
            {
                "pre_norm": _BatchNorm(in_channels),
                "conv_a": _ConvNormGELU(in_channels, hidden, 1),
                "conv_b": _ConvNormGELU(hidden, hidden, 3, stride, groups=hidden),
                "squeeze_excitation": SqueezeExcitation(
                    hidden, out_channels // 4, activation=nn.SiLU
                ),
                "conv_c": nn.Conv2d(hidden, out_channels, 1),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x) + self.stochastic_depth(self.layers(x))


class RelativePositionalMultiHeadAttention(nn.Module):
    """Attention inside groups of ``size * size`` positions: (N, groups, positions, dim) to the
    same shape."""

    def __init__(self, dim: int, head_dim: int, size: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.size = dim // head_dim, head_dim, size
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.merge = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter.empty(((2 * size - 1) ** 2, self.heads))
        self.register_buffer("relative_position_index", nn.Parameter.empty((size**2, size**2)))

    def forward(self, x: Tensor) -> Tensor:
        n, groups, length, dim = x.shape
        table = x.new_tensor(self.relative_position_bias_table)
        bias = relative_position_bias(table, self.relative_position_index, self.size**2)
        qkv = self.to_qkv(x).reshape(n, groups, length, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        scale: Any = inverse_sqrt(q, dim)  # torchvision's; usually it is of a head's size
        out = attend(q, k, v, bias.unsqueeze(0), scale)
        return self.merge(out.permute(0, 1, 3, 2, 4).reshape(n, groups, length, dim))


class SwapAxes(nn.Module):
    """Swaps the axes of groups and of positions in a group."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -3)


class WindowPartition(nn.Module):
    """(N, C, H, W) to (N, windows, p * p, C): windows of `p` × `p` positions."""

    def forward(self, x: Tensor, p: int) -> Tensor:
        n, channels, height, width = x.shape
        rows, columns = height // p, width // p
        x = x.reshape(n, channels, rows, p, columns, p).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(n, rows * columns, p * p, channels)


class WindowDepartition(nn.Module):
    """The inverse of :class:`WindowPartition`, for an image of `windows` × `windows` windows."""

    def forward(self, x: Tensor, p: int, windows: int) -> Tensor:
        n, _, _, channels = x.shape
        x = x.reshape(n, windows, windows, p, p, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, channels, windows * p, windows * p)


class PartitionAttentionLayer(nn.Module):
    """Attention and a two-layer perceptron, each after a LayerNorm and with a shortcut.

    Args:
        size: a group has ``size * size`` positions.
        grid: a group are positions spread evenly over the image, instead of a window.
        windows: height and width of the input, in units of `size`.
    """

    def __init__(self, channels: int, head_dim: int, size: int, grid: bool, windows: int) -> None:
        super().__init__()
        # Positions of one rank in all windows make a group of the grid.
        self.window, self.windows = (windows, size) if grid else (size, windows)
        self.partition_op = WindowPartition()
        self.departition_op = WindowDepartition()
        self.partition_swap = SwapAxes() if grid else nn.Identity()
        self.departition_swap = SwapAxes() if grid else nn.Identity()
        self.attn_layer = nn.Sequential(
            nn.LayerNorm(channels),
            RelativePositionalMultiHeadAttention(channels, head_dim, size),
            nn.Dropout(),
        )
        self.mlp_layer = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            nn.Dropout(),
        )
        self.stochastic_dropout = StochasticDepth()

    def forward(self, x: Tensor) -> Tensor:
        x = self.partition_swap(self.partition_op(x, self.window))
        x = x + self.stochastic_dropout(self.attn_layer(x))
        x = x + self.stochastic_dropout(self.mlp_layer(x))
        return self.departition_op(self.departition_swap(x), self.window, self.windows)


class MaxVitLayer(nn.Module):
    """An :class:`MBConv`, attention inside windows, and attention across the image."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        head_dim: int,
        size: int,
        windows: int,
    ) -> None:
        super().__init__()
        attention = partial(PartitionAttentionLayer, channels, head_dim, size)
        self.layers = nn.Sequential(
            {
                "MBconv": MBConv(in_channels, channels, stride),
                "window_attention": attention(grid=False, windows=windows),
                "grid_attention": attention(grid=True, windows=windows),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MaxVitBlock(nn.Module):
    """Layers at one resolution, half that of the input."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depth: int,
        head_dim: int,
        size: int,
        windows: int,
    ) -> None:
        super().__init__()
        first = MaxVitLayer(in_channels, channels, 2, head_dim, size, windows)
        rest = (
            MaxVitLayer(channels, channels, 1, head_dim, size, windows) for _ in range(depth - 1)
        )
        self.layers = nn.ModuleList([first, *rest])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MaxVit(nn.Module):
    """Input (N, 3, *input_size); output (N, num_classes), logits.

    Args:
        widths: channels in each block.
        depths: number of layers in each block.
        head_dim: channels of a head.
        size: height and width of the windows and of the grids.
        input_size: height and width of the image, which are equal.

    Raises:
        ShapeError: the windows do not divide the image, or it is no square; when called, an
            input of another size.
    """

    def __init__(
        self,
        stem_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        head_dim: int,
        size: int,
        num_classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
    ) -> None:
        super().__init__()
        height, width = self.input_size = tuple(input_size)
        multiple = size * 2 ** (len(widths) + 1)
        if height != width or height <= 0 or height % multiple:
            raise ShapeError("input_size does not fit the windows", got=self.input_size,
                             expected=f"twice one positive multiple of {multiple}")  # fmt: skip
        self.stem = nn.Sequential(
            _ConvNormGELU(3, stem_channels, 3, stride=2),
            Conv2dNormActivation(stem_channels, stem_channels, 3, norm_layer=None,
                                 activation_layer=None),
        )  # fmt: skip
        self.blocks = nn.ModuleList()
        in_channels = stem_channels
        for number, (channels, depth) in enumerate(zip(widths, depths, strict=True), 2):
            windows = height // 2**number // size
            block = MaxVitBlock(in_channels, channels, depth, head_dim, size, windows)
            self.blocks.append(block)
            in_channels = channels
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(in_channels),
            nn.Linear(in_channels, in_channels),
            nn.Tanh(),
            nn.Linear(in_channels, num_classes, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not same_sizes(x.shape[2:], self.input_size):
            raise ShapeError("the windows belong to another image size", got=repr(x),
                             expected=f"(N, 3, {self.input_size[0]}, {self.input_size[1]})",
                             fix="build the model with input_size= of the input")  # fmt: skip
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(x)


@register(torchvision=True)
def maxvit_t(num_classes: int = 1000, input_size: tuple[int, int] = (224, 224)) -> MaxVit:
    """MaxViT-T (Tu et al., https://arxiv.org/abs/2204.01697)."""
    return MaxVit(64, (64, 128, 256, 512), (2, 2, 5, 2), 32, 7, num_classes, input_size)
