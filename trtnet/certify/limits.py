"""How far an engine may be from the reference; the numbers are those of verification."""

from __future__ import annotations

import dataclasses

from trtnet.verification.comparison import (
    LOCAL_TOLERANCES,
    QUANTIZED_TOLERANCES,
    TOLERANCES,
    Tolerance,
)

# TF32 rounds the operands of products to 10 bits of fraction, as many as FP16 has. Formats of 4 and
# 8 bits with scales for blocks have the limit of the coarsest quantized precision.
_AS = {"tf32": "fp16", "fp4": "fp8"}


def limit(precision: str, *, is_model: bool) -> Tolerance:
    """The limits of the tensors of a case, whose reference computes in the same types.

    Args:
        precision: one of :data:`trtnet.certify.cases.PRECISIONS`.
        is_model: whether the case is a whole model, in which rounding adds up from layer to layer;
            the other networks are held to what one module is, and their integers and booleans to
            equality.
    """
    found = _of_floats(_AS.get(precision, precision), is_model)
    return found if is_model else dataclasses.replace(found, agreement=1.0)


def _of_floats(name: str, is_model: bool) -> Tolerance:
    if name in QUANTIZED_TOLERANCES:
        return QUANTIZED_TOLERANCES[name]
    if name not in TOLERANCES:  # integers and booleans; float tensors beside them are exact too
        return TOLERANCES["fp32"]
    return (TOLERANCES if is_model else LOCAL_TOLERANCES)[name]
