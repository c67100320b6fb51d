"""uint8, which TensorRT has in inputs and outputs only, and constants of small integer types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet.errors import UnsupportedError

BYTES = np.array([[0, 1, 128], [129, 200, 255]], np.uint8)
TABLE = np.array([3, 0, 250], np.uint8)
SHORT = np.array([-300, 2, 7], np.int16)


def table(x: Any, values: np.ndarray) -> Any:
    return torch.from_numpy(values) if isinstance(x, torch.Tensor) else values


@pytest.mark.parametrize("f", [
    lambda x: x / 255,
    lambda x: x / table(x, TABLE + 1),
    lambda x: x * 0.5 - 1,
    lambda x: x > 128,
    lambda x: x <= table(x, TABLE),
    lambda x: (x == 255) | (x != 1),
    lambda x: (x >= 200.5).sum(1),
    lambda x: x.float().sub(127.5).div(128),
])  # fmt: skip
def test_bytes_beside_other_numbers(check: Any, f: Any) -> None:
    check(f, f, BYTES, dynamic=[("N", 3)], rtol64=1e-6, through_torch=True)


@pytest.mark.parametrize("values", [TABLE, SHORT])
@pytest.mark.parametrize("kind", ["float32", "int64", "int32"])
def test_tables_of_small_integers(check: Any, values: np.ndarray, kind: str) -> None:
    x = np.array([[1, -2, 3], [4, 5, -6]], kind)
    for f in (lambda x: x * table(x, values), lambda x: table(x, values) - x):
        check(f, f, x, dynamic=[("N", 3)], through_torch=True)


@pytest.mark.parametrize("f", [
    lambda x: x + x,
    lambda x: x * 2,
    lambda x: 255 - x,
    lambda x: x // 3,
    lambda x: x & 15,
    lambda x: (x > 1) * TABLE,
])  # fmt: skip
def test_arithmetic_that_wraps_is_refused(net: Any, raises: Any, f: Any) -> None:
    with raises(UnsupportedError, "uint8 in inputs and outputs only", "x.int()"):
        f(net.input("x", (2, 3), "uint8"))
