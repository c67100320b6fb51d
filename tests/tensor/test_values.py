"""Values from PyTorch, ml_dtypes, lists and numbers: read by value, or refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import UnsupportedError, WeightsError, nn
from trtnet.dtypes import bfloat16, dtype_of, float8, float16, float32
from trtnet.engines.arrays import view
from trtnet.nn import functional as F
from trtnet.values import array_from, shape_from, values_of

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")

NUMBERS = [-1.5, 0.0, 0.25, 3.0]


def _conjugate() -> Any:
    return torch.tensor([1 + 1.5j, -0j, 2 - 0.25j, 3 - 3j]).conj().imag


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda: NUMBERS, "float64"),
        (lambda: tuple(map(np.float32, NUMBERS)), "float32"),
        (lambda: [torch.tensor(n, requires_grad=True) for n in NUMBERS], "float32"),
        (lambda: np.array(NUMBERS, ">f4"), "float32"),
        (lambda: np.array(NUMBERS, ">f8"), "float64"),
        (lambda: np.array([n for n in NUMBERS for _ in (0, 1)])[::2], "float64"),
        (lambda: np.array(NUMBERS, np.longdouble), "float64"),
        (lambda: np.ma.masked_array(NUMBERS, False), "float64"),
        (lambda: torch.tensor(NUMBERS, requires_grad=True), "float32"),
        (lambda: torch.nn.Parameter(torch.tensor(NUMBERS).half()), "float16"),
        (lambda: torch.tensor(NUMBERS).bfloat16(), "bfloat16"),
        (lambda: torch.tensor(NUMBERS).to(torch.float8_e4m3fn), "float8_e4m3"),
        (lambda: torch.tensor(NUMBERS).repeat_interleave(2)[::2], "float32"),
        (_conjugate, "float32"),
        (lambda: torch._neg_view(-torch.tensor(NUMBERS)), "float32"),
        (lambda: np.array(NUMBERS, ml_dtypes.bfloat16), "bfloat16"),
        (lambda: np.array(NUMBERS, ml_dtypes.float8_e4m3fn), "float8_e4m3"),
        (lambda: np.array(NUMBERS, ml_dtypes.float8_e4m3), "float8_e4m3 (IEEE)"),
        (lambda: np.array([-1.5, 0, 0.25, 3], ml_dtypes.float8_e5m2), "float8_e5m2"),
    ],
)
def test_values_are_read(make: Any, dtype: str) -> None:
    found = values_of(make())
    assert found.dtype == dtype
    assert found.array.dtype.isnative
    np.testing.assert_array_equal(found.array, [-1.5, 0, 0.25, 3])
    assert shape_from(make()) == (4,)


def test_four_bits() -> None:
    found = values_of(np.array([-8, 7, 0], ml_dtypes.int4))
    assert (found.dtype, found.array.dtype, found.array.tolist()) == ("int4", np.int8, [-8, 7, 0])
    found = values_of(np.array([-6, 0.5, 1.5], ml_dtypes.float4_e2m1fn))
    assert (found.dtype, found.array.tolist()) == ("float4_e2m1", [-6, 0.5, 1.5])


@pytest.mark.parametrize("value", [3, 2.5, True, np.float32(1), torch.tensor(4), np.int64(5), []])
def test_ranks_and_types_stay(value: Any) -> None:
    array, wanted = array_from(value), np.asarray(value)
    assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
    assert array.tolist() == wanted.tolist()


def test_memory_is_shared() -> None:
    array, tensor = np.ones(4, np.float32), torch.ones(4)
    assert np.shares_memory(array_from(array), array)
    assert np.shares_memory(array_from(tensor), tensor.numpy())


class Handle:
    """Something that numpy would make an object array of."""


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: 1e300, WeightsError, "float32"),
        (lambda: np.array([0, -1e39]), WeightsError, "1e+39"),
        (lambda: np.array([np.nan, np.inf, 1e39]), WeightsError, "1e+39"),
        (lambda: torch.tensor([1e39], dtype=torch.float64), WeightsError, "1e+39"),
        (lambda: 2**70, WeightsError, "no numbers"),
        (lambda: 2**63, WeightsError, "int64"),
        (lambda: [1, 2**64], WeightsError, "no numbers"),
        (lambda: "text", WeightsError, "got: str"),
        (lambda: ["1", "2"], WeightsError, "no numbers"),
        (lambda: np.array(["1"]), WeightsError, "no numbers"),
        (lambda: np.array([None]), WeightsError, "object"),
        (lambda: [[1, 2], [3]], WeightsError, "no numbers"),
        (lambda: None, WeightsError, "NoneType"),
        (lambda: {"a": 1}, WeightsError, "dict"),
        (lambda: [Handle()], WeightsError, "Handle"),
        (lambda: np.datetime64("2020-01-01"), WeightsError, "datetime64"),
        (lambda: np.ma.masked_array([1.0, 2.0], [False, True]), WeightsError, "masked"),
        (lambda: 1j, UnsupportedError, "complex"),
        (lambda: np.ones(2, np.complex64), UnsupportedError, "complex"),
        (lambda: torch.ones(2, dtype=torch.cfloat), UnsupportedError, "complex"),
        (lambda: torch.eye(2).to_sparse(), UnsupportedError, "sparse"),
        (lambda: torch.empty(2, device="meta"), WeightsError, "meta"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            UnsupportedError,
            "quantized",
        ),
        (torch.nn.parameter.UninitializedParameter, WeightsError, "no numbers"),
    ],
)
def test_values_are_refused(make: Any, kind: Any, text: str, raises: Any) -> None:
    with raises(kind, "layer.weight", text):
        values_of(make(), "layer.weight")


def test_a_network_takes_them_as_constants(net: Any, build: Any) -> None:
    """Bit patterns of bfloat16 and float8 stay, those of NaN, -0 and denormals included."""
    for name, bits, kind in (
        ("bfloat16", np.arange(0, 1 << 16, dtype=np.uint16), bfloat16),
        ("float8_e4m3fn", np.arange(0, 1 << 8, dtype=np.uint8), float8),
    ):
        constant = net.constant(bits.view(getattr(ml_dtypes, name)))
        assert constant.dtype is kind
        stored = trtnet.graph.read(net.definition).layers[-1].weights["weights"]
        given = bits.view(getattr(ml_dtypes, name)).astype(np.float32)
        signalling = np.isnan(given) & (bits & 0x40 == 0) if name == "bfloat16" else False
        np.testing.assert_array_equal(stored.reshape(-1)[~np.isnan(given)], bits[~np.isnan(given)])
        np.testing.assert_array_equal(np.where(signalling, bits, stored.reshape(-1)), bits)
    with pytest.raises(UnsupportedError, match="int4"):
        net.constant(np.zeros(3, ml_dtypes.int4))


def test_a_constant_is_what_the_array_held(net: Any) -> None:
    x, array = net.input("x", (32,)), np.zeros(32, np.float32)
    before = x + array
    array[:] = 1
    net.output("y", before + array)
    got = trtnet.reference.run(net.definition, {"x": np.zeros(32, np.float32)})["y"]
    np.testing.assert_array_equal(got, np.ones(32))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (torch.int32, torch.tensor(5)),
        (torch.int32, torch.tensor(2.5, dtype=torch.float64)),
        (torch.int8, torch.tensor([5, 6])),
        (torch.bool, torch.tensor(3, dtype=torch.int8)),
        (torch.float16, torch.tensor(1.5)),
        (torch.float32, torch.tensor([1, 2], dtype=torch.int64)),
        (torch.float32, torch.tensor([1, 2]).bfloat16()),
        (torch.int32, torch.tensor([1.5, 2]).bfloat16()),
        (torch.int32, True),
        (torch.int32, [1, 2]),
    ],
)
def test_operands_have_the_types_of_pytorch(net: Any, kind: Any, value: Any) -> None:
    x = net.input("x", (3, 2), kind)
    if isinstance(value, list):
        wanted = torch.int64
    else:
        wanted = torch.result_type(torch.ones(3, 2, dtype=kind), value)
    expected = float32 if wanted is torch.float64 else dtype_of(wanted)
    assert trtnet.add(x, value).dtype is expected


def test_tensors_of_rank_0_count_as_in_pytorch(net: Any) -> None:
    half, whole = net.input("half", (2, 3)).half(), net.input("whole", (2, 3), "int32")
    scalar = net.input("scalar", (3,)).sum()
    long = net.input("long", (3,), "int64").sum()
    dim = net.input("dynamic", ("N", 2)).shape[0]
    assert (half * scalar).dtype is float16
    assert (whole + long).dtype == (whole + dim).dtype == torch.int32
    assert (whole * scalar).dtype is float32
    assert (scalar + net.input("eight", (3,), "int8").sum()).dtype is float32


def test_operands_that_cannot_be_held(net: Any, raises: Any) -> None:
    x, i = net.input("x", (2, 2)), net.input("i", (2, 2), "int32")
    for bad in (1e300, 1j, np.array(["a", "b"]), [[1, 2], [3]]):
        with pytest.raises((WeightsError, UnsupportedError)):
            x + bad
    with raises(WeightsError, "int32", "1099511627776"):
        i + 2**40
    with raises(WeightsError, "int8", "300"):
        net.constant([1, 300], "int8")


def test_bfloat16_weights_load_exactly() -> None:
    layer, other = nn.Linear(3, 2), torch.nn.Linear(3, 2).bfloat16()
    layer.load_state_dict(other.state_dict())
    assert layer.weight.array is not None
    assert layer.weight.array.dtype == np.float32
    assert layer.weight.data.dtype == torch.float32
    np.testing.assert_array_equal(layer.weight.array, other.weight.detach().float().numpy())
    swapped = {
        key: value.float().numpy().astype(">f4") for key, value in other.state_dict().items()
    }
    layer.load_state_dict(swapped)
    np.testing.assert_array_equal(layer.bias.array, other.bias.detach().float().numpy())


def test_weights_that_are_refused(raises: Any) -> None:
    layer = nn.Linear(2, 2)
    state = {"weight": np.ones((2, 2)), "bias": np.array([0, 1e300])}
    with raises(WeightsError, "bias", "1e+300"):
        layer.load_state_dict(state)
    with raises(UnsupportedError, "bias", "complex"):
        layer.load_state_dict({**state, "bias": np.ones(2, complex)})


def test_functions_take_torch_tensors(check: Any) -> None:
    weight, bias = torch.randn(2, 3, requires_grad=True), torch.randn(2).double()
    check(
        lambda x: F.linear(x, weight, bias),
        lambda x: torch.nn.functional.linear(x, weight.to(x.dtype), bias.to(x.dtype)),
        (4, 3),
        rtol64=1e-6,
    )


def test_inputs_of_a_run_and_of_an_engine() -> None:
    net = trtnet.Network("rtx", precision=trtnet.Policy(compute="bf16", io="bf16"))
    net.output("y", net.input("x", (2,)) * 2)
    array = np.array([1.5, -3], ml_dtypes.bfloat16)
    for given in (array, torch.tensor([1.5, -3]).bfloat16(), [1.5, -3.0]):
        got = trtnet.reference.run(net.definition, {"x": given})["y"]
        np.testing.assert_array_equal(got, [3, -6])
    assert view("x", array).dtype == "bfloat16"
    assert view("x", array.astype(ml_dtypes.float8_e4m3fn)).dtype == "float8_e4m3"
    big = view("x", np.array([1, 2], ">i4"))
    assert big.owner.tolist() == [1, 2]
    assert big.owner.dtype.isnative
    negative = view("x", torch._neg_view(torch.tensor([1.0, 2.0])))
    assert negative.owner.tolist() == [-1, -2]
    assert not negative.owner.is_neg()


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy, trtnet.values as v; v.values_of(numpy.ones(3)); v.values_of([1, 2]);"
        "assert 'torch' not in sys.modules and 'ml_dtypes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
