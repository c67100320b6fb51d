"""Values that are not finite, or that a type cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trtnet.dtypes import bfloat16, float16, float32
from trtnet.errors import WeightsError
from trtnet.finite import (
    FLOAT16_OVERFLOW,
    check_finite,
    describe_nonfinite,
    json_number,
    nonfinite_count,
    require_representable,
)

BAD = np.array([[0.0, np.nan, 1.0], [np.inf, -np.inf, 2.0]], np.float32)


def test_the_first_bad_value_is_named_with_its_place() -> None:
    assert nonfinite_count(BAD) == 3
    assert describe_nonfinite(BAD) == (
        "3 of 6 values are NaN or infinite; the first is nan at (0, 1)"
    )
    assert nonfinite_count(np.ones(4, np.int64)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_check_refuses_what_is_not_finite(value: float, raises: Any) -> None:
    array = np.array([1.0, value], np.float32)
    with raises(WeightsError, "fc.weight", "1 of 2 values"):
        check_finite("fc.weight", array)
    with raises(WeightsError, "fc.weight", "1 of 2 values", "(1,)"):
        require_representable(array, float32, "fc.weight", finite=True)
    require_representable(array, float32, "mask", finite=False)


def test_the_limit_is_where_numpy_rounds_to_infinity(raises: Any) -> None:
    below = np.nextafter(np.float32(FLOAT16_OVERFLOW), np.float32(0))
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(FLOAT16_OVERFLOW).astype(np.float16))
        assert np.isfinite(below.astype(np.float16))
    require_representable(np.array([below, -below]), float16, "w", finite=True)
    for value in (FLOAT16_OVERFLOW, -FLOAT16_OVERFLOW):
        array = np.array([0.0, value, np.inf], np.float32)
        with raises(WeightsError, "w", "does not fit float16", "bf16"):
            require_representable(array, float16, "w", finite=False)
        require_representable(array, bfloat16, "w", finite=False)
    require_representable(np.array([np.inf, np.nan]), float16, "mask", finite=False)


def test_json_has_neither_nan_nor_infinity() -> None:
    assert [json_number(value) for value in (1.5, np.nan, np.inf, -np.inf)] == [
        1.5,
        None,
        None,
        None,
    ]
