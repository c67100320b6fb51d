"""The table of precisions, and the GPUs that are chosen by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trtnet import verification
from trtnet.dtypes import ELEMENT_TYPES, DType, dtype_of, held_dtype_name, promote
from trtnet.errors import UnsupportedError
from trtnet.precision import TABLE, Precision, choose_targets
from trtnet.precision.table import FLOATS, KINDS, QUANTIZED, STORED, coarsest

DEFAULT = ("8.0", "8.6", "8.9", "12.0", "12.1")


def half_or_fp8(precision: Precision) -> bool:
    return precision.name in ("fp16", "bf16", "fp8")


def test_the_largest_code_is_a_value_of_the_type() -> None:
    assert STORED["int8"][1] == torch.iinfo(torch.int8).max
    assert STORED["fp8"][1] == torch.finfo(torch.float8_e4m3fn).max
    for stored, largest in STORED.values():
        code = torch.tensor(largest).to(getattr(torch, stored.element.torch))
        assert float(code) == largest


def test_every_entry_is_either_computed_in_or_stored() -> None:
    for name, precision in TABLE.items():
        assert precision.name == name
        assert (precision.dtype is None) == (precision.stored is not None)
        assert (precision.module_limits is None) == (precision.dtype is None)
        assert {*precision.kinds, *precision.on_request} <= set(KINDS)
        assert precision.help
    assert set(QUANTIZED) <= set(STORED)
    assert {*FLOATS, *STORED} == set(TABLE)


def test_the_order_is_that_of_the_errors() -> None:
    """As far as the limits of the outputs tell: half precision, then quantized networks."""
    distances = [verification.Tolerance(*precision.limits).distance for precision in TABLE.values()]
    floats, quantized = distances[: len(FLOATS)], distances[len(FLOATS) :]
    assert floats == sorted(floats)
    assert quantized == sorted(quantized)
    assert coarsest(["int8", "fp8", "int8-weights"]) == "fp8"
    assert coarsest(["int8", "int8-weights"]) == "int8"
    assert coarsest(["tf32", "bf16", "fp16"]) == "bf16"


@pytest.mark.parametrize("precision", FLOATS)
def test_a_floating_precision_is_a_name_of_its_type(precision: str) -> None:
    assert dtype_of(precision) is TABLE[precision].dtype


def test_presets_of_the_page_are_those_of_the_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "precision.md"
    presets = page.read_text().partition("\n## Detectors")[0]
    rows = [line for line in presets.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in row.split("|")[1].replace("`", "").split(", ")}
    assert {name.strip() for name in named} == {*TABLE, "mixed"}


# Element types


def test_element_types_are_as_large_as_torch_and_numpy_say() -> None:
    for element in ELEMENT_TYPES.values():
        if element.is_numpy:
            assert np.dtype(element.name).itemsize * 8 == element.bits
        if element.name in {dtype.value for dtype in DType}:
            assert getattr(torch, element.torch).itemsize * 8 == element.bits
            assert np.dtype(element.storage).itemsize * 8 == element.bits
            assert getattr(torch, element.torch).is_floating_point == (element.kind == "float")


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.zeros(1, np.float32), "float32"),
        (np.zeros(1, np.uint16), "bfloat16"),
        (np.zeros(1, np.uint8), "uint8"),
        (np.zeros(1, np.int8), "int8"),
    ],
)
def test_arrays_hold_their_own_type_or_bits(array: np.ndarray, name: str) -> None:
    assert held_dtype_name(array) == name


def test_float8_meets_no_other_type(raises: Any) -> None:
    with raises(UnsupportedError, "float8"):
        promote(DType.FLOAT8, DType.FLOAT16)
    with raises(UnsupportedError, "float8"):
        promote(DType.INT8, DType.FLOAT8)


# GPUs


def test_without_targets_those_that_lack_a_precision_are_left_out() -> None:
    found = choose_targets((), DEFAULT, half_or_fp8)
    assert found.capabilities == ("8.9", "12.0", "12.1")
    assert found.lacking == ("8.0", "8.6")
    assert found.note == "fp8: built for compute capability 8.9, 12.0, 12.1; 8.0 and 8.6 lack it"


def test_a_precision_that_does_not_occur_leaves_nothing_out() -> None:
    found = choose_targets((), DEFAULT, lambda precision: precision.name == "bf16")
    assert (found.capabilities, found.lacking, found.note) == ((), (), None)


def test_several_precisions_are_all_named() -> None:
    found = choose_targets((), ("7.5", "8.9"), half_or_fp8)
    assert found.note == "bf16 and fp8: built for compute capability 8.9; 7.5 lacks it"


def test_targets_that_are_named_are_taken_or_refused(raises: Any) -> None:
    assert choose_targets(("12.0", "8.9"), DEFAULT, half_or_fp8).capabilities == ("12.0", "8.9")
    assert choose_targets(("10.0",), DEFAULT, half_or_fp8).capabilities == ("10.0",)
    with raises(UnsupportedError, "FP8", "8.9 or later", "targets 8.6", "8.9,12.0"):
        choose_targets(("8.6", "8.9", "12.0"), DEFAULT, half_or_fp8)
    with raises(UnsupportedError, "8.9,12.0,12.1"):
        choose_targets(("8.0",), DEFAULT, half_or_fp8)


def test_a_backend_that_builds_for_the_gpu_at_hand_chooses_nothing() -> None:
    assert choose_targets((), (), half_or_fp8).capabilities == ()


def test_a_default_without_any_gpu_that_has_it(raises: Any) -> None:
    with raises(UnsupportedError, "FP8"):
        choose_targets((), ("8.0", "8.6"), half_or_fp8)
