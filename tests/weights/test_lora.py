"""Adapters of low rank against PyTorch's arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trtnet.errors import WeightsError
from trtnet.weights import with_lora

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["fc", "conv"])
@pytest.mark.parametrize("form", ["peft", "named", "plain"])
def test_the_sum_that_pytorch_gives(name: str, form: str) -> None:
    torch.manual_seed(0)
    rank, alpha = 2, 3.0
    if name == "fc":
        layer, down, up = torch.nn.Linear(5, 4), torch.nn.Linear(5, rank, False), None
        up = torch.nn.Linear(rank, 4, False)
        x = torch.randn(7, 5)
    else:
        layer, down = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, rank, 3, bias=False)
        up = torch.nn.Conv2d(rank, 4, 1, bias=False)
        x = torch.randn(2, 3, 8, 8)
    start, middle = {"peft": ("base_model.model.", ""), "named": ("base_model.model.", ".default"),
                     "plain": ("", "")}[form]  # fmt: skip
    adapter = {f"{start}{name}.lora_A{middle}.weight": down.weight,
               f"{start}{name}.lora_B{middle}.weight": up.weight}  # fmt: skip
    if form == "plain":
        adapter[f"{name}.alpha"] = torch.tensor(alpha)
    base = {f"{name}.{key}": value for key, value in layer.state_dict().items()}
    merged = with_lora(base, adapter, alpha=None if form == "plain" else alpha)
    with torch.no_grad():
        want = layer(x) + alpha / rank * up(down(x))
        layer.weight.copy_(torch.from_numpy(merged[f"{name}.weight"].copy()))
        torch.testing.assert_close(layer(x), want, rtol=1e-4, atol=1e-5)
    assert np.array_equal(merged[f"{name}.bias"], base[f"{name}.bias"].numpy())


A, B = np.ones((1, 3), np.float32), np.ones((2, 1), np.float32)
BASE = {"fc.weight": np.zeros((2, 3), np.float32)}


@pytest.mark.parametrize(
    ("adapter", "alpha", "texts"),
    [
        ({"fc.lora_A.weight": A}, 1, ("half of this part", "lora_A")),
        ({"fc.lora_A.weight": A, "fc.lora_B.weight": B}, None, ("alpha", "--lora-alpha")),
        ({"head.lora_A.weight": A, "head.lora_B.weight": B}, 1, ("no weights", "head")),
        ({"fc.lora_A.weight": A.T, "fc.lora_B.weight": B}, 1, ("does not fit", "(2, 3)")),
        ({"fc.lora_magnitude_vector": A}, 1, ("no part of an adapter", "merged state_dict")),
    ],
)
def test_what_is_no_adapter_of_the_base(adapter: Any, alpha: Any, texts: Any, raises: Any) -> None:
    with raises(WeightsError, *texts):
        with_lora(BASE, adapter, alpha)
