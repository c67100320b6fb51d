"""Feature pyramid network, in torchvision's form.

Lin et al., Feature Pyramid Networks for Object Detection, https://arxiv.org/abs/1612.03144.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.nn import functional as F
from trtnet.zoo.blocks import Conv2dNormActivation, NormLayer

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

Features = dict[str, "Tensor"]


class LastLevelMaxPool(nn.Module):
    """Adds ``pool``: every second pixel of the smallest features."""

    def forward(self, pyramid: Features, inputs: Features) -> Features:
        last = list(pyramid.values())[-1]
        return {**pyramid, "pool": F.max_pool2d(last, kernel_size=1, stride=2)}


class LastLevelP6P7(nn.Module):
    """Adds ``p6`` and ``p7``, each half the size of the features before it.

    Lin et al., Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002.

    Args:
        in_channels: of what ``p6`` is computed from: the pyramid's smallest features where they
            have `out_channels` too, else the backbone's.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        self.use_P5 = in_channels == out_channels

    def forward(self, pyramid: Features, inputs: Features) -> Features:
        last = list((pyramid if self.use_P5 else inputs).values())[-1]
        p6 = self.p6(last)
        return {**pyramid, "p6": p6, "p7": self.p7(F.relu(p6))}


class FeaturePyramidNetwork(nn.Module):
    """Features of several sizes, all of `out_channels` and each with the knowledge of the smaller
    ones; under the names of the features that it is called with.

    Args:
        in_channels_list: channels of the backbone's features, the largest features first.
        extra_blocks: adds levels: called with the pyramid and with the backbone's features.
        norm_layer: after each convolution, or ``None``.
    """

    def __init__(
        self,
        in_channels_list: Sequence[int],
        out_channels: int,
        extra_blocks: nn.Module | None = None,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__()

        def block(channels: int, kernel_size: int) -> nn.Module:
            return Conv2dNormActivation(channels, out_channels, kernel_size,
                                        norm_layer=norm_layer, activation_layer=None)  # fmt: skip

        self.inner_blocks = nn.ModuleList(block(channels, 1) for channels in in_channels_list)
        self.layer_blocks = nn.ModuleList(block(out_channels, 3) for _ in in_channels_list)
        self.extra_blocks = extra_blocks

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Renames the keys of files from before torchvision 0.13, as torchvision does."""
        for blocks in ("inner_blocks", "layer_blocks"):
            for index in range(len(self.inner_blocks)):
                for kind in ("weight", "bias"):
                    old = f"{prefix}{blocks}.{index}.{kind}"
                    if old in state_dict:
                        state_dict[f"{prefix}{blocks}.{index}.0.{kind}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, x: Features) -> Features:
        names, features = list(x), list(x.values())
        last = self.inner_blocks[-1](features[-1])
        found = {names[-1]: self.layer_blocks[-1](last)}
        for index in reversed(range(len(features) - 1)):
            inner = self.inner_blocks[index](features[index])
            last = inner + F.interpolate(last, size=inner.shape[-2:], mode="nearest")
            found[names[index]] = self.layer_blocks[index](last)
        pyramid = {name: found[name] for name in names}
        return pyramid if self.extra_blocks is None else self.extra_blocks(pyramid, x)
