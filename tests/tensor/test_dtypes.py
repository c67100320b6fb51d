"""DType beside the dtypes of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import UnsupportedError
from trtnet.dtypes import DType, bfloat16, bool_, dtype_of, float8, float16, float32, int64

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")


@pytest.mark.parametrize("dtype", list(DType))
def test_equals_the_same_type_of_pytorch_and_numpy(dtype: DType) -> None:
    same: list[Any] = [getattr(torch, dtype.element.torch), dtype.value, dtype]
    if dtype.element.is_numpy:
        same += [np.dtype(dtype.value), np.dtype(dtype.value).type]
    else:
        own = getattr(ml_dtypes, dtype.element.torch)
        same += [own, np.dtype(own), dtype.element.torch]
    for other in same:
        assert dtype == other
        assert other == dtype
        assert dtype == other
        assert other == dtype
        assert dtype_of(other) is dtype
        assert [found for found in DType if found == other] == [dtype]


def test_other_things_are_unequal(trt: Any) -> None:
    others: list[Any] = [None, 0, "float64", "", torch.float64, np.float64, float, object(), "text"]
    for other in [
        *others,
        torch.strided,
        ml_dtypes.float8_e4m3,
        np.dtype("V2"),
        trt.ElementWiseOperation.SUM,
    ]:
        assert not any(dtype == other or other == dtype for dtype in DType)
    assert float32 == trt.float32
    assert float32 != trt.float16


def test_membership_and_hashing(net: Any) -> None:
    x = net.input("x", (2,), "fp16")
    assert x.dtype in (torch.float16, torch.bfloat16)
    assert x.dtype not in (torch.float32,)
    assert x.dtype == torch.float16 == x.dtype
    assert x.dtype != torch.float32
    assert len({*DType, *DType}) == len(DType)
    assert {float16: 1}["float16"] == 1
    assert hash(float16) == hash("float16")


def test_types_of_python(raises: Any) -> None:
    assert [dtype_of(kind) for kind in (float, int, bool)] == [float32, int64, bool_]
    assert dtype_of("torch.float8_e4m3fn") is float8
    assert dtype_of(torch.bfloat16) is bfloat16
    for kind in (torch.float64, np.float64, "double", "float64"):
        with raises(UnsupportedError, "float64" if kind != "double" else kind, "use float32"):
            dtype_of(kind)
    for kind in (complex, str, ml_dtypes.float8_e4m3, torch.complex64, trtnet.Tensor):
        with pytest.raises(UnsupportedError):
            dtype_of(kind)
