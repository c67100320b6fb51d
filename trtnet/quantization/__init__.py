"""Calibration: the range of values of each tensor, and the part of it that quantization keeps.

Names are imported on first use; only running a calibration needs torch.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
