"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.site import Call, Site


def matrix_multiply(site: Site) -> Call:
    a, b = site.inputs
    ops = (site["op0"], site["op1"])
    return Call(torch.matmul, (a, b)) if ops == ("NONE", "NONE") else Call(multiply, (a, b, *ops))


def multiply(a: Tensor, b: Tensor, op0: str, op1: str) -> Tensor:
    """``op0(a) @ op1(b)``; an operand of op VECTOR is a collection of vectors."""
    left = a.unsqueeze(-2) if op0 == "VECTOR" else a.mT if op0 == "TRANSPOSE" else a
    right = b.unsqueeze(-1) if op1 == "VECTOR" else b.mT if op1 == "TRANSPOSE" else b
    product = torch.matmul(left, right)
    if op1 == "VECTOR":
        product = product.squeeze(-1)
    return product.squeeze(-1 if op1 == "VECTOR" else -2) if op0 == "VECTOR" else product


def einsum(site: Site) -> Call:
    return Call(torch.einsum, (site["equation"], *site.inputs))


OPERATIONS = {"EINSUM": einsum, "MATRIX_MULTIPLY": matrix_multiply}
