"""Rewrites of specialized modules that do the same with less; the oracle is PyTorch's own."""

from __future__ import annotations

import operator

import pytest
import torch
from tactics.networks import specialized, targets

from trtnet import ops
from trtnet.engines.torch.tactics.simplify import simplify

NAN, INF = float("nan"), float("inf")
VALUES = torch.tensor([NAN, -INF, -1.0, -0.0, 0.0, 1.0, INF])

ONE = {
    "ge": (operator.ge, ["ge"]),
    "le": (operator.le, ["le"]),
    "ne": (operator.ne, ["ne"]),
    "turned": (lambda a, b: ops.logical_or(b == a, a > b), ["ge"]),
    "of other operands": (
        lambda a, b: ops.logical_or(a > b, a == b + 1), ["gt", "add", "eq", "logical_or"],
    ),
    "of two": (lambda a, b: ops.logical_or(a > b, a < b), ["gt", "lt", "logical_or"]),
    "of equal ones": (lambda a, b: ops.logical_or(a == b, a == b), None),
    "of a mask": (lambda a, b: ops.logical_or(a > b, ops.logical_not(a == b)), None),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE)
def test_comparisons(case, as_on_a_gpu):
    function, wanted = ONE[case]
    module = as_on_a_gpu(lambda a, b: function(a, b).to("int32"), (7, 1), (1, 7), precision="fp32")
    made = specialized(module, (7, 1), (1, 7))
    simplify(made)
    if wanted is not None:
        assert targets(made) == [*wanted, "to"]
    a, b = VALUES[:, None], VALUES[None, :]
    with torch.inference_mode():
        (found,), (expected,) = made(a, b).values(), module(a, b).values()
    assert torch.equal(found, expected)
    if wanted is not None and len(wanted) == 1:
        assert torch.equal(found, getattr(torch, wanted[0])(a, b).int())


def test_a_comparison_with_other_uses_stays(as_on_a_gpu):
    def model(a, b):
        equal = a == b
        return ops.logical_not(equal).to("int32"), equal.to("int32")

    made = specialized(as_on_a_gpu(model, (7, 1), (1, 7), precision="fp32"), (7, 1), (1, 7))
    simplify(made)
    assert sorted(targets(made)) == ["eq", "ne", "to", "to"]
