"""Public names of trtnet.quantization; `trtnet.lazy_imports` imports them on first use."""

from .calibration import Calibration as Calibration, Observation as Observation
from .data import Batches as Batches, dataset as dataset
from .histogram import Histogram as Histogram
from .ranges import RangeRow as RangeRow, check_fp16 as check_fp16
from .running import activations as activations, calibrate as calibrate
from .table import METHODS as METHODS, CalibrationTable as CalibrationTable
