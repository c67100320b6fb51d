"""Calibration: which range of values each tensor has, and which part of it INT8 and FP8 keep.

Names are imported on first use; only running a calibration needs torch.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
