"""Functions of PyTorch that have several names, of torch.special and of torch.linalg."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

POSITIVE = np.array([[0.0625, 0.25, 0.5, 0.875]], np.float32)


@pytest.mark.parametrize(
    "function",
    [
        *(torch.arcsin, torch.arccos, torch.arctan, torch.arcsinh, torch.arctanh, torch.fix),
        *(torch.absolute, torch.negative, torch.conj_physical, torch.special.expit),
        *(torch.special.exp2, torch.special.expm1, torch.special.log1p, torch.special.logit),
        *(torch.special.erf, torch.special.erfc, torch.special.sinc, torch.special.round),
        lambda x: torch.arctan2(x, x * 2),
        lambda x: torch.arccosh(x + 1),
        lambda x: torch.special.xlogy(x, x),
        lambda x: torch.special.softmax(x, -1),
        lambda x: torch.special.log_softmax(x, 0),
        lambda x: torch.special.logsumexp(x, 1),
        lambda x: torch.row_stack([x, x]),
        lambda x: torch.swapaxes(x, 0, 1),
        lambda x: torch.swapdims(x, 0, 1),
        lambda x: torch.moveaxis(x, 0, 1),
        lambda x: torch.ger(x[0], x[0]),
        lambda x: torch.unsafe_chunk(x, 2, 1),
        lambda x: torch.concat([x, x], 1),
        lambda x: torch.true_divide(x, 2),
        lambda x: torch.linalg.vector_norm(x, dim=1),
        lambda x: torch.linalg.matrix_norm(x),
        lambda x: torch.linalg.matmul(x, x.t()),
        lambda x: torch.linalg.multi_dot([x, x.t(), x]),
        lambda x: torch.linalg.vecdot(x, x),
        lambda x: torch.sum(x, axis=0, keepdims=True),
        lambda x: x.clip(0.25, 0.5),
        lambda x: x.arctan() + x.absolute() - x.negative(),
        lambda x: x.multiply(2).divide(4).subtract(1),
        lambda x: x.greater(0.25) & x.less(0.75) | x.greater_equal(1),
        lambda x: +x,
    ],
)
def test_names(check: Any, function: Any) -> None:
    check(function, function, POSITIVE)
