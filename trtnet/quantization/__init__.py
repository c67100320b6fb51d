"""Calibration: the range of values of each tensor, and the part of it that quantization keeps.

Names are imported on first use; only running a calibration needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtnet.quantization.calibration import Calibration as Calibration
    from trtnet.quantization.calibration import Observation as Observation
    from trtnet.quantization.data import Batches as Batches
    from trtnet.quantization.data import dataset as dataset
    from trtnet.quantization.histogram import Histogram as Histogram
    from trtnet.quantization.ranges import RangeRow as RangeRow
    from trtnet.quantization.ranges import check_fp16 as check_fp16
    from trtnet.quantization.running import activations as activations
    from trtnet.quantization.running import calibrate as calibrate
    from trtnet.quantization.table import METHODS as METHODS
    from trtnet.quantization.table import CalibrationTable as CalibrationTable


_HOMES = {
    "trtnet.quantization.calibration": ("Calibration", "Observation"),
    "trtnet.quantization.data": ("Batches", "dataset"),
    "trtnet.quantization.histogram": ("Histogram",),
    "trtnet.quantization.ranges": ("RangeRow", "check_fp16"),
    "trtnet.quantization.running": ("activations", "calibrate"),
    "trtnet.quantization.table": ("METHODS", "CalibrationTable"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'trtnet.quantization' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
