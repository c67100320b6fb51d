"""Compares a network with the PyTorch model it was defined from, and finds the faulty module."""

from __future__ import annotations

from trtnet.verification.blame import Blame
from trtnet.verification.comparison import (
    BF16_TOLERANCE,
    FINITE,
    FLOAT64_TOLERANCE,
    FP8_TOLERANCE,
    FP16_TOLERANCE,
    FP32_TOLERANCE,
    INT8_TOLERANCE,
    INT8_WEIGHTS_TOLERANCE,
    LOCAL_FLOAT64_TOLERANCE,
    LOCAL_TOLERANCES,
    QUANTIZED_TOLERANCES,
    TOLERANCES,
    Row,
    Tolerance,
    compare,
)
from trtnet.verification.result import Verification
from trtnet.verification.verifier import verify

__all__ = [
    "BF16_TOLERANCE",
    "FINITE",
    "FLOAT64_TOLERANCE",
    "FP8_TOLERANCE",
    "FP16_TOLERANCE",
    "FP32_TOLERANCE",
    "INT8_TOLERANCE",
    "INT8_WEIGHTS_TOLERANCE",
    "LOCAL_FLOAT64_TOLERANCE",
    "LOCAL_TOLERANCES",
    "QUANTIZED_TOLERANCES",
    "TOLERANCES",
    "Blame",
    "Row",
    "Tolerance",
    "Verification",
    "compare",
    "verify",
]
