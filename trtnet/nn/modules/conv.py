"""``torch.nn.modules.conv``."""

from trtnet.nn.conv import Conv1d, Conv2d, Conv3d, _ConvNd

__all__ = ["Conv1d", "Conv2d", "Conv3d", "_ConvNd"]
