"""Models that give a class to every pixel."""

from trtnet.zoo.segmentation import deeplabv3, fcn, lraspp, unet  # noqa: F401
