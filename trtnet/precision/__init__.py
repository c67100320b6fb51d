"""Which precision each module computes in, and what each precision is and needs."""

from trtnet.precision.policy import PRESETS, SAFE_KINDS, Decision, Explanation, Policy
from trtnet.precision.table import FLOATS, KINDS, PRECISIONS, QUANTIZED, TABLE, Limits, Precision
from trtnet.precision.targets import Targets, choose_targets

__all__ = [
    "FLOATS",
    "KINDS",
    "PRECISIONS",
    "PRESETS",
    "QUANTIZED",
    "SAFE_KINDS",
    "TABLE",
    "Decision",
    "Explanation",
    "Limits",
    "Policy",
    "Precision",
    "Targets",
    "choose_targets",
]
