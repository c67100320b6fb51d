"""The activations and the epilogue in a pass of its own, against PyTorch."""

from __future__ import annotations

import pytest
import torch
from tactics.oracles import ACTIVATIONS, HALVES, activated, assert_rounded, finished, values, wide

from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.pointwise import finish

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("how", ACTIVATIONS, ids=lambda how: how.kind)
def test_activations_of_ordinary_values(how, dtype, place):
    x = torch.cat([torch.linspace(-12, 12, 301), values(0, 200, dtype=torch.float32)])
    x = x.to(place, dtype)[:, None]
    wanted = activated(wide(x), how)
    found = finish(x.clone(), None, None, None, Epilogue(how))
    error = 1e-6 if dtype is torch.float32 else torch.finfo(dtype).eps
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=error, atol=1.5e-6)


@pytest.mark.parametrize("place_of", ["first", "last"])
@pytest.mark.parametrize("how", ACTIVATIONS, ids=lambda how: how.kind)
def test_nan_and_infinities_are_those_of_pytorch(how, place_of, place):
    special = [NAN, INFINITY, -INFINITY, 0.0, -0.0, 65504.0, -65504.0, 6e-8, -6e-8]
    x = torch.tensor(special, device=place)[None].half()
    wanted = activated(wide(x), how).half()  # in float32 F.gelu has NaN for infinity
    epilogue = Epilogue(how) if place_of == "first" else Epilogue(NOTHING, how)
    found = finish(x.clone(), None, None, None, epilogue).cpu()
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (33, 40), (130, 17), (3, 1025)], ids=str)
@pytest.mark.parametrize("parts", ["bias", "factor", "other", "bias factor", "bias factor other"])
def test_terms_and_factors(parts, shape, dtype, place):
    x, other = (values(seed, *shape, dtype=dtype, at=place) for seed in (1, 2))
    bias, factor = (values(seed, shape[1], dtype=dtype, at=place) for seed in (3, 4))
    bias, factor, other = (
        part if name in parts.split() else None
        for name, part in (("bias", bias), ("factor", factor), ("other", other))
    )
    first = Activation("silu")
    how = Epilogue(first, Activation("relu"), factor is not None, other is not None)
    wanted = finished(*map(wide, (x, bias, factor, other)), how)
    given = x.clone()
    found = finish(given, bias, factor, other, how)
    assert found.data_ptr() == given.data_ptr()  # it overwrites
    assert_rounded(found, wanted, dtype)


@pytest.mark.parametrize("shape", [(1, 1), (33, 40), (130, 17), (3, 1025)], ids=str)
@pytest.mark.parametrize("has_gaps", ["x", "out", "other", "x out other"])
def test_rows_with_gaps(has_gaps, shape, place):
    """They stay as they are, and so does what lies between them."""
    m, c = shape
    wholes = {
        name: values(i, m, c + 3 + i, dtype=torch.float16, at=place)
        for i, name in enumerate(("x", "out", "other"))
    }
    before = {name: whole.clone() for name, whole in wholes.items()}
    x, out, other = (
        whole[:, 2 : c + 2] if name in has_gaps.split() else whole[:, :c].contiguous()
        for name, whole in wholes.items()
    )
    bias = values(4, c, dtype=torch.float16, at=place)
    how = Epilogue(Activation("silu"), Activation("relu"), False, True)
    wanted = finished(wide(x), wide(bias), None, wide(other), how)
    assert finish(x, bias, None, other, how, out) is out
    assert_rounded(out, wanted, torch.float16)
    assert torch.equal(wholes["x"], before["x"])
    if "out" in has_gaps:
        assert torch.equal(wholes["out"][:, :2], before["out"][:, :2])
        assert torch.equal(wholes["out"][:, c + 2 :], before["out"][:, c + 2 :])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)], ids=str)
def test_nothing_to_finish(shape, place):
    x = torch.empty(shape, dtype=torch.float16, device=place)
    assert finish(x, None, None, None, Epilogue(Activation("relu"))) is x
